//! Keeps the ffmpeg processes that decode large frames from using up the memory together.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The memory that ffmpeg 7.0 was measured to take for each pixel of a frame, in bytes: its threads hand
/// about twenty RGB frames to each other.
const BYTES_PER_PIXEL: u64 = 60;
/// Frames up to this size are not counted: 2 million pixels, as in 1080p.
const FREE_PIXELS: u64 = 2_100_000;
/// The memory for each core, in bytes.
const PER_CORE: u64 = 256 << 20;

/// The memory that is taken by processes that count.
static TAKEN: Mutex<u64> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to decode frames of some size, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit(u64);

impl Permit {
    /// A permit for frames of this many pixels, if there is memory for it at once.
    pub(super) fn at_once(pixels: u64) -> Option<Self> {
        let need = need(pixels);
        let mut taken = lock();
        fits(*taken, need).then(|| {
            *taken += need;
            Permit(need)
        })
    }

    /// Waits for a permit.
    pub(super) fn wait(pixels: u64) -> Self {
        let need = need(pixels);
        let mut taken = lock();
        while !fits(*taken, need) {
            taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += need;
        Permit(need)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *lock() -= self.0;
        FREED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, u64> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn need(pixels: u64) -> u64 {
    if pixels <= FREE_PIXELS { 0 } else { pixels.saturating_mul(BYTES_PER_PIXEL) }
}

/// Whether there is memory. The first one always fits, whatever it takes.
fn fits(taken: u64, need: u64) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    taken == 0 || need == 0 || taken.saturating_add(need) <= cores * PER_CORE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_frames_wait_for_each_other_and_small_ones_for_nobody() {
        let huge = 1 << 40;
        let first = Permit::wait(huge);
        assert!(Permit::at_once(huge).is_none());
        assert!(Permit::at_once(340 * 256).is_some());
        let waiting = std::thread::spawn(move || Permit::wait(huge).0);
        drop(first);
        assert_eq!(waiting.join().unwrap(), huge * BYTES_PER_PIXEL);
    }
}
