//! Two 1x1 convolutions in one kernel (`hopper_pair.cu`), compared with float64 and, bit for bit, with one kernel for
//! each, over edge shapes.

use cuda::device::host::SCHEDULES;
use cuda::device::{Device, Memory};
use cuda::kernels::args::Epilogue;
use cuda::kernels::bands::{Place, SUM_PIXELS};
use cuda::kernels::hopper_pair::{Division, Pair};
use cuda::kernels::tile_sums::{self, TileSums};
use lower::Activation;
use spec::{EngineError, Precision};

use crate::bands::{Extra, Input, bits, open, outputs, product, some_divisions};
use crate::conv::{CASE, Case, Values};
use crate::lab;

/// Shapes of two convolutions.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub images: usize,
    pub size: (usize, usize),
    pub inputs: &'static [usize],
    pub residual: bool,
    pub wide: usize,
    pub outputs: usize,
}

/// What the kernels read, on the host.
pub struct Network {
    pub shape: Shape,
    pub precision: Precision,
    pub cases: Vec<Case>,
    pub values: Vec<Values>,
    pub residual: Vec<f64>,
    /// The second convolution; its input is not used.
    pub case: Case,
    pub weights: Vec<f64>,
}

/// What they write: both maps [pixels, pitch] and the sums of tiles.
#[derive(Debug, Default)]
pub struct Results {
    pub wide: Vec<f64>,
    pub out: Vec<f64>,
    pub sums: Vec<f64>,
}

impl Results {
    /// All bits, with one kind of NaN.
    pub fn bits(&self) -> Vec<u64> {
        let all = [&self.wide[..], &self.out, &self.sums].concat();
        bits(&all.iter().map(|v| if v.is_nan() { f64::NAN } else { *v }).collect::<Vec<_>>())
    }
}

impl Network {
    pub fn new(shape: Shape, precision: Precision) -> Self {
        let Shape { images, size, wide, outputs, .. } = shape;
        let case = |inputs, outputs| Case { images, size, inputs, outputs, ..CASE };
        let cases: Vec<Case> = shape.inputs.iter().map(|inputs| case(*inputs, wide)).collect();
        let values = cases.iter().map(|case| Values::new(case, precision)).collect();
        let pixels = images * size.0 * size.1;
        let case = case(wide, outputs);
        let [residual, weights] = [(pixels * wide, 6), (outputs * wide, 7)].map(|(count, seed)| {
            lab::pseudo_random(count, seed).into_iter().map(|v| lab::stored(precision, v)).collect()
        });
        Network { shape, precision, cases, values, residual, case, weights }
    }

    fn pixels(&self) -> usize {
        self.case.pixels()
    }

    pub fn division(&self) -> Division {
        let pitch = |channels: &usize| lab::pitch(self.precision, *channels);
        let inputs: Vec<usize> = self.shape.inputs.iter().map(pitch).collect();
        let (wide, outputs) = (pitch(&self.shape.wide), pitch(&self.shape.outputs));
        let (pixels, residual) = (self.pixels(), self.shape.residual);
        Division::new(Pair { pixels, inputs: &inputs, residual, wide, outputs }).unwrap()
    }

    /// Scale and bias of a convolution. With two inputs the scale is part of the weights.
    fn affine(&self, channels: usize, inputs: usize) -> [Vec<f64>; 2] {
        let values = |seed| lab::pseudo_random(channels, seed).into_iter();
        let narrow = |v: f64| f64::from(v as f32);
        let scale = values(4).map(|v| if inputs > 1 { 1.0 } else { narrow(v) }).collect();
        [scale, values(5).map(narrow).collect()]
    }

    fn padded(&self, values: &[f64], channels: usize) -> Vec<f64> {
        lab::pad_channels(values, channels, lab::pitch(self.precision, channels))
    }

    /// ReLU(scale * sum + bias + residual) and its tolerance, by the sums of all inputs.
    fn end(&self, sums: &[(f64, f64)], affine: (f64, f64), residual: f64) -> (f64, f64) {
        let (sum, size) = sums.iter().fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
        let value = sum * affine.0 + affine.1 + residual;
        let size = size * affine.0.abs() + affine.1.abs() + residual.abs();
        let value = if value < 0.0 { 0.0 } else { value };
        (value, lab::tolerance(self.precision, 400, size, value))
    }

    /// Compares the results with float64. The second convolution is that of the wide map as it was stored.
    fn compare(&self, what: &str, got: &Results) {
        let Shape { wide, outputs, inputs, residual, .. } = self.shape;
        let [scale, bias] = self.affine(wide, inputs.len());
        let of_wide = |at: usize| {
            let (pixel, o) = (at / wide, at % wide);
            let each = self.cases.iter().zip(&self.values);
            let sums: Vec<_> =
                each.map(|(case, values)| values.sum(case, self.precision, pixel, o)).collect();
            self.end(&sums, (scale[o], bias[o]), if residual { self.residual[at] } else { 0.0 })
        };
        let want: Vec<_> = (0..self.pixels() * wide).map(of_wide).collect();
        let pitch = lab::pitch(self.precision, wide);
        lab::compare(&format!("{what}, wide"), &got.wide, &want, wide, pitch);
        let second = self.second(&got.wide);
        let [scale, bias] = self.affine(outputs, 1);
        let of_out = |at: usize| {
            let o = at % outputs;
            let sum = second.sum(&self.case, self.precision, at / outputs, o);
            self.end(&[sum], (scale[o], bias[o]), 0.0)
        };
        let want: Vec<_> = (0..self.pixels() * outputs).map(of_out).collect();
        lab::compare(what, &got.out, &want, outputs, lab::pitch(self.precision, outputs));
    }

    /// The values of the second convolution.
    fn second(&self, wide: &[f64]) -> Values {
        let pitch = lab::pitch(self.precision, self.shape.wide);
        let x = wide.chunks(pitch).flat_map(|row| row[..self.shape.wide].to_vec()).collect();
        Values { x, weights: self.weights.clone(), gate: vec![] }
    }

    /// The epilogue of a convolution, and what it points to.
    fn epilogue(
        &self,
        device: &mut dyn Device,
        (channels, inputs): (usize, usize),
        (out, residual): (&Memory, u64),
    ) -> (Epilogue, [Memory; 2]) {
        let affine = self.affine(channels, inputs);
        let affine = affine.map(|values| lab::upload_f32(device, &self.padded(&values, channels)));
        let pitch = lab::pitch(self.precision, channels);
        let (height, width) = self.shape.size;
        let epilogue = Epilogue {
            scale: if inputs > 1 { 0 } else { affine[0].address },
            bias: affine[1].address,
            residual,
            activation: Activation::Relu as i32,
            ..lab::epilogue_to(out, channels, pitch, height * width)
        };
        (epilogue, affine)
    }

    fn upload(&self, device: &mut dyn Device) -> (Vec<Input>, Memory) {
        let each = self.cases.iter().zip(&self.values);
        let inputs = each
            .map(|(case, values)| Input::upload(device, case, self.precision, values))
            .collect();
        let residual = self.padded(&self.residual, self.shape.wide);
        (inputs, lab::upload_stored(device, self.precision, &residual))
    }

    fn tile_sums(&self, device: &mut dyn Device) -> (Memory, TileSums) {
        let image = self.shape.size.0 * self.shape.size.1;
        let segments = tile_sums::segments(SUM_PIXELS, image);
        let tiles = self.pixels().div_ceil(SUM_PIXELS);
        let count = tiles * segments * lab::pitch(self.precision, self.shape.outputs);
        let memory = lab::allocate(device, Precision::F32, count);
        let (image_pixels, segments) = (image as i32, segments as i32);
        let tile_sums = TileSums { sums: memory.address, image_pixels, segments };
        (memory, tile_sums)
    }

    /// Both convolutions in one kernel, on two multiprocessors.
    pub fn fused(&self, device: &mut dyn Device) -> Result<Results, EngineError> {
        let (precision, division) = (self.precision, self.division());
        let Shape { wide, outputs, inputs, residual, .. } = self.shape;
        let (first, added) = self.upload(device);
        let none = vec![0.0; self.pixels() * lab::pitch(precision, wide)];
        let second = Input::upload(device, &self.case, precision, &self.second(&none));
        let count = |channels| self.pixels() * lab::pitch(precision, channels);
        let [map, out] = [wide, outputs].map(|c| lab::allocate(device, precision, count(c)));
        let of_map = (&map, if residual { added.address } else { 0 });
        let (expand, _expand) = self.epilogue(device, (wide, inputs.len()), of_map);
        let (reduce, _reduce) = self.epilogue(device, (outputs, 1), (&out, 0));
        let (sums, tile_sums) = self.tile_sums(device);
        // The kernel loads weights before earlier kernels have ended.
        first.iter().chain([&second]).try_for_each(|input| device.freeze(&input.weights))?;
        let places: Vec<Place> = first.iter().map(Input::place).collect();
        let wide = Place { pixels: map.address, ..second.place() };
        let args = division.args(device, (&places, wide), [expand, reduce], tile_sums)?;
        lab::run(device, &division.variant(precision), [division.blocks(2), 1, 1], &args)?;
        let [wide, out] = [&map, &out].map(|map| lab::download_stored(device, precision, map));
        Ok(Results { wide, out, sums: lab::download_f32(device, &sums) })
    }

    /// Each convolution in a kernel of its own.
    fn separate(&self, device: &mut dyn Device) -> Results {
        let (precision, plain) = (self.precision, Extra::default());
        let Shape { wide, outputs: last, inputs, residual, .. } = self.shape;
        let (first, added) = self.upload(device);
        let shapes: Vec<_> = first.iter().map(|input| input.shape).collect();
        let all: Vec<&Input> = first.iter().collect();
        let case = self.cases[0];
        let division = some_divisions(&product(&case, &shapes))[0];
        let unused = lab::allocate(device, precision, 1);
        let residual = if residual { added.address } else { 0 };
        let extra = Extra { residual, ..Extra::default() };
        let (end, _end) = self.epilogue(device, (wide, inputs.len()), (&unused, residual));
        let map =
            outputs(device, &case, precision, division, (&all, &extra), |e| like(e, &end)).unwrap();
        let second = Input::upload(device, &self.case, precision, &self.second(&map));
        let division = some_divisions(&product(&self.case, &[second.shape]))[0];
        let (end, _end) = self.epilogue(device, (last, 1), (&unused, 0));
        let (sums, tile_sums) = self.tile_sums(device);
        let extra = Extra { tile_sums: Some(tile_sums), ..plain };
        let out = outputs(device, &self.case, precision, division, (&[&second], &extra), |e| {
            like(e, &end)
        });
        Results { wide: map, out: out.unwrap(), sums: lab::download_f32(device, &sums) }
    }
}

/// The epilogue `other` with another result.
fn like(e: Epilogue, other: &Epilogue) -> Epilogue {
    let Epilogue { scale, bias, residual, activation, .. } = *other;
    Epilogue { scale, bias, residual, activation, ..e }
}

const SHAPE: Shape =
    Shape { images: 1, size: (1, 1), inputs: &[1], residual: true, wide: 5, outputs: 3 };

/// One pixel, a whole tile, tiles that are not whole, odd channels, two inputs, no residual, and weights that are loaded
/// for each tile.
pub const SHAPES: [Shape; 10] = [
    SHAPE,
    Shape { images: 2, size: (8, 8), inputs: &[8], wide: 64, outputs: 16, ..SHAPE },
    Shape { images: 3, size: (7, 31), inputs: &[24], wide: 76, outputs: 19, ..SHAPE },
    Shape { images: 9, size: (9, 8), inputs: &[64], wide: 256, outputs: 64, ..SHAPE },
    Shape { images: 5, size: (9, 13), inputs: &[64, 64], residual: false, wide: 256, outputs: 64 },
    Shape { images: 7, size: (5, 9), inputs: &[19, 40], residual: false, wide: 76, outputs: 38 },
    Shape { images: 4, size: (10, 11), inputs: &[128], wide: 512, outputs: 128, ..SHAPE },
    Shape { images: 2, size: (13, 11), inputs: &[72], residual: false, wide: 264, outputs: 72 },
    Shape { images: 6, size: (9, 11), inputs: &[38], wide: 1032, outputs: 38, ..SHAPE },
    // As few stages and bands as there can be.
    Shape { images: 4, size: (12, 9), inputs: &[128], wide: 256, outputs: 128, ..SHAPE },
];

#[test]
fn two_convolutions_in_one_kernel_have_the_bits_of_two_kernels() {
    let Some(mut lab) = open() else { return };
    let mut resident = vec![];
    for (at, shape) in SHAPES.into_iter().enumerate() {
        let precision = if at % 3 == 2 { Precision::F16 } else { Precision::Bf16 };
        let network = Network::new(shape, precision);
        lab.set_schedule(SCHEDULES[0]);
        let separate = network.separate(lab.device());
        resident.push(network.division().resident);
        for schedule in SCHEDULES {
            lab.set_schedule(schedule);
            let what = format!("{precision} {shape:?} {schedule:?}");
            let before = lab.bank_conflicts();
            let got = network.fused(lab.device()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(lab.bank_conflicts(), before, "bank conflicts: {what}");
            if schedule == SCHEDULES[0] {
                network.compare(&what, &got);
            }
            assert!(got.bits() == separate.bits(), "{what}");
        }
    }
    assert!(resident.contains(&true) && resident.contains(&false));
    assert_eq!(Network::new(SHAPES[9], Precision::Bf16).division().stages, 2);
}

/// In a map, a residual and the weights of each convolution. Padded channels stay zeros, which `compare` asserts.
#[test]
fn nan_and_infinity_reach_only_what_depends_on_them_in_one_kernel() {
    let Some(mut lab) = open() else { return };
    for (at, special) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter().enumerate() {
        for place in 0..4 {
            let shape = [SHAPES[2], SHAPES[3], SHAPES[4], SHAPES[6]][(at + place) % 4];
            let mut network = Network::new(shape, Precision::Bf16);
            let first = &mut network.values[0];
            let values = match place {
                0 => &mut first.x,
                1 => &mut network.residual,
                // Weights are finite where a chunk of K is not whole.
                2 if shape.wide.is_multiple_of(64) => &mut first.weights,
                3 if shape.wide.is_multiple_of(64) => &mut network.weights,
                _ => continue,
            };
            let middle = values.len() / 2;
            values[middle] = special;
            let what = format!("{special} {place} {shape:?}");
            let got = network.fused(lab.device()).unwrap_or_else(|e| panic!("{what}: {e}"));
            network.compare(&what, &got);
            assert!(got.bits() == network.separate(lab.device()).bits(), "{what}");
            assert!(got.wide.iter().any(|v| v.is_finite()), "{what}");
        }
    }
}
