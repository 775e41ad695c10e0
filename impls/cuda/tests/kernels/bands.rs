//! Convolutions in bands (`bands.cuh`), which run on sm_90a: over edge shapes, in every kind of
//! division, and with every part of the epilogue.

use cuda::device::host::SCHEDULES;
use cuda::device::{Device, Memory};
use cuda::kernels::args::Epilogue;
use cuda::kernels::bands::{self, BandEnd, BandTile, Division, Product, Source, TensorMap};
use cuda::kernels::hopper_conv::Halving;
use cuda::kernels::tile_sums::{self, TileSums};
use cuda::kernels::windows::{Shape, Window};
use cuda::kernels::{File, Variant, depthwise, hopper_conv, hopper_ctl, split_k_reduce};
use lower::Activation;
use spec::{EngineError, Precision};

use crate::conv::{CASE, Case, Values};
use crate::lab::{self, Lab};

/// Maps of one pixel, odd sizes, several images in a band, several chunks of channels, and channels
/// that fill no step of K, no chunk and no tile.
const CASES: [Case; 15] = [
    CASE,
    Case { images: 3, size: (5, 7), inputs: 19, outputs: 70, ..CASE },
    Case { images: 2, size: (11, 13), inputs: 130, outputs: 38, ..CASE },
    Case { images: 1, size: (1, 1), inputs: 3, outputs: 5, kernel: 3, ..CASE },
    Case { images: 5, size: (3, 4), inputs: 72, outputs: 132, kernel: 3, ..CASE },
    Case { images: 2, size: (9, 6), inputs: 16, outputs: 40, kernel: 3, ..CASE },
    Case { images: 1, size: (9, 8), inputs: 16, outputs: 16, kernel: 7, ..CASE },
    Case { images: 2, size: (2, 30), inputs: 24, outputs: 8, kernel: 5, ..CASE },
    // Of stride 2: maps of one group, several chunks of channels in a phase, and parts of a window with 2 and 4 rows.
    Case { images: 2, size: (10, 14), inputs: 48, outputs: 24, kernel: 5, stride: 2, ..CASE },
    Case { images: 3, size: (2, 2), inputs: 13, outputs: 70, kernel: 5, stride: 2, ..CASE },
    Case { images: 1, size: (6, 8), inputs: 80, outputs: 9, kernel: 7, stride: 2, ..CASE },
    Case { images: 2, size: (8, 4), inputs: 32, outputs: 16, kernel: 3, stride: 2, ..CASE },
    // With a gate: several chunks, several images in a band, and maps of one pixel.
    Case { images: 3, size: (9, 6), inputs: 72, outputs: 24, kernel: 3, gated: true, ..CASE },
    Case { images: 5, size: (3, 4), inputs: 19, outputs: 132, kernel: 3, gated: true, ..CASE },
    Case { images: 9, size: (1, 1), inputs: 8, outputs: 16, kernel: 7, gated: true, ..CASE },
];

/// A device that can run in bands. If there is none, reports the skip and returns None.
pub fn open() -> Option<Lab> {
    let mut lab = Lab::open()?;
    if lab.device().capability() != (9, 0) {
        skip::skip!(Isa, "the GPU has no instruction set for kernels in bands: sm_90a");
        return None;
    }
    Some(lab)
}

pub fn product(case: &Case, shapes: &[Shape]) -> Product {
    Product::new(case.images, case.out_size(), case.outputs, shapes)
}

/// For one and for two warpgroups along the outputs, the division with the fewest columns; then the
/// last of all, which has the most images, rows or pixels.
pub fn some_divisions(product: &Product) -> Vec<Division> {
    let all = product.divisions();
    let smallest = |groups: usize| {
        let of = all.iter().filter(move |d| d.tile.output_groups == groups);
        of.min_by_key(|division| division.tile.columns).copied()
    };
    let mut some: Vec<Division> = [smallest(1), smallest(2)].into_iter().flatten().collect();
    some.extend(all.last());
    some
}

/// An input on the device.
pub struct Input {
    pixels: Memory,
    pub weights: Memory,
    gate: Option<Memory>,
    pub shape: Shape,
    outputs: usize,
}

impl Input {
    pub fn upload(
        device: &mut dyn Device,
        case: &Case,
        precision: Precision,
        values: &Values,
    ) -> Self {
        let (pitch, window) = (lab::pitch(precision, case.inputs), case.kernel * case.kernel);
        let shape = Shape { channels: pitch, kernel: case.kernel, stride: case.stride };
        let pixels = lab::pad_channels(&values.x, case.inputs, pitch);
        let pixels = grouped(&pixels, case.size, case.stride, pitch);
        let pixels = lab::upload_stored(device, precision, &pixels);
        let weight = |o: usize, (at, c): (usize, usize)| match c < case.inputs {
            true => values.weights[(o * window + at) * case.inputs + c],
            false => 0.0,
        };
        let outputs = |window: Window| {
            (0..case.outputs).flat_map(move |o| window.positions().map(move |at| weight(o, at)))
        };
        let weights: Vec<f64> = shape.windows().flat_map(outputs).collect();
        let weights = lab::upload_stored(device, precision, &weights);
        let gate = || lab::pad_channels(&values.gate, case.inputs, pitch);
        let gate = case.gated.then(|| lab::upload_f32(device, &gate()));
        Input { pixels, weights, gate, shape, outputs: case.outputs }
    }

    pub fn place(&self) -> bands::Place {
        let Input { pixels, weights, shape, outputs, .. } = self;
        let (pixels, weights) = (pixels.address, weights.address);
        let gate = self.gate.as_ref().map_or((0, 0), |gate| (gate.address, shape.channels));
        bands::Place { pixels, weights, outputs: *outputs, shape: *shape, gate }
    }

    fn sources(&self, device: &dyn Device, division: &Division) -> Vec<Source> {
        division.sources(device, self.place()).unwrap()
    }
}

/// The pixels of a map in groups of side `group`, which lie one after another.
pub fn grouped(
    pixels: &[f64],
    (height, width): (usize, usize),
    group: usize,
    pitch: usize,
) -> Vec<f64> {
    assert!(height % group == 0 && width % group == 0, "a map must be whole groups");
    let mut to = vec![];
    for image in pixels.chunks(height * width * pitch) {
        for y in (0..height).step_by(group) {
            for x in (0..width).step_by(group) {
                for at in 0..group * group {
                    let pixel = (y + at / group) * width + x + at % group;
                    to.extend_from_slice(&image[pixel * pitch..][..pitch]);
                }
            }
        }
    }
    to
}

/// What a run adds to a plain convolution.
#[derive(Default)]
pub struct Extra {
    /// Address of the residual, or 0.
    pub residual: u64,
    pub tile_sums: Option<TileSums>,
    /// Leaves the epilogue to another kernel.
    pub sums: bool,
    pub init: u64,
    /// Address of the weights of a depthwise convolution that halves the result, or 0.
    pub halved: u64,
}

/// Runs a convolution of one or two inputs. Returns its outputs [pixels, pitch], halved if `extra` says so.
pub fn outputs(
    device: &mut dyn Device,
    case: &Case,
    precision: Precision,
    division: Division,
    (inputs, extra): (&[&Input], &Extra),
    epilogue: impl FnOnce(Epilogue) -> Epilogue,
) -> Result<Vec<f64>, EngineError> {
    let (pixels, size) = (case.pixels(), case.out_size());
    let pitch = lab::pitch(precision, case.outputs);
    let out = lab::allocate(device, precision, pixels * pitch);
    let epilogue = epilogue(lab::epilogue_to(&out, case.outputs, pitch, size.0 * size.1));
    let empty: Source = bytemuck::Zeroable::zeroed();
    let mut sources = [empty; hopper_conv::MAX_SOURCES];
    let used: Vec<Source> =
        inputs.iter().flat_map(|input| input.sources(device, &division)).collect();
    sources[..used.len()].copy_from_slice(&used);
    let map = |address| device.tensor_map(&division.tensor(address, pitch, true)).unwrap();
    let none: TensorMap = bytemuck::Zeroable::zeroed();
    let (out_map, residual) = (
        map(out.address),
        match extra.residual {
            0 => none,
            at => map(at),
        },
    );
    let sums = device.alloc(pixels * pitch * 4)?;
    let halved = lab::allocate(device, precision, pixels / 4 * pitch);
    let halving = Halving {
        weights: extra.halved,
        width: size.1 as i32,
        unused: 0,
        epilogue: Epilogue {
            scale: epilogue.scale,
            bias: epilogue.bias,
            ..lab::epilogue_to(&halved, case.outputs, pitch, size.0 * size.1 / 4)
        },
    };
    let args = hopper_conv::Args {
        sources,
        out: if extra.halved == 0 { out_map } else { none },
        residual,
        bands: division.bands,
        source_count: used.len() as i32,
        has_residual: i32::from(extra.residual != 0 && !extra.sums),
        init: extra.init,
        sums: sums.address,
        tile_sums: extra.tile_sums.unwrap_or(bytemuck::Zeroable::zeroed()),
        epilogue,
        unused: 0,
        halving,
    };
    let end = match (extra.sums, extra.halved, epilogue.addend) {
        (true, ..) => BandEnd::Sums,
        (false, 0, 0) => BandEnd::Epilogue,
        (false, 0, _) => BandEnd::Addend,
        (false, ..) => BandEnd::Halved,
    };
    let tile = BandTile { end, gated: bands::gated(&sources), ..division.tile };
    let variant = hopper_conv::variant(precision, tile);
    // Two blocks, so that each works through several tiles.
    lab::run(device, &variant, [division.blocks(2), 1, 1], &args)?;
    if extra.sums {
        let (partial, pixels) = (sums.address, pixels as i32);
        let tile_sums = bytemuck::Zeroable::zeroed();
        let args = split_k_reduce::Args { partial, splits: 1, pixels, tile_sums, epilogue };
        let variant = Variant::new(File::SplitKReduce, precision);
        lab::run(device, &variant, split_k_reduce::grid(&args, precision), &args)?;
    }
    Ok(lab::download_stored(device, precision, if extra.halved == 0 { &out } else { &halved }))
}

pub fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_division_is_right_over_edge_shapes() {
    let Some(mut lab) = open() else { return };
    let plain = Extra::default();
    for (at, case) in CASES.iter().enumerate() {
        let precision = if at == 4 { Precision::F16 } else { Precision::Bf16 };
        let values = Values::new(case, precision);
        let want = crate::conv::expected_outputs(case, precision, &values);
        let input = Input::upload(lab.device(), case, precision, &values);
        let product = product(case, &[input.shape]);
        let divisions = some_divisions(&product);
        assert!(!divisions.is_empty(), "{case:?}");
        for division in divisions {
            let inputs = (&[&input][..], &plain);
            let before = lab.bank_conflicts();
            let got = outputs(lab.device(), case, precision, division, inputs, |e| e);
            let what = format!("{precision} {case:?} {division:?}");
            let got = got.unwrap_or_else(|error| panic!("{what}: {error}"));
            lab::compare(&what, &got, &want, case.outputs, lab::pitch(precision, case.outputs));
            // Where several images share a tile, results jump over the border between them.
            if division.bands.band_images == 1 {
                assert_eq!(lab.bank_conflicts(), before, "bank conflicts of stmatrix: {what}");
            }
        }
    }
}

#[test]
fn two_inputs_a_residual_and_sums_of_tiles_have_the_bits_of_separate_steps() {
    let Some(mut lab) = open() else { return };
    for outputs in [72, 16, 3] {
        two_inputs_and_all_ends(&mut lab, outputs);
    }
}

fn two_inputs_and_all_ends(lab: &mut Lab, channels: usize) {
    let precision = Precision::Bf16;
    let first = Case { images: 3, size: (7, 9), inputs: 24, outputs: channels, ..CASE };
    let second = Case { inputs: 70, ..first };
    let [a, b] = [first, second].map(|case| (case, Values::new(&case, precision)));
    let [one, two] =
        [&a, &b].map(|(case, values)| Input::upload(lab.device(), case, precision, values));
    let (image, pitch) = (63, lab::pitch(precision, first.outputs));
    let pixels = first.images * image;
    let residual = lab::pseudo_random(pixels * first.outputs, 6);
    let residual = lab::pad_channels(&residual, first.outputs, pitch);
    let [scale, bias] = [4, 5].map(|seed| {
        let values =
            lab::pad_channels(&lab::pseudo_random(first.outputs, seed), first.outputs, pitch);
        lab::upload_f32(lab.device(), &values)
    });
    let residual = lab::upload_stored(lab.device(), precision, &residual);
    let epilogue = |e: Epilogue| Epilogue {
        scale: scale.address,
        bias: bias.address,
        residual: residual.address,
        activation: Activation::Relu as i32,
        ..e
    };
    let product = product(&first, &[one.shape, two.shape]);
    for division in some_divisions(&product) {
        let segments = tile_sums::segments(bands::SUM_PIXELS, image);
        let count = pixels.div_ceil(bands::SUM_PIXELS) * segments * pitch;
        let of_tiles = |device: &mut dyn Device| {
            let memory = lab::allocate(device, Precision::F32, count);
            let (image_pixels, segments) = (image as i32, segments as i32);
            let tile_sums = TileSums { sums: memory.address, image_pixels, segments };
            (memory, tile_sums)
        };
        let (by_conv, tile_sums) = of_tiles(lab.device());
        let extra =
            Extra { residual: residual.address, tile_sums: Some(tile_sums), ..Extra::default() };
        let inputs = [&one, &two];
        let got = outputs(lab.device(), &first, precision, division, (&inputs, &extra), epilogue)
            .unwrap();
        let alone = Extra { sums: true, ..Extra::default() };
        let separate =
            outputs(lab.device(), &first, precision, division, (&inputs, &alone), epilogue)
                .unwrap();
        assert_eq!(bits(&got), bits(&separate), "{division:?}");
        assert!(got.contains(&0.0) && got.iter().any(|v| *v > 0.0));
        // The sums of tiles are those of the kernel that sums a map from memory.
        let map = lab::upload_stored(lab.device(), precision, &got);
        let (from_memory, tile_sums) = of_tiles(lab.device());
        let args = tile_sums::Args {
            x: map.address,
            tile_sums,
            pixels: pixels as i32,
            pitch: pitch as i32,
            tile_pixels: bands::SUM_PIXELS as i32,
            unused: 0,
        };
        let variant = Variant::new(File::TileSums, precision);
        lab::run(lab.device(), &variant, tile_sums::grid(&args), &args).unwrap();
        let [a, b] = [&by_conv, &from_memory].map(|memory| {
            let sums = lab::download_f32(lab.device(), memory);
            sums.into_iter().filter(|v| !v.is_nan()).collect::<Vec<_>>()
        });
        assert_eq!(a, b, "{division:?}");
        assert!(!a.is_empty());
    }
}

/// Some parts have more columns than pixels, the last is not whole, and one output of the residual is NaN.
#[test]
fn a_halved_result_has_the_bits_of_a_depthwise_convolution() {
    let Some(mut lab) = open() else { return };
    let mut divided = 0;
    for (images, size, outputs_) in
        [(3, (4, 6), 24), (5, (2, 2), 9), (7, (10, 8), 72), (2, (4, 36), 132), (1, (2, 128), 16)]
    {
        let precision = if images == 5 { Precision::F16 } else { Precision::Bf16 };
        let case = Case { images, size, inputs: 40, outputs: outputs_, ..CASE };
        let (pixels, pitch) = (case.pixels(), lab::pitch(precision, case.outputs));
        let values = Values::new(&case, precision);
        let input = Input::upload(lab.device(), &case, precision, &values);
        let random = |count: usize, seed| {
            lab::pad_channels(&lab::pseudo_random(count, seed), case.outputs, pitch)
        };
        let [scale, bias] = [4, 5].map(|seed| random(case.outputs, seed));
        let (weights, mut residual) =
            (random(4 * case.outputs, 7), random(pixels * case.outputs, 6));
        residual[pixels / 2 * pitch] = f64::NAN;
        let [scale, bias, weights] =
            [scale, bias, weights].map(|values| lab::upload_f32(lab.device(), &values));
        let residual = lab::upload_stored(lab.device(), precision, &residual);
        let epilogue = |e: Epilogue| Epilogue {
            scale: scale.address,
            bias: bias.address,
            residual: residual.address,
            activation: Activation::Relu as i32,
            ..e
        };
        let plain = Extra { residual: residual.address, ..Extra::default() };
        let of_shapes = product(&case, &[input.shape]);
        let inputs = (&[&input][..], &plain);
        let division = some_divisions(&of_shapes)[0];
        let whole = outputs(lab.device(), &case, precision, division, inputs, epilogue).unwrap();
        let whole = lab::upload_stored(lab.device(), precision, &whole);
        let out = lab::allocate(lab.device(), precision, pixels / 4 * pitch);
        let args = depthwise::Args {
            x: whole.address,
            weights: weights.address,
            images: images as i32,
            height: size.0 as i32,
            width: size.1 as i32,
            out_height: size.0 as i32 / 2,
            out_width: size.1 as i32 / 2,
            unused: 0,
            epilogue: Epilogue {
                scale: scale.address,
                bias: bias.address,
                ..lab::epilogue_to(&out, case.outputs, pitch, size.0 * size.1 / 4)
            },
        };
        let variant = Variant::new(File::Depthwise, precision);
        lab::run(lab.device(), &variant, depthwise::grid(&args, precision), &args).unwrap();
        let want = lab::download_stored(lab.device(), precision, &out);
        assert!(want.iter().any(|v| v.is_nan()) && want.iter().any(|v| v.is_finite()));
        let extra = Extra { halved: weights.address, ..plain };
        for division in of_shapes.halved().unwrap().divisions() {
            let inputs = (&[&input][..], &extra);
            let got = outputs(lab.device(), &case, precision, division, inputs, epilogue).unwrap();
            assert_eq!(bits(&got), bits(&want), "{precision} {case:?} {division:?}");
            divided += 1;
        }
    }
    assert!(divided > 20, "only {divided} divisions");
}

#[test]
fn a_map_of_odd_sides_or_wide_rows_is_not_halved() {
    let product = |size| {
        let shape = Shape { channels: 64, kernel: 1, stride: 1 };
        Product::new(2, size, 64, &[shape])
    };
    assert!(product((3, 4)).halved().is_none() && product((4, 3)).halved().is_none());
    assert!(product((2, 130)).halved().unwrap().divisions().is_empty());
    let window = Shape { channels: 64, kernel: 3, stride: 1 };
    assert!(Product::new(2, (4, 4), 64, &[window]).halved().is_none());
}

#[test]
fn an_embedding_is_added_after_the_activation() {
    let Some(mut lab) = open() else { return };
    for outputs in [40, 16] {
        an_embedding_is_added(&mut lab, Case { outputs, ..CASES[5] });
    }
}

fn an_embedding_is_added(lab: &mut Lab, case: Case) {
    let precision = Precision::Bf16;
    let values = Values::new(&case, precision);
    let input = Input::upload(lab.device(), &case, precision, &values);
    let (image, pitch) = (case.size.0 * case.size.1, lab::pitch(precision, case.outputs));
    let addend = lab::pseudo_random(image * case.outputs, 8);
    let addend = lab::pad_channels(&addend, case.outputs, pitch);
    let addend = lab::upload_f32(lab.device(), &addend);
    let epilogue =
        |e: Epilogue| Epilogue { addend: addend.address, activation: Activation::Relu as i32, ..e };
    let product = product(&case, &[input.shape]);
    for division in some_divisions(&product) {
        let [fused, separate] = [false, true].map(|sums| {
            let extra = Extra { sums, ..Extra::default() };
            let inputs = (&[&input][..], &extra);
            bits(&outputs(lab.device(), &case, precision, division, inputs, epilogue).unwrap())
        });
        assert_eq!(fused, separate, "{division:?}");
    }
}

#[test]
fn nan_and_infinity_reach_only_the_outputs_that_depend_on_them_in_bands() {
    let Some(mut lab) = open() else { return };
    let (precision, infinity) = (Precision::Bf16, f64::INFINITY);
    for (outputs_, gated, special) in [
        (132, false, f64::NAN),
        (132, false, infinity),
        (132, true, f64::NAN),
        (132, true, infinity),
        (16, false, f64::NAN),
        (16, true, infinity),
    ] {
        let case = Case { outputs: outputs_, gated, ..CASES[4] };
        let mut values = Values::new(&case, precision);
        // Of a gate, all pixels of a channel of an image, but not the zeros around them.
        let specials = if case.gated { &mut values.gate } else { &mut values.x };
        let middle = specials.len() / 2;
        specials[middle] = special;
        let want = crate::conv::expected_outputs(&case, precision, &values);
        assert!(
            want.iter().any(|(w, _)| !w.is_finite()) && want.iter().any(|(w, _)| w.is_finite())
        );
        let input = Input::upload(lab.device(), &case, precision, &values);
        let product = product(&case, &[input.shape]);
        for division in some_divisions(&product) {
            let inputs = (&[&input][..], &Extra::default());
            let got = outputs(lab.device(), &case, precision, division, inputs, |e| e).unwrap();
            let what = format!("{special} {division:?}");
            lab::compare(&what, &got, &want, case.outputs, lab::pitch(precision, case.outputs));
        }
    }
}

/// The three inputs of a fused block, and its biases.
struct Block {
    cases: [Case; 3],
    values: [Values; 3],
    inputs: [Input; 3],
    biases: [Memory; 2],
    bias: [Vec<f64>; 2],
}

impl Block {
    fn new(device: &mut dyn Device, precision: Precision, short: Case) -> Self {
        let global = Case { inputs: 16, ..short };
        let temporal = Case { kernel: 1, gated: true, ..short };
        let cases = [global, short, temporal];
        let values = cases.map(|case| Values::new(&case, precision));
        let inputs = [0, 1, 2].map(|i| Input::upload(device, &cases[i], precision, &values[i]));
        let bias = [11, 12].map(|seed| lab::pseudo_random(short.outputs, seed));
        let pitch = lab::pitch(precision, short.outputs);
        let biases = bias
            .each_ref()
            .map(|b| lab::upload_f32(device, &lab::pad_channels(b, short.outputs, pitch)));
        Block { cases, values, inputs, biases, bias }
    }

    fn division(&self, groups: usize) -> Option<Division> {
        let inputs = [0, 1, 2].map(|i| self.inputs[i].shape);
        let all = product(&self.cases[1], &inputs).fused().divisions().into_iter();
        all.filter(|d| d.tile.output_groups == groups).min_by_key(|d| d.tile.columns)
    }

    fn run(&self, device: &mut dyn Device, precision: Precision, division: Division) -> Vec<f64> {
        let case = &self.cases[1];
        let (pixels, pitch) =
            (case.images * case.size.0 * case.size.1, lab::pitch(precision, case.outputs));
        let out = lab::allocate(device, precision, pixels * pitch);
        let sources = [0, 1, 2].map(|i| self.inputs[i].sources(device, &division)[0]);
        let args = hopper_ctl::Args {
            sources,
            out: device.tensor_map(&division.tensor(out.address, pitch, true)).unwrap(),
            residual: bytemuck::Zeroable::zeroed(),
            bands: division.bands,
            has_residual: 0,
            unused_int: 0,
            short_bias: self.biases[0].address,
            glo_out_bias: self.biases[1].address,
            epilogue: lab::epilogue_to(&out, case.outputs, pitch, case.size.0 * case.size.1),
            unused: [0; 3],
        };
        let tile = BandTile { gated: bands::gated(&sources), ..division.tile };
        let variant = hopper_ctl::variant(precision, tile);
        lab::run(device, &variant, [division.blocks(2), 1, 1], &args).unwrap();
        lab::download_stored(device, precision, &out)
    }
}

#[test]
fn the_fused_block_in_bands_is_right_over_edge_shapes() {
    let Some(mut lab) = open() else { return };
    let shapes = [((1, 1), 1, 3, 5), ((5, 7), 4, 19, 38), ((4, 3), 3, 70, 72)];
    for (size, images, inputs, outputs) in shapes {
        let precision = if outputs == 38 { Precision::F16 } else { Precision::Bf16 };
        let short = Case { images, size, inputs, outputs, kernel: 3, ..CASE };
        let block = Block::new(lab.device(), precision, short);
        let pixels = images * size.0 * size.1;
        let want: Vec<(f64, f64)> = (0..pixels * outputs)
            .map(|at| {
                let (p, o) = (at / outputs, at % outputs);
                let [g, s, t] =
                    [0, 1, 2].map(|i| block.values[i].sum(&block.cases[i], precision, p, o));
                let gate = 1.0 / (1.0 + (-(g.0 + block.bias[1][o])).exp());
                let linear = s.0 + block.bias[0][o];
                let value = linear * gate + t.0;
                let size = (s.1 + 1.0) * (g.1 + 2.0) + t.1;
                // The sigmoid is rounded to half precision at each step: 5e-4 for tanh and the
                // result, and half a rounding of its argument, whose slope is a quarter at most.
                let argument = (g.0 + block.bias[1][o]).abs();
                let half = linear.abs() * (1e-3 + argument / 4.0 / 2048.0);
                (value, lab::tolerance(precision, 9 * inputs, size, value) + half)
            })
            .collect();
        for groups in [1, 2] {
            let Some(division) = block.division(groups) else { continue };
            let got = block.run(lab.device(), precision, division);
            let what = format!("{precision} {size:?} {division:?}");
            lab::compare(&what, &got, &want, outputs, lab::pitch(precision, outputs));
        }
    }
}

#[test]
fn the_schedule_of_threads_and_loads_changes_no_bit() {
    let Some(mut lab) = open() else { return };
    let (precision, case) = (Precision::Bf16, Case { size: (6, 5), ..CASES[4] });
    let block = Block::new(lab.device(), precision, case);
    let division = block.division(2).unwrap();
    let mut run = |schedule| {
        lab.set_schedule(schedule);
        bits(&block.run(lab.device(), precision, division))
    };
    let first = run(SCHEDULES[0]);
    for schedule in &SCHEDULES[1..] {
        assert_eq!(run(*schedule), first, "{schedule:?}");
    }
}
