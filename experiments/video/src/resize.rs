//! OpenCV's `INTER_LINEAR` on bytes, bit for bit: fixed point with 11 bits for each weight.

use crate::Frame;

/// One is 2048.
const ONE: f32 = 2048.0;

/// Size with the shorter side at `short` pixels: both sides times `short / min` in float64, rounded
/// half up (mmcv's `rescale_size`).
pub fn target(width: usize, height: usize, short: usize) -> (usize, usize) {
    let factor = short as f64 / width.min(height) as f64;
    let side = |length: usize| (length as f64 * factor + 0.5) as usize;
    (side(width), side(height))
}

/// Resizes a frame.
pub fn bilinear(frame: &Frame, width: usize, height: usize) -> Frame {
    if (frame.width, frame.height) == (width, height) {
        return frame.clone();
    }
    if frame.width == 2 * width && frame.height == 2 * height {
        return halved(frame, width, height);
    }
    let columns = Columns::new(frame.width, width);
    let rows: Vec<Tap> = (0..height).map(|y| Tap::row(y, frame.height, height)).collect();
    let stride = 3 * frame.width;
    let mut data = vec![0; 3 * width * height];
    // The horizontal pass of the two rows in use; going down, most are used twice.
    let mut lines = [vec![0; 3 * width], vec![0; 3 * width]];
    let mut held = [usize::MAX; 2];
    for (row, out) in rows.iter().zip(data.chunks_exact_mut(3 * width)) {
        let wanted = [row.first, row.second];
        if held[1] == wanted[0] && held[0] != wanted[0] {
            lines.swap(0, 1);
            held.swap(0, 1);
        }
        for slot in 0..2 {
            if held[slot] != wanted[slot] {
                let source = &frame.data[stride * wanted[slot]..][..stride];
                columns.apply(source, &mut lines[slot]);
                held[slot] = wanted[slot];
            }
        }
        vertical(&lines[0], &lines[1], row.weights, out);
    }
    Frame { width, height, data }
}

/// Where a pixel of the result comes from along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tap {
    first: usize,
    second: usize,
    weights: [i32; 2],
}

impl Tap {
    /// Position in the source, as OpenCV computes it: the product in float64, rounded to float32.
    fn position(at: usize, from: usize, to: usize) -> (i64, f32) {
        let scale = 1.0 / (to as f64 / from as f64);
        let position = ((at as f64 + 0.5) * scale - 0.5) as f32;
        let whole = position.floor();
        (whole as i64, position - whole)
    }

    fn weighted(first: usize, second: usize, fraction: f32) -> Self {
        let weight = |part: f32| (part * ONE).round_ties_even() as i32;
        Tap { first, second, weights: [weight(1.0 - fraction), weight(fraction)] }
    }

    /// Along x, what lies beyond the edge is the edge itself.
    fn column(at: usize, from: usize, to: usize) -> Self {
        let (whole, fraction) = Tap::position(at, from, to);
        let last = from - 1;
        match usize::try_from(whole) {
            Err(_) => Tap::weighted(0, 0, 0.0),
            Ok(whole) if whole >= last => Tap::weighted(last, last, 0.0),
            Ok(whole) => Tap::weighted(whole, whole + 1, fraction),
        }
    }

    /// Along y, only the rows are clamped; the weights stay.
    fn row(at: usize, from: usize, to: usize) -> Self {
        let (whole, fraction) = Tap::position(at, from, to);
        let clamp = |row: i64| row.clamp(0, from as i64 - 1) as usize;
        Tap::weighted(clamp(whole), clamp(whole + 1), fraction)
    }
}

/// The horizontal pass, its places and weights made once for each size: one entry for each value of
/// a row, so that the loop over a row is plain.
struct Columns {
    first: Vec<u32>,
    second: Vec<u32>,
    weights: Vec<[i32; 2]>,
}

impl Columns {
    fn new(from: usize, to: usize) -> Self {
        let taps: Vec<Tap> = (0..to).map(|x| Tap::column(x, from, to)).collect();
        let each = || taps.iter().flat_map(|tap| (0..3).map(move |channel| (tap, channel)));
        Columns {
            first: each().map(|(tap, channel)| (3 * tap.first + channel) as u32).collect(),
            second: each().map(|(tap, channel)| (3 * tap.second + channel) as u32).collect(),
            weights: each().map(|(tap, _)| tap.weights).collect(),
        }
    }

    fn apply(&self, row: &[u8], out: &mut [i32]) {
        let places = self.first.iter().zip(&self.second).zip(&self.weights);
        for (value, ((&first, &second), weights)) in out.iter_mut().zip(places) {
            let (a, b) = (i32::from(row[first as usize]), i32::from(row[second as usize]));
            *value = a * weights[0] + b * weights[1];
        }
    }
}

/// The vertical pass, with the roundings of OpenCV's vectorised code.
fn vertical(upper: &[i32], lower: &[i32], [b0, b1]: [i32; 2], out: &mut [u8]) {
    for ((out, &h0), &h1) in out.iter_mut().zip(upper).zip(lower) {
        let sum = ((b0 * (h0 >> 4)) >> 16) + ((b1 * (h1 >> 4)) >> 16);
        *out = ((sum + 2) >> 2).clamp(0, 255) as u8;
    }
}

/// Exactly half in both axes: the mean of four, rounded half up.
fn halved(frame: &Frame, width: usize, height: usize) -> Frame {
    let stride = 3 * frame.width;
    let mut data = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        let upper = &frame.data[2 * y * stride..][..stride];
        let lower = &frame.data[(2 * y + 1) * stride..][..stride];
        for (a, b) in upper.chunks_exact(6).zip(lower.chunks_exact(6)) {
            for channel in 0..3 {
                let sum: u32 = [a[channel], a[channel + 3], b[channel], b[channel + 3]]
                    .map(u32::from)
                    .iter()
                    .sum();
                data.push(((sum + 2) >> 2) as u8);
            }
        }
    }
    Frame { width, height, data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bilinear interpolation at half-pixel centres in float64, edges repeated.
    fn exact(frame: &Frame, width: usize, height: usize, x: usize, y: usize, c: usize) -> f64 {
        let along = |at: usize, from: usize, to: usize| {
            let position = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            let position = position.clamp(0.0, from as f64 - 1.0);
            (position as usize, (position as usize + 1).min(from - 1), position.fract())
        };
        let (x0, x1, fx) = along(x, frame.width, width);
        let (y0, y1, fy) = along(y, frame.height, height);
        let at = |x: usize, y: usize| f64::from(frame.data[3 * (y * frame.width + x) + c]);
        let upper = at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx;
        let lower = at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx;
        upper * (1.0 - fy) + lower * fy
    }

    /// The fixed-point formula pixel by pixel, nothing kept between them.
    fn plain(frame: &Frame, width: usize, height: usize) -> Vec<u8> {
        let mut out = vec![];
        for y in 0..height {
            let row = Tap::row(y, frame.height, height);
            for x in 0..width {
                let column = Tap::column(x, frame.width, width);
                for c in 0..3 {
                    let h = |y: usize| {
                        let at = |x: usize| i32::from(frame.data[3 * (y * frame.width + x) + c]);
                        at(column.first) * column.weights[0] + at(column.second) * column.weights[1]
                    };
                    let part = |weight: i32, row: usize| (weight * (h(row) >> 4)) >> 16;
                    let sum = part(row.weights[0], row.first) + part(row.weights[1], row.second);
                    out.push(((sum + 2) >> 2) as u8);
                }
            }
        }
        out
    }

    fn noise(width: usize, height: usize, seed: u64) -> Frame {
        let mut state = seed;
        let data = (0..3 * width * height)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        Frame { width, height, data }
    }

    #[test]
    fn sizes_are_those_of_the_official_evaluation() {
        let cases = [
            ((340, 256, 256), (340, 256)),
            ((320, 240, 256), (341, 256)),
            ((340, 256, 224), (298, 224)),
            ((320, 240, 224), (299, 224)),
            ((320, 568, 256), (256, 454)),
            ((320, 568, 286), (286, 508)),
        ];
        for ((width, height, short), wanted) in cases {
            assert_eq!(target(width, height, short), wanted);
        }
    }

    #[test]
    fn white_stays_white_and_black_black() {
        for value in [0, 255] {
            let frame = Frame { width: 7, height: 5, data: vec![value; 105] };
            assert!(bilinear(&frame, 13, 3).data.iter().all(|&byte| byte == value));
        }
    }

    proptest! {
        #[test]
        fn rows_in_use_change_nothing_and_the_result_is_bilinear(
            (w, h) in (1usize..40, 1usize..40), (nw, nh) in (1usize..40, 1usize..40), seed: u64,
        ) {
            let frame = noise(w, h, seed);
            let out = bilinear(&frame, nw, nh);
            prop_assert_eq!((out.width, out.height, out.data.len()), (nw, nh, 3 * nw * nh));
            let same = (w, h) == (nw, nh);
            let half = (w, h) == (2 * nw, 2 * nh);
            if !same && !half {
                prop_assert_eq!(&out.data, &plain(&frame, nw, nh));
            }
            for y in 0..nh {
                for x in 0..nw {
                    for c in 0..3 {
                        let got = f64::from(out.data[3 * (y * nw + x) + c]);
                        // Rounding to a byte, 11 bits of weight in each axis, three floors.
                        let error = (got - exact(&frame, nw, nh, x, y, c)).abs();
                        prop_assert!(error <= 1.75, "{x} {y} {c}: {error}");
                    }
                }
            }
        }
    }
}
