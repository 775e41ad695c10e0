//! The resize functions of the crate `scalar` against libtorch's, on random sizes.
#![cfg(feature = "libtorch")]

use proptest::prelude::*;
use scalar::resize::{Method, planes};
use spec::{PosEmbed, Tensor};

const METHODS: [(Method, PosEmbed); 2] =
    [(Method::AlignCorners, PosEmbed::AlignCorners), (Method::HalfPixel, PosEmbed::HalfPixel)];

fn side() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), Just(2), 1usize..20, Just(97)]
}

/// The largest difference, relative to the largest absolute value of `want`.
fn worst(got: &[f64], want: &[f64]) -> f64 {
    let scale = want.iter().fold(1e-30, |a: f64, w| a.max(w.abs()));
    let errors = got.iter().zip(want).map(|(g, w)| (g - w).abs() / scale);
    errors.fold(0.0, |a: f64, e| if e.is_nan() || a.is_nan() { f64::NAN } else { a.max(e) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn equals_libtorch(h in side(), w in side(), oh in side(), ow in side(), seed in 0u64..1000) {
        let values = checkpoint::formula::uniform("resize", h * w, seed);
        let (from, to) = ((h, w), (oh, ow));
        for (method, semantics) in METHODS {
            let single = Tensor::f32(vec![1, 1, h, w], values.clone());
            let want = torch::resize::resize(&single, to, semantics).unwrap();
            let got = planes(method, &values, from, to).unwrap();
            let got: Vec<f64> = got.into_iter().map(f64::from).collect();
            // Both sides compute coordinates in float32. A coordinate of up to 97 is rounded twice by
            // up to 97 eps / 2 on each side, and an interpolated value moves by as much.
            let bound = 2.0 * 97.0 * f64::from(f32::EPSILON);
            let error = worst(&got, &want.to_f64());
            prop_assert!(error <= bound, "f32 {method:?} {from:?} to {to:?}: {error:e}");

            let double: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
            let want =
                torch::resize::resize(&Tensor::f64(vec![1, 1, h, w], double.clone()), to, semantics);
            let got = planes(method, &double, from, to).unwrap();
            let error = worst(&got, &want.unwrap().to_f64());
            prop_assert!(error <= 1e-12, "f64 {method:?} {from:?} to {to:?}: {error:e}");
        }
    }
}

#[test]
fn tall_and_one_pixel_maps_equal_libtorch() {
    for (from, to) in [((1, 1), (97, 3)), ((97, 3), (1, 1)), ((7, 7), (97, 3)), ((7, 7), (1, 2))] {
        let values: Vec<f64> = (0..from.0 * from.1).map(|i| ((i * 37) % 101) as f64).collect();
        for (method, semantics) in METHODS {
            let tensor = Tensor::f64(vec![1, 1, from.0, from.1], values.clone());
            let want = torch::resize::resize(&tensor, to, semantics).unwrap();
            let got = planes(method, &values, from, to).unwrap();
            let error = worst(&got, &want.to_f64());
            assert!(error <= 1e-12, "{method:?} {from:?} to {to:?}: {error:e}");
        }
    }
}
