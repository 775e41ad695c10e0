//! Our own engines as contestants (`harness bench-worker`); [`super::contestant`] has the protocol.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ndarray::ArrayD;
use reports::record::LayerTime;
use serde::Deserialize;
use serde_json::{Value, json};
use spec::weights::Weights;
use spec::{Engine, Ignore, Model, Precision, Tensor};

use super::args::WorkerArgs;
use crate::Outcome;

#[derive(Deserialize)]
struct Ask {
    cmd: String,
    #[serde(default)]
    n: usize,
    #[serde(default)]
    path: String,
}

/// The engine, with what only `cpu` has.
enum Loaded {
    F32(Box<cpu::Cpu<f32>>),
    Bf16(Box<cpu::Cpu<cpu::element::Bf16>>),
    Other(Box<dyn Engine>),
}

impl Loaded {
    fn new(args: &WorkerArgs, model: Arc<Model>, weights: &Weights) -> Result<Self> {
        if args.engine == "cpu" {
            let (isa, threads) = (args.isa, args.threads);
            let options = cpu::Options { isa, threads, ..cpu::Options::default() };
            return Ok(match args.precision {
                Precision::F32 => Loaded::F32(Box::new(cpu::Cpu::new(model, weights, options)?)),
                Precision::Bf16 => Loaded::Bf16(Box::new(cpu::Cpu::new(model, weights, options)?)),
                Precision::F64 => bail!("the engine cpu computes in f32 or bf16"),
            });
        }
        let on = crate::cli::DeviceArgs {
            device: "cpu".to_owned(),
            threads: args.threads,
            isa: args.isa,
        };
        let device = crate::engines::open_device(&on)?;
        let engine = args.engine.parse().map_err(anyhow::Error::msg)?;
        let model = (*model).clone();
        let engine = crate::engines::load(&engine, model, weights, args.precision, device)?;
        Ok(Loaded::Other(engine))
    }

    fn run(&mut self, input: &Tensor) -> Result<Tensor> {
        let engine: &mut dyn Engine = match self {
            Loaded::F32(engine) => engine.as_mut(),
            Loaded::Bf16(engine) => engine.as_mut(),
            Loaded::Other(engine) => engine.as_mut(),
        };
        Ok(engine.forward(input, &mut Ignore)?)
    }

    fn profile(&mut self, input: &Tensor, n: usize) -> Result<Vec<LayerTime>> {
        let mut layers: Vec<LayerTime> = vec![];
        for round in 0..n {
            let timed = match self {
                Loaded::F32(engine) => engine.profile(input)?,
                Loaded::Bf16(engine) => engine.profile(input)?,
                Loaded::Other(_) => bail!("this engine has no profile"),
            };
            for (at, step) in timed.into_iter().enumerate() {
                if round == 0 {
                    layers.push(LayerTime {
                        name: step.name,
                        kind: step.kind.to_owned(),
                        ms: 0.0,
                        gflop: Some(2.0 * step.macs as f64 / 1e9),
                        mb: Some(step.bytes as f64 / 1e6),
                    });
                }
                layers[at].ms += step.seconds * 1e3 / n as f64;
            }
        }
        Ok(layers)
    }
}

/// Runs the worker until its input ends.
pub fn run(args: &WorkerArgs) -> Result<Outcome> {
    if let Err(error) = serve(args) {
        answer(json!({ "error": format!("{error:#}") }));
        return Err(error);
    }
    Ok(Outcome::Passed)
}

/// What an engine cannot do by design, which is no failure of a bench.
fn unsupported(args: &WorkerArgs) -> Option<String> {
    match (args.engine.as_str(), args.precision) {
        ("scalar", Precision::Bf16) => {
            Some("the engine `scalar` computes in f32 or f64, not in bf16".to_owned())
        }
        ("torch", _) if cfg!(not(feature = "libtorch")) => {
            Some("this harness was built without libtorch".to_owned())
        }
        _ => None,
    }
}

fn serve(args: &WorkerArgs) -> Result<()> {
    if let Some(why) = unsupported(args) {
        answer(json!({ "error": why, "unsupported": true }));
        return Ok(());
    }
    let clip: ArrayD<f32> = ndarray_npy::read_npy(&args.input)
        .with_context(|| format!("{}: cannot be read", args.input.display()))?;
    let input = Tensor::f32(clip.shape().to_vec(), clip.into_raw_vec_and_offset().0);
    // Reading and holding the weights belongs to loading, as it does with the other runtimes.
    let before = resident("VmRSS:");
    let start = Instant::now();
    let (model, weights) = crate::commands::model_and_weights(&args.model, &args.weights)?;
    let mut engine = Loaded::new(args, Arc::new(model), &weights)?;
    drop(weights);
    let load_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut output = engine.run(&input)?;
    let first_s = start.elapsed().as_secs_f64();
    let versions: BTreeMap<String, String> = crate::engines::versions();
    let version = match args.engine.as_str() {
        "torch" => versions.get("libtorch"),
        _ => versions.get("harness"),
    };
    answer(json!({"ready": true, "name": args.engine, "version": version,
                  "load_s": load_s, "first_s": first_s}));
    for line in std::io::stdin().lock().lines() {
        let ask: Ask = serde_json::from_str(&line?).context("a command is no JSON object")?;
        match ask.cmd.as_str() {
            "run" => {
                let mut seconds = vec![];
                for _ in 0..ask.n {
                    // `torch` copies the clip into a tensor of its own in here as it does
                    // wherever the harness runs it; the other runtimes are given theirs once.
                    let start = Instant::now();
                    output = engine.run(&input)?;
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
            "profile" => match engine.profile(&input, ask.n.max(1)) {
                Ok(layers) => answer(json!({ "layers": layers })),
                Err(error) => answer(json!({ "error": error.to_string() })),
            },
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn answer(what: Value) {
    crate::commands::print_line(&what.to_string());
}

/// A size of this process in bytes; 0 where the system does not say.
fn resident(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
