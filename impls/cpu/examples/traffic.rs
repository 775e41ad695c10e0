//! An estimate for the matrix unit on one core of a Sapphire Rapids Xeon: for each kind of step of the
//! default network in bfloat16, what the unit and the vector instructions read from which cache, and
//! the time that follows if everything overlaps. It runs on any machine, in ten seconds:
//!
//! ```text
//! cargo run --release -p cpu --example traffic
//! ```
//!
//! The caches are simulated ([`cpu::simd::traffic`]) and empty at first. The other constants, for one
//! core:
//!
//! - 16 cycles of the unit for a product of full tiles, 2 vector operations and 2 lines from the L1
//!   cache in a cycle, 48 bytes in a cycle from the L2 cache: Intel's optimization manual.
//! - The clock is the measured peak of that machine (2,715 GFLOP/s) over 1,024 operations in a cycle:
//!   2.65 GHz.
//! - Beyond the L2 cache 12 GB/s, which is an assumption: the L3 cache is not simulated.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkpoint::{Weights, formula};
use cpu::element::Bf16;
use cpu::simd::traffic::{LINE, Traffic};
use cpu::{Cpu, Isa, Options};
use spec::{Config, Model, Tensor};

const OPERATIONS_PER_CYCLE: f64 = 2.0;
const HERTZ: f64 = 2.65e9;
const L1_LINES_PER_CYCLE: f64 = 2.0;
const L2_BYTES_PER_CYCLE: f64 = 48.0;
const MEMORY_BYTES_PER_SECOND: f64 = 12e9;

/// The limits of a kind of step, each in seconds.
#[derive(Default, Clone, Copy)]
struct Limits {
    macs: u64,
    unit: f64,
    vectors: f64,
    near: f64,
    far: f64,
    memory: f64,
    /// The sum over the steps of the largest limit of each.
    estimate: f64,
}

impl Limits {
    fn add(&mut self, macs: u64, t: &Traffic) {
        let lines = |level: usize| (t.tiles[level] + t.vectors[level]) as f64;
        let bytes = |level: usize| lines(level) * LINE as f64;
        let all: f64 = (0..3).map(lines).sum();
        let limits = [
            t.unit_cycles as f64 / HERTZ,
            t.operations as f64 / OPERATIONS_PER_CYCLE / HERTZ,
            all / L1_LINES_PER_CYCLE / HERTZ,
            (bytes(1) + bytes(2)) / L2_BYTES_PER_CYCLE / HERTZ,
            bytes(2) / MEMORY_BYTES_PER_SECOND,
        ];
        self.macs += macs;
        let sums =
            [&mut self.unit, &mut self.vectors, &mut self.near, &mut self.far, &mut self.memory];
        sums.into_iter().zip(limits).for_each(|(sum, limit)| *sum += limit);
        self.estimate += limits.into_iter().fold(0.0, f64::max);
    }

    fn print(&self, kind: &str) {
        let limits = [self.unit, self.vectors, self.near, self.far, self.memory, self.estimate];
        let ms = limits.map(|seconds| seconds * 1e3);
        let rate = 2e-9 * self.macs as f64 / self.estimate;
        print!("{kind:20}");
        ms.iter().for_each(|ms| print!("{ms:9.3}"));
        println!("{rate:9.0}");
    }
}

fn main() {
    let model = Arc::new(Model::new(Config::default()).expect("the default model is valid"));
    let weights = Weights::formula(model.parameters(), 0);
    let shape = model.input_shape(1);
    let input = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
    let options = Options { threads: 1, isa: Some(Isa::AmxEmulated), ..Options::default() };
    let mut engine = Cpu::<Bf16>::new(model, weights, options).expect("the engine loads");
    let traffic = engine.traffic(&input).expect("the forward pass succeeds");
    let mut kinds: BTreeMap<&str, Limits> = BTreeMap::new();
    let mut all = Limits::default();
    for (kind, macs, traffic) in traffic {
        kinds.entry(kind).or_default().add(macs, &traffic);
        all.add(macs, &traffic);
    }
    println!("Limits in ms; the estimate sums the largest limit of each step.\n");
    println!("kind                     unit   vector       L1       L2   memory estimate  GFLOP/s");
    kinds.iter().for_each(|(kind, limits)| limits.print(kind));
    all.print("all");
}
