#![no_main]

use checkpoint::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| checkpoint_fuzz::check(Format::MindSpore, bytes));
