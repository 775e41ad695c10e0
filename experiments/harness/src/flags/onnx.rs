//! The flags for an ONNX file as a participant.

use std::path::PathBuf;

use clap::Args;

/// The runtime of an ONNX file.
#[derive(Debug, Clone, Args)]
pub struct RuntimeArgs {
    /// The runtime: onnxruntime or openvino. Python is found as for a live model; before that, in
    /// $HARNESS_PEERS.
    #[arg(long, value_parser = ["onnxruntime", "openvino"], default_value = "onnxruntime")]
    pub runtime: String,
}

/// The flags of `diff` for an ONNX file, which a runtime in Python runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "ONNX file (--candidate onnx:FILE)")]
pub struct OnnxArgs {
    /// The runtime.
    #[command(flatten)]
    pub run: RuntimeArgs,
    /// Write the error ratios as node data of Model Explorer, to be shown on the graph of the file.
    #[arg(long, value_name = "FILE")]
    pub model_explorer: Option<PathBuf>,
    /// Write a copy of the file with error ratios and verdicts as metadata of its nodes, for Netron.
    #[arg(long, value_name = "FILE")]
    pub annotated_onnx: Option<PathBuf>,
}
