#![no_main]

use libfuzzer_sys::fuzz_target;
use spec::weights::Format;

fuzz_target!(|bytes: &[u8]| spec_fuzz::check(Format::Msgpack, bytes));
