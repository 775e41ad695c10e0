//! The command line of `harness export`.

use std::path::PathBuf;
use std::str::FromStr;

use checkpoint::Source;
use clap::{Args, Subcommand};
use spec::Precision;

use crate::flags::{ClipSource, ModelArgs, PythonArgs};

/// The format of weights and activations in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Floating-point numbers.
    Float(Precision),
    /// 8-bit integers with a scale (QDQ).
    Int8,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "int8" => Ok(Format::Int8),
            "f32" | "f16" | "bf16" => text.parse().map(Format::Float),
            _ => Err(format!("`{text}` is not a format of ONNX files; use f32, f16, bf16 or int8")),
        }
    }
}

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
    /// The format of weights and activations: f32, f16, bf16 (opset 22 or later), or int8 (pairs of
    /// QuantizeLinear and DequantizeLinear, made by ONNX Runtime in Python). Input and output stay float32.
    #[arg(long, default_value = "f32")]
    pub precision: Format,
    /// The clips from which int8 takes the ranges of the activations: a folder of videos, of which at most 64
    /// are used, or a number N for formula:0 to formula:N-1, which says little about real videos [default: 8].
    #[arg(long, value_name = "N|DIR")]
    pub calibrate: Option<ClipSource>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The Python that quantises.
    #[command(flatten, next_help_heading = "Python (--precision int8)")]
    pub python: PythonArgs,
}

impl OnnxArgs {
    /// The flags as options of the exporter.
    pub fn options(&self) -> onnx::Options {
        onnx::Options {
            opset: self.opset,
            softmax: self.softmax,
            preprocess: self.preprocess,
            precision: match self.precision {
                Format::Float(precision) => precision,
                Format::Int8 => Precision::F32,
            },
        }
    }
}
