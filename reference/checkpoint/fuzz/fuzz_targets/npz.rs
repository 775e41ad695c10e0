#![no_main]

use checkpoint::Format;
use libfuzzer_sys::fuzz_target;
use zip::CompressionMethod;

// The input is a whole archive, or else an array that is put into one.
fuzz_target!(|bytes: &[u8]| match bytes {
    [b'P', b'K', ..] => spec_fuzz::check(Format::Npz, bytes),
    _ => {
        let entries = [("fc.bias.npy", bytes)];
        let file = spec_fuzz::archive(&entries, CompressionMethod::Deflated);
        spec_fuzz::check(Format::Npz, &file);
    }
});
