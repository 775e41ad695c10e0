//! The four definitions of a resize against the outputs that PyTorch and JAX computed.

mod common;

use common::{Npz, assert_within, golden_path, max_error};
use scalar::Real;
use scalar::resize::{Method, Size, planes};

/// One row of the table: an input plane, its size and the output size.
struct Row {
    index: usize,
    from: Size,
    to: Size,
    values: Vec<f32>,
}

fn rows(torch: &mut Npz) -> Vec<Row> {
    let text = std::fs::read_to_string(golden_path("resize_sizes.json")).unwrap();
    let sizes: Vec<(Size, Size)> = serde_json::from_str(&text).unwrap();
    let row = |(index, (from, to))| {
        let values = torch.get::<f32>(&format!("{index}/in")).into_iter().collect();
        Row { index, from, to, values }
    };
    sizes.into_iter().enumerate().map(row).collect()
}

fn widened(values: impl IntoIterator<Item = f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

/// The largest difference between two float32 computations of the same definition, for values within
/// [-1, 1]. Coordinates are rounded as in the original, so that only the blends differ: along each of
/// two axes, in each of the two computations, a weight, a product and a sum round by at most half an
/// epsilon.
const FLOAT32_BOUND: f64 = 2.0 * 2.0 * 3.0 * 0.5 * f32::EPSILON as f64;

/// Compares a method in float32 with an array of each row. Where the array is missing, the original
/// raised, and the method must fail too.
fn agrees(method: Method, table: &str, array: &str) {
    let mut torch = Npz::open("resize_torch.npz");
    let rows = rows(&mut torch);
    let mut golden = Npz::open(table);
    for row in rows {
        let what = format!("{array} of {:?} to {:?}", row.from, row.to);
        let got = planes(method, &row.values, row.from, row.to);
        match golden.find::<f32>(&format!("{}/{array}", row.index)) {
            Some(want) => {
                let error = max_error(&widened(got.expect(&what)), &widened(want));
                assert_within(error, FLOAT32_BOUND, &what);
            }
            None => assert!(got.is_err(), "{what}: the original raises"),
        }
    }
}

#[test]
fn align_corners_agrees_with_torch() {
    agrees(Method::AlignCorners, "resize_torch.npz", "torch_aligned");
}

#[test]
fn half_pixel_agrees_with_torch() {
    agrees(Method::HalfPixel, "resize_torch.npz", "torch_half_pixel");
}

#[test]
fn jax_image_resize_agrees_with_jax() {
    agrees(Method::JaxImageResize, "resize_jax.npz", "jax_image_resize");
}

#[test]
fn the_emulation_agrees_with_flax_and_fails_where_it_raises() {
    agrees(Method::FlaxEmulation, "resize_jax.npz", "jax_aligned_emulation");
}

#[test]
fn align_corners_agrees_with_torch_in_float64() {
    let mut torch = Npz::open("resize_torch.npz");
    for row in rows(&mut torch) {
        let want: Vec<f64> =
            torch.get(&format!("{}/torch_aligned_f64", row.index)).into_iter().collect();
        let got = planes(Method::AlignCorners, &widened(row.values), row.from, row.to).unwrap();
        let what = format!("{:?} to {:?}", row.from, row.to);
        assert_within(max_error(&got, &want), 1e-12, &what);
    }
}

/// A size that the table does not contain: the emulation divides by in - 1 along both axes even if
/// only one of them changes.
#[test]
fn the_emulation_fails_for_one_pixel_that_stays_one() {
    let error = Method::FlaxEmulation.plane(&[1.0f32, 2.0], (1, 2), (1, 3)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the Flax emulation of align_corners divides by zero when a side is 1 pixel long: 1x2 to \
         1x3"
    );
}

/// A scale of 0 along one axis makes all values 0.
#[test]
fn the_emulation_vanishes_at_output_size_1() {
    fn vanishes<T: Real>() {
        let plane = vec![T::ONE; 12];
        let out = Method::FlaxEmulation.plane(&plane, (3, 4), (1, 4)).unwrap();
        assert!(out.iter().all(|&v| v == T::ZERO), "{out:?}");
    }
    vanishes::<f32>();
    vanishes::<f64>();
}
