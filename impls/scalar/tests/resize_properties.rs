//! Properties of every bilinear resize, on random sizes and values.

mod common;

use common::max_error;
use proptest::prelude::*;
use scalar::Real;
use scalar::resize::{Method, Size, planes};

/// Side lengths of 1 to 24 pixels and of 97, with 1, 2, 3 and 97 chosen often.
fn side() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(1), 1 => Just(2), 1 => Just(3), 1 => Just(97), 4 => 1..=24usize]
}

fn size() -> impl Strategy<Value = Size> {
    (side(), side())
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(Method::ALL.to_vec())
}

/// A plane with values in [-1, 1], none of them denormal, its size and the size to resize it to.
fn plane() -> impl Strategy<Value = (Vec<f64>, Size, Size)> {
    (size(), size()).prop_flat_map(|(from, to)| {
        let value = (-1_000_000i32..=1_000_000).prop_map(|v| f64::from(v) / 1e6);
        (prop::collection::vec(value, from.0 * from.1), Just(from), Just(to))
    })
}

/// Whether the properties hold for these sizes. They do not where the Flax emulation reads or writes
/// a side of 1 pixel, as its documentation says.
fn defined(method: Method, from: Size, to: Size) -> bool {
    let one = |(h, w): Size| h == 1 || w == 1;
    method != Method::FlaxEmulation || from == to || !(one(from) || one(to))
}

fn resized<T: Real>(method: Method, plane: &[T], from: Size, to: Size) -> Vec<T> {
    method.plane(plane, from, to).expect("a size that the method resizes")
}

/// The largest rounding error for values within [-1, 1]: that of a coordinate of at most 97 + 97
/// pixels (scale, product, two translations) and that of the blend along two axes.
fn rounding<T: Real>(from: Size) -> f64 {
    let coordinate = 6.0 * (from.0 + from.1) as f64;
    (2.0 * coordinate + 8.0) * T::PRECISION.epsilon()
}

fn ramp(from: Size, slope_y: f64, slope_x: f64) -> Vec<f64> {
    let pixels = (0..from.0).flat_map(|y| (0..from.1).map(move |x| (y, x)));
    pixels.map(|(y, x)| slope_y * y as f64 + slope_x * x as f64).collect()
}

/// The coordinate of output `o` among the inputs when the centres of the corner pixels coincide.
fn aligned(o: usize, inputs: usize, outputs: usize) -> f64 {
    (o * (inputs - 1)) as f64 / (outputs - 1).max(1) as f64
}

/// The coordinate of output `o` among the inputs when the outer edges coincide.
fn half(o: usize, inputs: usize, outputs: usize) -> f64 {
    (o as f64 + 0.5) * inputs as f64 / outputs as f64 - 0.5
}

/// About half of the random sizes are outside a property and are rejected, so the number of
/// rejections is not limited.
fn config() -> ProptestConfig {
    ProptestConfig { max_global_rejects: u32::MAX, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn equal_size_is_the_identity((plane, from, _) in plane(), method in method()) {
        prop_assert_eq!(resized(method, &plane, from, from), plane);
    }

    #[test]
    fn corners_map_to_corners(
        (plane, from, to) in plane(),
        method in prop::sample::select(vec![Method::AlignCorners, Method::FlaxEmulation]),
    ) {
        prop_assume!(to.0 > 1 && to.1 > 1 && defined(method, from, to));
        let out = resized(method, &plane, from, to);
        let at = |p: &[f64], (h, w): Size| [p[0], p[w - 1], p[(h - 1) * w], p[h * w - 1]];
        let error = max_error(&at(&out, to), &at(&plane, from));
        prop_assert!(error <= rounding::<f64>(from), "corners differ by {}", error);
    }

    #[test]
    fn constants_stay_constant(from in size(), to in size(), value in -1.0..1.0f64, method in method()) {
        prop_assume!(defined(method, from, to));
        let out = resized(method, &vec![value; from.0 * from.1], from, to);
        let error = max_error(&out, &vec![value; out.len()]);
        prop_assert!(error <= rounding::<f64>(from), "a constant changed by {}", error);
    }

    #[test]
    fn aligned_corners_reproduce_ramps(
        from in size(), to in size(), slopes in (-1.0..1.0f64, -1.0..1.0f64),
        method in prop::sample::select(vec![Method::AlignCorners, Method::FlaxEmulation]),
    ) {
        prop_assume!(defined(method, from, to));
        let out = resized(method, &ramp(from, slopes.0, slopes.1), from, to);
        let largest = (from.0 + from.1) as f64;
        for (i, &got) in out.iter().enumerate() {
            let want = slopes.0 * aligned(i / to.1, from.0, to.0)
                + slopes.1 * aligned(i % to.1, from.1, to.1);
            prop_assert!((got - want).abs() <= rounding::<f64>(from) * largest, "{} {}", got, want);
        }
    }

    #[test]
    fn half_pixels_reproduce_ramps_in_the_interior(
        from in size(), to in size(), slopes in (-1.0..1.0f64, -1.0..1.0f64),
        method in prop::sample::select(vec![Method::HalfPixel, Method::JaxImageResize]),
    ) {
        let out = resized(method, &ramp(from, slopes.0, slopes.1), from, to);
        let largest = (from.0 + from.1) as f64;
        for (i, &got) in out.iter().enumerate() {
            let (y, x) = (half(i / to.1, from.0, to.0), half(i % to.1, from.1, to.1));
            // Beyond the centres of the outermost pixels the edge value is repeated.
            let inside = |at: f64, side: usize| (0.0..=(side - 1) as f64).contains(&at);
            if inside(y, from.0) && inside(x, from.1) {
                let want = slopes.0 * y + slopes.1 * x;
                let error = (got - want).abs();
                prop_assert!(error <= rounding::<f64>(from) * largest, "{} {}", got, want);
            }
        }
    }

    #[test]
    fn jax_image_resize_is_half_pixel((plane, from, to) in plane()) {
        let jax = resized(Method::JaxImageResize, &plane, from, to);
        let torch = resized(Method::HalfPixel, &plane, from, to);
        let error = max_error(&jax, &torch);
        prop_assert!(error <= 2.0 * rounding::<f64>(from), "they differ by {}", error);
    }

    #[test]
    fn the_emulation_is_align_corners_where_no_side_is_1((plane, from, to) in plane()) {
        prop_assume!(defined(Method::FlaxEmulation, from, to));
        let flax = resized(Method::FlaxEmulation, &plane, from, to);
        let torch = resized(Method::AlignCorners, &plane, from, to);
        let error = max_error(&flax, &torch);
        prop_assert!(error <= 2.0 * rounding::<f64>(from), "they differ by {}", error);
    }

    #[test]
    fn rows_and_columns_can_be_resized_one_after_the_other(
        (plane, from, to) in plane(),
        method in method(),
    ) {
        let between = (from.0, to.1);
        prop_assume!(defined(method, from, to) && defined(method, from, between));
        prop_assume!(defined(method, between, to));
        let at_once = resized(method, &plane, from, to);
        let rows = resized(method, &plane, from, between);
        let in_turn = resized(method, &rows, between, to);
        let error = max_error(&at_once, &in_turn);
        prop_assert!(error <= 2.0 * rounding::<f64>(from), "they differ by {}", error);
    }

    #[test]
    fn transposing_commutes((plane, from, to) in plane(), method in method()) {
        prop_assume!(defined(method, from, to));
        let turned = |p: &[f64], (h, w): Size| -> Vec<f64> {
            (0..w).flat_map(|x| (0..h).map(move |y| p[y * w + x])).collect()
        };
        let there = turned(&resized(method, &plane, from, to), to);
        let flip = |(h, w): Size| (w, h);
        let back = resized(method, &turned(&plane, from), flip(from), flip(to));
        let error = max_error(&there, &back);
        prop_assert!(error <= 2.0 * rounding::<f64>(from), "they differ by {}", error);
    }

    #[test]
    fn values_stay_within_the_range_of_the_input((plane, from, to) in plane(), method in method()) {
        prop_assume!(defined(method, from, to));
        let bound = |start: f64, pick: fn(f64, f64) -> f64| plane.iter().copied().fold(start, pick);
        let slack = rounding::<f64>(from);
        let low = bound(f64::INFINITY, f64::min) - slack;
        let high = bound(f64::NEG_INFINITY, f64::max) + slack;
        for value in resized(method, &plane, from, to) {
            prop_assert!((low..=high).contains(&value), "{} outside {}..{}", value, low, high);
        }
    }

    #[test]
    fn one_pixel_becomes_a_constant(value in -1.0..1.0f64, to in size(), method in method()) {
        let out = method.plane(&[value], (1, 1), to);
        match method {
            Method::FlaxEmulation if to != (1, 1) => prop_assert!(out.is_err()),
            // (1 - part) * value + part * value may not round to the value itself.
            _ => {
                let error = max_error(&out.unwrap(), &vec![value; to.0 * to.1]);
                prop_assert!(error <= rounding::<f64>((1, 1)), "differs by {}", error);
            }
        }
    }

    #[test]
    fn align_corners_to_one_pixel_takes_the_first((plane, from, _) in plane()) {
        prop_assert_eq!(resized(Method::AlignCorners, &plane, from, (1, 1)), vec![plane[0]]);
    }

    #[test]
    fn half_pixel_to_one_pixel_takes_the_middle((plane, from, _) in plane()) {
        let out = resized(Method::HalfPixel, &plane, from, (1, 1));
        let pair = |side: usize| [(side - 1) / 2, side / 2];
        let [rows, columns] = [pair(from.0), pair(from.1)];
        let pixels = rows.iter().flat_map(|&y| columns.map(|x| plane[y * from.1 + x]));
        let middle = pixels.sum::<f64>() / 4.0;
        prop_assert!((out[0] - middle).abs() <= rounding::<f64>(from), "{:?} {}", out, middle);
    }

    #[test]
    fn float32_is_float64_up_to_rounding((plane, from, to) in plane(), method in method()) {
        prop_assume!(defined(method, from, to));
        let narrow: Vec<f32> = plane.iter().map(|&v| v as f32).collect();
        let exact: Vec<f64> = narrow.iter().map(|&v| f64::from(v)).collect();
        let got: Vec<f64> =
            resized(method, &narrow, from, to).into_iter().map(f64::from).collect();
        let error = max_error(&got, &resized(method, &exact, from, to));
        prop_assert!(error <= rounding::<f32>(from), "they differ by {}", error);
    }

    #[test]
    fn planes_are_resized_one_by_one((plane, from, to) in plane(), method in method()) {
        let twice = [plane.clone(), plane.iter().map(|v| -v).collect()].concat();
        match (method.plane(&plane, from, to), planes(method, &twice, from, to)) {
            (Ok(one), Ok(both)) => {
                prop_assert_eq!(&both[..one.len()], &one[..]);
                prop_assert_eq!(both.len(), 2 * one.len());
            }
            (one, both) => prop_assert_eq!(one.err(), both.err()),
        }
    }
}
