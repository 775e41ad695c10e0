//! The command line of `harness selftest`.

use checkpoint::Inferred;
use clap::Args;
use spec::Config;
use spec::config::FrameSize;

use crate::flags::{DataArgs, EngineName, OutputArgs};

/// The network in which mistakes are planted by default.
const DEPTH: usize = 50;
const WIDTH: f64 = 0.125;

/// The flags of planting, which `--null` draws at random or does not need.
const NOT_WITH_NULL: [&str; 9] =
    ["places", "only", "mutations", "candidate", "weights", "input", "depth", "width", "size"];

/// The arguments of `harness selftest`.
#[derive(Debug, Clone, Args)]
pub struct SelftestArgs {
    /// Number of random places for each mistake; at each it is planted in an engine and in two kinds of
    /// dumps.
    #[arg(long, default_value_t = 2)]
    pub places: usize,
    /// Plant only these mistakes, by their names in --inject, separated by commas; or scaled and noise,
    /// which are not in the catalogue.
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    pub only: Vec<String>,
    /// Number of arrays of a correct dump, and of a correct checkpoint, that are damaged in each of ten
    /// ways; a large number damages all of them.
    #[arg(long, default_value_t = super::mutations::DEFAULT)]
    pub mutations: usize,
    /// Plant nothing, but make this many comparisons of correct engines on random networks, to measure
    /// how often there is a false alarm and how the error ratios are distributed.
    #[arg(long, value_name = "N", conflicts_with_all = NOT_WITH_NULL)]
    pub null: Option<usize>,
    /// With --null: number of the first random network, to repeat a comparison.
    #[arg(long, default_value_t = 0, requires = "null", value_name = "I")]
    pub first_draw: u64,
    /// Seed of the random places, and of the random networks of --null.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The engine in which mistakes are planted: scalar or torch.
    #[arg(long, default_value_t = EngineName::Scalar)]
    pub candidate: EngineName,
    /// What the candidate is compared with: torch or scalar.
    #[arg(long, default_value_t = EngineName::REFERENCE)]
    pub reference: EngineName,
    /// Paths of record and report.
    #[command(flatten)]
    pub out: OutputArgs,
    /// Weights, input and device.
    #[command(flatten)]
    pub data: DataArgs,
    /// Depth of the model [default: 50, or that of the checkpoint].
    #[arg(long)]
    pub depth: Option<usize>,
    /// Width of the model [default: 0.125, or that of the checkpoint].
    #[arg(long)]
    pub width: Option<f64>,
    /// Frame size; it should be one at which the positional embedding is resized.
    #[arg(long, default_value = "72x88")]
    pub size: FrameSize,
    /// What the checkpoint says about the model.
    #[arg(skip)]
    pub found: Inferred,
}

impl SelftestArgs {
    /// The configuration of the network at this frame size.
    pub fn config(&self, size: (usize, usize)) -> Config {
        let (base, found) = (Config::default(), &self.found);
        Config {
            depth: self.depth.or(found.depth).unwrap_or(DEPTH),
            width: self.width.or(found.width).unwrap_or(WIDTH),
            frames: found.frames.unwrap_or(base.frames),
            classes: found.classes.unwrap_or(base.classes),
            pos_dim: found.pos_dim.unwrap_or(base.pos_dim),
            size,
            ..base
        }
    }
}
