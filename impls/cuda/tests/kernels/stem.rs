//! The stem that reads the planes of the clip (`hopper_stem.cu`), over edge shapes.

use cuda::device::Device;
use cuda::device::host::SCHEDULES;
use cuda::kernels::args::Epilogue;
use cuda::kernels::{File, Variant, hopper_stem, split_k_reduce};
use lower::Activation;
use spec::{EngineError, Precision};

use crate::bands::{bits, open};
use crate::conv::{CASE, Case, Values, expected_outputs};
use crate::lab;

/// A stem of one pixel.
pub const STEM: Case = Case { kernel: 5, stride: 2, ..CASE };

/// One group of pixels, the largest number of planes and outputs, planes that fill no band, parts of a tile beyond the
/// map, and rows of one tile, of whole ones and of some that are not whole.
const CASES: [Case; 7] = [
    Case { size: (2, 2), ..STEM },
    Case { images: 2, size: (10, 14), inputs: 48, outputs: 64, ..STEM },
    Case { images: 1, size: (8, 116), inputs: 20, outputs: 24, ..STEM },
    Case { images: 3, size: (4, 62), inputs: 33, outputs: 9, ..STEM },
    Case { images: 1, size: (18, 58), inputs: 16, outputs: 19, ..STEM },
    Case { images: 2, size: (6, 60), inputs: 3, outputs: 40, ..STEM },
    Case { images: 5, size: (12, 2), inputs: 24, outputs: 33, ..STEM },
];

/// The clip [images, planes, height, width].
fn clip(case: &Case, values: &Values) -> Vec<f64> {
    let (pixels, planes) = (case.size.0 * case.size.1, case.inputs);
    let at = |image: usize, plane: usize, pixel: usize| (image * pixels + pixel) * planes + plane;
    (0..case.images)
        .flat_map(|n| (0..planes).flat_map(move |p| (0..pixels).map(move |i| (n, p, i))))
        .map(|(n, p, i)| values.x[at(n, p, i)])
        .collect()
}

/// Runs the stem on two multiprocessors; with `sums`, another kernel applies the epilogue. Returns the
/// outputs [pixels, pitch].
pub fn outputs(
    device: &mut dyn Device,
    (case, precision, values): (&Case, Precision, &Values),
    sums: bool,
    epilogue: impl FnOnce(Epilogue) -> Epilogue,
) -> Result<Vec<f64>, EngineError> {
    let (size, pitch) = (case.out_size(), lab::pitch(precision, case.outputs));
    let division = hopper_stem::Division::new(case.images, size, case.inputs);
    let clip = lab::upload_f32(device, &clip(case, values));
    let weight = |o: usize, (plane, pixel)| match plane < case.inputs {
        true => values.weights[(o * 25 + pixel) * case.inputs + plane],
        false => 0.0,
    };
    let all = (0..case.outputs)
        .flat_map(|o| hopper_stem::positions(case.inputs).map(move |at| weight(o, at)));
    let weights = lab::upload_stored(device, precision, &all.collect::<Vec<_>>());
    // The kernel loads them before earlier kernels have ended.
    device.freeze(&weights)?;
    let out = lab::allocate(device, precision, case.pixels() * pitch);
    let partial = lab::allocate(device, Precision::F32, case.pixels() * pitch);
    let epilogue = epilogue(lab::epilogue_to(&out, case.outputs, pitch, size.0 * size.1));
    let map = device.tensor_map(&division.weights(weights.address, case.outputs))?;
    let args = division.args(map, clip.address, partial.address, epilogue);
    let variant = hopper_stem::variant(precision, sums);
    lab::run(device, &variant, [division.blocks(2), 1, 1], &args)?;
    if sums {
        let (partial, pixels) = (partial.address, case.pixels() as i32);
        let tile_sums = bytemuck::Zeroable::zeroed();
        let args = split_k_reduce::Args { partial, splits: 1, pixels, tile_sums, epilogue };
        let variant = Variant::new(File::SplitKReduce, precision);
        lab::run(device, &variant, split_k_reduce::grid(&args, precision), &args)?;
    }
    Ok(lab::download_stored(device, precision, &out))
}

/// The clip is rounded by the kernel. One case has NaN and infinity in it, which reach the pixels whose windows have
/// them.
#[test]
fn the_stem_is_right_over_edge_shapes_under_every_schedule() {
    let Some(mut lab) = open() else { return };
    for (at, case) in CASES.iter().enumerate() {
        let precision = if at == 2 { Precision::F16 } else { Precision::Bf16 };
        let mut values = Values::new(case, precision);
        if at == 1 {
            let last = values.x.len() - 1;
            (values.x[last], values.x[17]) = (f64::INFINITY, f64::NAN);
        }
        let want = expected_outputs(case, precision, &values);
        // As many bits as float32 has; Values rounded them to the storage format.
        let raw = lab::pseudo_random(values.x.len(), 1);
        for (value, raw) in values.x.iter_mut().zip(raw).filter(|(value, _)| value.is_finite()) {
            *value = raw;
        }
        let pitch = lab::pitch(precision, case.outputs);
        let mut first = None;
        for schedule in SCHEDULES {
            lab.set_schedule(schedule);
            let of_case = (case, precision, &values);
            let got = outputs(lab.device(), of_case, false, |e| e);
            let what = format!("{precision} {case:?} {schedule:?}");
            let got = got.unwrap_or_else(|error| panic!("{what}: {error}"));
            lab::compare(&what, &got, &want, case.outputs, pitch);
            assert_eq!(first.get_or_insert(bits(&got)), &bits(&got), "{what}");
        }
    }
}

#[test]
fn a_stem_that_leaves_its_epilogue_to_another_kernel_gives_the_same_bits() {
    let Some(mut lab) = open() else { return };
    let (case, precision) = (CASES[3], Precision::Bf16);
    let values = Values::new(&case, precision);
    let pitch = lab::pitch(precision, case.outputs);
    let [scale, bias] = [4, 5].map(|seed| {
        let values =
            lab::pad_channels(&lab::pseudo_random(case.outputs, seed), case.outputs, pitch);
        lab::upload_f32(lab.device(), &values)
    });
    let (scale, bias, activation) = (scale.address, bias.address, Activation::Relu as i32);
    let [one, two] = [false, true].map(|sums| {
        let epilogue = |e: Epilogue| Epilogue { scale, bias, activation, ..e };
        bits(&outputs(lab.device(), (&case, precision, &values), sums, epilogue).unwrap())
    });
    assert_eq!(one, two);
    assert!(one.contains(&0) && one.iter().any(|bits| *bits > 0));
}
