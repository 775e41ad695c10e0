//! The command line of `harness info`.

use clap::Args;

use crate::flags::ModelArgs;

/// The arguments of `harness info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Print only these layers: names, prefixes or aliases, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// Print JSON: the configuration, and for each module its name, kind, output shape of one clip, parameters
    /// and multiply-accumulates.
    #[arg(long)]
    pub json: bool,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}
