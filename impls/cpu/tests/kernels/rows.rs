//! Tests of Winograd's algorithm along rows against the 7x7 convolution in float64.

use cpu::element::Bf16;
use cpu::isa::{HasKernels, Kernels};
use cpu::kernels::epilogue::Epilogue;
use cpu::kernels::gemm::{Gemm, Operand, Rows};
use cpu::kernels::rows::{Input, KERNEL, Output, PAIRS, PARTS, POINTS, TILE, parts, tiles, weight};
use cpu::memory::Arena;
use cpu::pack::Packed;

use crate::lab::{self, EDGES, Edge};

/// Height, width, channels in vectors, outputs.
const SHAPES: [(usize, usize, usize, usize); 6] =
    [(1, 1, 1, 1), (2, 4, 1, 16), (3, 5, 2, 17), (1, 9, 1, 33), (9, 7, 1, 5), (4, 15, 2, 16)];

struct Case {
    size: (usize, usize),
    channels: usize,
    outputs: usize,
    x: Vec<f64>,
    weights: Vec<f64>,
}

impl Case {
    fn new<E: HasKernels>(
        (height, width, vectors, outputs): (usize, usize, usize, usize),
        lanes: usize,
    ) -> Self {
        let channels = vectors * lanes;
        Case {
            size: (height, width),
            channels,
            outputs,
            x: lab::numbers::<E>(height * width * channels, 1),
            weights: lab::numbers::<f32>(outputs * channels * KERNEL * KERNEL, 3),
        }
    }

    /// A value of the map, counted from the border's first pixel.
    fn at(&self, y: usize, x: usize, channel: usize) -> f64 {
        let inside = |at: usize, length: usize| (3..length + 3).contains(&at).then(|| at - 3);
        match (inside(y, self.size.0), inside(x, self.size.1)) {
            (Some(y), Some(x)) => self.x[(y * self.size.1 + x) * self.channels + channel],
            _ => 0.0,
        }
    }

    fn tap(&self, output: usize, channel: usize, row: usize, column: usize) -> f64 {
        let kernel = (output * self.channels + channel) * KERNEL * KERNEL;
        self.weights[kernel + row * KERNEL + column]
    }

    /// The convolution at a pixel, in float64.
    fn want(&self, y: usize, x: usize, output: usize) -> f64 {
        let terms = (0..self.channels * KERNEL * KERNEL).map(|at| {
            let (c, row, column) = (at / (KERNEL * KERNEL), at / KERNEL % KERNEL, at % KERNEL);
            self.at(y + row, x + column, c) * self.tap(output, c, row, column)
        });
        terms.sum()
    }

    /// The magnitude of all that is added to the four pixels of a tile.
    fn sizes(&self, y: usize, tile: usize, output: usize) -> [f64; TILE] {
        let finite: Vec<f64> = PAIRS.iter().flat_map(|&p| [f64::from(p), -f64::from(p)]).collect();
        let mut out = [0.0; TILE];
        for point in 0..POINTS {
            // The coefficients of the input transform: the product of (x - q) over the other points.
            let roots = finite.iter().enumerate().filter(|(at, _)| *at != point);
            let mut polynomial = roots.fold(vec![1.0], |p, (_, root)| {
                let mut out = vec![0.0; p.len() + 1];
                for (at, c) in p.iter().enumerate() {
                    out[at] -= root * c;
                    out[at + 1] += c;
                }
                out
            });
            polynomial.resize(POINTS, 0.0);
            let mut product = 0.0;
            for at in 0..self.channels * KERNEL * PARTS {
                let (c, row, part) = (at / (KERNEL * PARTS), at / PARTS % KERNEL, at % PARTS);
                let first = (tile + part) * TILE;
                let input = polynomial
                    .iter()
                    .enumerate()
                    .map(|(dx, b)| b.abs() * self.at(y + row, first + dx, c).abs());
                let taps = |column| self.tap(output, c, row, column).abs();
                // The weights at |p|: all terms add up. The norm has the same size for p and -p.
                let positive = point / 2 * 2;
                let at = if point + 1 == POINTS { point } else { positive };
                product += input.sum::<f64>() * weight(at, part, taps).abs();
            }
            for (power, out) in out.iter_mut().enumerate() {
                *out += match finite.get(point) {
                    Some(p) => p.abs().powi(power as i32) * product,
                    None if power + 1 == TILE => product,
                    None => 0.0,
                };
            }
        }
        out
    }
}

/// Runs a case and returns the map [pixels, pitch].
fn run<E: HasKernels>(kernels: &Kernels<E>, edge: Edge, case: &Case) -> lab::Guarded<E> {
    let (lanes, (height, width)) = (kernels.lanes, case.size);
    let (channels, pitch) = (case.channels, case.outputs.next_multiple_of(lanes));
    let count = tiles(width);
    let line = (count + 1) * channels;
    let image = lab::stored::<E>(edge, &case.x);
    let zeros = lab::stored::<E>(edge, &vec![0.0; channels]);
    let point = (height + KERNEL - 1) * line;
    let transformed = lab::poisoned::<E>(edge, POINTS * point);
    let products = lab::poisoned::<f32>(edge, POINTS * height * count * pitch);
    let out = lab::poisoned::<E>(edge, height * width * pitch);
    // SAFETY: the buffers have the sizes that the kernels ask for, between guard pages.
    unsafe {
        (kernels.rows_input)(&Input {
            image: image.ptr(),
            pitch: channels,
            size: case.size,
            lines: (0, height + KERNEL - 1),
            vectors: channels / lanes,
            zeros: zeros.ptr(),
            out: transformed.mut_ptr(),
            point_pitch: point,
        });
        for at in 0..POINTS {
            let (mut arena, k) = (Arena::default(), parts(at) * channels);
            let shape = [KERNEL * k, case.outputs];
            let b = Packed::<E>::matrix(&mut arena, shape, lanes, |output, channel| {
                let (row, rest) = (channel / k, channel % k);
                let (part, channel) = (rest / channels, rest % channels);
                weight(at, part, |column| case.tap(output, channel, row, column))
            });
            let to = products.mut_ptr().add(at * height * count * pitch);
            (kernels.gemm_planes)(&Gemm {
                first: Operand {
                    a: transformed.ptr().add(at * point),
                    pitch: channels,
                    k,
                    parts: KERNEL,
                    part_pitch: line,
                    b: b.data.as_ptr(),
                },
                second: None,
                rows: Rows { lines: height, width: count, gap: 1 },
                pixel: 0,
                image_pixel: 0,
                stream: false,
                vectors: (0, b.vectors),
                epilogue: Epilogue::store_only(to, pitch),
            });
        }
        (kernels.rows_output)(&Output {
            products: products.ptr(),
            tile_pitch: pitch,
            point_pitch: height * count * pitch,
            size: case.size,
            lines: (0, height),
            vectors: pitch / lanes,
            pixel: 0,
            epilogue: lab::plain_epilogue(&out, pitch),
        });
    }
    out
}

fn check<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for shape in SHAPES {
        let case = Case::new::<E>(shape, kernels.lanes);
        let ((height, width), terms) = (case.size, case.channels * KERNEL * PARTS);
        // Transformed inputs and weights are rounded to the stored format, sums and outputs to f32.
        let each = f64::from(f32::EPSILON) * (terms + 40) as f64
            + if E::IS_F32 { 0.0 } else { 2.0 * lab::epsilon::<E>() };
        let mut wants = vec![];
        for pixel in 0..height * width {
            let (y, x) = (pixel / width, pixel % width);
            for output in 0..case.outputs {
                let want = case.want(y, x, output);
                let size = case.sizes(y, x / TILE, output)[x % TILE];
                wants.push((want, each * size + lab::epsilon::<E>() * want.abs()));
            }
        }
        for edge in EDGES {
            let got = run(kernels, edge, &case);
            let pitch = case.outputs.next_multiple_of(kernels.lanes);
            lab::compare(&format!("{name} {shape:?} {edge:?}"), &got, &wants, case.outputs, pitch);
        }
    }
}

#[test]
fn tiles_of_rows_agree_with_the_convolution_over_edge_shapes() {
    lab::each_isa::<f32>(check);
    lab::each_isa::<Bf16>(check);
}

/// Checks that NaN stays in the tiles that read it, and that the result is NaN wherever the convolution is.
fn special<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    let mut case = Case::new::<E>((9, 23, 1, 3), kernels.lanes);
    case.x[(23 + 4) * case.channels] = f64::NAN;
    let got = run(kernels, Edge::End, &case);
    let pitch = case.outputs.next_multiple_of(kernels.lanes);
    for pixel in 0..9 * 23 {
        let (y, x) = (pixel / 23, pixel % 23);
        let value = got.values()[pixel * pitch].to_f32();
        let first = x / TILE * TILE;
        // A tile and the next one read these pixels, counted from the border.
        let reads = (first..first + TILE + POINTS).contains(&(4 + 3)) && y <= 4;
        if case.want(y, x, 0).is_nan() {
            assert!(value.is_nan(), "{name} {y} {x}: {value}");
        } else if !reads {
            assert!(value.is_finite(), "{name} {y} {x}: {value}");
        }
    }
}

#[test]
fn nan_reaches_its_outputs_and_stays_in_the_tiles_that_read_it() {
    lab::each_isa::<f32>(special);
    lab::each_isa::<Bf16>(special);
}
