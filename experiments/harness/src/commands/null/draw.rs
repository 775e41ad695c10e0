//! Random comparisons whose candidates are right: networks, weights, clips, engines.

use anyhow::Result;
use cpu::kernels::winograd::Tile;
use cpu::{Convolution, Isa};
use spec::config::FrameSize;
use spec::weights::{Format, Weights, formula};
use spec::{Config, Model, Precision, Tensor};

use crate::cli::{InputSource, Participant};
use crate::commands::{MINI_MODEL, mini_config};
use crate::input;

/// Frame sizes: even and odd, square and not, down to maps of one pixel.
const SIZES: [(usize, usize); 8] =
    [(57, 65), (64, 64), (29, 31), (96, 72), (40, 33), (30, 80), (32, 32), (45, 77)];
const DEPTHS: [usize; 6] = [10, 10, 18, 18, 34, 50];
const WIDTHS: [f64; 4] = [0.125, 0.1875, 0.25, 0.3];
const FRAMES: [usize; 5] = [4, 5, 8, 12, 16];

/// How the weights are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `formula:SEED`, which any program can make.
    Formula,
    /// Normalisations whose factors differ by up to 4 times more from channel to channel.
    Gammas,
    /// Normalisations with negative offsets, so that most activations are zero.
    Sparse,
    /// Few large and many small weights.
    Heavy,
    /// The trained network that is in the program.
    Trained,
}

/// Styles in the shares in which they are drawn.
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
    /// Which draw of this seed.
    pub number: u64,
    /// The network.
    pub config: Config,
    /// How its weights are spread.
    pub style: Style,
    /// Their seed.
    pub weights: u64,
    /// The clip's.
    pub clip: u64,
    /// Clips in the batch.
    pub batch: usize,
    /// Random numbers that choose candidates.
    dice: Vec<f32>,
}

/// A right engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which.
    pub engine: Participant,
    /// Its precision.
    pub precision: Precision,
    /// Instruction set of the engine cpu.
    pub isa: Option<Isa>,
    /// How cpu computes 3x3 convolutions.
    pub convolution: Convolution,
    /// Whether libtorch computes convolutions as products of unfolded maps.
    pub unfold: bool,
}

impl Draw {
    /// Draw `number` of a seed: always the same.
    pub fn new(number: u64, seed: u64) -> Self {
        let dice = formula::uniform(&format!("null draw {number}"), 24, seed);
        let style = pick(&STYLES, dice[0]);
        let config = match style {
            Style::Trained => mini_config(),
            _ => Config {
                depth: pick(&DEPTHS, dice[1]),
                width: pick(&WIDTHS, dice[2]),
                size: pick(&SIZES, dice[3]),
                frames: pick(&FRAMES, dice[4]),
                classes: 7,
                ..Config::default()
            },
        };
        let whole = |u: f32| (f64::from(u) * f64::from(1 << 24)) as u64;
        let batch = if dice[7] < 0.15 { 2 } else { 1 };
        let (weights, clip) = (whole(dice[5]), whole(dice[6]));
        Draw { number, config, style, weights, clip, batch, dice }
    }

    /// The weights.
    pub fn load_weights(&self, model: &Model) -> Result<Weights> {
        if self.style == Style::Trained {
            let format = Some(Format::Safetensors);
            return Ok(Weights::from_bytes(MINI_MODEL, "mini", format, model.parameters())?);
        }
        let mut weights = Weights::formula(model.parameters(), self.weights);
        let names: Vec<String> = weights.names().map(str::to_owned).collect();
        for name in names {
            let Some(param) = weights.get_mut(&name) else { continue };
            let normalisation = param.shape.len() == 1 && model_has_statistics(model, &name);
            let dice = || formula::uniform(&format!("null {name}"), param.data.len(), self.weights);
            match (self.style, normalisation, name.rsplit('.').next()) {
                (Style::Gammas, true, Some("weight")) => {
                    let dice = dice();
                    for (value, u) in param.data.iter_mut().zip(dice) {
                        *value *= (2.0 * u - 1.2).exp2();
                    }
                }
                (Style::Sparse, true, Some("bias")) => {
                    param.data.iter_mut().for_each(|value| *value -= 0.5);
                }
                (Style::Heavy, false, Some("weight")) => {
                    // The same variance: u^3 has 1/7 of it where u has 1/3.
                    let most = param.data.iter().fold(0f32, |a, b| a.max(b.abs()));
                    let scale = (7f32 / 3.0).sqrt() / (most * most).max(f32::MIN_POSITIVE);
                    param.data.iter_mut().for_each(|v| *v = *v * *v * *v * scale);
                }
                _ => {}
            }
        }
        Ok(weights)
    }

    /// The clips.
    pub fn load_clip(&self, model: &Model) -> Result<Tensor> {
        input::load(&InputSource::Formula(self.clip), model, self.batch)
    }

    /// The candidates: one of each engine at random instruction sets, and now and then a slow or an
    /// unusual one.
    pub fn candidates(&self) -> Vec<Candidate> {
        let isas = |precision: Precision| -> Vec<Isa> {
            let fit = |isa: &Isa| match isa {
                // Slow: drawn rarely, below.
                Isa::AmxEmulated => false,
                // In float32 these are AVX-512.
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
        let on =
            |isa, precision| Candidate { isa: Some(isa), ..plain(Participant::Cpu, precision) };
        let [f32s, bf16s] = [Precision::F32, Precision::Bf16].map(isas);
        let mut all: Vec<Candidate> = vec![];
        all.extend(f32s.iter().map(|&isa| on(isa, Precision::F32)));
        all.extend(bf16s.iter().map(|&isa| on(isa, Precision::Bf16)));
        // One of the machine's instruction sets with each algorithm, whether it pays or not.
        let (isa, odd) = (pick(&f32s, self.dice[8]), pick(&bf16s, self.dice[9]));
        let convolution = pick(&ALGORITHMS, self.dice[10]);
        all.push(Candidate { convolution, ..on(isa, Precision::F32) });
        let convolution = pick(&ALGORITHMS, self.dice[11]);
        all.push(Candidate { convolution, ..on(odd, Precision::Bf16) });
        all.push(plain(
            Participant::Scalar,
            pick(&[Precision::F32, Precision::F64], self.dice[12]),
        ));
        if cfg!(feature = "libtorch") {
            let precision = pick(&[Precision::F32, Precision::Bf16], self.dice[13]);
            all.push(Candidate { unfold: true, ..plain(Participant::Torch, precision) });
        }
        if self.dice[14] < 0.04 {
            all.push(on(Isa::AmxEmulated, Precision::Bf16));
        }
        all
    }

    /// The command that makes one comparison again.
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

const ALGORITHMS: [Convolution; 3] =
    [Convolution::Direct, Convolution::Winograd(Tile::F2), Convolution::Winograd(Tile::F4)];

impl Candidate {
    /// `cpu avx2`, `cpu avx512 F(4x4)`, `torch unfolded`.
    pub fn name(&self) -> String {
        let engine = match self.engine {
            Participant::Scalar => "scalar",
            Participant::Torch => "torch",
            _ => "cpu",
        };
        let isa = self.isa.map(|isa| format!(" {isa}")).unwrap_or_default();
        let unfold = if self.unfold { " unfolded" } else { "" };
        let algorithm = match self.convolution {
            Convolution::Auto => "",
            Convolution::Direct => " direct",
            Convolution::Winograd(Tile::F2) => " F(2x2)",
            Convolution::Winograd(Tile::F4) => " F(4x4)",
        };
        format!("{engine}{isa}{algorithm}{unfold}")
    }

    /// Its flags for `harness diff`, which has none for unusual algorithms.
    fn flags(&self) -> Option<String> {
        if self.unfold || self.convolution != Convolution::Auto {
            return None;
        }
        let isa = self.isa.map(|isa| format!(" --isa {isa}")).unwrap_or_default();
        let engine = if self.engine == Participant::Scalar { "scalar" } else { "cpu" };
        Some(format!("--candidate {engine}{isa} --precision {}", self.precision))
    }
}

/// Whether a tensor belongs to a normalisation.
fn model_has_statistics(model: &Model, name: &str) -> bool {
    let owner = name.rsplit_once('.').and_then(|(owner, _)| model.find(owner));
    owner.is_some_and(|module| module.kind == spec::Kind::BatchNorm)
}

fn pick<T: Clone>(from: &[T], u: f32) -> T {
    let at = (u * from.len() as f32) as usize;
    from[at.min(from.len() - 1)].clone()
}
