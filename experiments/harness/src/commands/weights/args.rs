//! The command line of `harness weights`.

use std::path::PathBuf;

use checkpoint::Source;
use clap::Subcommand;

use crate::flags::ModelArgs;

/// The commands of `harness weights`.
#[derive(Debug, Subcommand)]
pub enum WeightsCommand {
    /// List the tensors of a checkpoint, those that the model lacks, and those that it does not know.
    Inspect {
        /// The checkpoint, or formula:SEED; FILE::KEY chooses one of several sets of weights in it.
        file: PathBuf,
        /// The model.
        #[command(flatten)]
        model: Box<ModelArgs>,
    },
    /// Write a checkpoint with PyTorch's names, in the format of --out's ending: .safetensors, .npz or .pth.
    Convert {
        /// The checkpoint, or formula:SEED.
        file: Source,
        /// The file to write.
        #[arg(long)]
        out: PathBuf,
        /// The model.
        #[command(flatten)]
        model: Box<ModelArgs>,
    },
}

impl WeightsCommand {
    /// The file that the command will write.
    pub fn out(&self) -> Option<&PathBuf> {
        match self {
            WeightsCommand::Inspect { .. } => None,
            WeightsCommand::Convert { out, .. } => Some(out),
        }
    }
}
