//! Truncated files and files with flipped bits give an error of one line or valid weights, never a
//! panic.

use std::panic::catch_unwind;

use checkpoint::formula::uniform;
use checkpoint::inspect_bytes;

use crate::fixtures::{ALL, bytes, load, specs};

const CUTS: usize = 50;
const FLIPS: usize = 2000;

fn read(file: &str, bytes: &[u8], what: &str) -> bool {
    let outcome = catch_unwind(|| {
        let _ = inspect_bytes(bytes, file, None, &specs());
        load(bytes)
    });
    let outcome = outcome.unwrap_or_else(|_| panic!("{file}: panic, {what}"));
    if let Err(why) = &outcome {
        let text = why.to_string();
        assert!(!text.contains('\n') && text.len() < 700, "{file}: {what}: {text}");
    }
    outcome.is_ok()
}

#[test]
fn truncated_files_are_refused() {
    for file in ALL {
        let whole = bytes(file);
        for cut in 0..CUTS {
            let length = whole.len() * cut / CUTS;
            assert!(!read(file, &whole[..length], "cut"), "{file} loads with {length} bytes");
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    for file in ALL {
        let whole = bytes(file);
        let draws = uniform(file, 2 * FLIPS, 1);
        for draw in draws.chunks_exact(2) {
            let mut flipped = whole.clone();
            let place = (draw[0] * whole.len() as f32) as usize;
            let bit = (draw[1] * 8.0) as u8;
            flipped[place.min(whole.len() - 1)] ^= 1 << bit;
            read(file, &flipped, &format!("bit {bit} of byte {place} flipped"));
        }
    }
}
