//! The command line of `harness dump`.

use std::path::PathBuf;

use clap::Args;
use compare::dump::Naming;
use spec::Precision;

use crate::flags::{DataArgs, EngineName, ModelArgs};

/// The arguments of `harness dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// The engine to run: scalar, cpu, cuda or torch.
    #[arg(long)]
    pub engine: EngineName,
    /// The npz file to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Write only these layers: names, prefixes or aliases, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// Names and layout of the arrays: torch (NCHW) or flax (NHWC, with the Flax port's module names).
    #[arg(long, default_value_t = Naming::Torch)]
    pub naming: Naming,
    /// Precision of the engine.
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
    /// Plant a mistake in the engine on purpose: FAULT, FAULT@LAYER or FAULT@everywhere; give the flag again
    /// for more than one.
    #[arg(long, value_name = "FAULT")]
    pub inject: Vec<String>,
    /// Weights, input and device.
    #[command(flatten)]
    pub data: DataArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}
