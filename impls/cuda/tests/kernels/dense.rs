//! Dense layers, and the means of maps that they make from sums of tiles.

use bytemuck::Zeroable;
use cuda::device::host::SCHEDULES;
use cuda::device::{Device, Memory};
use cuda::kernels::dense::{self, Args, BLOCKS, OUTPUTS};
use cuda::kernels::tile::{TILES, Tiling};
use cuda::kernels::tile_sums::{self, TileSums};
use cuda::kernels::{File, Variant, scale, split_k_reduce};
use lower::Activation;
use spec::Precision;

use crate::conv::{CASE, Case, Values, pooled_outputs, upload};
use crate::lab::{self, Lab, PRECISIONS};

/// A dense layer with a sigmoid, and its values.
pub struct Layer {
    images: usize,
    inputs: usize,
    outputs: usize,
    x: Vec<f64>,
    weights: Vec<f64>,
    scale: Vec<f64>,
    bias: Vec<f64>,
}

/// A layer in the memory of a device.
pub struct Uploaded {
    pub args: Args,
    _memory: [Memory; 4],
}

fn random(count: usize, seed: u64) -> Vec<f64> {
    lab::pseudo_random(count, seed).into_iter().map(|v| f64::from(v as f32)).collect()
}

impl Layer {
    pub fn new((images, inputs, outputs): (usize, usize, usize)) -> Self {
        let (x, weights) = (random(images * inputs, 5), random(outputs * inputs, 6));
        let (scale, bias) = (random(outputs, 7), random(outputs, 8));
        Layer { images, inputs, outputs, x, weights, scale, bias }
    }

    fn in_pitch(&self) -> usize {
        self.inputs.next_multiple_of(4)
    }

    fn out_pitch(&self) -> usize {
        self.outputs.next_multiple_of(8)
    }

    pub fn upload(&self, device: &mut dyn Device) -> Uploaded {
        let pad = |values: &[f64]| lab::pad_channels(values, self.inputs, self.in_pitch());
        let mut weights = pad(&self.weights);
        weights.resize(self.outputs.next_multiple_of(OUTPUTS) * self.in_pitch(), 0.0);
        let memory = [&pad(&self.x), &weights, &self.scale, &self.bias]
            .map(|values| lab::upload_f32(device, values));
        device.freeze(&memory[1]).unwrap();
        let [x, weights, scale, bias] = [0, 1, 2, 3].map(|i: usize| memory[i].address);
        let (images, in_pitch) = (self.images as i32, self.in_pitch() as i32);
        let (outputs, out_pitch) = (self.outputs as i32, self.out_pitch() as i32);
        let activation = Activation::Sigmoid as i32;
        let args = Args { x, weights, scale, bias, images, in_pitch, ..Args::zeroed() };
        Uploaded { args: Args { outputs, out_pitch, activation, ..args }, _memory: memory }
    }

    /// The results and their tolerances, with or without scale and bias.
    fn expected(&self, affine: bool) -> Vec<(f64, f64)> {
        let value = |image: usize, o: usize| {
            let terms = (0..self.inputs)
                .map(|c| self.x[image * self.inputs + c] * self.weights[o * self.inputs + c]);
            let size: f64 = terms.clone().map(f64::abs).sum();
            let sum: f64 = terms.sum();
            let sum = if affine { sum * self.scale[o] + self.bias[o] } else { sum };
            (
                1.0 / (1.0 + (-sum).exp()),
                lab::tolerance(Precision::F32, self.inputs, size + 1.0, 1.0),
            )
        };
        (0..self.images * self.outputs)
            .map(|at| value(at / self.outputs, at % self.outputs))
            .collect()
    }
}

/// Runs a dense layer with `block_images` images in a block.
pub fn results(
    device: &mut dyn Device,
    args: &Args,
    block_images: usize,
) -> Result<Vec<f64>, spec::EngineError> {
    let out = lab::allocate(device, Precision::F32, (args.images * args.out_pitch) as usize);
    let args = Args { out: out.address, block_images: block_images as i32, ..*args };
    let variant = Variant::new(File::Dense, Precision::Bf16);
    lab::run(device, &variant, dense::grid(&args), &args)?;
    Ok(lab::download_f32(device, &out))
}

#[test]
fn dense_layers_are_right_and_their_bits_depend_on_nothing_else() {
    let Some(mut lab) = Lab::open() else { return };
    // Images, inputs, outputs: less than one block, and several chunks of inputs.
    for shape in [(1, 1, 1), (2, 33, 5), (5, 100, 19), (18, 64, 37), (33, 130, 70), (17, 1100, 40)]
    {
        let layer = Layer::new(shape);
        let uploaded = layer.upload(lab.device());
        for affine in [true, false] {
            let (scale, bias) = match affine {
                true => (uploaded.args.scale, uploaded.args.bias),
                false => (0, 0),
            };
            let args = Args { scale, bias, ..uploaded.args };
            let want = layer.expected(affine);
            let mut first = None;
            for schedule in SCHEDULES {
                lab.set_schedule(schedule);
                for (block_images, _) in BLOCKS {
                    let got = results(lab.device(), &args, block_images).unwrap();
                    let what = format!("{shape:?} {affine} {block_images} {schedule:?}");
                    lab::compare(&what, &got, &want, layer.outputs, layer.out_pitch());
                    let first = first.get_or_insert_with(|| got.clone());
                    assert_eq!(got, *first, "{what}: other bits");
                }
            }
        }
    }
}

#[test]
fn values_of_a_dense_layer_are_observed_and_nan_stays_in_its_image() {
    let Some(mut lab) = Lab::open() else { return };
    let mut layer = Layer::new((6, 70, 21));
    layer.x[2 * 70 + 11] = f64::NAN;
    layer.x[4 * 70] = f64::INFINITY;
    let uploaded = layer.upload(lab.device());
    let count = layer.images * layer.out_pitch();
    for (block_images, _) in BLOCKS {
        let copies = [0, 1].map(|_| lab::allocate(lab.device(), Precision::F32, count));
        let observed = [copies[0].address, copies[1].address];
        let args = Args { observed, ..uploaded.args };
        let got = results(lab.device(), &args, block_images).unwrap();
        let want: Vec<(f64, f64)> = layer
            .expected(true)
            .into_iter()
            .map(|(want, tolerance)| (want, if want.is_nan() { 0.0 } else { tolerance }))
            .collect();
        lab::compare("with NaN", &got, &want, layer.outputs, layer.out_pitch());
        let [linear, last] = copies.map(|copy| lab::download_f32(lab.device(), &copy));
        for (at, (linear, last)) in linear.iter().zip(&last).enumerate() {
            if at % layer.out_pitch() < layer.outputs {
                assert_eq!(last.to_bits(), got[at].to_bits(), "the last value is the result");
                let sigmoid = 1.0 / (1.0 + (-linear).exp());
                assert!(sigmoid.is_nan() && last.is_nan() || (sigmoid - last).abs() < 1e-6);
            }
        }
    }
}

/// A map that a layer multiplies by its result: random values with padded channels, NaN and infinity.
pub fn map_of(
    device: &mut dyn Device,
    layer: &Layer,
    precision: Precision,
    pixels: usize,
) -> Memory {
    let mut values = lab::pseudo_random(layer.images * pixels * layer.outputs, 9);
    let middle = values.len() / 2;
    (values[middle], values[0]) = (f64::NAN, f64::INFINITY);
    let padded = lab::pad_channels(&values, layer.outputs, layer.out_pitch());
    lab::upload_stored(device, precision, &padded)
}

/// Runs a layer that multiplies `map` by its result, in blocks of `block_images` images and `parts` parts. Returns
/// the product.
pub fn product(
    device: &mut dyn Device,
    precision: Precision,
    args: &Args,
    map: (&Memory, usize),
    (block_images, parts): (usize, usize),
) -> Result<Vec<f64>, spec::EngineError> {
    let count = args.images as usize * map.1 * args.out_pitch as usize;
    let product = lab::allocate(device, precision, count);
    let args = Args {
        map: map.0.address,
        product: product.address,
        map_pixels: map.1 as i32,
        block_images: block_images as i32,
        parts: parts as i32,
        ..*args
    };
    lab::run(device, &Variant::new(File::Dense, precision), dense::grid(&args), &args)?;
    Ok(lab::download_stored(device, precision, &product))
}

/// A layer that multiplies a map by its result gives the bits of two kernels.
#[test]
fn the_product_of_a_map_and_its_gate_has_the_bits_of_a_launch_of_its_own() {
    let Some(mut lab) = Lab::open() else { return };
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    for precision in PRECISIONS {
        for (shape, pixels) in
            [((1, 1, 1), 1), ((2, 33, 5), 35), ((9, 70, 37), 12), ((1, 100, 70), 700)]
        {
            let layer = Layer::new(shape);
            let uploaded = layer.upload(lab.device());
            let map = map_of(lab.device(), &layer, precision, pixels);
            let gates = results(lab.device(), &uploaded.args, 1).unwrap();
            let gate = lab::upload_f32(lab.device(), &gates);
            let count = layer.images * pixels * layer.out_pitch();
            let out = lab::allocate(lab.device(), precision, count);
            let args = scale::Args {
                x: map.address,
                gate: gate.address,
                out: out.address,
                images: layer.images as i32,
                image_pixels: pixels as i32,
                pitch: layer.out_pitch() as i32,
                unused: 0,
            };
            let variant = Variant::new(File::Scale, precision);
            lab::run(lab.device(), &variant, scale::grid(&args, precision), &args).unwrap();
            let want = bits(lab::download_stored(lab.device(), precision, &out));
            for schedule in SCHEDULES {
                lab.set_schedule(schedule);
                for how in [(1, 1), (1, 3), (8, 1), (8, 2)] {
                    let got = product(lab.device(), precision, &uploaded.args, (&map, pixels), how);
                    assert!(
                        bits(got.unwrap()) == want,
                        "{precision} {shape:?} {how:?} {schedule:?}"
                    );
                }
            }
            lab.set_schedule(SCHEDULES[0]);
        }
    }
}

#[test]
fn parts_fill_the_gpu_and_no_more() {
    let parts = |images, out_pitch, map_pixels| {
        let args = Args { images, out_pitch, map_pixels, ..Args::zeroed() };
        let args = Args { block_images: dense::block_images(&args, 132), ..args };
        dense::parts(&args, Precision::Bf16, 132)
    };
    assert_eq!([parts(1, 64, 0), parts(1, 512, 49), parts(1, 64, 3136)], [1, 1, 7]);
    // 32 groups of images and 2 of outputs.
    assert_eq!(parts(256, 64, 3136), 9);
}

#[test]
fn a_block_has_many_images_only_if_the_blocks_fill_the_gpu() {
    let images =
        |images, out_pitch| dense::block_images(&Args { images, out_pitch, ..Args::zeroed() }, 132);
    assert_eq!([images(1, 64), images(1, 512), images(8, 512), images(64, 64)], [1; 4]);
    assert_eq!([images(256, 64), images(64, 256), images(256, 512)], [8; 3]);
}

/// A map that a convolution has made, and sums of its tiles.
pub struct Map {
    images: usize,
    pixels: usize,
    pitch: usize,
    tile_pixels: usize,
    /// [images, pixels, pitch].
    values: Vec<f64>,
    pub tile_sums: TileSums,
    memory: Memory,
}

impl Map {
    /// Runs a convolution that sums its own tiles, or shares of tiles in a cluster; None if it cannot.
    pub fn new(
        device: &mut dyn Device,
        case: &Case,
        precision: Precision,
        tiling: Tiling,
    ) -> Option<Self> {
        let pitch = lab::pitch(precision, case.outputs);
        let (images, pixels) = (case.images, case.pixels() / case.images);
        let tile_pixels = match tiling.splits {
            1 => tiling.tile.pixels,
            splits if device.machine().in_cluster(splits) => tiling.tile.pixels / splits,
            _ => split_k_reduce::tile_pixels(pitch, precision)?,
        };
        let segments = tile_sums::segments(tile_pixels, pixels);
        let count = case.pixels().div_ceil(tile_pixels) * segments * pitch;
        let memory = lab::allocate(device, Precision::F32, count);
        let tile_sums = TileSums {
            sums: memory.address,
            image_pixels: pixels as i32,
            segments: segments as i32,
        };
        let values = Values::new(case, precision);
        let uploaded = upload(device, case, precision, &values);
        let sources = (uploaded.source, None, tile_sums);
        let values = pooled_outputs(device, case, precision, tiling, sources, |e| e).unwrap();
        Some(Map { images, pixels, pitch, tile_pixels, values, tile_sums, memory })
    }

    /// The same sums, made from the map in memory.
    fn sums_again(&self, device: &mut dyn Device, precision: Precision) -> (TileSums, Memory) {
        let x = lab::upload_stored(device, precision, &self.values);
        let sums = lab::allocate(device, Precision::F32, self.memory.bytes / 4);
        let tile_sums = TileSums { sums: sums.address, ..self.tile_sums };
        let args = tile_sums::Args {
            x: x.address,
            tile_sums,
            pixels: (self.images * self.pixels) as i32,
            pitch: self.pitch as i32,
            tile_pixels: self.tile_pixels as i32,
            unused: 0,
        };
        let variant = Variant::new(File::TileSums, precision);
        lab::run(device, &variant, tile_sums::grid(&args), &args).unwrap();
        (tile_sums, sums)
    }

    /// Arguments for the means of the map.
    fn args(&self) -> Args {
        let (images, in_pitch) = (self.images as i32, self.pitch as i32);
        let (tile_sums, tile_pixels) = (self.tile_sums, self.tile_pixels as i32);
        Args { tile_sums, tile_pixels, images, in_pitch, ..Args::zeroed() }
    }

    /// The means by themselves.
    pub fn means(
        &self,
        device: &mut dyn Device,
        tile_sums: TileSums,
        block_images: usize,
    ) -> Vec<f64> {
        let out = lab::allocate(device, Precision::F32, self.images * self.pitch);
        results(device, &Args { tile_sums, means: out.address, ..self.args() }, block_images)
            .unwrap();
        lab::download_f32(device, &out)
    }

    fn expected(&self, channels: usize) -> Vec<(f64, f64)> {
        let mean = |image: usize, c: usize| {
            let all =
                (0..self.pixels).map(|p| self.values[(image * self.pixels + p) * self.pitch + c]);
            let size = all.clone().map(f64::abs).sum::<f64>() / self.pixels as f64;
            let mean = all.sum::<f64>() / self.pixels as f64;
            (mean, lab::tolerance(Precision::F32, self.pixels, size, mean))
        };
        (0..self.images * channels).map(|at| mean(at / channels, at % channels)).collect()
    }
}

/// From many images in a tile to many tiles in an image; a block of the reduction is a number of
/// whole pixels.
pub const MAPS: [Case; 4] = [
    Case { images: 40, size: (1, 1), ..MAP },
    Case { images: 7, size: (3, 5), ..MAP },
    Case { images: 3, size: (11, 9), ..MAP },
    Case { images: 2, size: (17, 20), ..MAP },
];
const MAP: Case = Case { inputs: 5, outputs: 61, ..CASE };

fn tilings() -> [Tiling; 6] {
    [(TILES[0], 1), (TILES[2], 1), (TILES[5], 1), (TILES[4], 2), (TILES[2], 8), (TILES[4], 3)]
        .map(|(tile, splits)| Tiling { tile, splits })
}

/// Means are right, and have the same bits whether a convolution or another kernel sums the tiles.
#[test]
fn means_are_right_and_have_the_same_bits_from_a_convolution_and_from_memory() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        for (case, tiling) in MAPS.iter().flat_map(|case| tilings().map(|tiling| (case, tiling))) {
            let what = format!("{precision} {case:?} {tiling:?}");
            let map = Map::new(lab.device(), case, precision, tiling).unwrap();
            let (from_memory, _memory) = map.sums_again(lab.device(), precision);
            let first = map.means(lab.device(), map.tile_sums, 1);
            lab::compare(&what, &first, &map.expected(case.outputs), case.outputs, map.pitch);
            for (block_images, _) in BLOCKS {
                for tile_sums in [map.tile_sums, from_memory] {
                    let means = map.means(lab.device(), tile_sums, block_images);
                    assert_eq!(means, first, "{what} {block_images}");
                }
            }
        }
    }
}

/// A dense layer has the same bits whether it makes the means itself or reads them.
#[test]
fn a_dense_layer_has_the_same_bits_on_means_that_it_makes_itself() {
    let Some(mut lab) = Lab::open() else { return };
    for (case, tiling) in MAPS.iter().flat_map(|case| tilings().map(|tiling| (case, tiling))) {
        let map = Map::new(lab.device(), case, Precision::Bf16, tiling).unwrap();
        let means = map.means(lab.device(), map.tile_sums, 1);
        let means = lab::upload_f32(lab.device(), &means);
        let layer = Layer::new((map.images, map.pitch, 43)).upload(lab.device());
        let by_itself = Args { x: means.address, ..layer.args };
        let want = results(lab.device(), &by_itself, 1).unwrap();
        let Args { tile_sums, tile_pixels, .. } = map.args();
        let fused = Args { x: 0, tile_sums, tile_pixels, ..layer.args };
        for schedule in SCHEDULES {
            lab.set_schedule(schedule);
            for (block_images, _) in BLOCKS {
                let got = results(lab.device(), &fused, block_images).unwrap();
                assert_eq!(got, want, "{case:?} {tiling:?} {block_images} {schedule:?}");
            }
        }
    }
}
