//! Tests of Winograd's algorithm against the convolution in float64.

use cpu::element::Bf16;
use cpu::isa::{HasKernels, Kernels};
use cpu::kernels::gemm::{Gemm, Operand, Rows};
use cpu::kernels::winograd::{Input, Output, P, Q, Tile};
use cpu::memory::Arena;
use cpu::pack::{Planes, ThirdTapChannels};

use crate::lab::{self, EDGES, Edge};

/// Height, width, channels, outputs.
const SHAPES: [(usize, usize, usize, usize); 6] =
    [(1, 1, 1, 1), (2, 3, 5, 4), (4, 4, 16, 17), (5, 9, 19, 33), (7, 7, 33, 16), (11, 6, 8, 40)];

/// The absolute values of A^T, B^T and G, from which rounding errors are bounded.
struct Sizes {
    a: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
    g: Vec<Vec<f64>>,
}

/// The coefficients of the product of (x - root), lowest power first.
fn polynomial(roots: impl Iterator<Item = f64>) -> Vec<f64> {
    roots.fold(vec![1.0], |p, root| {
        let mut out = vec![0.0; p.len() + 1];
        for (at, c) in p.iter().enumerate() {
            out[at] -= root * c;
            out[at + 1] += c;
        }
        out
    })
}

impl Sizes {
    fn new(tile: Tile) -> Self {
        let (p, q) = (f64::from(P), f64::from(Q));
        let points = if tile == Tile::F2 { vec![0.0, 1.0, -1.0] } else { vec![0.0, p, -p, q, -q] };
        let (n, m) = (points.len() + 1, tile.side());
        let others = |at: usize| {
            let points = points.clone();
            points.into_iter().enumerate().filter(move |(i, _)| *i != at).map(|(_, q)| q)
        };
        let (mut a, mut b, mut g) = (vec![vec![0.0; n]; m], vec![], vec![]);
        for (at, &point) in points.iter().enumerate() {
            let mut row = polynomial(others(at));
            row.resize(n, 0.0);
            b.push(row);
            let norm: f64 = others(at).map(|q| point - q).product();
            g.push((0..3).map(|power| point.powi(power) / norm).collect());
            (0..m).for_each(|power| a[power][at] = point.powi(power as i32));
        }
        b.push(polynomial(points.iter().copied()));
        g.push(vec![0.0, 0.0, 1.0]);
        a[m - 1][n - 1] = 1.0;
        let abs = |matrix: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            matrix.into_iter().map(|row| row.into_iter().map(f64::abs).collect()).collect()
        };
        Sizes { a: abs(a), b: abs(b), g: abs(g) }
    }

    /// |M| |x| |M|^T for a tile x [side, side].
    fn both(matrix: &[Vec<f64>], x: &[f64], side: usize) -> Vec<f64> {
        let (rows, n) = (matrix.len(), side);
        let mut out = vec![0.0; rows * rows];
        for r in 0..rows {
            for c in 0..rows {
                let terms =
                    (0..n * n).map(|at| matrix[r][at / n] * matrix[c][at % n] * x[at].abs());
                out[r * rows + c] = terms.sum();
            }
        }
        out
    }
}

struct Case {
    size: (usize, usize),
    channels: usize,
    outputs: usize,
    x: Vec<f64>,
    gate: Vec<f64>,
    weights: Vec<f64>,
    third_taps: ThirdTapChannels,
}

impl Case {
    fn new<E: HasKernels>(
        (height, width, channels, outputs): (usize, usize, usize, usize),
    ) -> Self {
        let all = [0..channels, 0..channels];
        Case {
            third_taps: all,
            size: (height, width),
            channels,
            outputs,
            x: lab::numbers::<E>(height * width * channels, 1),
            gate: lab::numbers::<E>(channels, 2),
            weights: lab::numbers::<f32>(outputs * channels * 9, 3),
        }
    }

    /// The same case, but only the channels in `third_taps` have kernels with a third row or
    /// column.
    fn without(self, third_taps: ThirdTapChannels) -> Self {
        let mut weights = self.weights;
        for (at, kernel) in weights.chunks_exact_mut(9).enumerate() {
            let channel = at % self.channels;
            for (tap, weight) in kernel.iter_mut().enumerate() {
                let (row, column) = (tap / 3 == 2, tap % 3 == 2);
                if row && !third_taps[0].contains(&channel)
                    || column && !third_taps[1].contains(&channel)
                {
                    *weight = 0.0;
                }
            }
        }
        Case { weights, third_taps, ..self }
    }

    fn at(&self, y: isize, x: isize, c: usize) -> f64 {
        let (height, width) = (self.size.0 as isize, self.size.1 as isize);
        match (0..height).contains(&y) && (0..width).contains(&x) {
            true => self.x[(y * width + x) as usize * self.channels + c],
            false => 0.0,
        }
    }

    fn kernel(&self, output: usize, channel: usize) -> &[f64] {
        &self.weights[(output * self.channels + channel) * 9..][..9]
    }

    /// The convolution at a pixel, in float64.
    fn want(&self, y: usize, x: usize, output: usize, gated: bool) -> f64 {
        let terms = (0..self.channels * 9).map(|at| {
            let (c, tap) = (at / 9, at % 9);
            let (y, x) = ((y + tap / 3) as isize - 1, (x + tap % 3) as isize - 1);
            let gate = if gated { self.gate[c] } else { 1.0 };
            self.at(y, x, c) * gate * self.kernel(output, c)[tap]
        });
        terms.sum()
    }

    /// The magnitudes of what is summed for each pixel of an output tile.
    fn sizes(&self, tile: Tile, row: usize, column: usize, output: usize, s: &Sizes) -> Vec<f64> {
        let (m, n) = (tile.side(), tile.side() + 2);
        let mut planes = vec![0.0; n * n];
        for c in 0..self.channels {
            let patch: Vec<f64> = (0..n * n)
                .map(|at| {
                    let (y, x) = (row * m + at / n, column * m + at % n);
                    self.at(y as isize - 1, x as isize - 1, c)
                })
                .collect();
            let inputs = Sizes::both(&s.b, &patch, n);
            let weights = Sizes::both(&s.g, self.kernel(output, c), 3);
            planes.iter_mut().zip(inputs.iter().zip(&weights)).for_each(|(p, (i, w))| *p += i * w);
        }
        Sizes::both(&s.a, &planes, n)
    }
}

/// Runs a case and returns the maps [pixels, pitch] of the plain and of the gated convolution.
fn run<E: HasKernels>(
    kernels: &Kernels<E>,
    edge: Edge,
    tile: Tile,
    case: &Case,
) -> [lab::Guarded<E>; 2] {
    let (lanes, side) = (kernels.lanes, tile.side());
    let (pitch, width) =
        (case.channels.next_multiple_of(lanes), case.outputs.next_multiple_of(lanes));
    let (rows, columns) = (case.size.0.div_ceil(side), case.size.1.div_ceil(side));
    let tiles = rows * columns;
    let image = lab::stored::<E>(edge, &lab::spread(&case.x, case.channels, pitch));
    let gate = lab::stored::<E>(edge, &lab::spread(&case.gate, case.channels, pitch));
    let zeros = lab::stored::<E>(edge, &vec![0.0; pitch]);
    let [inputs, gated] = [0, 1].map(|_| lab::poisoned::<E>(edge, tile.planes() * tiles * pitch));
    let input = Input {
        tile,
        image: image.ptr(),
        pitch,
        size: case.size,
        vectors: pitch / lanes,
        zeros: zeros.ptr(),
        gate: gate.ptr(),
        out: inputs.mut_ptr(),
        gated: gated.mut_ptr(),
        tile_pitch: pitch,
        plane_pitch: tiles * pitch,
    };
    let shape = [case.channels, case.outputs];
    let packed =
        Planes::<E>::new(&mut Arena::default(), tile, shape, lanes, &case.third_taps, |o, c| {
            case.kernel(o, c).try_into().unwrap()
        });
    for at in 0..tiles {
        // SAFETY: the buffers have the sizes that `Input` asks for, between guard pages.
        unsafe { (kernels.winograd_input)(&input, at / columns, at % columns, at) };
    }
    [&inputs, &gated].map(|source| {
        let products = lab::poisoned::<f32>(edge, tile.planes() * tiles * width);
        for plane in 0..tile.planes() {
            // SAFETY: the buffers have the sizes that the kernel asks for, between guard pages.
            unsafe {
                let matrix = packed.planes[plane];
                let b = packed.data.as_ptr().add(matrix.offset);
                let a = source.ptr().add(plane * tiles * pitch + matrix.channel);
                let out = products.mut_ptr().add(plane * tiles * width);
                (kernels.gemm_planes)(&Gemm {
                    first: Operand::rows(a, pitch, matrix.k, b),
                    second: None,
                    rows: Rows::dense(tiles),
                    pixel: 0,
                    image_pixel: 0,
                    stream: true,
                    vectors: (0, packed.vectors),
                    epilogue: cpu::kernels::epilogue::Epilogue::store_only(out, width),
                });
            }
        }
        let out = lab::poisoned::<E>(edge, case.size.0 * case.size.1 * width);
        let output = Output {
            tile,
            products: products.ptr(),
            tile_pitch: width,
            plane_pitch: tiles * width,
            size: case.size,
            vectors: width / lanes,
            pixel: 0,
            epilogue: lab::plain_epilogue(&out, width),
        };
        for at in 0..tiles {
            // SAFETY: the buffers have the sizes that the kernel asks for, between guard pages.
            unsafe { (kernels.winograd_output)(&output, at / columns, at % columns, at) };
        }
        out
    })
}

fn check<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for tile in [Tile::F2, Tile::F4] {
        let sizes = Sizes::new(tile);
        for (shape, variant) in SHAPES.into_iter().flat_map(|s| [(s, 0), (s, 1), (s, 2)]) {
            let (channels, mut case) = (shape.2, Case::new::<E>(shape));
            match variant {
                0 => {}
                1 => case = case.without([0..channels / 2, channels / 3..channels.div_ceil(2) + 1]),
                _ => case = case.without([channels - 1..channels, 0..0]),
            }
            let (side, pixels) = (tile.side(), case.size.0 * case.size.1);
            // Transformed inputs and weights are rounded to the stored format, sums and outputs to
            // f32.
            let roundings = f64::from(f32::EPSILON) * (case.channels + 60) as f64;
            let each = roundings + if E::IS_F32 { 0.0 } else { 2.0 * lab::epsilon::<E>() };
            let want = |gated: bool| -> Vec<(f64, f64)> {
                let places = (0..pixels).flat_map(|p| (0..case.outputs).map(move |o| (p, o)));
                places
                    .map(|(p, o)| {
                        let (y, x) = (p / case.size.1, p % case.size.1);
                        let size = case.sizes(tile, y / side, x / side, o, &sizes);
                        let size = size[y % side * side + x % side];
                        let want = case.want(y, x, o, gated);
                        (want, each * size + lab::epsilon::<E>() * want.abs())
                    })
                    .collect()
            };
            let wants = [want(false), want(true)];
            for edge in EDGES {
                let [plain, gated] = run(kernels, edge, tile, &case);
                let what = format!("{name} {tile:?} {shape:?} {:?} {edge:?}", case.third_taps);
                let pitch = case.outputs.next_multiple_of(kernels.lanes);
                lab::compare(&what, &plain, &wants[0], case.outputs, pitch);
                lab::compare(&format!("{what} gated"), &gated, &wants[1], case.outputs, pitch);
            }
        }
    }
}

#[test]
fn both_tiles_agree_with_the_convolution_over_edge_shapes() {
    lab::each_isa::<f32>(check);
    lab::each_isa::<Bf16>(check);
}

/// Checks that NaN spreads at most to the tiles that read it, and that the result is NaN wherever
/// the convolution is.
fn special<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for tile in [Tile::F2, Tile::F4] {
        let mut case = Case::new::<E>((9, 10, 5, 17));
        case.x[(4 * 10 + 5) * 5 + 2] = f64::NAN;
        let [plain, _] = run(kernels, Edge::End, tile, &case);
        let pitch = case.outputs.next_multiple_of(kernels.lanes);
        for pixel in 0..90 {
            let (y, x) = (pixel / 10, pixel % 10);
            let got = plain.values()[pixel * pitch].to_f32();
            let side = tile.side();
            // Whether the tile of `at` reads the coordinate `to`.
            let reads = |at: usize, to: usize| {
                let first = at / side * side;
                (first..first + side + 2).contains(&(to + 1))
            };
            if case.want(y, x, 0, false).is_nan() {
                assert!(got.is_nan(), "{name} {tile:?} {y} {x}: {got}");
            } else if !(reads(y, 4) && reads(x, 5)) {
                assert!(got.is_finite(), "{name} {tile:?} {y} {x}: {got}");
            }
        }
    }
}

#[test]
fn nan_reaches_its_outputs_and_stays_in_the_tiles_that_read_it() {
    lab::each_isa::<f32>(special);
    lab::each_isa::<Bf16>(special);
}
