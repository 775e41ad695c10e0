//! Tests of Strassen's algorithm against the product in float64.

use cpu::element::Bf16;
use cpu::isa::{HasKernels, Kernels};
use cpu::kernels::epilogue::Epilogue;
use cpu::kernels::gemm::{Gemm, Operand, Rows};
use cpu::kernels::strassen::{COPIES, Input, Output, PRODUCTS, Sum, WEIGHTS};
use cpu::memory::Arena;
use cpu::pack::Packed;

use crate::lab::{self, EDGES, Edge};

/// Pixels, and half of the channels and of the outputs in vectors.
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (2, 1, 2), (3, 2, 1), (8, 3, 3), (29, 1, 1), (30, 2, 2)];

/// The products that are added to each block of C, and the absolute values of their factors: blocks of A and
/// of B. Written down apart from the kernels, it bounds the rounding errors.
const RESULTS: [[&[usize]; 2]; 2] = [[&[0, 3, 4, 6], &[2, 4]], [&[1, 3], &[0, 1, 2, 5]]];
type Blocks = &'static [[usize; 2]];
const FACTORS: [[Blocks; 2]; PRODUCTS] = [
    [&[[0, 0], [1, 1]], &[[0, 0], [1, 1]]],
    [&[[1, 0], [1, 1]], &[[0, 0]]],
    [&[[0, 0]], &[[0, 1], [1, 1]]],
    [&[[1, 1]], &[[0, 0], [1, 0]]],
    [&[[0, 0], [0, 1]], &[[1, 1]]],
    [&[[1, 0], [0, 0]], &[[0, 0], [0, 1]]],
    [&[[0, 1], [1, 1]], &[[1, 0], [1, 1]]],
];

struct Case {
    pixels: usize,
    /// Half of the channels and of the outputs.
    half: [usize; 2],
    x: Vec<f64>,
    gate: Vec<f64>,
    weights: Vec<f64>,
}

impl Case {
    fn new<E: HasKernels>(
        (pixels, channels, outputs): (usize, usize, usize),
        lanes: usize,
        gated: bool,
    ) -> Self {
        let half = [channels * lanes, outputs * lanes];
        let gate = match gated {
            true => lab::numbers::<E>(2 * half[0], 2),
            false => vec![1.0; 2 * half[0]],
        };
        let x = lab::numbers::<E>(pixels * 2 * half[0], 1);
        Case { pixels, half, x, gate, weights: lab::numbers::<f32>(4 * half[0] * half[1], 3) }
    }

    /// A gated input, zero beyond the last pixel.
    fn x(&self, pixel: usize, channel: usize) -> f64 {
        let value = self.x.get(pixel * 2 * self.half[0] + channel);
        value.map_or(0.0, |value| value * self.gate[channel])
    }

    fn weight(&self, output: usize, channel: usize) -> f64 {
        self.weights[output * 2 * self.half[0] + channel]
    }

    /// The product, and the sum of the magnitudes of everything that is added.
    fn want(&self, pixel: usize, output: usize) -> (f64, f64) {
        let terms = (0..2 * self.half[0]).map(|c| self.x(pixel, c) * self.weight(output, c));
        let (row, column) = (pixel % 2, output / self.half[1]);
        let sizes = RESULTS[row][column].iter().map(|&product| {
            let [blocks_a, blocks_b] = FACTORS[product];
            let each = (0..self.half[0]).map(|k| {
                let a = blocks_a
                    .iter()
                    .map(|[r, c]| self.x(pixel - row + r, c * self.half[0] + k).abs());
                let b = blocks_b.iter().map(|[r, c]| {
                    let output = c * self.half[1] + output % self.half[1];
                    self.weight(output, r * self.half[0] + k).abs()
                });
                a.sum::<f64>() * b.sum::<f64>()
            });
            each.sum::<f64>()
        });
        (terms.sum(), sizes.sum())
    }

    /// The block of B that a sum holds, at an output and a channel within a half.
    fn sum(&self, sum: Sum, output: usize, channel: usize) -> f64 {
        let block = |[row, column]: [usize; 2]| {
            self.weight(column * self.half[1] + output, row * self.half[0] + channel)
        };
        let second = sum.second.map_or(0.0, |(sign, second)| f64::from(sign) * block(second));
        block(sum.first) + second
    }
}

/// Runs a case and returns the map [pixels, 2 * half of the outputs].
fn run<E: HasKernels>(
    kernels: &Kernels<E>,
    edge: Edge,
    case: &Case,
    gated: bool,
    copies: bool,
) -> lab::Guarded<E> {
    let (lanes, pairs, [channels, outputs]) = (kernels.lanes, case.pixels.div_ceil(2), case.half);
    let pitch = 2 * channels;
    let image = lab::stored::<E>(edge, &case.x);
    let gate = lab::stored::<E>(edge, &case.gate);
    let zeros = lab::stored::<E>(edge, &vec![0.0; pitch]);
    let factors = lab::poisoned::<E>(edge, PRODUCTS * pairs * channels);
    let products = lab::poisoned::<f32>(edge, PRODUCTS * pairs * outputs);
    let out = lab::poisoned::<E>(edge, case.pixels * 2 * outputs);
    // SAFETY: the buffers have the sizes that the kernels ask for, between guard pages.
    unsafe {
        (kernels.strassen_input)(&Input {
            image: image.ptr(),
            pitch,
            pixels: case.pixels,
            pairs: (0, pairs),
            vectors: channels / lanes,
            zeros: zeros.ptr(),
            gate: if gated { gate.ptr() } else { std::ptr::null() },
            copies,
            out: factors.mut_ptr(),
            pair_pitch: channels,
            product_pitch: pairs * channels,
        });
        for (product, sum) in WEIGHTS.into_iter().enumerate() {
            let mut arena = Arena::default();
            let shape = [channels, outputs];
            let b = Packed::<E>::matrix(&mut arena, shape, lanes, |o, c| case.sum(sum, o, c));
            let (mut a, mut a_pitch) = (factors.ptr().add(product * pairs * channels), channels);
            if let Some((_, [row, half])) = COPIES.into_iter().find(|(at, _)| *at == product)
                && !copies
            {
                (a, a_pitch) = (image.ptr().add(row * pitch + half * channels), 2 * pitch);
            }
            let to = products.mut_ptr().add(product * pairs * outputs);
            (kernels.gemm_planes)(&Gemm {
                first: Operand::rows(a, a_pitch, b.k, b.data.as_ptr()),
                second: None,
                rows: Rows::dense(pairs),
                pixel: 0,
                image_pixel: 0,
                stream: true,
                vectors: (0, b.vectors),
                epilogue: Epilogue::store_only(to, outputs),
            });
        }
        let output = Output {
            products: products.ptr(),
            pair_pitch: outputs,
            product_pitch: pairs * outputs,
            pairs: (0, pairs),
            pixels: case.pixels,
            pixel: 0,
            vectors: outputs / lanes,
            channels: [0, outputs],
            epilogue: lab::plain_epilogue(&out, 2 * outputs),
        };
        (0..PRODUCTS).for_each(|part| (kernels.strassen_prefetch)(&output, part));
        (kernels.strassen_output)(&output);
    }
    out
}

fn check<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for (shape, gated) in SHAPES.into_iter().flat_map(|shape| [(shape, false), (shape, true)]) {
        let case = Case::new::<E>(shape, kernels.lanes, gated);
        // Sums of blocks are rounded to the stored format, products and results to f32.
        let each = f64::from(f32::EPSILON) * (case.half[0] + 20) as f64
            + if E::IS_F32 { 0.0 } else { 2.0 * lab::epsilon::<E>() };
        let outputs = 2 * case.half[1];
        let wants: Vec<(f64, f64)> = (0..case.pixels * outputs)
            .map(|at| {
                let (want, size) = case.want(at / outputs, at % outputs);
                (want, each * size + lab::epsilon::<E>() * want.abs())
            })
            .collect();
        // Products can read blocks of the map itself only without a gate and with an even number of pixels.
        let direct = (case.pixels.is_multiple_of(2) && !gated).then_some(false);
        for copies in [Some(true), direct].into_iter().flatten() {
            for edge in EDGES {
                let got = run(kernels, edge, &case, gated, copies);
                let what = format!("{name} {shape:?} gated {gated} copies {copies} {edge:?}");
                lab::compare(&what, &got, &wants, outputs, outputs);
            }
        }
    }
}

#[test]
fn blocks_and_products_give_the_product_over_edge_shapes() {
    lab::each_isa::<f32>(check);
    lab::each_isa::<Bf16>(check);
}

/// Checks that NaN stays in its pair of pixels, and reaches every output of its own pixel.
fn special<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    let mut case = Case::new::<E>((7, 1, 1), kernels.lanes, false);
    let (channels, outputs) = (2 * case.half[0], 2 * case.half[1]);
    case.x[3 * channels + 1] = f64::NAN;
    let got = run(kernels, Edge::End, &case, false, true);
    for (at, value) in got.values().iter().enumerate() {
        let (pixel, value) = (at / outputs, value.to_f32());
        match pixel {
            3 => assert!(value.is_nan(), "{name} {at}: {value}"),
            2 => {}
            _ => assert!(value.is_finite(), "{name} {at}: {value}"),
        }
    }
}

#[test]
fn nan_reaches_its_outputs_and_stays_in_its_pair() {
    lab::each_isa::<f32>(special);
    lab::each_isa::<Bf16>(special);
}
