//! The windows of convolutions in bands (`bands.cuh`), which know no stride.
//!
//! A convolution of stride 2 becomes the sum of four of stride 1. Its map is stored in groups
//! ([`crate::kernels::import`]): the pixels of 2 x 2 are the channels of one pixel, those of the first
//! before those of the second. Each of the four phases of the map then is a range of channels, on
//! which a part of the window slides: of 5 x 5 pixels 3 x 3, 3 x 2, 2 x 3 and 2 x 2.

use super::bands::{CHUNK, STEP};

/// A window that slides over a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Channels of the map, with padding; a multiple of [`STEP`] for a stride of more than 1.
    pub channels: usize,
    /// Side of the window. Its middle is the pixel of the result.
    pub kernel: usize,
    /// Stride in both directions. The map has as many groups of stride x stride pixels as the result
    /// has pixels.
    pub stride: usize,
}

/// The part of a window that lies in one phase of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub size: (usize, usize),
    /// Rows above, and columns to the left of, the pixel of the result.
    pub before: (usize, usize),
    /// The first channel of the phase in a pixel of the stored map.
    pub first: usize,
    /// Channels of the phase.
    pub channels: usize,
    /// Row and column of the whole window at which it begins.
    origin: (usize, usize),
    whole: Shape,
}

impl Shape {
    /// The parts of the window, in the order in which they are multiplied.
    pub fn windows(self) -> impl Iterator<Item = Window> {
        let phases = self.stride * self.stride;
        (0..phases).map(move |phase| {
            let [y, x] = [phase / self.stride, phase % self.stride].map(|phase| self.along(phase));
            Window {
                size: (y.0, x.0),
                before: (y.1, x.1),
                first: phase * self.channels,
                channels: self.channels,
                origin: (y.2, x.2),
                whole: self,
            }
        })
    }

    /// In one direction: the pixels of the window in a phase, how many of them lie before the pixel of
    /// the result, and the first of them.
    fn along(self, phase: usize) -> (usize, usize, usize) {
        let shifted = self.kernel / 2 + phase;
        let origin = shifted % self.stride;
        ((self.kernel - origin).div_ceil(self.stride), (shifted - origin) / self.stride, origin)
    }

    /// Pixels of the border that the parts of the window need.
    pub fn halo(self) -> usize {
        let of = |size: usize, before: usize| before.max(size - 1 - before);
        let both = |w: Window| of(w.size.0, w.before.0).max(of(w.size.1, w.before.1));
        self.windows().map(both).max().unwrap_or(0)
    }

    /// Steps of K.
    pub fn steps(self) -> usize {
        self.windows().map(Window::steps).sum()
    }

    /// Bands that are loaded for a tile.
    pub fn loads(self) -> usize {
        self.windows().map(|window| window.channels.div_ceil(CHUNK)).sum()
    }
}

impl Window {
    /// Steps of K.
    pub fn steps(self) -> usize {
        let chunk = |first: usize| (self.channels - first).min(CHUNK).div_ceil(STEP);
        let pixels = self.size.0 * self.size.1;
        pixels * (0..self.channels).step_by(CHUNK).map(chunk).sum::<usize>()
    }

    /// The pixel of the whole window and the channel of every place along K. Channels from
    /// `channels` on do not exist; their weights must be zeros.
    pub fn positions(self) -> impl Iterator<Item = (usize, usize)> {
        let (rows, columns) = self.size;
        let pixel = move |at: usize| {
            let along = |origin, at| origin + self.whole.stride * at;
            let row = along(self.origin.0, at / columns);
            row * self.whole.kernel + along(self.origin.1, at % columns)
        };
        (0..self.channels).step_by(CHUNK).flat_map(move |first| {
            let count = (self.channels - first).min(CHUNK).next_multiple_of(STEP);
            (0..rows * columns)
                .flat_map(move |at| (0..count).map(move |channel| (pixel(at), first + channel)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pixel of the window is in exactly one part, at the place of its phase.
    #[test]
    fn the_parts_of_a_window_are_the_window() {
        for (kernel, stride) in [(1, 1), (3, 1), (7, 1), (3, 2), (5, 2), (7, 2), (5, 3)] {
            let shape = Shape { channels: 16, kernel, stride };
            let mut seen = vec![0; kernel * kernel];
            for window in shape.windows() {
                let phase = window.first / 16;
                for (at, (pixel, _)) in window.positions().step_by(16).enumerate() {
                    seen[pixel] += 1;
                    let (y, x) = (at / window.size.1, at % window.size.1);
                    // The pixel of the map, from that of the result on, in both notations.
                    let of_map = [(y, window.before.0), (x, window.before.1)];
                    let phases = [phase / stride, phase % stride];
                    let whole = [pixel / kernel, pixel % kernel];
                    for direction in 0..2 {
                        let (at, before) = of_map[direction];
                        let group = at as isize - before as isize;
                        let from_phase = group * stride as isize + phases[direction] as isize;
                        assert_eq!(
                            from_phase,
                            whole[direction] as isize - (kernel / 2) as isize,
                            "{shape:?} {window:?}"
                        );
                    }
                }
            }
            assert!(seen.iter().all(|count| *count == 1), "{shape:?}: {seen:?}");
            assert_eq!(shape.steps(), kernel * kernel, "{shape:?}");
        }
        assert_eq!(Shape { channels: 48, kernel: 5, stride: 2 }.halo(), 1);
        assert_eq!(Shape { channels: 48, kernel: 5, stride: 2 }.steps(), 75);
        assert_eq!(Shape { channels: 72, kernel: 7, stride: 1 }.halo(), 3);
        assert_eq!(Shape { channels: 72, kernel: 3, stride: 1 }.loads(), 2);
    }
}
