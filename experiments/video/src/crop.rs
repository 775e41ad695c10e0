//! Cuts square crops out of a frame.

use serde::{Deserialize, Serialize};

use crate::Frame;

/// The number and the positions of the crops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crops {
    /// One crop in the middle.
    Center,
    /// Three crops along the longer side: at its beginning, its end and its middle, in this order
    /// (mmaction2's `ThreeCrop`).
    Three,
}

impl Crops {
    /// The number of crops.
    pub fn count(self) -> usize {
        match self {
            Crops::Center => 1,
            Crops::Three => 3,
        }
    }

    /// Left and top of each crop of `side` pixels in a frame, which must be at least that large.
    pub fn corners(self, width: usize, height: usize, side: usize) -> Vec<(usize, usize)> {
        let (dx, dy) = (width.saturating_sub(side), height.saturating_sub(side));
        match self {
            Crops::Center => vec![(dx / 2, dy / 2)],
            Crops::Three if dx >= dy => {
                let step = dx / 2;
                [0, 2 * step, step].map(|x| (x, 0)).to_vec()
            }
            Crops::Three => {
                let step = dy / 2;
                [0, 2 * step, step].map(|y| (0, y)).to_vec()
            }
        }
    }
}

/// Appends the crop [side, side, 3] at (left, top) to `out`.
pub fn copy(frame: &Frame, (left, top): (usize, usize), side: usize, out: &mut Vec<u8>) {
    for row in top..top + side {
        let start = 3 * (row * frame.width + left);
        out.extend_from_slice(&frame.data[start..start + 3 * side]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_those_of_the_official_evaluation() {
        assert_eq!(Crops::Center.corners(340, 256, 224), [(58, 16)]);
        assert_eq!(Crops::Three.corners(298, 224, 224), [(0, 0), (74, 0), (37, 0)]);
        assert_eq!(Crops::Three.corners(299, 224, 224), [(0, 0), (74, 0), (37, 0)]);
        assert_eq!(Crops::Three.corners(224, 398, 224), [(0, 0), (0, 174), (0, 87)]);
        assert_eq!(Crops::Three.corners(224, 224, 224), [(0, 0); 3]);
    }

    #[test]
    fn a_crop_has_the_pixels_at_its_corner() {
        let data = (0..3 * 4 * 3).collect();
        let frame = Frame { width: 4, height: 3, data };
        let mut out = vec![];
        copy(&frame, (2, 1), 2, &mut out);
        assert_eq!(out, [18, 19, 20, 21, 22, 23, 30, 31, 32, 33, 34, 35]);
    }
}
