//! Each operation against an independent definition, over small and unusual shapes.

mod common;

use checkpoint::formula::uniform;
use common::{assert_within, max_error};
use proptest::prelude::*;
use scalar::ops::conv::Conv;
use scalar::ops::linear::Linear;
use scalar::ops::norm::BatchNorm;
use scalar::ops::{activation, combine, pool};
use scalar::{Map, Real};

/// Values in [-1, 1).
fn values(name: &str, count: usize) -> Vec<f32> {
    uniform(name, count, 0).into_iter().map(|u| 2.0 * u - 1.0).collect()
}

fn map<T: Real>(shape: [usize; 4]) -> Map<T> {
    let data = values("x", shape.iter().product());
    Map::new(shape, data.into_iter().map(|v| T::from_f64(f64::from(v))).collect())
}

fn wide<T: Real>(map: &Map<T>) -> Vec<f64> {
    map.data.iter().map(|v| v.to_f64()).collect()
}

/// The definition of a convolution, one output at a time, with a bounds check for every input.
fn naive(conv: &Conv, x: &Map<f64>) -> Map<f64> {
    let side = |side: usize| (side + 2 * conv.padding - conv.kernel) / conv.stride + 1;
    let (h, w) = (side(x.h), side(x.w));
    let mut data = vec![];
    for n in 0..x.n {
        for o in 0..conv.out_channels {
            for index in 0..h * w {
                data.push(naive_output(conv, x, n, o, (index / w, index % w)));
            }
        }
    }
    Map::new([x.n, conv.out_channels, h, w], data)
}

fn naive_output(conv: &Conv, x: &Map<f64>, n: usize, o: usize, at: (usize, usize)) -> f64 {
    let inputs = x.c / conv.groups;
    let group = o / (conv.out_channels / conv.groups);
    let k = conv.kernel;
    let mut sum = conv.bias.map_or(0.0, |bias| f64::from(bias[o]));
    for index in 0..inputs * k * k {
        let (i, ky, kx) = (index / (k * k), index / k % k, index % k);
        let weight = f64::from(conv.weight[o * inputs * k * k + index]);
        let coordinate = |at: usize, k: usize| (at * conv.stride + k).checked_sub(conv.padding);
        if let (Some(y), Some(z)) = (coordinate(at.0, ky), coordinate(at.1, kx))
            && y < x.h
            && z < x.w
        {
            sum += weight * x.data[((n * x.c + group * inputs + i) * x.h + y) * x.w + z];
        }
    }
    sum
}

/// Kernel, stride, padding.
type Shape = (usize, usize, usize);

/// The convolutions that the network has, and some that it does not have.
const SHAPES: [Shape; 9] = [
    (1, 1, 0),
    (3, 1, 1),
    (5, 2, 2),
    (7, 1, 3),
    (2, 2, 0),
    (1, 2, 0),
    (1, 1, 2),
    (3, 3, 1),
    (4, 3, 5),
];

fn check_conv<T: Real>(x: [usize; 4], out: usize, groups: usize, shape: Shape, with_bias: bool) {
    let (kernel, stride, padding) = shape;
    let weight = values("weight", out * x[1] / groups * kernel * kernel);
    let bias = values("bias", out);
    let bias = with_bias.then_some(&bias[..]);
    let conv = Conv { weight: &weight, bias, out_channels: out, kernel, stride, padding, groups };
    let want = naive(&conv, &map::<f64>(x));
    let got = conv.apply(&map::<T>(x));
    assert_eq!(got.shape(), want.shape());
    // Both add the same terms in the same order in f64, so they differ in the last rounding only;
    // a sum of values within [-1, 1] is at most its number of terms.
    let terms = (x[1] / groups * kernel * kernel + 1) as f64;
    let bound = if T::PRECISION == spec::Precision::F64 { 0.0 } else { terms * 6e-8 };
    let what = format!("{x:?} to {out} channels, {groups} groups, {shape:?}");
    assert_within(max_error(&wide(&got), &want.data), bound, &what);
}

#[test]
fn conv_at_the_edges() {
    for shape in SHAPES {
        for (h, w) in [(1, 1), (1, 6), (5, 1), (2, 2), (3, 4), (7, 7), (9, 8)] {
            let fits = |side: usize| side + 2 * shape.2 >= shape.0;
            if !(fits(h) && fits(w)) {
                continue;
            }
            for n in [0, 1, 2] {
                check_conv::<f64>([n, 3, h, w], 2, 1, shape, true);
                check_conv::<f32>([n, 3, h, w], 2, 1, shape, false);
                check_conv::<f32>([n, 4, h, w], 4, 4, shape, true);
                check_conv::<f64>([n, 4, h, w], 6, 2, shape, false);
            }
        }
    }
}

proptest! {
    // Kernels larger than the padded map are rejected, and the number of rejections is not limited.
    #![proptest_config(ProptestConfig { max_global_rejects: u32::MAX, ..Default::default() })]

    #[test]
    fn conv_of_any_size(
        size in (0..3usize, 1..5usize, 1..20usize, 1..20usize),
        out in 1..5usize,
        shape in (1..8usize, 1..4usize, 0..5usize),
        bias: bool,
    ) {
        let (n, c, h, w) = size;
        prop_assume!(h + 2 * shape.2 >= shape.0 && w + 2 * shape.2 >= shape.0);
        check_conv::<f64>([n, c, h, w], out, 1, shape, bias);
        check_conv::<f32>([n, c, h, w], c, c, shape, bias);
    }
}

/// A NaN or an infinity reaches exactly the outputs whose window contains it, even through a weight
/// of 0.
#[test]
fn conv_carries_nan_and_infinity() {
    let conv = Conv {
        weight: &[0.0; 9],
        bias: None,
        out_channels: 1,
        kernel: 3,
        stride: 1,
        padding: 1,
        groups: 1,
    };
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = Map::filled([1, 1, 5, 5], 1.0f32);
        x.data[6] = bad;
        let y = conv.apply(&x);
        for (index, value) in y.data.iter().enumerate() {
            let near = index / 5 <= 2 && index % 5 <= 2;
            assert_eq!(value.is_nan(), near, "output {index} is {value}");
        }
    }
}

#[test]
fn batch_norm_by_its_formula() {
    fn check<T: Real>(bound: f64) {
        let x = map::<T>([2, 3, 2, 5]);
        let [weight, bias, mean] = ["w", "b", "m"].map(|name| values(name, 3));
        let var = uniform("v", 3, 0);
        let bn = BatchNorm {
            weight: &weight,
            bias: &bias,
            running_mean: &mean,
            running_var: &var,
            eps: 1e-3,
        };
        let normalised = |(index, &v): (usize, &T)| {
            let [w, b, m, s] = [&weight, &bias, &mean, &var].map(|p| f64::from(p[index / 10 % 3]));
            w * ((v.to_f64() - m) / (s + 1e-3).sqrt()) + b
        };
        let want: Vec<f64> = x.data.iter().enumerate().map(normalised).collect();
        assert_within(max_error(&wide(&bn.apply(&x)), &want), bound, "batch norm");
    }
    check::<f64>(1e-14);
    check::<f32>(1e-5);
}

#[test]
fn relu_keeps_nan() {
    let x = Map::new([1, 1, 1, 5], vec![-1.0, 0.0, 2.0, f64::NAN, f64::NEG_INFINITY]);
    let y = activation::relu(&x);
    assert_eq!((&y.data[..3], y.data[4]), (&[0.0, 0.0, 2.0][..], 0.0));
    assert!(y.data[3].is_nan());
}

#[test]
fn sigmoid_at_its_limits() {
    let x = Map::new([1, 1, 1, 5], vec![0.0, f32::INFINITY, f32::NEG_INFINITY, 200.0, f32::NAN]);
    let y = activation::sigmoid(&x);
    assert_eq!(y.data[..4], [0.5, 1.0, 0.0, 1.0]);
    assert!(y.data[4].is_nan());
}

#[test]
fn max_pool_by_its_definition() {
    for (h, w) in [(1, 1), (1, 4), (2, 2), (3, 3), (5, 8), (8, 7)] {
        let x = map::<f32>([2, 2, h, w]);
        let y = pool::max_3x3_stride_2(&x);
        assert_eq!(y.shape(), [2, 2, h.div_ceil(2), w.div_ceil(2)]);
        for (index, &got) in y.data.iter().enumerate() {
            let (plane, at) = (index / (y.h * y.w), index % (y.h * y.w));
            let centre = [2 * (at / y.w), 2 * (at % y.w)];
            let near =
                |i: &usize| (i / w).abs_diff(centre[0]) <= 1 && (i % w).abs_diff(centre[1]) <= 1;
            let window = (0..h * w).filter(near).map(|i| x.data[plane * h * w + i]);
            assert_eq!(got, window.fold(f32::NEG_INFINITY, f32::max), "{h}x{w} at {index}");
        }
    }
}

/// The NaN is tried at every position of the window, so that its order among the values is irrelevant.
#[test]
fn max_pool_of_a_window_with_nan_is_nan() {
    for at in 0..9 {
        let mut x = Map::filled([1, 1, 3, 3], 1.0f64);
        x.data[at] = f64::NAN;
        let windows = pool::max_3x3_stride_2(&x);
        let holds = |o: usize| {
            let near = |side: usize, o: usize| side.abs_diff(2 * o) <= 1;
            near(at / 3, o / 2) && near(at % 3, o % 2)
        };
        for o in 0..4 {
            assert_eq!(windows.data[o].is_nan(), holds(o), "window {o}, NaN at {at}");
        }
    }
}

#[test]
fn mean_is_summed_in_f64() {
    // In float32 the sum would stop growing at 2^24.
    let x = Map::filled([1, 1, 4097, 4097], 1.0f32);
    assert_eq!(pool::mean(&x).data, [1.0]);
    let nan = Map::new([1, 2, 1, 2], vec![1.0, f32::NAN, 1.0, 3.0]);
    let mean = pool::mean(&nan);
    assert!(mean.data[0].is_nan());
    assert_eq!(mean.data[1], 2.0);
}

#[test]
fn linear_by_its_definition() {
    let (weight, bias) = (values("weight", 12), values("bias", 3));
    let linear = Linear { weight: &weight, bias: &bias };
    for n in [0, 1, 2] {
        let x = map::<f64>([n, 4, 1, 1]);
        let y = linear.apply(&x);
        assert_eq!(y.shape(), [n, 3, 1, 1]);
        for (index, &got) in y.data.iter().enumerate() {
            let (clip, o) = (index / 3, index % 3);
            let products = (0..4).map(|i| f64::from(weight[4 * o + i]) * x.data[4 * clip + i]);
            let want = products.sum::<f64>() + f64::from(bias[o]);
            assert_within((got - want).abs(), 1e-15, "an output of the linear layer");
        }
    }
}

#[test]
fn sums_and_products() {
    let (a, b) = (map::<f32>([2, 2, 1, 3]), Map::filled([2, 2, 1, 3], 2.0f32));
    let doubled: Vec<f32> = a.data.iter().map(|v| v * 2.0).collect();
    assert_eq!(combine::multiply(&a, &b).data, doubled);
    assert_eq!(combine::add(&a, &a).data, doubled);

    let gate = Map::new([2, 2, 1, 1], vec![1.0, 0.0, 2.0, 1.0]);
    let gated = combine::gate(&a, &gate);
    assert_eq!(gated.data[..3], a.data[..3]);
    assert_eq!(gated.data[3..6], [0.0; 3]);
    assert_eq!(gated.data[6..9], doubled[6..9]);

    let shared = Map::new([1, 2, 1, 3], (0..6u8).map(f32::from).collect());
    let shifted = combine::add_to_each(&Map::filled([2, 2, 1, 3], 1.0), &shared);
    assert_eq!(shifted.data, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].repeat(2));
    let none = combine::add_to_each(&Map::filled([0, 2, 1, 3], 1.0), &shared);
    assert!(none.data.is_empty());
}
