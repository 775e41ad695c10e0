//! Augmentation of training clips. It uses those parts of the official recipe that make sense on `mini`:
//! flips (which change some classes), shifted crops and colour. It also reverses time, which turns each
//! class of this data set into another one.

use video::mini::rng::Rng;
use video::mini::{mirrored, reversed};
use video::normalize::{MEAN, STD};

/// A decoded clip and its class.
pub struct Clip {
    /// The pixels [T, S, S, 3] as RGB bytes.
    pub pixels: Vec<u8>,
    /// The index of the class.
    pub label: usize,
}

/// The shape of a clip.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Number of frames (T).
    pub frames: usize,
    /// Height and width of a frame in pixels (S).
    pub side: usize,
}

/// The largest shift of a crop in pixels; beyond the edge, the pixels of the edge are repeated.
const SHIFT: usize = 5;

/// Appends an augmented and normalised clip to `out` as [3, T, S, S], and returns its class.
pub fn append(clip: &Clip, extent: Extent, rng: &mut Rng, out: &mut Vec<f32>) -> usize {
    let Extent { frames, side } = extent;
    let (backwards, mirror) = (rng.unit() < 0.5, rng.unit() < 0.5);
    let shift = |rng: &mut Rng| rng.below(2 * SHIFT + 1) as isize - SHIFT as isize;
    let (dx, dy) = (shift(rng), shift(rng));
    let gains: [f32; 3] = std::array::from_fn(|_| rng.between(0.75, 1.25));
    let lift = rng.between(-20.0, 20.0);
    let columns: Vec<usize> = (0..side)
        .map(|x| {
            let x = shifted(x, dx, side);
            3 * if mirror { side - 1 - x } else { x }
        })
        .collect();
    for channel in 0..3 {
        let scale = gains[channel] / STD[channel];
        let offset = (lift - MEAN[channel]) / STD[channel];
        for t in 0..frames {
            let t = if backwards { frames - 1 - t } else { t };
            for y in 0..side {
                let row = 3 * side * (t * side + shifted(y, dy, side)) + channel;
                let value = |&x: &usize| f32::from(clip.pixels[row + x]) * scale + offset;
                out.extend(columns.iter().map(value));
            }
        }
    }
    let label = if backwards { reversed(clip.label) } else { clip.label };
    if mirror { mirrored(label) } else { label }
}

fn shifted(at: usize, by: isize, side: usize) -> usize {
    at.saturating_add_signed(by).min(side - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reversal_and_mirroring_change_the_class() {
        let extent = Extent { frames: 2, side: 12 };
        let pixels = (0..2 * 12 * 12 * 3).map(|i| i as u8).collect();
        let clip = Clip { pixels, label: 0 };
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut out = vec![];
            seen.insert(append(&clip, extent, &mut Rng::new(seed), &mut out));
            assert_eq!(out.len(), 3 * 2 * 12 * 12);
            assert!(out.iter().all(|value| value.is_finite()));
        }
        assert_eq!(seen, [0, 1].into());
    }
}
