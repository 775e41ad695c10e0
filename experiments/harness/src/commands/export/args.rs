//! The command line of `harness export`.

use std::path::PathBuf;

use checkpoint::Source;
use clap::{Args, Subcommand};
use spec::Precision;

use crate::flags::ModelArgs;

/// The formats of `harness export`.
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Write an ONNX file with a dynamic batch.
    Onnx(OnnxArgs),
}

/// The arguments of `harness export onnx`.
#[derive(Debug, Args)]
pub struct OnnxArgs {
    /// The ONNX file to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Weights: formula:SEED, or a checkpoint.
    #[arg(long, default_value = "formula:0")]
    pub weights: Source,
    /// Version of the ONNX operator set, 17 to 23.
    #[arg(long, default_value_t = 17)]
    pub opset: i64,
    /// Output probabilities instead of logits.
    #[arg(long)]
    pub softmax: bool,
    /// Take decoded frames as input, uint8 RGB [batch, T, H, W, 3], and normalise them in the network.
    #[arg(long)]
    pub preprocess: bool,
    /// The format of weights and activations: f32, f16, or bf16 (opset 22 or later). Input and output stay
    /// float32.
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

impl OnnxArgs {
    /// The flags as options of the exporter.
    pub fn options(&self) -> onnx::Options {
        onnx::Options {
            opset: self.opset,
            softmax: self.softmax,
            preprocess: self.preprocess,
            precision: self.precision,
        }
    }
}
