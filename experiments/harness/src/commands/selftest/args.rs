//! The command line of `harness selftest`.

use clap::Args;
use spec::config::FrameSize;

use crate::flags::{DataArgs, EngineName, OutputArgs};

/// The arguments of `harness selftest`.
#[derive(Debug, Args)]
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
    #[arg(long, value_name = "N")]
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
    /// Depth of the model.
    #[arg(long, default_value_t = 50)]
    pub depth: usize,
    /// Width of the model.
    #[arg(long, default_value_t = 0.125)]
    pub width: f64,
    /// Frame size; it should be one at which the positional embedding is resized.
    #[arg(long, default_value = "72x88")]
    pub size: FrameSize,
}
