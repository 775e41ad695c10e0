//! Functions that rewrite a weight tensor: how it looks when it is loaded wrongly. Each gets the shape
//! and the values, row-major.

use half::{bf16, f16};

/// Rounds to bfloat16 and back.
pub fn to_bf16(_: &[usize], values: &mut [f64]) {
    values.iter_mut().for_each(|x| *x = bf16::from_f64(*x).to_f64());
}

/// Rounds to float16 and back.
pub fn to_f16(_: &[usize], values: &mut [f64]) {
    values.iter_mut().for_each(|x| *x = f16::from_f64(*x).to_f64());
}

/// Fills a tensor with zeros, the initial value of means and biases.
pub fn zero(_: &[usize], values: &mut [f64]) {
    values.fill(0.0);
}

/// Fills a tensor with ones, the initial value of variances and scales.
pub fn one(_: &[usize], values: &mut [f64]) {
    values.fill(1.0);
}

/// Squares the values: the effect of using a variance as a standard deviation.
pub fn square(_: &[usize], values: &mut [f64]) {
    values.iter_mut().for_each(|x| *x *= *x);
}

/// Transposes the planes of a kernel [O, I, k, k] or an embedding [1, C, p, p].
pub fn transpose(shape: &[usize], values: &mut [f64]) {
    let [.., height, side] = shape[..] else { return };
    if height != side || side == 0 {
        return;
    }
    for plane in values.chunks_exact_mut(side * side) {
        for y in 0..side {
            for x in y + 1..side {
                plane.swap(y * side + x, x * side + y);
            }
        }
    }
}

/// Rotates a kernel [O, I, k, k] by 180 degrees: convolution instead of cross-correlation.
pub fn turn(shape: &[usize], values: &mut [f64]) {
    let [.., height, width] = shape[..] else { return };
    values.chunks_exact_mut((height * width).max(1)).for_each(<[f64]>::reverse);
}

/// Shifts the input channels of a kernel by one. A kernel with one input channel (depthwise) has its
/// output channels shifted instead.
pub fn channel_off(shape: &[usize], values: &mut [f64]) {
    let [out, inner, ..] = shape[..] else { return };
    let kernel = values.len() / (out * inner).max(1);
    match inner {
        1 => values.rotate_right(kernel),
        _ => values.chunks_exact_mut(inner * kernel).for_each(|o| o.rotate_right(kernel)),
    }
}

/// Swaps output and input channels of a kernel [C, C, k, k].
pub fn exchange_channels(shape: &[usize], values: &mut [f64]) {
    let [out, inner, ..] = shape[..] else { return };
    if out != inner {
        return;
    }
    let kernel = values.len() / (out * inner).max(1);
    for o in 0..out {
        for i in o + 1..inner {
            for at in 0..kernel {
                values.swap((o * inner + i) * kernel + at, (i * inner + o) * kernel + at);
            }
        }
    }
}

/// Stores a kernel as [k, k, I, O], or a dense layer as [in, out], but leaves its shape at PyTorch's
/// [O, I, k, k] or [out, in].
pub fn channels_last(shape: &[usize], values: &mut [f64]) {
    let [out, inner, ..] = shape[..] else { return };
    let kernel = values.len() / (out * inner).max(1);
    let old = values.to_vec();
    let mut slots = values.iter_mut();
    for at in 0..kernel {
        for i in 0..inner {
            for o in 0..out {
                if let Some(slot) = slots.next() {
                    *slot = old[(o * inner + i) * kernel + at];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(shape: &[usize], rewrite: fn(&[usize], &mut [f64])) -> Vec<f64> {
        let mut values: Vec<f64> = (0..shape.iter().product::<usize>()).map(|i| i as f64).collect();
        rewrite(shape, &mut values);
        values
    }

    #[test]
    fn kernels_are_rotated_and_transposed() {
        assert_eq!(rewritten(&[1, 1, 2, 2], transpose), [0.0, 2.0, 1.0, 3.0]);
        assert_eq!(rewritten(&[1, 1, 2, 2], turn), [3.0, 2.0, 1.0, 0.0]);
    }

    #[test]
    fn channels_are_moved() {
        assert_eq!(rewritten(&[2, 2, 1, 1], channel_off), [1.0, 0.0, 3.0, 2.0]);
        assert_eq!(rewritten(&[3, 1, 1, 1], channel_off), [2.0, 0.0, 1.0]);
        assert_eq!(rewritten(&[2, 2, 1, 1], exchange_channels), [0.0, 2.0, 1.0, 3.0]);
        assert_eq!(rewritten(&[2, 3], channels_last), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(rewritten(&[1, 2, 1, 2], channels_last), [0.0, 2.0, 1.0, 3.0]);
    }
}
