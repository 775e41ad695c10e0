//! Tests of matrix products and their epilogues.

use cpu::Isa;
use cpu::element::Bf16;
use cpu::isa::{HasKernels, Kernels};
use cpu::kernels::epilogue::{Epilogue, sigmoid};
use cpu::kernels::gemm::{Gemm, Operand, Rows};
use cpu::memory::Arena;
use cpu::pack::{Packed, grouped};
use cpu::simd::portable::Portable;
use cpu::simd::traffic;
use lower::{Activation, Stage};

use crate::lab::{self, EDGES, Edge, Guarded};

/// Rows, channels, outputs, and channels of a second product (0 for none).
const SHAPES: [(usize, usize, usize, usize); 13] = [
    (1, 1, 1, 0),
    (1, 3, 5, 0),
    (7, 16, 16, 0),
    (13, 33, 17, 0),
    (14, 19, 40, 5),
    (29, 40, 33, 64),
    (15, 100, 70, 1),
    (45, 70, 48, 33),
    (67, 66, 24, 0),
    (0, 4, 4, 0),
    // Several tiles of rows, of which the last overlaps the one before, and several stretches of
    // channels.
    (99, 450, 40, 0),
    (133, 200, 17, 390),
    (257, 64, 32, 34),
];

/// One product: its factors in guarded memory, and in float64.
struct Product<E> {
    a: Guarded<E>,
    packed: Packed<E>,
    pitch: usize,
    rows: Vec<f64>,
    weights: Vec<f64>,
    k: usize,
}

impl<E: HasKernels> Product<E> {
    fn new(edge: Edge, rows: usize, k: usize, outputs: usize, lanes: usize, seed: u64) -> Self {
        let values = lab::numbers::<E>(rows * k, seed);
        Self::of(edge, values, k, outputs, lanes, seed)
    }

    fn of(edge: Edge, rows: Vec<f64>, k: usize, outputs: usize, lanes: usize, seed: u64) -> Self {
        let weights = lab::numbers::<E>(outputs * k, seed + 1);
        let pitch = grouped::<E>(k);
        let a = lab::stored(edge, &lab::spread(&rows, k, pitch));
        let packed =
            Packed::matrix(&mut Arena::default(), [k, outputs], lanes, |o, c| weights[o * k + c]);
        Product { a, packed, pitch, rows, weights, k }
    }

    fn operand(&self) -> Operand<E> {
        let b = self.packed.data.as_ptr();
        Operand::rows(self.a.ptr(), self.pitch, self.packed.k, b)
    }

    /// The product of `rows` rows with all outputs.
    fn gemm(&self, rows: usize, epilogue: Epilogue<E>) -> Gemm<E, E> {
        Gemm {
            first: self.operand(),
            second: None,
            rows: Rows::dense(rows),
            pixel: 0,
            image_pixel: 0,
            stream: false,
            vectors: (0, self.packed.vectors),
            epilogue,
        }
    }

    /// The sum in float64, and the sum of the absolute values of its terms.
    fn sum(&self, row: usize, output: usize) -> (f64, f64) {
        let terms =
            (0..self.k).map(|c| self.rows[row * self.k + c] * self.weights[output * self.k + c]);
        (terms.clone().sum(), terms.map(f64::abs).sum())
    }
}

/// An epilogue with all of its parts in guarded memory, and the same in float64.
struct Full<E> {
    sum: Guarded<E>,
    residual: Guarded<E>,
    factor: Guarded<E>,
    scale: Guarded<f32>,
    bias: Guarded<f32>,
    addend: Guarded<f32>,
    values: [Vec<f64>; 6],
    channels: usize,
}

impl<E: HasKernels> Full<E> {
    fn new(edge: Edge, rows: usize, channels: usize, pitch: usize) -> Self {
        let [sum, residual, factor] =
            [3, 4, 5].map(|seed| lab::numbers::<E>(rows * channels, seed));
        let [scale, bias] = [6, 7].map(|seed| lab::numbers::<f32>(channels, seed));
        let addend = lab::numbers::<f32>(rows * channels, 8);
        let spread = |values: &[f64]| lab::spread(values, channels, pitch);
        Full {
            sum: lab::stored(edge, &spread(&sum)),
            residual: lab::stored(edge, &spread(&residual)),
            factor: lab::stored(edge, &spread(&factor)),
            scale: lab::wide(edge, &spread(&scale)),
            bias: lab::wide(edge, &spread(&bias)),
            addend: lab::wide(edge, &spread(&addend)),
            values: [sum, residual, factor, scale, bias, addend],
            channels,
        }
    }

    fn epilogue(&self, out: &Guarded<E>, pitch: usize, activation: Activation) -> Epilogue<E> {
        Epilogue {
            sum: self.sum.ptr(),
            observed_sum: true,
            scale: self.scale.ptr(),
            bias: self.bias.ptr(),
            residual: self.residual.ptr(),
            activation,
            factor: self.factor.ptr(),
            addend: self.addend.ptr(),
            ..lab::plain_epilogue(out, pitch)
        }
    }

    /// The value in float64, and the magnitude of everything that was added to it.
    fn apply(&self, sum: (f64, f64), pixel: usize, c: usize, activation: Activation) -> (f64, f64) {
        let [more, residual, factor, scale, bias, addend] = &self.values;
        let at = pixel * self.channels + c;
        let linear = (sum.0 + more[at]) * scale[c] + bias[c] + residual[at];
        let active = match activation {
            Activation::Identity => linear,
            Activation::Relu => linear.max(0.0),
            Activation::Sigmoid => 1.0 / (1.0 + (-linear).exp()),
        };
        (active * factor[at] + addend[at], sum.1 + 4.0)
    }
}

fn check<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for edge in EDGES {
        for (rows, k, outputs, more) in SHAPES {
            let pitch = outputs.next_multiple_of(kernels.lanes);
            let first = Product::<E>::new(edge, rows, k, outputs, kernels.lanes, 1);
            let second = Product::<E>::new(edge, rows, more.max(1), outputs, kernels.lanes, 20);
            let full = Full::<E>::new(edge, rows, outputs, pitch);
            for activation in [Activation::Identity, Activation::Relu, Activation::Sigmoid] {
                for plain in [true, false] {
                    let out = lab::poisoned::<E>(edge, rows * pitch);
                    let epilogue = match plain {
                        true => lab::plain_epilogue(&out, pitch),
                        false => full.epilogue(&out, pitch, activation),
                    };
                    let second_operand = (more > 0).then(|| second.operand());
                    let gemm = Gemm {
                        second: second_operand,
                        stream: plain,
                        ..first.gemm(rows, epilogue)
                    };
                    // SAFETY: the buffers have the sizes that `Gemm` asks for, between guard pages.
                    unsafe { (kernels.gemm)(&gemm) };
                    let places = (0..rows).flat_map(|p| (0..outputs).map(move |o| (p, o)));
                    let want: Vec<(f64, f64)> = places
                        .map(|(p, o)| {
                            let (mut sum, mut size) = first.sum(p, o);
                            if more > 0 {
                                let (s, z) = second.sum(p, o);
                                (sum, size) = (sum + s, size + z);
                            }
                            let (value, size) = match plain {
                                true => (sum, size),
                                false => full.apply((sum, size), p, o, activation),
                            };
                            // Observed sums and factors are rounded to the stored format as well.
                            let stored = if plain { 0.0 } else { 4.0 * lab::epsilon::<E>() * size };
                            (value, lab::allowed::<E>(k + more, size, value) + stored)
                        })
                        .collect();
                    let what =
                        format!("{name} {edge:?} {rows}x{k}x{outputs}+{more} {activation:?}");
                    lab::compare(&what, &out, &want, outputs, pitch);
                }
            }
        }
    }
}

/// Lines, their width, channels and outputs.
const LINES: [(usize, usize, usize, usize); 8] = [
    (1, 1, 2, 3),
    (1, 5, 16, 17),
    (1, 19, 30, 33),
    (1, 33, 36, 16),
    (3, 1, 2, 3),
    (7, 14, 70, 33),
    (2, 61, 20, 16),
    // Two blocks of rows.
    (12, 14, 6, 33),
];

/// Checks a 3x3 convolution over a band: rows have three parts, adjacent rows overlap, and between
/// two lines there are rows that are no pixels.
fn parts<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for edge in EDGES {
        for (lines, width, channels, outputs) in LINES {
            let (line, pitch) = ((width + 2) * channels, outputs.next_multiple_of(kernels.lanes));
            let band = lab::numbers::<E>((lines + 2) * line, 1);
            let weights = lab::numbers::<E>(outputs * 9 * channels, 2);
            let a = lab::stored::<E>(edge, &band);
            let shape = [9 * channels, outputs];
            let packed = Packed::matrix(&mut Arena::default(), shape, kernels.lanes, |o, k| {
                weights[o * 9 * channels + k]
            });
            let out = lab::poisoned::<E>(edge, lines * width * pitch);
            let gemm = Gemm {
                first: Operand {
                    a: a.ptr(),
                    pitch: channels,
                    k: 3 * channels,
                    parts: 3,
                    part_pitch: line,
                    b: packed.data.as_ptr(),
                },
                second: None,
                rows: Rows { lines, width, gap: 2 },
                pixel: 0,
                image_pixel: 0,
                stream: false,
                vectors: (0, packed.vectors),
                epilogue: lab::plain_epilogue(&out, pitch),
            };
            // SAFETY: the buffers have the sizes that `Gemm` asks for, between guard pages.
            unsafe { (kernels.gemm)(&gemm) };
            let places = (0..lines * width).flat_map(|p| (0..outputs).map(move |o| (p, o)));
            let want: Vec<(f64, f64)> = places
                .map(|(pixel, o)| {
                    let (y, x) = (pixel / width, pixel % width);
                    let terms = (0..9 * channels).map(|k| {
                        let (part, within) = (k / (3 * channels), k % (3 * channels));
                        band[(y + part) * line + x * channels + within]
                            * weights[o * 9 * channels + k]
                    });
                    let size: f64 = terms.clone().map(f64::abs).sum();
                    let sum: f64 = terms.sum();
                    (sum, lab::allowed::<E>(9 * channels, size, sum))
                })
                .collect();
            let what = format!("{name} {edge:?} {lines}x{width} {channels} {outputs}");
            lab::compare(&what, &out, &want, outputs, pitch);
        }
    }
}

#[test]
fn rows_in_parts_compute_a_convolution() {
    lab::each_isa::<f32>(parts);
    lab::each_isa::<Bf16>(parts);
}

#[test]
fn products_and_epilogues_agree_with_float64_over_edge_shapes() {
    lab::each_isa::<f32>(check);
    lab::each_isa::<Bf16>(check);
}

fn special<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let (rows, k, outputs) = (15usize, 20usize, 33usize);
        let mut values = lab::numbers::<E>(rows * k, 1);
        values[7 * k + 3] = value;
        let product = Product::<E>::of(Edge::End, values, k, outputs, kernels.lanes, 1);
        let pitch = outputs.next_multiple_of(kernels.lanes);
        let out = lab::poisoned::<E>(Edge::End, rows * pitch);
        let gemm = product.gemm(rows, lab::plain_epilogue(&out, pitch));
        // SAFETY: the buffers have the sizes that the kernel asks for, between guard pages.
        unsafe { (kernels.gemm)(&gemm) };
        let places = (0..rows).flat_map(|p| (0..outputs).map(move |o| (p, o)));
        let want: Vec<(f64, f64)> = places
            .map(|(p, o)| {
                let (sum, size) = product.sum(p, o);
                (sum, lab::allowed::<E>(k, size, sum))
            })
            .collect();
        lab::compare(&format!("{name} {value}"), &out, &want, outputs, pitch);
    }
}

#[test]
fn nan_and_infinity_reach_their_own_row_only() {
    lab::each_isa::<f32>(special);
    lab::each_isa::<Bf16>(special);
}

/// Checks that an epilogue which stops after a stage, stores and is resumed gives the same bits.
fn resumed<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    use cpu::kernels::spatial::Resume;
    let (rows, k, outputs) = (9usize, 21usize, 37usize);
    let pitch = outputs.next_multiple_of(kernels.lanes);
    // Some sums are negative numbers that round to -0 in the stored format.
    let mut values = lab::numbers::<E>(rows * k, 1);
    values[..k].iter_mut().for_each(|value| *value *= 1e-40);
    let product = Product::<E>::of(Edge::End, values, k, outputs, kernels.lanes, 1);
    let full = Full::<E>::new(Edge::End, rows, outputs, pitch);
    let activations = [Activation::Identity, Activation::Relu, Activation::Sigmoid];
    for (activation, bare) in activations.into_iter().flat_map(|a| [(a, false), (a, true)]) {
        let run = |to: Stage| {
            let out = lab::poisoned::<E>(Edge::End, rows * pitch);
            let epilogue = match bare {
                true => Epilogue { to, activation, ..lab::plain_epilogue(&out, pitch) },
                false => Epilogue { to, ..full.epilogue(&out, pitch, activation) },
            };
            let gemm = product.gemm(rows, epilogue);
            // SAFETY: the buffers have the sizes that the kernel asks for, between guard pages.
            unsafe { (kernels.gemm)(&gemm) };
            let rest = Epilogue { from: to, to: Stage::End, ..epilogue };
            let resume =
                Resume { epilogue: rest, pixels: (0, rows), image: rows, vectors: gemm.vectors.1 };
            if to < Stage::End {
                // SAFETY: the buffers have the sizes that the kernel asks for, between guard pages.
                unsafe { (kernels.resume)(&resume) };
            }
            out.values().iter().map(|v| v.to_f32().to_bits()).collect::<Vec<_>>()
        };
        let whole = run(Stage::End);
        // Without an observed sum, the first stage that an epilogue can stop after is the linear
        // one.
        let before = if bare { Stage::Sum } else { Stage::Start };
        for &to in before.up_to(Stage::Product) {
            assert!(run(to) == whole, "{name} {activation:?} {bare}, stopped after stage {to:?}");
        }
    }
}

#[test]
fn a_resumed_epilogue_gives_the_same_bits() {
    lab::each_isa::<f32>(resumed);
    lab::each_isa::<Bf16>(resumed);
}

#[test]
fn the_sigmoid_is_within_its_documented_error() {
    for step in -200_000..=200_000 {
        let x = step as f32 * 1e-3;
        // SAFETY: `Portable` needs no instruction set, and only values are passed.
        let got = f64::from(unsafe { sigmoid::<Portable<4>>(portable(x)) }[0]);
        let want = 1.0 / (1.0 + (-f64::from(x)).exp());
        let allowed = if x > -87.0 { 2.5 * f64::from(f32::EPSILON) * want } else { 2e-38 };
        assert!((got - want).abs() <= allowed, "sigmoid({x}): got {got}, expected {want}");
    }
}

/// A vector with the same value in all lanes.
fn portable(x: f32) -> <Portable<4> as cpu::simd::Simd>::V {
    // SAFETY: `Portable` needs no instruction set, and only values are passed.
    unsafe { <Portable<4> as cpu::simd::Simd>::splat(x) }
}

/// The kernels of the matrix unit keep a stretch of weights in the L1 cache for a whole block of rows:
/// by the simulated caches, the weights come from the L2 cache once, the pixels once for each panel,
/// and the sums once for each further stretch.
#[test]
fn a_matrix_unit_reads_weights_once_for_a_block_of_rows() {
    let (rows, k, outputs) = (128usize, 2304usize, 256usize);
    let kernels = Bf16::kernels(Isa::AmxEmulated.detect().expect("any machine emulates it"));
    let product = Product::<Bf16>::new(Edge::End, rows, k, outputs, kernels.lanes, 1);
    let out = lab::poisoned::<Bf16>(Edge::End, rows * outputs);
    let gemm = product.gemm(rows, lab::plain_epilogue(&out, outputs));
    traffic::start();
    // SAFETY: the buffers have the sizes that `Gemm` asks for, between guard pages.
    unsafe { (kernels.gemm)(&gemm) };
    let counted = traffic::take();
    traffic::stop();
    let lines = |elements: usize| (elements * size_of::<Bf16>() / traffic::LINE) as u64;
    let (panels, further) = (outputs as u64 / 32, k as u64 / 256 - 1);
    let sums = panels * further * 2 * lines(rows * 32);
    let want = panels * lines(rows * k) + lines(k * outputs) + sums;
    let far = counted.tiles[1] + counted.tiles[2];
    assert!((want..want + want / 20).contains(&far), "{far} lines, expected about {want}");
    // The unit does nothing in vain: 16 x 16 x 32 multiply-adds in 16 cycles.
    assert_eq!(counted.unit_cycles, (rows * k * outputs / 512) as u64);
}
