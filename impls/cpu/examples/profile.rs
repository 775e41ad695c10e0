//! Measures the time of each kind of step of the engine:
//!
//! ```text
//! cargo run --release -p cpu --example profile -- PRECISION BATCH THREADS [ISA] [detailed]
//! ```
//!
//! For example, `f32 1 2` runs one clip in f32 on two threads. With `detailed`, times are listed for
//! each stage and algorithm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use checkpoint::{Weights, formula};
use cpu::element::Bf16;
use cpu::engine::Format;
use cpu::{Cpu, Isa, Options};
use spec::{Config, Engine, Ignore, Model, Profile, Tensor};

fn main() {
    let mut words = std::env::args().skip(1);
    let precision = words.next().unwrap_or_else(|| "f32".into());
    let mut number = || words.next().and_then(|w| w.parse().ok()).unwrap_or(1);
    let (batch, threads) = (number(), number());
    let isa: Option<Isa> = words.next().and_then(|w| w.parse().ok());
    let options = Options { threads, isa, ..Options::default() };
    match precision.as_str() {
        "bf16" => run::<Bf16>(batch, options),
        _ => run::<f32>(batch, options),
    }
}

fn run<E: Format>(batch: usize, options: Options) {
    let model = Arc::new(Model::new(Config::default()).expect("the default model is valid"));
    let start = Instant::now();
    let weights = Weights::formula(model.parameters(), 0);
    println!("weights: {:.3} s", start.elapsed().as_secs_f64());
    let shape = model.input_shape(batch);
    let input = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
    let start = Instant::now();
    let mut engine = Cpu::<E>::new(model, weights, options).expect("the engine loads");
    println!("{}: loaded in {:.3} s", engine.describe(), start.elapsed().as_secs_f64());
    let start = Instant::now();
    engine.forward(&input, &mut Ignore).expect("the forward pass succeeds");
    println!("first run: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    let mut times = vec![];
    for _ in 0..30 {
        let start = Instant::now();
        engine.forward(&input, &mut Ignore).expect("the forward pass succeeds");
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("median {:.2} ms, min {:.2} ms, max {:.2} ms", times[15], times[0], times[29]);
    let detailed = std::env::args().any(|word| word == "detailed");
    let runs: Vec<_> =
        (0..15).map(|_| engine.profile(&input).expect("the forward pass succeeds")).collect();
    let mut kinds: BTreeMap<String, (f64, u64)> = BTreeMap::new();
    let algorithms: Vec<_> = engine.steps().map(|(_, _, algorithm)| algorithm).collect();
    for (at, step) in runs[0].iter().enumerate() {
        let mut seconds: Vec<f64> = runs.iter().map(|run| run[at].seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let stage = step.name.split('.').next().unwrap_or("");
        let key = match detailed {
            true => format!("{stage} {} {}", step.kind, algorithms[at]),
            false => step.kind.to_owned(),
        };
        let entry = kinds.entry(key).or_default();
        entry.0 += seconds[7] * 1e3;
        entry.1 += step.macs;
    }
    for (kind, (ms, macs)) in kinds {
        println!("{ms:8.3} ms {:7.1} GFLOP/s  {kind}", macs as f64 * 2.0 / ms / 1e6);
    }
}
