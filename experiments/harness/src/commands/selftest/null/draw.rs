//! Draws random comparisons whose candidates are correct: networks, weights, clips and engines.

use anyhow::Result;
use checkpoint::{Format, Weights, formula};
use cpu::kernels::winograd::Tile;
use cpu::{Convolution, Isa};
use spec::config::FrameSize;
use spec::{Config, Model, Precision, Tensor};

use crate::flags::{EngineName, InputSource};
use crate::input;
use crate::models::{MINI_MODEL, mini_config};

/// Frame sizes: even and odd, square and not, and some whose last maps have one pixel.
const SIZES: [(usize, usize); 8] =
    [(57, 65), (64, 64), (29, 31), (96, 72), (40, 33), (30, 80), (32, 32), (45, 77)];
const DEPTHS: [usize; 6] = [10, 10, 18, 18, 34, 50];
const WIDTHS: [f64; 4] = [0.125, 0.1875, 0.25, 0.3];
const FRAMES: [usize; 5] = [4, 5, 8, 12, 16];

/// The distribution of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `formula:SEED`, which any program can make.
    Formula,
    /// Normalisations whose weights are multiplied by a random factor for each channel, 2^-1.2 to 2^0.8.
    Gammas,
    /// Normalisations whose biases are lowered, so that most activations are zero.
    Sparse,
    /// Weights of which few are large and many are small.
    Heavy,
    /// The built-in trained model.
    Trained,
}

/// The styles, each as often as its share of the draws.
const STYLES: [Style; 10] = [
    Style::Formula,
    Style::Formula,
    Style::Formula,
    Style::Formula,
    Style::Formula,
    Style::Gammas,
    Style::Gammas,
    Style::Sparse,
    Style::Heavy,
    Style::Trained,
];

/// A network, its weights and a clip.
pub struct Draw {
    /// Index of the draw, for one seed.
    pub number: u64,
    /// Configuration of the network.
    pub config: Config,
    /// Distribution of the weights.
    pub style: Style,
    /// Seed of the weights.
    pub weights: u64,
    /// Seed of the clip.
    pub clip: u64,
    /// Number of clips in the batch.
    pub batch: usize,
    /// Random numbers in [0, 1), which choose the candidates.
    uniform: Vec<f32>,
}

/// A correct engine and how it computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Name of the engine.
    pub engine: EngineName,
    /// Precision of the engine.
    pub precision: Precision,
    /// Instruction set of the engine `cpu`.
    pub isa: Option<Isa>,
    /// The algorithm of the engine `cpu` for 3x3 convolutions.
    pub convolution: Convolution,
    /// Whether the engine `torch` computes convolutions as products of im2col matrices.
    pub unfold: bool,
}

impl Draw {
    /// The draw with the index `number` of a seed, which is always the same.
    pub fn new(number: u64, seed: u64) -> Self {
        let uniform = formula::uniform(&format!("null draw {number}"), 24, seed);
        let style = pick(&STYLES, uniform[0]);
        let config = match style {
            Style::Trained => mini_config(),
            _ => Config {
                depth: pick(&DEPTHS, uniform[1]),
                width: pick(&WIDTHS, uniform[2]),
                size: pick(&SIZES, uniform[3]),
                frames: pick(&FRAMES, uniform[4]),
                classes: 7,
                ..Config::default()
            },
        };
        let whole = |u: f32| (f64::from(u) * f64::from(1 << 24)) as u64;
        let batch = if uniform[7] < 0.15 { 2 } else { 1 };
        let (weights, clip) = (whole(uniform[5]), whole(uniform[6]));
        Draw { number, config, style, weights, clip, batch, uniform }
    }

    /// Makes the weights in the draw's style.
    pub fn load_weights(&self, model: &Model) -> Result<Weights> {
        if self.style == Style::Trained {
            let format = Some(Format::Safetensors);
            return Ok(Weights::from_bytes(MINI_MODEL, "mini", format, model.parameters())?);
        }
        let mut weights = Weights::formula(model.parameters(), self.weights);
        let names: Vec<String> = weights.names().map(str::to_owned).collect();
        for name in names {
            let Some(param) = weights.get_mut(&name) else { continue };
            let normalisation = param.shape.len() == 1 && is_normalisation(model, &name);
            let uniform =
                || formula::uniform(&format!("null {name}"), param.data.len(), self.weights);
            match (self.style, normalisation, name.rsplit('.').next()) {
                (Style::Gammas, true, Some("weight")) => {
                    let uniform = uniform();
                    for (value, u) in param.data.iter_mut().zip(uniform) {
                        *value *= (2.0 * u - 1.2).exp2();
                    }
                }
                (Style::Sparse, true, Some("bias")) => {
                    param.data.iter_mut().for_each(|value| *value -= 0.5);
                }
                (Style::Heavy, false, Some("weight")) => {
                    // Keeps the variance: on [-1, 1] that of u is 1/3 and that of u^3 is 1/7.
                    let most = param.data.iter().fold(0f32, |a, b| a.max(b.abs()));
                    let scale = (7f32 / 3.0).sqrt() / (most * most).max(f32::MIN_POSITIVE);
                    param.data.iter_mut().for_each(|v| *v = *v * *v * *v * scale);
                }
                _ => {}
            }
        }
        Ok(weights)
    }

    /// Makes the batch of clips [N, 3, T, H, W].
    pub fn load_clip(&self, model: &Model) -> Result<Tensor> {
        input::load(&InputSource::Formula(self.clip), model, self.batch)
    }

    /// The candidates: `cpu` with every instruction set of this machine, some unusual algorithms, and the
    /// other engines at random precisions; sometimes also the slow emulated instruction set.
    pub fn candidates(&self) -> Vec<Candidate> {
        let isas = |precision: Precision| -> Vec<Isa> {
            let fit = |isa: &Isa| match isa {
                // It is slow, so it is drawn rarely, below.
                Isa::AmxEmulated => false,
                // In float32 these are the same as AVX-512.
                Isa::Avx512Bf16 | Isa::Amx => precision == Precision::Bf16,
                _ => true,
            };
            Isa::ALL.into_iter().filter(fit).filter(|isa| isa.detect().is_some()).collect()
        };
        let plain = |engine, precision| Candidate {
            engine,
            precision,
            isa: None,
            convolution: Convolution::Auto,
            unfold: false,
        };
        let on = |isa, precision| Candidate { isa: Some(isa), ..plain(EngineName::Cpu, precision) };
        let [f32s, bf16s] = [Precision::F32, Precision::Bf16].map(isas);
        let mut all: Vec<Candidate> = vec![];
        all.extend(f32s.iter().map(|&isa| on(isa, Precision::F32)));
        all.extend(bf16s.iter().map(|&isa| on(isa, Precision::Bf16)));
        // Random algorithms, even where the engine would not choose them.
        let (isa, odd) = (pick(&f32s, self.uniform[8]), pick(&bf16s, self.uniform[9]));
        let convolution = pick(&ALGORITHMS, self.uniform[10]);
        all.push(Candidate { convolution, ..on(isa, Precision::F32) });
        let convolution = pick(&ALGORITHMS, self.uniform[11]);
        all.push(Candidate { convolution, ..on(odd, Precision::Bf16) });
        all.push(plain(
            EngineName::Scalar,
            pick(&[Precision::F32, Precision::F64], self.uniform[12]),
        ));
        if cfg!(feature = "libtorch") {
            let precision = pick(&[Precision::F32, Precision::Bf16], self.uniform[13]);
            all.push(Candidate { unfold: true, ..plain(EngineName::Torch, precision) });
        }
        if self.uniform[14] < 0.04 {
            all.push(on(Isa::AmxEmulated, Precision::Bf16));
        }
        all
    }

    /// The command that repeats a comparison.
    pub fn command(&self, candidate: &Candidate, seed: u64) -> String {
        let flags = (self.style == Style::Formula).then(|| candidate.flags()).flatten();
        let Some(flags) = flags else {
            let (count, number) = (self.candidates().len(), self.number);
            return format!("harness selftest --null {count} --seed {seed} --first-draw {number}");
        };
        let Config { depth, width, frames, size, classes, .. } = self.config;
        let size = FrameSize(size.0, size.1);
        let batch = match self.batch {
            1 => String::new(),
            n => format!(" --batch-size {n}"),
        };
        format!(
            "harness diff {flags} --weights formula:{} --input formula:{} --depth {depth} \
             --width {width} --frames {frames} --size {size} --classes {classes}{batch}",
            self.weights, self.clip
        )
    }
}

/// The algorithms that are forced.
const ALGORITHMS: [Convolution; 4] = [
    Convolution::Direct,
    Convolution::Winograd(Tile::F2),
    Convolution::Winograd(Tile::F4),
    Convolution::Strassen,
];

impl Candidate {
    /// The name in tables, such as `cpu avx2`, `cpu avx512 F(4x4)` or `torch unfolded`.
    pub fn name(&self) -> String {
        let engine = match self.engine {
            EngineName::Scalar => "scalar",
            EngineName::Torch => "torch",
            _ => "cpu",
        };
        let isa = self.isa.map(|isa| format!(" {isa}")).unwrap_or_default();
        let unfold = if self.unfold { " unfolded" } else { "" };
        let algorithm = match self.convolution {
            Convolution::Auto => "",
            Convolution::Direct => " direct",
            Convolution::Winograd(Tile::F2) => " F(2x2)",
            Convolution::Winograd(Tile::F4) => " F(4x4)",
            Convolution::Strassen => " Strassen",
        };
        format!("{engine}{isa}{algorithm}{unfold}")
    }

    /// The flags for `harness diff`; `None` for algorithms that have no flag.
    fn flags(&self) -> Option<String> {
        if self.unfold || self.convolution != Convolution::Auto {
            return None;
        }
        let isa = self.isa.map(|isa| format!(" --isa {isa}")).unwrap_or_default();
        let engine = if self.engine == EngineName::Scalar { "scalar" } else { "cpu" };
        Some(format!("--candidate {engine}{isa} --precision {}", self.precision))
    }
}

/// Whether a tensor belongs to a normalisation.
fn is_normalisation(model: &Model, name: &str) -> bool {
    let owner = name.rsplit_once('.').and_then(|(owner, _)| model.find(owner));
    owner.is_some_and(|module| module.kind == spec::Kind::BatchNorm)
}

fn pick<T: Clone>(from: &[T], u: f32) -> T {
    let at = (u * from.len() as f32) as usize;
    from[at.min(from.len() - 1)].clone()
}
