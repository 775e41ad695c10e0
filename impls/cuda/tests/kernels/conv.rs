//! Convolutions: every tile, gated or not, whole or split, with every part of the epilogue.

use cuda::device::host::SCHEDULES;
use cuda::device::{Device, Memory};
use cuda::kernels::args::{Activation, Epilogue, Extent, Source, stage};
use cuda::kernels::pool::{self, Pool};
use cuda::kernels::tile::{CTL_TILES, Cut, TILES};
use cuda::kernels::{File, Variant, combine, conv, ctl, finish};
use spec::Precision;

use crate::lab::{self, Lab, PRECISIONS};

/// A convolution to try.
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

const CASE: Case = Case {
    images: 1,
    size: (1, 1),
    inputs: 1,
    outputs: 1,
    kernel: 1,
    stride: 1,
    gated: false,
    splits: 1,
};

/// One-pixel maps, odd sizes, channels that fill no vector, no step and no tile.
pub const CASES: [Case; 9] = [
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
    // More blocks than steps: some have nothing to add.
    Case { size: (2, 2), inputs: 8, outputs: 8, splits: 4, ..CASE },
];

impl Case {
    fn out_size(&self) -> (usize, usize) {
        let out = |side: usize| (side + 2 * (self.kernel / 2) - self.kernel) / self.stride + 1;
        (out(self.size.0), out(self.size.1))
    }

    fn pixels(&self) -> usize {
        self.images * self.out_size().0 * self.out_size().1
    }
}

/// Values of a case, as they are stored, without padding.
pub struct Values {
    pub x: Vec<f64>,
    pub weights: Vec<f64>,
    pub gate: Vec<f64>,
}

impl Values {
    pub fn new(case: &Case, precision: Precision) -> Self {
        let x = lab::numbers(case.images * case.size.0 * case.size.1 * case.inputs, 1);
        let weights = lab::numbers(case.outputs * case.kernel * case.kernel * case.inputs, 2);
        let gate = lab::numbers(case.images * case.inputs, 3);
        Values {
            x: x.into_iter().map(|v| lab::stored(precision, v)).collect(),
            weights: weights.into_iter().map(|v| lab::factor(precision, v)).collect(),
            gate: gate.into_iter().map(|v| f64::from(v as f32)).collect(),
        }
    }

    /// The sum of an output, and that of the products' sizes, in float64.
    fn sum(&self, case: &Case, precision: Precision, pixel: usize, output: usize) -> (f64, f64) {
        let (height, width) = case.out_size();
        let (image, place) = (pixel / (height * width), pixel % (height * width));
        let (mut sum, mut size) = (0.0, 0.0);
        for tap in 0..case.kernel * case.kernel {
            let at =
                |side: usize, tap: usize| (side * case.stride + tap).checked_sub(case.kernel / 2);
            let (y, x) =
                (at(place / width, tap / case.kernel), at(place % width, tap % case.kernel));
            let (Some(y), Some(x)) = (y, x) else { continue };
            if y >= case.size.0 || x >= case.size.1 {
                continue;
            }
            let from = ((image * case.size.0 + y) * case.size.1 + x) * case.inputs;
            for channel in 0..case.inputs {
                let gate = if case.gated { self.gate[image * case.inputs + channel] } else { 1.0 };
                let gated = lab::stored(precision, self.x[from + channel] * gate);
                let weights = (output * case.kernel * case.kernel + tap) * case.inputs;
                let product = lab::factor(precision, gated) * self.weights[weights + channel];
                sum += product;
                size += product.abs();
            }
        }
        (sum, size)
    }
}

/// Memory of a case.
pub struct Placed {
    pub source: Source,
    _memory: [Memory; 3],
}

pub fn place(
    device: &mut dyn Device,
    case: &Case,
    precision: Precision,
    values: &Values,
) -> Placed {
    let pitch = lab::pitch(precision, case.inputs);
    let spread = |values: &[f64]| lab::spread(values, case.inputs, pitch);
    let x = lab::narrow(device, precision, &spread(&values.x));
    let weights = lab::narrow(device, precision, &spread(&values.weights));
    let gate = lab::wide(device, &spread(&values.gate));
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
        depth: (case.kernel * case.kernel * pitch) as i32,
        unused: 0,
    };
    Placed { source, _memory: [x, weights, gate] }
}

/// Runs a case and returns its outputs [pixels, pitch].
pub fn outputs(
    device: &mut dyn Device,
    case: &Case,
    precision: Precision,
    cut: Cut,
    (source, other): (Source, Option<Source>),
    epilogue: impl FnOnce(Epilogue) -> Epilogue,
) -> Result<Vec<f64>, spec::EngineError> {
    let none = bytemuck::Zeroable::zeroed();
    pooled_outputs(device, case, precision, cut, (source, other, none), epilogue)
}

/// As [`outputs`], with sums for the mean over the result.
fn pooled_outputs(
    device: &mut dyn Device,
    case: &Case,
    precision: Precision,
    cut: Cut,
    (source, other, pool): (Source, Option<Source>, Pool),
    epilogue: impl FnOnce(Epilogue) -> Epilogue,
) -> Result<Vec<f64>, spec::EngineError> {
    let pitch = lab::pitch(precision, case.outputs);
    let out = lab::room(device, precision, case.pixels() * pitch);
    let (height, width) = case.out_size();
    let epilogue = epilogue(lab::store(&out, case.outputs, pitch, height * width));
    let partial = device.alloc(cut.splits * case.pixels() * pitch * 4)?;
    let args = conv::Args {
        sources: [source, other.unwrap_or(source)],
        extent: Extent {
            pixels: case.pixels() as i32,
            height: height as i32,
            width: width as i32,
            outputs: case.outputs as i32,
        },
        init: 0,
        partial: if cut.splits > 1 { partial.address } else { 0 },
        count: if other.is_some() { 2 } else { 1 },
        splits: cut.splits as i32,
        pool,
        epilogue,
    };
    let variant = conv::variant(precision, cut, case.gated);
    lab::run(device, &variant, conv::grid(&args, cut), &args)?;
    if cut.splits > 1 {
        let (splits, pixels) = (args.splits, args.extent.pixels);
        let args = finish::Args { partial: partial.address, splits, pixels, epilogue };
        let variant = Variant::new(File::Finish, precision);
        lab::run(device, &variant, finish::grid(&args, precision), &args)?;
    }
    Ok(lab::values(device, precision, &out))
}

fn wanted(case: &Case, precision: Precision, values: &Values) -> Vec<(f64, f64)> {
    let places = (0..case.pixels()).flat_map(|p| (0..case.outputs).map(move |o| (p, o)));
    let terms = case.kernel * case.kernel * case.inputs;
    places
        .map(|(pixel, output)| {
            let (sum, size) = values.sum(case, precision, pixel, output);
            (lab::stored(precision, sum), lab::allowed(precision, terms, size, sum))
        })
        .collect()
}

#[test]
fn every_tile_of_every_precision_is_right_over_edge_shapes() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        for case in CASES {
            let values = Values::new(&case, precision);
            let want = wanted(&case, precision, &values);
            let placed = place(lab.device(), &case, precision, &values);
            for tile in TILES {
                let cut = Cut { tile, splits: case.splits };
                let sources = (placed.source, None);
                let got = outputs(lab.device(), &case, precision, cut, sources, |e| e);
                let what = format!("{precision} {case:?} {tile:?}");
                let got = got.unwrap_or_else(|error| panic!("{what}: {error}"));
                let pitch = lab::pitch(precision, case.outputs);
                lab::compare(&what, &got, &want, case.outputs, pitch);
            }
        }
    }
    assert_eq!(lab.conflicts(), 0, "reads of ldmatrix met in a bank of shared memory");
}

#[test]
fn no_schedule_changes_a_bit() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in [Precision::F32, Precision::Bf16] {
        for case in [CASES[2], CASES[3], CASES[6]] {
            let values = Values::new(&case, precision);
            let placed = place(lab.device(), &case, precision, &values);
            for tile in [TILES[0], TILES[3], TILES[4]] {
                let cut = Cut { tile, splits: case.splits };
                let mut run = |schedule| {
                    lab.order(schedule);
                    let got =
                        outputs(lab.device(), &case, precision, cut, (placed.source, None), |e| e);
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
fn nan_and_infinity_reach_what_they_should_and_nothing_else() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        for special in [f64::NAN, f64::INFINITY] {
            let case = CASES[2];
            let mut values = Values::new(&case, precision);
            let middle = values.x.len() / 2;
            values.x[middle] = special;
            let want = wanted(&case, precision, &values);
            assert!(
                want.iter().any(|(w, _)| !w.is_finite()) && want.iter().any(|(w, _)| w.is_finite())
            );
            let placed = place(lab.device(), &case, precision, &values);
            let cut = Cut { tile: TILES[4], splits: 1 };
            let got = outputs(lab.device(), &case, precision, cut, (placed.source, None), |e| e);
            let pitch = lab::pitch(precision, case.outputs);
            lab::compare(
                &format!("{precision} {special}"),
                &got.unwrap(),
                &want,
                case.outputs,
                pitch,
            );
        }
    }
}

/// Scale, bias, residual, sigmoid, factor and embedding at once, each stage seen, and taken up again
/// after each: the same bits.
#[test]
fn all_of_the_epilogue_is_right_and_can_be_taken_up_after_every_stage() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        let case = CASES[2];
        let values = Values::new(&case, precision);
        let placed = place(lab.device(), &case, precision, &values);
        let (pixels, channels) = (case.pixels(), case.outputs);
        let (pitch, image) = (lab::pitch(precision, channels), pixels / case.images);
        let [scale, bias] = [4, 5].map(|seed| lab::numbers(channels, seed));
        let [residual, factor] = [6, 7].map(|seed| lab::numbers(pixels * channels, seed));
        let post = lab::numbers(image * channels, 8);
        let spread = |values: &[f64]| lab::spread(values, channels, pitch);
        let scales = [&scale, &bias, &factor, &post].map(|v| lab::wide(lab.device(), &spread(v)));
        let residuals = lab::narrow(lab.device(), precision, &spread(&residual));
        let seen: Vec<Memory> = (0..stage::END)
            .map(|_| lab::room(lab.device(), Precision::F32, pixels * pitch))
            .collect();
        let full = |epilogue: Epilogue| Epilogue {
            scale: scales[0].address,
            bias: scales[1].address,
            factor: scales[2].address,
            post: scales[3].address,
            residual: residuals.address,
            activation: Activation::Sigmoid as i32,
            see: std::array::from_fn(|stage| seen[stage].address),
            ..epilogue
        };
        let cut = Cut { tile: TILES[2], splits: 1 };
        let got =
            outputs(lab.device(), &case, precision, cut, (placed.source, None), full).unwrap();
        let sums = wanted(&case, precision, &values);
        let want: Vec<(f64, f64)> = (0..pixels * channels)
            .map(|at| {
                let (pixel, c) = (at / channels, at % channels);
                let (sum, size) = values.sum(&case, precision, pixel, c);
                let linear = f64::from(scale[c] as f32) * sum
                    + f64::from(bias[c] as f32)
                    + lab::stored(precision, residual[at]);
                let value = 1.0 / (1.0 + (-linear).exp()) * factor[at]
                    + post[(pixel % image) * channels + c];
                // The sigmoid is steepest, 1/4, at 0; what comes after the sum rounds some ten times.
                let allowed = lab::allowed(precision, 171, size + 4.0, value.abs() + 1.0);
                (value, allowed)
            })
            .collect();
        assert_eq!(sums.len(), want.len());
        lab::compare(&format!("{precision} epilogue"), &got, &want, channels, pitch);
        for from in stage::SUM..=stage::END {
            let out = lab::room(lab.device(), precision, pixels * pitch);
            let mut epilogue = full(lab::store(&out, channels, pitch, image));
            epilogue.see = [0; stage::END];
            epilogue.from = from as i32;
            let partial = seen[from - 1].address;
            let args = finish::Args { partial, splits: 1, pixels: pixels as i32, epilogue };
            let variant = Variant::new(File::Finish, precision);
            lab::run(lab.device(), &variant, finish::grid(&args, precision), &args).unwrap();
            assert_eq!(lab::values(lab.device(), precision, &out), got, "{precision} from {from}");
        }
    }
}

#[test]
fn two_inputs_are_added_in_one_sum() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        let first = Case { images: 2, size: (3, 5), inputs: 20, outputs: 37, ..CASE };
        let second = Case { inputs: 70, ..first };
        let [a, b] = [first, second].map(|case| (case, Values::new(&case, precision)));
        let [pa, pb] = [&a, &b].map(|(case, v)| place(lab.device(), case, precision, v));
        for (tile, splits) in [(TILES[1], 1), (TILES[4], 2), (TILES[4], 3)] {
            let cut = Cut { tile, splits };
            let sources = (pa.source, Some(pb.source));
            let got = outputs(lab.device(), &first, precision, cut, sources, |e| e).unwrap();
            let places = (0..first.pixels()).flat_map(|p| (0..first.outputs).map(move |o| (p, o)));
            let want: Vec<(f64, f64)> = places
                .map(|(p, o)| {
                    let (one, size) = a.1.sum(&first, precision, p, o);
                    let (two, more) = b.1.sum(&second, precision, p, o);
                    let allowed = lab::allowed(precision, 90, size + more, one + two);
                    (lab::stored(precision, one + two), allowed)
                })
                .collect();
            let pitch = lab::pitch(precision, first.outputs);
            lab::compare(&format!("{precision} {cut:?}"), &got, &want, first.outputs, pitch);
        }
    }
}

/// bn(temporal(g x) + short(x) sigmoid(glo(m))), in one kernel.
#[test]
fn the_fused_block_is_right_over_edge_shapes() {
    let Some(mut lab) = Lab::open() else { return };
    let shapes = [((1, 1), 1, 3, 5), ((5, 7), 2, 19, 38), ((4, 3), 3, 33, 70)];
    for precision in PRECISIONS {
        for (size, images, inputs, outputs) in shapes {
            let short = Case { images, size, inputs, outputs, kernel: 3, ..CASE };
            let global = Case { inputs: 16, ..short };
            let temporal = Case { kernel: 1, gated: true, ..short };
            let cases = [short, global, temporal];
            let values = cases.map(|case| Values::new(&case, precision));
            let [a, b, c] =
                [0, 1, 2].map(|i| place(lab.device(), &cases[i], precision, &values[i]));
            let pitch = lab::pitch(precision, outputs);
            let bias = [11, 12].map(|seed| lab::numbers(outputs, seed));
            let biases =
                [0, 1].map(|i| lab::wide(lab.device(), &lab::spread(&bias[i], outputs, pitch)));
            let pixels = short.pixels();
            let want: Vec<(f64, f64)> = (0..pixels * outputs)
                .map(|at| {
                    let (p, o) = (at / outputs, at % outputs);
                    let [s, g, t] = [0, 1, 2].map(|i| values[i].sum(&cases[i], precision, p, o));
                    let gate = 1.0 / (1.0 + (-(g.0 + bias[1][o])).exp());
                    let value = (s.0 + bias[0][o]) * gate + t.0;
                    let size = (s.1 + 1.0) * (g.1 + 2.0) + t.1;
                    (value, lab::allowed(precision, 9 * inputs, size, value))
                })
                .collect();
            for tile in CTL_TILES {
                let out = lab::room(lab.device(), precision, pixels * pitch);
                let args = ctl::Args {
                    short: a.source,
                    glo_out: b.source,
                    temporal: c.source,
                    extent: Extent {
                        pixels: pixels as i32,
                        height: size.0 as i32,
                        width: size.1 as i32,
                        outputs: outputs as i32,
                    },
                    short_bias: biases[0].address,
                    glo_out_bias: biases[1].address,
                    epilogue: lab::store(&out, outputs, pitch, size.0 * size.1),
                };
                let variant = ctl::variant(precision, tile, true);
                let what = format!("{precision} {size:?} {tile:?}");
                lab::run(lab.device(), &variant, ctl::grid(&args, tile), &args).unwrap();
                let got = lab::values(lab.device(), precision, &out);
                lab::compare(&what, &got, &want, outputs, pitch);
            }
        }
    }
}

/// The mean over a result, added up by the convolution and from memory: right, and the same bits.
#[test]
fn means_of_a_result_do_not_depend_on_who_adds_up() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        // Many images in a tile, some, one; a tile in many images.
        for (images, size) in [(40, (1, 1)), (7, (3, 5)), (3, (11, 9)), (2, (17, 20))] {
            let case = Case { images, size, inputs: 5, outputs: 37, ..CASE };
            let values = Values::new(&case, precision);
            let placed = place(lab.device(), &case, precision, &values);
            let (pixels, pitch) = (case.pixels(), lab::pitch(precision, case.outputs));
            let image = pixels / images;
            for tile in [TILES[0], TILES[2], TILES[5]] {
                let (rows, cut) = (tile.pixels, Cut { tile, splits: 1 });
                let segments = pool::segments(rows, image);
                let count = pixels.div_ceil(rows) * segments * pitch;
                let pool_of = |device: &mut dyn Device| {
                    let sums = lab::room(device, Precision::F32, count);
                    let (at, image, segments) = (sums.address, image as i32, segments as i32);
                    (sums, Pool { sums: at, image, segments })
                };
                let mean = |device: &mut dyn Device, pool: Pool| {
                    let out = lab::room(device, Precision::F32, images * pitch);
                    let (pitch, rows) = (pitch as i32, rows as i32);
                    let args = combine::Args { pool, out: out.address, pitch, rows };
                    let variant = Variant::new(File::Combine, precision);
                    lab::run(device, &variant, combine::grid(&args, images), &args).unwrap();
                    lab::wide_values(device, &out)
                };
                let (_sums, pool) = pool_of(lab.device());
                let sources = (placed.source, None, pool);
                let got = pooled_outputs(lab.device(), &case, precision, cut, sources, |e| e);
                let got = got.unwrap();
                let by_conv = mean(lab.device(), pool);
                let map = lab::narrow(lab.device(), precision, &got);
                let (_sums, pool) = pool_of(lab.device());
                let args = pool::Args {
                    x: map.address,
                    pool,
                    pixels: pixels as i32,
                    pitch: pitch as i32,
                    rows: rows as i32,
                    unused: 0,
                };
                let variant = Variant::new(File::Pool, precision);
                lab::run(lab.device(), &variant, pool::grid(&args), &args).unwrap();
                let from_memory = mean(lab.device(), pool);
                let what = format!("{precision} {case:?} {tile:?}");
                assert_eq!(by_conv, from_memory, "{what}");
                let want: Vec<(f64, f64)> = (0..images * case.outputs)
                    .map(|at| {
                        let (i, c) = (at / case.outputs, at % case.outputs);
                        let all = (0..image).map(|p| got[(i * image + p) * pitch + c]);
                        let size = all.clone().map(f64::abs).sum::<f64>() / image as f64;
                        let mean = all.sum::<f64>() / image as f64;
                        (mean, lab::allowed(Precision::F32, image, size, mean))
                    })
                    .collect();
                lab::compare(&what, &by_conv, &want, case.outputs, pitch);
            }
        }
    }
}
