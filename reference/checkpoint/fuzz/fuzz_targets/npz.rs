#![no_main]

use checkpoint::Format;
use libfuzzer_sys::fuzz_target;
use zip::CompressionMethod;

// The input is a whole archive, or else an array that is put into one.
fuzz_target!(|bytes: &[u8]| match bytes {
    [b'P', b'K', ..] => checkpoint_fuzz::check(Format::Npz, bytes),
    _ => {
        let entries = [("fc.bias.npy", bytes)];
        let file = checkpoint_fuzz::archive(&entries, CompressionMethod::Deflated);
        checkpoint_fuzz::check(Format::Npz, &file);
    }
});
