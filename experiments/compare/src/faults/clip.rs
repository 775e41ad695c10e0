//! The mistakes in a clip: planes in another order, and pixels with another normalisation.

/// A wrong order of the planes of a clip. In the right order, plane colour * T + frame holds one colour
/// of one of the T frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planes {
    /// Colours in BGR order.
    Bgr,
    /// The last frame first.
    Reversed,
    /// Every frame one position too late; the last one comes first.
    Late,
    /// Every frame one position too early; the first one comes last.
    Early,
    /// Planes stacked as frame * 3 + colour.
    FrameMajor,
}

impl Planes {
    /// The plane of the right clip that the wrong clip holds at `channel`, for T = `frames`.
    pub fn from(self, channel: usize, frames: usize) -> usize {
        let (colour, frame) = (channel / frames.max(1), channel % frames.max(1));
        let (colour, frame) = match self {
            Planes::Bgr => (2 - colour.min(2), frame),
            Planes::Reversed => (colour, frames - 1 - frame),
            Planes::Late => (colour, (frame + frames - 1) % frames),
            Planes::Early => (colour, (frame + 1) % frames),
            Planes::FrameMajor => (channel % 3, channel / 3),
        };
        colour * frames + frame
    }
}

/// A wrong normalisation of bytes x, instead of (x - mean) / std.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// None: x, from 0 to 255.
    Bytes,
    /// x / 255, from 0 to 1.
    Unit,
    /// x / 127.5 - 1, from -1 to 1.
    Symmetric,
}

/// The mean and standard deviation of red, green and blue in the paper's code, for bytes.
const MEAN: [f64; 3] = [123.675, 116.28, 103.53];
const STD: [f64; 3] = [58.395, 57.12, 57.375];

impl Scaling {
    /// The value in the wrong clip of a pixel whose value in the right clip is x.
    pub fn of(self, x: f64, colour: usize) -> f64 {
        let colour = colour.min(2);
        let byte = x * STD[colour] + MEAN[colour];
        match self {
            Scaling::Bytes => byte,
            Scaling::Unit => byte / 255.0,
            Scaling::Symmetric => byte / 127.5 - 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_major_puts_the_colours_of_a_frame_together() {
        // Two frames: R0 R1 G0 G1 B0 B1 becomes R0 G0 B0 R1 G1 B1.
        let order: Vec<usize> = (0..6).map(|c| Planes::FrameMajor.from(c, 2)).collect();
        assert_eq!(order, [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn every_order_is_a_permutation() {
        use Planes::{Bgr, Early, FrameMajor, Late, Reversed};
        for planes in [Bgr, Early, FrameMajor, Late, Reversed] {
            for frames in [1, 2, 16] {
                let mut order: Vec<usize> =
                    (0..3 * frames).map(|c| planes.from(c, frames)).collect();
                order.sort_unstable();
                assert!(order.into_iter().eq(0..3 * frames), "{planes:?} of {frames}");
            }
        }
    }

    #[test]
    fn a_pixel_of_255_is_the_top_of_its_range() {
        let white = (255.0 - MEAN[0]) / STD[0];
        assert!((Scaling::Unit.of(white, 0) - 1.0).abs() < 1e-12);
        assert!((Scaling::Symmetric.of(white, 0) - 1.0).abs() < 1e-12);
        assert!((Scaling::Bytes.of(white, 0) - 255.0).abs() < 1e-9);
    }
}
