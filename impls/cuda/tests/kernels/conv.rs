//! Convolutions and what follows them: every tile, with and without a gate, with and without split
//! K, every part of the epilogue, and average pools over tiles.

use cuda::device::host::SCHEDULES;
use cuda::device::{Device, Memory};
use cuda::kernels::args::{Epilogue, Extent, Source};
use cuda::kernels::tile::{TILES, Tile, Tiling};
use cuda::kernels::tile_sums::{self, TileSums};
use cuda::kernels::{File, Variant, conv, split_k_reduce};
use lower::{Activation, Stage};
use spec::Precision;

use crate::lab::{self, Lab, PRECISIONS};

/// The shape of a convolution, and how it runs.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub images: usize,
    pub size: (usize, usize),
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub gated: bool,
    pub splits: usize,
}

pub const CASE: Case = Case {
    images: 1,
    size: (1, 1),
    inputs: 1,
    outputs: 1,
    kernel: 1,
    stride: 1,
    gated: false,
    splits: 1,
};

/// Maps of one pixel, odd sizes, and channels that do not fill a vector, a step of K or a tile.
pub const CASES: [Case; 14] = [
    CASE,
    Case { inputs: 3, outputs: 5, kernel: 3, gated: true, ..CASE },
    Case { images: 2, size: (5, 7), inputs: 19, outputs: 38, kernel: 3, ..CASE },
    Case { images: 3, size: (4, 3), inputs: 33, outputs: 17, gated: true, ..CASE },
    Case { size: (7, 9), inputs: 16, outputs: 16, kernel: 7, ..CASE },
    Case { size: (9, 8), inputs: 12, outputs: 24, kernel: 5, stride: 2, splits: 3, ..CASE },
    Case {
        images: 2,
        size: (3, 3),
        inputs: 70,
        outputs: 20,
        kernel: 3,
        gated: true,
        splits: 2,
        ..CASE
    },
    Case { size: (11, 12), inputs: 24, outputs: 132, kernel: 3, ..CASE },
    // More splits than steps of K: some blocks have nothing to add.
    Case { size: (2, 2), inputs: 8, outputs: 8, splits: 4, ..CASE },
    // A step of K covers eight pixels of the window, and a part of the next row of pixels.
    Case { images: 2, size: (6, 10), inputs: 3, outputs: 7, kernel: 7, ..CASE },
    // A window pixel ends in the middle of a step, in every step elsewhere.
    Case {
        images: 2,
        size: (8, 5),
        inputs: 72,
        outputs: 9,
        kernel: 5,
        stride: 2,
        splits: 2,
        ..CASE
    },
    // Even windows, and a stride that leaves pixels out.
    Case { size: (10, 13), inputs: 40, outputs: 11, kernel: 4, stride: 3, ..CASE },
    // Every row of a tile is of another image, with another gate.
    Case { images: 40, inputs: 100, outputs: 16, kernel: 3, gated: true, ..CASE },
    Case { images: 3, size: (5, 6), inputs: 64, outputs: 16, kernel: 3, gated: true, ..CASE },
];

impl Case {
    pub fn out_size(&self) -> (usize, usize) {
        let out = |side: usize| (side + 2 * (self.kernel / 2) - self.kernel) / self.stride + 1;
        (out(self.size.0), out(self.size.1))
    }

    pub fn pixels(&self) -> usize {
        self.images * self.out_size().0 * self.out_size().1
    }
}

/// Inputs of a case without padding, rounded as the kernels store them.
pub struct Values {
    pub x: Vec<f64>,
    pub weights: Vec<f64>,
    pub gate: Vec<f64>,
}

impl Values {
    pub fn new(case: &Case, precision: Precision) -> Self {
        let x = lab::pseudo_random(case.images * case.size.0 * case.size.1 * case.inputs, 1);
        let weights = lab::pseudo_random(case.outputs * case.kernel * case.kernel * case.inputs, 2);
        let gate = lab::pseudo_random(case.images * case.inputs, 3);
        Values {
            x: x.into_iter().map(|v| lab::stored(precision, v)).collect(),
            weights: weights.into_iter().map(|v| lab::operand(precision, v)).collect(),
            gate: gate.into_iter().map(|v| f64::from(v as f32)).collect(),
        }
    }

    /// An output in float64 before the epilogue, and the sum of the magnitudes of its products.
    pub fn sum(
        &self,
        case: &Case,
        precision: Precision,
        pixel: usize,
        output: usize,
    ) -> (f64, f64) {
        let (height, width) = case.out_size();
        let (image, in_image) = (pixel / (height * width), pixel % (height * width));
        let (mut sum, mut size) = (0.0, 0.0);
        for offset in 0..case.kernel * case.kernel {
            let at = |side: usize, offset: usize| {
                (side * case.stride + offset).checked_sub(case.kernel / 2)
            };
            let y = at(in_image / width, offset / case.kernel);
            let x = at(in_image % width, offset % case.kernel);
            let (Some(y), Some(x)) = (y, x) else { continue };
            if y >= case.size.0 || x >= case.size.1 {
                continue;
            }
            let from = ((image * case.size.0 + y) * case.size.1 + x) * case.inputs;
            for channel in 0..case.inputs {
                let gate = if case.gated { self.gate[image * case.inputs + channel] } else { 1.0 };
                let gated = lab::stored(precision, self.x[from + channel] * gate);
                let weights = (output * case.kernel * case.kernel + offset) * case.inputs;
                let product = lab::operand(precision, gated) * self.weights[weights + channel];
                sum += product;
                size += product.abs();
            }
        }
        (sum, size)
    }
}

/// A case on the device.
pub struct Uploaded {
    pub source: Source,
    _memory: [Memory; 3],
}

/// Copies the inputs of a case to the device.
pub fn upload(
    device: &mut dyn Device,
    case: &Case,
    precision: Precision,
    values: &Values,
) -> Uploaded {
    let pitch = lab::pitch(precision, case.inputs);
    let pad = |values: &[f64]| lab::pad_channels(values, case.inputs, pitch);
    let x = lab::upload_stored(device, precision, &pad(&values.x));
    let weights = lab::upload_stored(device, precision, &pad(&values.weights));
    let gate = lab::upload_f32(device, &pad(&values.gate));
    let source = Source {
        x: x.address,
        weights: weights.address,
        gate: if case.gated { gate.address } else { 0 },
        height: case.size.0 as i32,
        width: case.size.1 as i32,
        pitch: pitch as i32,
        kernel: case.kernel as i32,
        stride: case.stride as i32,
        padding: (case.kernel / 2) as i32,
        k: (case.kernel * case.kernel * pitch) as i32,
        unused: 0,
    };
    Uploaded { source, _memory: [x, weights, gate] }
}

/// Runs a convolution, in a cluster or with a reduction where K is split. Returns its outputs [pixels, pitch].
pub fn outputs(
    device: &mut dyn Device,
    case: &Case,
    precision: Precision,
    tiling: Tiling,
    (source, other): (Source, Option<Source>),
    epilogue: impl FnOnce(Epilogue) -> Epilogue,
) -> Result<Vec<f64>, spec::EngineError> {
    let none = bytemuck::Zeroable::zeroed();
    pooled_outputs(device, case, precision, tiling, (source, other, none), epilogue)
}

/// As [`outputs`], and sums the tiles of the result for an average pool.
pub fn pooled_outputs(
    device: &mut dyn Device,
    case: &Case,
    precision: Precision,
    tiling: Tiling,
    (source, other, tile_sums): (Source, Option<Source>, TileSums),
    epilogue: impl FnOnce(Epilogue) -> Epilogue,
) -> Result<Vec<f64>, spec::EngineError> {
    let pitch = lab::pitch(precision, case.outputs);
    let out = lab::allocate(device, precision, case.pixels() * pitch);
    let (height, width) = case.out_size();
    let epilogue = epilogue(lab::epilogue_to(&out, case.outputs, pitch, height * width));
    let partial = device.alloc(tiling.splits * case.pixels() * pitch * 4)?;
    let clustered = device.machine().in_cluster(tiling.splits);
    let reduced = tiling.splits > 1 && !clustered;
    let args = conv::Args {
        sources: [source, other.unwrap_or(source)],
        extent: Extent {
            pixels: case.pixels() as i32,
            height: height as i32,
            width: width as i32,
            outputs: case.outputs as i32,
        },
        init: 0,
        partial: if reduced { partial.address } else { 0 },
        source_count: if other.is_some() { 2 } else { 1 },
        splits: tiling.splits as i32,
        tile_sums: if reduced { bytemuck::Zeroable::zeroed() } else { tile_sums },
        epilogue,
    };
    let variant = conv::variant(precision, tiling, case.gated);
    let cluster = if clustered { tiling.splits as u32 } else { 1 };
    lab::run_clusters(device, &variant, (conv::grid(&args, tiling), cluster), &args)?;
    if reduced {
        let (splits, pixels) = (args.splits, args.extent.pixels);
        let partial = partial.address;
        let args = split_k_reduce::Args { partial, splits, pixels, tile_sums, epilogue };
        let variant = Variant::new(File::SplitKReduce, precision);
        lab::run(device, &variant, split_k_reduce::grid(&args, precision), &args)?;
    }
    Ok(lab::download_stored(device, precision, &out))
}

pub fn expected_outputs(case: &Case, precision: Precision, values: &Values) -> Vec<(f64, f64)> {
    let positions = (0..case.pixels()).flat_map(|p| (0..case.outputs).map(move |o| (p, o)));
    let terms = case.kernel * case.kernel * case.inputs;
    positions
        .map(|(pixel, output)| {
            let (sum, size) = values.sum(case, precision, pixel, output);
            (lab::stored(precision, sum), lab::tolerance(precision, terms, size, sum))
        })
        .collect()
}

#[test]
fn every_tile_of_every_precision_is_right_over_edge_shapes() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        for case in CASES {
            let values = Values::new(&case, precision);
            let want = expected_outputs(&case, precision, &values);
            let uploaded = upload(lab.device(), &case, precision, &values);
            for tile in TILES {
                let tiling = Tiling { tile, splits: case.splits };
                let sources = (uploaded.source, None);
                let got = outputs(lab.device(), &case, precision, tiling, sources, |e| e);
                let what = format!("{precision} {case:?} {tile:?}");
                let got = got.unwrap_or_else(|error| panic!("{what}: {error}"));
                let pitch = lab::pitch(precision, case.outputs);
                lab::compare(&what, &got, &want, case.outputs, pitch);
            }
        }
    }
    assert_eq!(lab.bank_conflicts(), 0, "bank conflicts of ldmatrix");
}

#[test]
fn the_schedule_of_threads_changes_no_bit() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in [Precision::F32, Precision::Bf16] {
        for case in [CASES[2], CASES[3], CASES[6]] {
            let values = Values::new(&case, precision);
            let uploaded = upload(lab.device(), &case, precision, &values);
            for tile in [TILES[0], TILES[3], TILES[4]] {
                let tiling = Tiling { tile, splits: case.splits };
                let mut run = |schedule| {
                    lab.set_schedule(schedule);
                    let got = outputs(
                        lab.device(),
                        &case,
                        precision,
                        tiling,
                        (uploaded.source, None),
                        |e| e,
                    );
                    got.unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>()
                };
                let first = run(SCHEDULES[0]);
                for schedule in &SCHEDULES[1..] {
                    assert!(run(*schedule) == first, "{precision} {case:?} {tile:?} {schedule:?}");
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_reach_only_the_outputs_that_depend_on_them() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        for special in [f64::NAN, f64::INFINITY] {
            for case in [CASES[2], CASES[13]] {
                let mut values = Values::new(&case, precision);
                let middle = values.x.len() / 2;
                values.x[middle] = special;
                let want = expected_outputs(&case, precision, &values);
                let finite = |(value, _): &(f64, f64)| value.is_finite();
                assert!(want.iter().any(finite) && !want.iter().all(finite));
                let uploaded = upload(lab.device(), &case, precision, &values);
                let tiling = Tiling { tile: TILES[4], splits: 1 };
                let sources = (uploaded.source, None);
                let got = outputs(lab.device(), &case, precision, tiling, sources, |e| e).unwrap();
                let pitch = lab::pitch(precision, case.outputs);
                lab::compare(&format!("{precision} {special}"), &got, &want, case.outputs, pitch);
            }
        }
    }
}

/// Of a map of one pixel, eight of nine window pixels are padding, and the product of an infinite
/// gate with a zero would be NaN.
#[test]
fn an_infinite_gate_does_not_reach_the_padding() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        let case = Case { images: 40, gated: true, ..CASES[1] };
        let mut values = Values::new(&case, precision);
        values.gate[7 * case.inputs] = f64::INFINITY;
        let want = expected_outputs(&case, precision, &values);
        assert!(want.iter().any(|(value, _)| value.is_infinite()));
        let uploaded = upload(lab.device(), &case, precision, &values);
        for tile in [TILES[3], TILES[4]] {
            let tiling = Tiling { tile, splits: 1 };
            let sources = (uploaded.source, None);
            let got = outputs(lab.device(), &case, precision, tiling, sources, |e| e).unwrap();
            let pitch = lab::pitch(precision, case.outputs);
            lab::compare(&format!("{precision} {tile:?}"), &got, &want, case.outputs, pitch);
        }
    }
}

/// Runs scale, bias, residual, sigmoid, factor and addend at once and observes every stage.
/// Continuing after any stage, from its observed value, must give the same bits.
#[test]
fn the_whole_epilogue_is_right_and_can_continue_after_every_stage() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        let case = CASES[2];
        let values = Values::new(&case, precision);
        let uploaded = upload(lab.device(), &case, precision, &values);
        let (pixels, channels) = (case.pixels(), case.outputs);
        let (pitch, image) = (lab::pitch(precision, channels), pixels / case.images);
        let [scale, bias] = [4, 5].map(|seed| lab::pseudo_random(channels, seed));
        let [residual, factor] = [6, 7].map(|seed| lab::pseudo_random(pixels * channels, seed));
        let addend = lab::pseudo_random(image * channels, 8);
        let pad = |values: &[f64]| lab::pad_channels(values, channels, pitch);
        let scales =
            [&scale, &bias, &factor, &addend].map(|v| lab::upload_f32(lab.device(), &pad(v)));
        let residuals = lab::upload_stored(lab.device(), precision, &pad(&residual));
        let observed =
            Stage::OBSERVABLE.map(|_| lab::allocate(lab.device(), Precision::F32, pixels * pitch));
        let full = |epilogue: Epilogue| Epilogue {
            scale: scales[0].address,
            bias: scales[1].address,
            factor: scales[2].address,
            addend: scales[3].address,
            residual: residuals.address,
            activation: Activation::Sigmoid as i32,
            observed: observed.each_ref().map(|memory| memory.address),
            ..epilogue
        };
        let tiling = Tiling { tile: TILES[2], splits: 1 };
        let got =
            outputs(lab.device(), &case, precision, tiling, (uploaded.source, None), full).unwrap();
        // For each output the value after each stage, and the size of the sum.
        let exact: Vec<([f64; 5], f64)> = (0..pixels * channels)
            .map(|at| {
                let (pixel, c) = (at / channels, at % channels);
                let (sum, size) = values.sum(&case, precision, pixel, c);
                let linear = f64::from(scale[c] as f32) * sum
                    + f64::from(bias[c] as f32)
                    + lab::stored(precision, residual[at]);
                let sigmoid = 1.0 / (1.0 + (-linear).exp());
                let product = sigmoid * factor[at];
                let end = product + addend[(pixel % image) * channels + c];
                ([sum, linear, sigmoid, product, end], size)
            })
            .collect();
        let want = |stage: Stage, precision| -> Vec<(f64, f64)> {
            let values = exact.iter().map(|(values, size)| (values[stage as usize - 1], size));
            // Scale is below 1, and the slope of the sigmoid is 1/4 at most. About ten roundings
            // follow the sum.
            let tolerance =
                |value: f64, size| lab::tolerance(precision, 171, size + 4.0, value.abs() + 1.0);
            values.map(|(value, size)| (value, tolerance(value, size))).collect()
        };
        let what = format!("{precision} epilogue");
        lab::compare(&what, &got, &want(Stage::End, precision), channels, pitch);
        for (stage, memory) in Stage::OBSERVABLE.into_iter().zip(&observed) {
            let rows = lab::download_f32(lab.device(), memory);
            // The padding becomes zeros only after the last stage.
            let got: Vec<f64> =
                rows.chunks(pitch).flat_map(|row| &row[..channels]).copied().collect();
            let what = format!("{what}, observed after {stage:?}");
            lab::compare(&what, &got, &want(stage, Precision::F32), channels, channels);
        }
        for (from, values) in Stage::OBSERVABLE.into_iter().zip(&observed) {
            let out = lab::allocate(lab.device(), precision, pixels * pitch);
            let mut epilogue = full(lab::epilogue_to(&out, channels, pitch, image));
            epilogue.observed = Default::default();
            epilogue.from_stage = from as i32;
            let (partial, pixels) = (values.address, pixels as i32);
            let tile_sums = bytemuck::Zeroable::zeroed();
            let args = split_k_reduce::Args { partial, splits: 1, pixels, tile_sums, epilogue };
            let variant = Variant::new(File::SplitKReduce, precision);
            lab::run(lab.device(), &variant, split_k_reduce::grid(&args, precision), &args)
                .unwrap();
            assert_eq!(
                lab::download_stored(lab.device(), precision, &out),
                got,
                "{precision}, continued after stage {from:?}"
            );
        }
    }
}

/// Without an observer most epilogues are short, and a tile then stores its results in another way.
#[test]
fn an_observer_changes_no_bit_of_a_short_epilogue() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        let case = Case { images: 7, size: (5, 7), inputs: 5, outputs: 38, ..CASE };
        let mut values = Values::new(&case, precision);
        values.x[11] = f64::NAN;
        values.x[100 * case.inputs..101 * case.inputs].fill(0.0);
        let uploaded = upload(lab.device(), &case, precision, &values);
        let (pixels, channels) = (case.pixels(), case.outputs);
        let (pitch, image) = (lab::pitch(precision, channels), pixels / case.images);
        let pad = |values: &[f64]| lab::pad_channels(values, channels, pitch);
        let [scale, bias] = [4, 5]
            .map(|seed| lab::upload_f32(lab.device(), &pad(&lab::pseudo_random(channels, seed))));
        let residual = lab::pseudo_random(pixels * channels, 6);
        let residual = lab::upload_stored(lab.device(), precision, &pad(&residual));
        let sums = lab::allocate(lab.device(), Precision::F32, pixels * pitch);
        // Address of scale, bias and residual, and the activation.
        let (s, b, r) = (scale.address, bias.address, residual.address);
        let relu = Activation::Relu;
        let epilogues =
            [(s, b, r, relu), (s, b, 0, relu), (0, b, r, Activation::Identity), (0, 0, 0, relu)];
        for (tile, (scale, bias, residual, activation)) in
            [TILES[0], TILES[1], TILES[5]].into_iter().flat_map(|t| epilogues.map(|e| (t, e)))
        {
            let tiling = Tiling { tile, splits: 1 };
            let mut run = |observed| {
                let tile_sums = tile_sums_of(lab.device(), tile, pixels, image, pitch);
                let activation = activation as i32;
                let sources = (uploaded.source, None, tile_sums.1);
                let epilogue = |e| Epilogue {
                    scale,
                    bias,
                    residual,
                    activation,
                    observed: [observed, 0, 0, 0, 0],
                    ..e
                };
                let out = pooled_outputs(lab.device(), &case, precision, tiling, sources, epilogue);
                let pooled = lab::download_f32(lab.device(), &tile_sums.0);
                let bits = |v: Vec<f64>| v.into_iter().map(f64::to_bits).collect::<Vec<_>>();
                (bits(out.unwrap()), bits(pooled))
            };
            let (short, long) = (run(0), run(sums.address));
            assert!(short == long, "{precision} {tile:?} {scale} {bias} {residual} {activation:?}");
        }
    }
}

/// Memory for the sums of a tile's pixels, all NaN, and what a kernel needs to know of it.
fn tile_sums_of(
    device: &mut dyn Device,
    tile: Tile,
    pixels: usize,
    image: usize,
    pitch: usize,
) -> (Memory, TileSums) {
    let segments = tile_sums::segments(tile.pixels, image);
    let count = pixels.div_ceil(tile.pixels) * segments * pitch;
    let memory = lab::allocate(device, Precision::F32, count);
    let sums = memory.address;
    (memory, TileSums { sums, image_pixels: image as i32, segments: segments as i32 })
}

#[test]
fn two_inputs_are_added_in_one_sum() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        let first = Case { images: 2, size: (3, 5), inputs: 20, outputs: 37, ..CASE };
        let second = Case { inputs: 70, ..first };
        let [a, b] = [first, second].map(|case| (case, Values::new(&case, precision)));
        let [pa, pb] = [&a, &b].map(|(case, v)| upload(lab.device(), case, precision, v));
        // The tile with two slots is that of sm_75.
        let two_slots = TILES[1].within(64 << 10).unwrap();
        for (tile, splits) in [(TILES[1], 1), (two_slots, 1), (TILES[4], 2), (TILES[4], 3)] {
            let tiling = Tiling { tile, splits };
            let sources = (pa.source, Some(pb.source));
            let got = outputs(lab.device(), &first, precision, tiling, sources, |e| e).unwrap();
            let positions =
                (0..first.pixels()).flat_map(|p| (0..first.outputs).map(move |o| (p, o)));
            let want: Vec<(f64, f64)> = positions
                .map(|(p, o)| {
                    let (one, size) = a.1.sum(&first, precision, p, o);
                    let (two, more) = b.1.sum(&second, precision, p, o);
                    let tolerance = lab::tolerance(precision, 90, size + more, one + two);
                    (lab::stored(precision, one + two), tolerance)
                })
                .collect();
            let pitch = lab::pitch(precision, first.outputs);
            lab::compare(&format!("{precision} {tiling:?}"), &got, &want, first.outputs, pitch);
        }
    }
}
