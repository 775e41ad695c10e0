//! Our own engines as contestants (`harness bench-worker`); [`super::contestant`] describes the protocol.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result};
use ndarray::ArrayD;
use record::LayerTime;
use serde::Deserialize;
use serde_json::{Value, json};
use spec::{Engine, Ignore, StepTime, Tensor};
use video::normalize;

use super::args::WorkerArgs;
use crate::eval::engine::NamedEngine;
use crate::flags::{DeviceArgs, EngineName};
use crate::outcome::Outcome;
use crate::{engines, models};

/// A command on stdin.
#[derive(Deserialize)]
struct Request {
    cmd: String,
    #[serde(default)]
    n: usize,
    #[serde(default)]
    path: String,
}

/// The mean time of each layer over `n` runs.
fn profile(engine: &mut dyn Engine, input: &Tensor, n: usize) -> Result<Vec<LayerTime>> {
    let engine = engine.as_profile().context("only the engines cpu and cuda have a profile")?;
    let mut layers: Vec<LayerTime> = vec![];
    for round in 0..n {
        for (at, step) in engine.profile(input)?.into_iter().enumerate() {
            let ms = 1e3 * step.seconds / n as f64;
            if round == 0 {
                layers.push(layer(step));
            }
            layers[at].ms += ms;
        }
    }
    Ok(layers)
}

/// A step as a layer of the record, without its time.
fn layer(step: StepTime) -> LayerTime {
    LayerTime {
        name: step.name,
        kind: step.kind.to_owned(),
        ms: 0.0,
        gflop: Some(2.0 * step.macs as f64 / 1e9),
        mb: Some(step.bytes as f64 / 1e6),
        predicted_ms: step.predicted.map(|seconds| 1e3 * seconds),
    }
}

/// Serves commands until stdin ends.
pub fn run(args: &WorkerArgs) -> Result<Outcome> {
    if let Err(error) = serve(args) {
        answer(json!({ "error": format!("{error:#}") }));
        return Err(error);
    }
    Ok(Outcome::Passed)
}

/// Why an engine does not support the arguments by design, which is not a failure of the bench.
fn unsupported(args: &WorkerArgs) -> Option<String> {
    let WorkerArgs { engine, precision, .. } = args;
    if *engine == EngineName::Torch && engines::libtorch::VERSION.is_none() {
        return Some("this harness was built without libtorch".to_owned());
    }
    let precisions = engines::precisions(*engine)?;
    let names: Vec<String> = precisions.iter().map(ToString::to_string).collect();
    let why =
        format!("the engine `{engine}` computes in {}, not in {precision}", names.join(" or "));
    (!precisions.contains(precision)).then_some(why)
}

fn serve(args: &WorkerArgs) -> Result<()> {
    if let Some(why) = unsupported(args) {
        answer(json!({ "error": why, "unsupported": true }));
        return Ok(());
    }
    let clip: ArrayD<f32> = ndarray_npy::read_npy(&args.input)
        .with_context(|| format!("{}: cannot be read", args.input.display()))?;
    let input = Tensor::f32(clip.shape().to_vec(), clip.into_raw_vec_and_offset().0);
    let on = DeviceArgs { device: args.device, threads: args.threads, isa: args.isa };
    let device = engines::open_device(&on)?;
    // Reading the weights and keeping them in memory counts as loading, as it does for the peers.
    let before = resident("VmRSS:");
    let start = Instant::now();
    let (model, weights) = models::load_model(&args.model, &args.weights)?;
    let engine = engines::load(args.engine, model, &weights, args.precision, device)?;
    let mut engine = NamedEngine::new(args.engine.to_string(), engine);
    let load_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut output = engine.engine.forward(&input, &mut Ignore)?;
    let mut frames: Option<([usize; 4], Vec<u8>)> = None;
    let first_s = start.elapsed().as_secs_f64();
    let versions = engines::versions();
    let program = if args.engine == EngineName::Torch { "libtorch" } else { "harness" };
    let version = versions.get(program);
    answer(json!({"ready": true, "name": args.engine.name(), "version": version,
                  "load_s": load_s, "first_s": first_s}));
    for line in std::io::stdin().lock().lines() {
        let ask: Request =
            serde_json::from_str(&line?).context("a command on stdin is not valid JSON")?;
        match ask.cmd.as_str() {
            "run" => {
                let mut seconds = vec![];
                for _ in 0..ask.n {
                    let (last, time) = engine.engine.timed(&input)?;
                    output = last;
                    seconds.push(time);
                }
                answer(json!({ "seconds": seconds }));
            }
            "bytes" => {
                let (shape, bytes) = frames.get_or_insert_with(|| bytes_of(&input));
                let mut seconds = vec![];
                for _ in 0..ask.n {
                    let start = Instant::now();
                    output = engine.run(*shape, bytes)?;
                    seconds.push(start.elapsed().as_secs_f64());
                }
                answer(json!({ "seconds": seconds }));
            }
            "output" => {
                let values = ArrayD::from_shape_vec(output.shape.clone(), output.to_f32())?;
                ndarray_npy::write_npy(&ask.path, &values)?;
                answer(json!({ "written": ask.path }));
            }
            "memory" => {
                let peak = resident("VmHWM:").saturating_sub(before);
                answer(json!({ "peak_bytes": peak }));
            }
            "profile" => match profile(engine.engine.as_mut(), &input, ask.n.max(1)) {
                Ok(layers) => answer(json!({ "layers": layers })),
                Err(error) => answer(json!({ "error": error.to_string() })),
            },
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// The frames [N, T, H, W, 3] from which a clip [N, 3, T, H, W] was normalised, and N, T, H and W.
fn bytes_of(clip: &Tensor) -> ([usize; 4], Vec<u8>) {
    let [n, t, h, w] = [0, 2, 3, 4].map(|axis| clip.shape[axis]);
    let (values, view) = (clip.to_f32(), t * h * w);
    let mut bytes = Vec::with_capacity(values.len());
    for at in 0..n * view {
        for colour in 0..3 {
            let value = values[(at / view * 3 + colour) * view + at % view];
            let byte = value * normalize::STD[colour] + normalize::MEAN[colour];
            bytes.push(byte.round() as u8);
        }
    }
    ([n, t, h, w], bytes)
}

fn answer(what: Value) {
    crate::publish::print_line(&what.to_string());
}

/// A memory size of this process, such as `VmRSS:`, in bytes; 0 if the system does not tell it.
fn resident(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
