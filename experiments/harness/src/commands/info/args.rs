//! The command line of `harness info`.

use clap::Args;

use crate::flags::ModelArgs;

/// The arguments of `harness info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Print only these layers: names, prefixes or aliases, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}
