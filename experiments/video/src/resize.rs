//! Resizes like OpenCV's `INTER_LINEAR` on bytes, bit for bit: in fixed point with 11 fractional bits for
//! each weight.

use crate::Frame;

/// The fixed-point value of one.
const ONE: f32 = 2048.0;

/// The size (width, height) at which the shorter side has `short` pixels: both sides are multiplied by
/// `short / min` in float64 and rounded half up, as in mmcv's `rescale_size`.
pub fn target(width: usize, height: usize, short: usize) -> (usize, usize) {
    let factor = short as f64 / width.min(height) as f64;
    let side = |length: usize| (length as f64 * factor + 0.5) as usize;
    (side(width), side(height))
}

/// Resizes a frame to `width` x `height` pixels.
pub fn bilinear(frame: &Frame, width: usize, height: usize) -> Frame {
    if (frame.width, frame.height) == (width, height) {
        return frame.clone();
    }
    if frame.width == 2 * width && frame.height == 2 * height {
        return halved(frame, width, height);
    }
    let columns = Columns::new(frame.width, width);
    let rows: Vec<Lerp> = (0..height).map(|y| Lerp::row(y, frame.height, height)).collect();
    let pitch = 3 * frame.width;
    let mut data = vec![0; 3 * width * height];
    // The results of the horizontal pass for two source rows. Most rows are used twice, so they are kept.
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
                let source = &frame.data[pitch * wanted[slot]..][..pitch];
                columns.apply(source, &mut lines[slot]);
                held[slot] = wanted[slot];
            }
        }
        vertical(&lines[0], &lines[1], row.weights, out);
    }
    Frame { width, height, data }
}

/// The linear interpolation for one output pixel along one axis: the indexes of two source pixels and their
/// weights in fixed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lerp {
    first: usize,
    second: usize,
    weights: [i32; 2],
}

impl Lerp {
    /// The position in the source, as a whole number and a fraction. Like OpenCV, it computes the product in
    /// float64 and rounds it to float32.
    fn position(at: usize, from: usize, to: usize) -> (i64, f32) {
        let scale = 1.0 / (to as f64 / from as f64);
        let position = ((at as f64 + 0.5) * scale - 0.5) as f32;
        let whole = position.floor();
        (whole as i64, position - whole)
    }

    fn weighted(first: usize, second: usize, fraction: f32) -> Self {
        let weight = |part: f32| (part * ONE).round_ties_even() as i32;
        Lerp { first, second, weights: [weight(1.0 - fraction), weight(fraction)] }
    }

    /// The interpolation along x, which repeats the pixels of the edge beyond it.
    fn column(at: usize, from: usize, to: usize) -> Self {
        let (whole, fraction) = Lerp::position(at, from, to);
        let last = from - 1;
        match usize::try_from(whole) {
            Err(_) => Lerp::weighted(0, 0, 0.0),
            Ok(whole) if whole >= last => Lerp::weighted(last, last, 0.0),
            Ok(whole) => Lerp::weighted(whole, whole + 1, fraction),
        }
    }

    /// The interpolation along y, where OpenCV clamps the rows and keeps the weights.
    fn row(at: usize, from: usize, to: usize) -> Self {
        let (whole, fraction) = Lerp::position(at, from, to);
        let clamp = |row: i64| row.clamp(0, from as i64 - 1) as usize;
        Lerp::weighted(clamp(whole), clamp(whole + 1), fraction)
    }
}

/// The horizontal pass. Its indexes and weights are computed once for each size and have one entry for each
/// value of an output row, so that the loop over a row has no branches.
struct Columns {
    first: Vec<u32>,
    second: Vec<u32>,
    weights: Vec<[i32; 2]>,
}

impl Columns {
    fn new(from: usize, to: usize) -> Self {
        let lerps: Vec<Lerp> = (0..to).map(|x| Lerp::column(x, from, to)).collect();
        let each = || lerps.iter().flat_map(|lerp| (0..3).map(move |channel| (lerp, channel)));
        Columns {
            first: each().map(|(lerp, channel)| (3 * lerp.first + channel) as u32).collect(),
            second: each().map(|(lerp, channel)| (3 * lerp.second + channel) as u32).collect(),
            weights: each().map(|(lerp, _)| lerp.weights).collect(),
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

/// Halves both sides: each value is the mean of four, rounded half up.
fn halved(frame: &Frame, width: usize, height: usize) -> Frame {
    let pitch = 3 * frame.width;
    let mut data = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        let upper = &frame.data[2 * y * pitch..][..pitch];
        let lower = &frame.data[(2 * y + 1) * pitch..][..pitch];
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

    /// Bilinear interpolation with half-pixel centres in float64, with the edges repeated.
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

    /// The fixed-point formula for each pixel by itself.
    fn plain(frame: &Frame, width: usize, height: usize) -> Vec<u8> {
        let mut out = vec![];
        for y in 0..height {
            let row = Lerp::row(y, frame.height, height);
            for x in 0..width {
                let column = Lerp::column(x, frame.width, width);
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
        fn kept_rows_change_nothing_and_the_result_is_bilinear(
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
                        // The bound covers rounding to a byte, 11-bit weights on each axis, three floors.
                        let error = (got - exact(&frame, nw, nh, x, y, c)).abs();
                        prop_assert!(error <= 1.75, "{x} {y} {c}: {error}");
                    }
                }
            }
        }
    }
}
