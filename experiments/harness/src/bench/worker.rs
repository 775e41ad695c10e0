//! Our own engines as contestants (`harness bench-worker`); [`super::contestant`] describes the protocol.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use checkpoint::Weights;
use ndarray::ArrayD;
use record::LayerTime;
use serde::Deserialize;
use serde_json::{Value, json};
use spec::{Engine, Ignore, Model, Precision, Tensor};

use super::args::WorkerArgs;
use crate::Outcome;

/// A command on stdin.
#[derive(Deserialize)]
struct Request {
    cmd: String,
    #[serde(default)]
    n: usize,
    #[serde(default)]
    path: String,
}

/// A loaded engine. `cpu` and `cuda` keep their own types, which have profiles and staged inputs.
enum Loaded {
    F32(Box<cpu::Cpu<f32>>),
    Bf16(Box<cpu::Cpu<cpu::element::Bf16>>),
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::Cuda>, Option<cuda::engine::Staged>),
    Other(Box<dyn Engine>),
}

impl Loaded {
    fn new(args: &WorkerArgs, model: Arc<Model>, weights: Weights) -> Result<Self> {
        if args.engine == "cpu" {
            let (isa, threads) = (args.isa, args.threads);
            let options = cpu::Options { isa, threads, ..cpu::Options::default() };
            return Ok(match args.precision {
                Precision::F32 => Loaded::F32(Box::new(cpu::Cpu::new(model, weights, options)?)),
                Precision::Bf16 => Loaded::Bf16(Box::new(cpu::Cpu::new(model, weights, options)?)),
                other => bail!("the engine cpu computes in f32 or bf16, not in {other}"),
            });
        }
        let (threads, isa) = (args.threads, args.isa);
        let on = crate::cli::DeviceArgs { device: args.device.clone(), threads, isa };
        let device = crate::engines::open_device(&on)?;
        #[cfg(feature = "cuda")]
        if args.engine == "cuda" {
            let engine = crate::engines::open_cuda(model, &weights, args.precision, device)?;
            return Ok(Loaded::Cuda(Box::new(engine), None));
        }
        let engine = args.engine.parse().map_err(anyhow::Error::msg)?;
        let model = (*model).clone();
        let engine = crate::engines::load(&engine, model, &weights, args.precision, device)?;
        Ok(Loaded::Other(engine))
    }

    fn run(&mut self, input: &Tensor) -> Result<Tensor> {
        let engine: &mut dyn Engine = match self {
            Loaded::F32(engine) => engine.as_mut(),
            Loaded::Bf16(engine) => engine.as_mut(),
            #[cfg(feature = "cuda")]
            Loaded::Cuda(engine, _) => engine.as_mut(),
            Loaded::Other(engine) => engine.as_mut(),
        };
        Ok(engine.forward(input, &mut Ignore)?)
    }

    /// Runs the network once and returns the seconds. On a GPU the clips and the output stay on the device,
    /// as they do for the peers. `torch` is timed with its copy of the clips into a tensor, as everywhere
    /// in the harness; the peers that read ONNX are given their input only once.
    fn timed(&mut self, input: &Tensor, output: &mut Tensor) -> Result<f64> {
        #[cfg(feature = "cuda")]
        if let Loaded::Cuda(engine, staged) = self {
            let clips = match staged {
                Some(clips) => *clips,
                None => *staged.insert(engine.stage(input)?),
            };
            let start = Instant::now();
            engine.run_staged(clips)?;
            let seconds = start.elapsed().as_secs_f64();
            *output = engine.staged_output(clips)?;
            return Ok(seconds);
        }
        let start = Instant::now();
        *output = self.run(input)?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn profile_once(&mut self, input: &Tensor) -> Result<Vec<LayerTime>> {
        let layer = |name: String, kind: &str, macs: u64, bytes: u64, seconds: f64| LayerTime {
            name,
            kind: kind.to_owned(),
            ms: seconds * 1e3,
            gflop: Some(2.0 * macs as f64 / 1e9),
            mb: Some(bytes as f64 / 1e6),
        };
        let timed = match self {
            Loaded::F32(engine) => engine.profile(input)?,
            Loaded::Bf16(engine) => engine.profile(input)?,
            #[cfg(feature = "cuda")]
            Loaded::Cuda(engine, _) => {
                let timed = engine.profile(input)?.into_iter();
                let each = timed.map(|t| layer(t.name, t.kind, t.macs, t.bytes, t.seconds));
                return Ok(each.collect());
            }
            Loaded::Other(_) => bail!("only the engines cpu and cuda have a profile"),
        };
        let each = timed.into_iter().map(|t| layer(t.name, t.kind, t.macs, t.bytes, t.seconds));
        Ok(each.collect())
    }

    fn profile(&mut self, input: &Tensor, n: usize) -> Result<Vec<LayerTime>> {
        let mut layers: Vec<LayerTime> = vec![];
        for round in 0..n {
            let timed = self.profile_once(input)?;
            for (at, step) in timed.into_iter().enumerate() {
                if round == 0 {
                    layers.push(LayerTime { ms: 0.0, ..step.clone() });
                }
                layers[at].ms += step.ms / n as f64;
            }
        }
        Ok(layers)
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
    match (args.engine.as_str(), args.precision) {
        ("scalar", other) if other != Precision::F32 => {
            Some(format!("the engine `scalar` computes in f32 or f64, not in {other}"))
        }
        ("cpu", other) if !matches!(other, Precision::F32 | Precision::Bf16) => {
            Some(format!("the engine `cpu` computes in f32 or bf16, not in {other}"))
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
    // Reading the weights and keeping them in memory counts as loading, as it does for the peers.
    let before = resident("VmRSS:");
    let start = Instant::now();
    let (model, weights) = crate::commands::model_and_weights(&args.model, &args.weights)?;
    let mut engine = Loaded::new(args, Arc::new(model), weights)?;
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
        let ask: Request =
            serde_json::from_str(&line?).context("a command on stdin is not valid JSON")?;
        match ask.cmd.as_str() {
            "run" => {
                let mut seconds = vec![];
                for _ in 0..ask.n {
                    seconds.push(engine.timed(&input, &mut output)?);
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

/// A memory size of this process, such as `VmRSS:`, in bytes; 0 if the system does not tell it.
fn resident(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
