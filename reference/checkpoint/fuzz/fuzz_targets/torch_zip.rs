#![no_main]

use checkpoint::Format;
use libfuzzer_sys::fuzz_target;
use zip::CompressionMethod;

/// The contents of the storages that are added to a wrapped pickle.
const STORAGE: [u8; 64] = [0x3f; 64];

// The input is a whole archive, or else a pickle that is put into one together with two storages.
fuzz_target!(|bytes: &[u8]| match bytes {
    [b'P', b'K', ..] => checkpoint_fuzz::check(Format::TorchZip, bytes),
    _ => {
        let entries =
            [("a/data.pkl", bytes), ("a/data/0", &STORAGE[..]), ("a/data/1", &STORAGE[..20])];
        let file = checkpoint_fuzz::archive(&entries, CompressionMethod::Stored);
        checkpoint_fuzz::check(Format::TorchZip, &file);
    }
});
