//! Tests of import, bands, depthwise convolution, max-pool and mean.

use cpu::element::Bf16;
use cpu::isa::{HasKernels, Kernels};
use cpu::kernels::import::{CELL, Import};
use cpu::kernels::spatial::{Band, Depthwise, Image, MaxPool, Mean};
use cpu::pack::grouped;

use crate::lab::{self, EDGES, Edge};

/// Height, width, channels.
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (2, 2, 3), (3, 5, 19), (9, 4, 8), (16, 17, 33), (7, 7, 16)];

fn image<E: HasKernels>(
    edge: Edge,
    values: &[f64],
    (height, width, channels): (usize, usize, usize),
    lanes: usize,
) -> (lab::Guarded<E>, Image<E>) {
    let pitch = channels.next_multiple_of(lanes);
    let memory = lab::stored::<E>(edge, &lab::spread(values, channels, pitch));
    let image = Image { data: memory.ptr(), pitch, size: (height, width) };
    (memory, image)
}

/// Checks every element of a band, with and without border and gate.
fn bands<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for edge in EDGES {
        for shape in SHAPES {
            let (height, width, channels) = shape;
            let x = lab::numbers::<E>(height * width * channels, 1);
            let gates = lab::numbers::<E>(channels, 2);
            let (_memory, image) = image::<E>(edge, &x, shape, kernels.lanes);
            let gate = lab::stored::<E>(edge, &lab::spread(&gates, channels, image.pitch));
            for (border, gated) in [(0, true), (1, false), (1, true), (3, false)] {
                for lines in [(0, height), (height / 2, height), (0, height.div_ceil(2))] {
                    let inner = grouped::<E>(channels);
                    let line = width + 2 * border;
                    let pixels = (lines.1 - lines.0 + 2 * border) * line;
                    // One vector more, because the last copy may write beyond the band.
                    let out = lab::poisoned::<E>(edge, pixels * inner + 16);
                    let band = Band {
                        image,
                        channels: inner,
                        border,
                        gate: if gated { gate.ptr() } else { std::ptr::null() },
                        lines,
                        out: out.mut_ptr(),
                    };
                    // SAFETY: the buffers have the sizes that `Band` asks for, between guard pages.
                    unsafe { (kernels.band)(&band) };
                    for at in 0..pixels * channels {
                        let (pixel, c) = (at / channels, at % channels);
                        let inside = |at: usize, end| at.checked_sub(border).filter(|at| *at < end);
                        let y = inside(lines.0 + pixel / line, height);
                        let value = match (y, inside(pixel % line, width)) {
                            (Some(y), Some(x0)) => x[(y * width + x0) * channels + c],
                            _ => 0.0,
                        };
                        let want = if gated { (value * gates[c]) as f32 } else { value as f32 };
                        let want = E::from_f32(want).to_f32();
                        let got = out.values()[pixel * inner + c].to_f32();
                        let what = format!("{name} {edge:?} {shape:?} {border} {lines:?} {pixel}");
                        assert!(got == want, "{what} channel {c}: got {got}, expected {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_band_holds_the_map_with_a_border() {
    lab::each_isa::<f32>(bands);
    lab::each_isa::<Bf16>(bands);
}

fn depthwise<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for edge in EDGES {
        for shape in SHAPES.into_iter().filter(|s| s.0 > 1 && s.1 > 1) {
            let (height, width, channels) = shape;
            let x = lab::numbers::<E>(height * width * channels, 1);
            let w = lab::numbers::<f32>(4 * channels, 2);
            let (_memory, image) = image::<E>(edge, &x, shape, kernels.lanes);
            let weights = lab::wide(edge, &lab::spread(&w, channels, image.pitch));
            let (oh, ow) = (height / 2, width / 2);
            let out = lab::poisoned::<E>(edge, oh * ow * image.pitch);
            let step = Depthwise {
                image,
                weights: weights.ptr(),
                rows: (0, oh),
                width: ow,
                pixel: 0,
                vectors: image.pitch / kernels.lanes,
                epilogue: lab::plain_epilogue(&out, image.pitch),
            };
            // SAFETY: the buffers have the sizes that `Depthwise` asks for, between guard pages.
            unsafe { (kernels.depthwise)(&step) };
            let places = (0..oh * ow).flat_map(|p| (0..channels).map(move |c| (p, c)));
            let want: Vec<(f64, f64)> = places
                .map(|(p, c)| {
                    let term = |tap: usize| {
                        let at = (p / ow * 2 + tap / 2) * width + p % ow * 2 + tap % 2;
                        x[at * channels + c] * w[tap * channels + c]
                    };
                    let sum: f64 = (0..4).map(term).sum();
                    let size = (0..4).map(|tap| term(tap).abs()).sum();
                    (sum, lab::allowed::<E>(4, size, sum))
                })
                .collect();
            lab::compare(&format!("{name} {edge:?} {shape:?}"), &out, &want, channels, image.pitch);
        }
    }
}

#[test]
fn depthwise_sums_four_pixels_of_each_channel() {
    lab::each_isa::<f32>(depthwise);
    lab::each_isa::<Bf16>(depthwise);
}

fn pools<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for edge in EDGES {
        for shape in SHAPES {
            let (height, width, channels) = shape;
            let mut x = lab::numbers::<E>(height * width * channels, 1);
            x[0] = f64::INFINITY;
            let middle = x.len() / 2;
            x[middle] = f64::NAN;
            let (_memory, image) = image::<E>(edge, &x, shape, kernels.lanes);
            let (oh, ow) = (height.div_ceil(2), width.div_ceil(2));
            let out = lab::poisoned::<E>(edge, oh * ow * image.pitch);
            let step = MaxPool {
                image,
                rows: (0, oh),
                width: ow,
                vectors: image.pitch / kernels.lanes,
                out: out.mut_ptr(),
            };
            // SAFETY: the buffers have the sizes that `MaxPool` asks for, between guard pages.
            unsafe { (kernels.max_pool)(&step) };
            let places = (0..oh * ow).flat_map(|p| (0..channels).map(move |c| (p, c)));
            let want: Vec<(f64, f64)> = places
                .map(|(p, c)| {
                    let mut most = 0.0f64;
                    for y in (2 * (p / ow)).saturating_sub(1)..(2 * (p / ow) + 2).min(height) {
                        for at in (2 * (p % ow)).saturating_sub(1)..(2 * (p % ow) + 2).min(width) {
                            let v = x[(y * width + at) * channels + c];
                            most = if v.is_nan() || most.is_nan() { f64::NAN } else { most.max(v) };
                        }
                    }
                    (most, 0.0)
                })
                .collect();
            lab::compare(&format!("{name} {edge:?} {shape:?}"), &out, &want, channels, image.pitch);
        }
    }
}

#[test]
fn max_pool_takes_the_maximum_of_nine_pixels_and_zero_and_keeps_nan() {
    lab::each_isa::<f32>(pools);
    lab::each_isa::<Bf16>(pools);
}

fn means<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for edge in EDGES {
        for shape in SHAPES {
            let (height, width, channels) = shape;
            let pixels = height * width;
            let x = lab::numbers::<E>(pixels * channels, 1);
            let (_memory, image) = image::<E>(edge, &x, shape, kernels.lanes);
            let out = lab::poisoned::<E>(edge, image.pitch);
            let vectors = (0, image.pitch / kernels.lanes);
            // SAFETY: the buffers have the sizes that `Mean` asks for, between guard pages.
            unsafe { (kernels.mean)(&Mean { image, vectors, out: out.mut_ptr() }) };
            let want: Vec<(f64, f64)> = (0..channels)
                .map(|c| {
                    let all = (0..pixels).map(|p| x[p * channels + c]);
                    let size = all.clone().map(f64::abs).sum::<f64>() / pixels as f64;
                    let mean = all.sum::<f64>() / pixels as f64;
                    (mean, lab::allowed::<E>(pixels, size, mean))
                })
                .collect();
            lab::compare(&format!("{name} {edge:?} {shape:?}"), &out, &want, channels, image.pitch);
        }
    }
}

#[test]
fn mean_agrees_with_float64() {
    lab::each_isa::<f32>(means);
    lab::each_isa::<Bf16>(means);
}

fn imports<E: HasKernels>(name: &str, kernels: &Kernels<E>) {
    for edge in EDGES {
        for (height, width, planes) in SHAPES {
            let values = lab::numbers::<f32>(planes * height * width, 1);
            let clip = lab::wide(edge, &values);
            let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
            let pitch = (4 * planes).next_multiple_of(kernels.lanes);
            let out = lab::poisoned::<E>(edge, rows * columns * pitch);
            let step = Import {
                clip: clip.ptr(),
                planes,
                size: (height, width),
                rows: (0, rows),
                out: out.mut_ptr(),
                pitch,
            };
            // SAFETY: the buffers have the sizes that `Import` asks for, between guard pages.
            unsafe { (kernels.import)(&step) };
            let places = (0..rows * columns).flat_map(|p| (0..4 * planes).map(move |c| (p, c)));
            let want: Vec<(f64, f64)> = places
                .map(|(p, c)| {
                    let ((dy, dx), plane) = (CELL[c / planes], c % planes);
                    let (y, x) = (p / columns * 2 + dy, p % columns * 2 + dx);
                    let inside = y < height && x < width;
                    let value = if inside { values[(plane * height + y) * width + x] } else { 0.0 };
                    (f64::from(E::from_f32(value as f32).to_f32()), 0.0)
                })
                .collect();
            let what = format!("{name} {edge:?} {height}x{width}x{planes}");
            lab::compare(&what, &out, &want, 4 * planes, pitch);
        }
    }
}

#[test]
fn import_puts_every_pixel_into_its_cell() {
    lab::each_isa::<f32>(imports);
    lab::each_isa::<Bf16>(imports);
}
