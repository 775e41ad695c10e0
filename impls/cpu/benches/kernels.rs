//! Benchmarks of each kernel of each instruction set, with shapes of the default model:
//! `cargo bench -p cpu`, or `cargo bench -p cpu -- avx512/gemm`.

#![allow(unsafe_code, reason = "calls kernels")]

use std::time::Duration;

use cpu::Isa;
use cpu::element::{Bf16, Element};
use cpu::isa::{HasKernels, Kernels};
use cpu::kernels::epilogue::Epilogue;
use cpu::kernels::gemm::{Gemm, Operand, Rows};
use cpu::kernels::import::Import;
use cpu::kernels::spatial::{Band, Depthwise, Image, MaxPool, Mean};
use cpu::kernels::winograd::{Input, Output, Tile};
use cpu::memory::Arena;
use cpu::pack::Packed;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use lower::{Activation, Stage};

/// Height and width of a map of stage 2.
const SIDE: usize = 28;
/// Channels of a map of stage 2.
const CHANNELS: usize = 128;
const PIXELS: usize = SIDE * SIDE;

/// Height and width of the imported clip.
const CLIP: usize = 112;
/// Planes of the imported clip, 3 T.
const PLANES: usize = 48;

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn values<E: Element>(count: usize) -> Vec<E> {
    let value = |at: usize| ((at.wrapping_mul(2_654_435_761) >> 7) % 1000) as f32 / 1000.0 - 0.5;
    (0..count).map(|at| E::from_f32(value(at))).collect()
}

fn epilogue<E: Element>(out: &mut [E], bias: &[f32]) -> Epilogue<E> {
    Epilogue {
        to: Stage::End,
        bias: bias.as_ptr(),
        activation: Activation::Relu,
        ..Epilogue::store_only(out.as_mut_ptr(), CHANNELS)
    }
}

fn products<E: HasKernels>(group: &mut Group<'_>, kernels: &Kernels<E>) {
    let a = values::<E>(PIXELS * CHANNELS);
    let (mut out, bias) = (values::<E>(PIXELS * CHANNELS), values::<f32>(CHANNELS));
    let shape = [CHANNELS, CHANNELS];
    let packed = Packed::<E>::matrix(&mut Arena::default(), shape, kernels.lanes, |o, c| {
        (o * 7 + c) as f64 * 1e-5
    });
    let gemm = Gemm {
        first: Operand::rows(a.as_ptr(), CHANNELS, packed.k, packed.data.as_ptr()),
        second: None,
        rows: Rows::dense(PIXELS),
        pixel: 0,
        image_pixel: 0,
        stream: false,
        vectors: (0, packed.vectors),
        epilogue: epilogue(&mut out, &bias),
    };
    group.throughput(Throughput::Elements(2 * (PIXELS * CHANNELS * CHANNELS) as u64));
    // SAFETY: the buffers have the sizes that `Gemm` asks for and outlive the closure.
    group.bench_function("gemm", |b| b.iter(|| unsafe { (kernels.gemm)(&gemm) }));
}

fn transforms<E: HasKernels>(group: &mut Group<'_>, kernels: &Kernels<E>) {
    let tile = Tile::F4;
    let image = values::<E>(PIXELS * CHANNELS);
    let (side, planes) = (SIDE.div_ceil(tile.side()), tile.planes());
    let tiles = side * side;
    let (zeros, gate) = (vec![E::default(); CHANNELS], values::<E>(CHANNELS));
    let mut inputs = values::<E>(planes * tiles * CHANNELS);
    let mut gated = inputs.clone();
    let input = Input {
        tile,
        image: image.as_ptr(),
        pitch: CHANNELS,
        size: (SIDE, SIDE),
        vectors: CHANNELS / kernels.lanes,
        zeros: zeros.as_ptr(),
        gate: gate.as_ptr(),
        out: inputs.as_mut_ptr(),
        gated: gated.as_mut_ptr(),
        tile_pitch: CHANNELS,
        plane_pitch: tiles * CHANNELS,
    };
    let products = values::<f32>(planes * tiles * CHANNELS);
    let (mut out, bias) = (values::<E>(PIXELS * CHANNELS), values::<f32>(CHANNELS));
    let output = Output {
        tile,
        products: products.as_ptr(),
        tile_pitch: CHANNELS,
        plane_pitch: tiles * CHANNELS,
        size: (SIDE, SIDE),
        vectors: CHANNELS / kernels.lanes,
        pixel: 0,
        epilogue: epilogue(&mut out, &bias),
    };
    group.throughput(Throughput::Bytes((PIXELS * CHANNELS * size_of::<E>()) as u64));
    group.bench_function("winograd input", |b| {
        b.iter(|| {
            for at in 0..tiles {
                // SAFETY: the buffers have the sizes that the kernel asks for and outlive the
                // closure.
                unsafe { (kernels.winograd_input)(&input, at / side, at % side, at) }
            }
        });
    });
    group.bench_function("winograd output", |b| {
        b.iter(|| {
            for at in 0..tiles {
                // SAFETY: the buffers have the sizes that the kernel asks for and outlive the
                // closure.
                unsafe { (kernels.winograd_output)(&output, at / side, at % side, at) }
            }
        });
    });
}

fn maps<E: HasKernels>(group: &mut Group<'_>, kernels: &Kernels<E>) {
    let data = values::<E>(PIXELS * CHANNELS);
    let image = Image { data: data.as_ptr(), pitch: CHANNELS, size: (SIDE, SIDE) };
    let (gate, weights) = (values::<E>(CHANNELS), values::<f32>(4 * CHANNELS));
    let (mut out, bias) = (values::<E>(PIXELS * CHANNELS), values::<f32>(CHANNELS));
    let vectors = CHANNELS / kernels.lanes;
    let mut lines = values::<E>((SIDE + 6) * (SIDE + 6) * CHANNELS + 16);
    let band = Band {
        image,
        channels: CHANNELS,
        border: 3,
        gate: gate.as_ptr(),
        lines: (0, SIDE),
        out: lines.as_mut_ptr(),
    };
    group.throughput(Throughput::Bytes((PIXELS * CHANNELS * size_of::<E>()) as u64));
    // SAFETY: the buffers have the sizes that `Band` asks for and outlive the closure.
    group.bench_function("band 7x7", |b| b.iter(|| unsafe { (kernels.band)(&band) }));
    let depthwise = Depthwise {
        image,
        weights: weights.as_ptr(),
        rows: (0, SIDE / 2),
        width: SIDE / 2,
        pixel: 0,
        vectors,
        epilogue: epilogue(&mut out, &bias),
    };
    // SAFETY: the buffers have the sizes that the kernel asks for and outlive the closure.
    group.bench_function("depthwise", |b| b.iter(|| unsafe { (kernels.depthwise)(&depthwise) }));
    let out = out.as_mut_ptr();
    let pool = MaxPool { image, rows: (0, SIDE / 2), width: SIDE / 2, vectors, out };
    // SAFETY: the buffers have the sizes that the kernel asks for and outlive the closure.
    group.bench_function("max-pool", |b| b.iter(|| unsafe { (kernels.max_pool)(&pool) }));
    let mean = Mean { image, vectors: (0, vectors), out };
    // SAFETY: the buffers have the sizes that the kernel asks for and outlive the closure.
    group.bench_function("mean", |b| b.iter(|| unsafe { (kernels.mean)(&mean) }));
}

fn import<E: HasKernels>(group: &mut Group<'_>, kernels: &Kernels<E>) {
    let clip = values::<f32>(PLANES * CLIP * CLIP);
    let mut out = values::<E>(CLIP * CLIP * PLANES);
    let import = Import {
        clip: clip.as_ptr(),
        planes: PLANES,
        size: (CLIP, CLIP),
        rows: (0, CLIP / 2),
        out: out.as_mut_ptr(),
        pitch: 4 * PLANES,
    };
    group.throughput(Throughput::Bytes((PLANES * CLIP * CLIP * 4) as u64));
    // SAFETY: the buffers have the sizes that the kernel asks for and outlive the closure.
    group.bench_function("import", |b| b.iter(|| unsafe { (kernels.import)(&import) }));
}

fn format<E: HasKernels>(criterion: &mut Criterion, name: &str) {
    for isa in Isa::ALL {
        let Some(detected) = isa.detect() else {
            skip::skip!(Isa, "this processor has no {isa}");
            continue;
        };
        let kernels = E::kernels(detected);
        let mut group = criterion.benchmark_group(format!("{name}/{isa}"));
        products(&mut group, &kernels);
        transforms(&mut group, &kernels);
        maps(&mut group, &kernels);
        import(&mut group, &kernels);
        group.finish();
    }
}

fn kernels(criterion: &mut Criterion) {
    format::<f32>(criterion, "f32");
    format::<Bf16>(criterion, "bf16");
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    targets = kernels
}
criterion_main!(benches);
