//! The command line of `harness diff`.

use clap::Args;
use compare::stored::Stored;
use spec::Precision;

use super::clips::ClipArgs;
use super::names::NameArgs;
use crate::flags::{
    AnswerArgs, DataArgs, EngineName, LiveArgs, ModelArgs, OnnxArgs, OutputArgs, Participant,
};
use crate::outputs::Outputs;

/// The arguments of `harness diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Compare only these layers: names, prefixes or aliases such as ctl3, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub layer: Vec<String>,
    /// The engine, dump, ONNX file or live model to judge: scalar, cpu, cuda, torch, npz:FILE, onnx:FILE,
    /// or python:FILE:FUNCTION, whose function returns a PyTorch or Flax model [default: scalar, or cuda
    /// if --device names a GPU].
    #[arg(long)]
    pub candidate: Option<Participant>,
    /// What the candidate is compared with: torch, scalar, npz:FILE or onnx:FILE.
    #[arg(long, default_value_t = Participant::Engine(EngineName::REFERENCE))]
    pub reference: Participant,
    /// Precision of the candidate: f32, f64, bf16, and for cuda also tf32 and f16. The default is f32,
    /// and for a dump the format of its arrays.
    #[arg(long)]
    pub precision: Option<Precision>,
    /// Plant a mistake in the candidate on purpose: FAULT, FAULT@LAYER or FAULT@everywhere.
    #[arg(long, value_name = "FAULT")]
    pub inject: Option<String>,
    /// Compare with weights as a converter stores them: f16 or bf16 for all parameters, f16:kernels for
    /// the weights of convolutions and classifier, f16:folded for these after BatchNorm was folded.
    #[arg(long, value_name = "WAY")]
    pub round_weights: Option<Stored>,
    /// Skip the second, small comparison, which runs at a frame size with edge cases where --size leaves
    /// known mistakes unexercised.
    #[arg(long)]
    pub no_edge: bool,
    /// Weights, input and device.
    #[command(flatten, next_help_heading = "Weights, input and device")]
    pub data: DataArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Names of a dump's arrays.
    #[command(flatten)]
    pub names: NameArgs,
    /// Several inputs.
    #[command(flatten)]
    pub clips: ClipArgs,
    /// Results in other forms.
    #[command(flatten)]
    pub answers: AnswerArgs,
    /// Paths of record and report.
    #[command(flatten)]
    pub out: OutputArgs,
    /// How a live model is run.
    #[command(flatten)]
    pub live: LiveArgs,
    /// How an ONNX file is run and annotated.
    #[command(flatten)]
    pub onnx: OnnxArgs,
}

impl DiffArgs {
    /// The places that the command will write to.
    pub fn outputs(&self) -> Outputs {
        let map = self.names.suggest_map.as_ref().and_then(Option::as_ref);
        Outputs::default()
            .report(&self.out)
            .file("--junit", self.answers.junit.as_ref())
            .folder("--repro", self.answers.repro.as_ref())
            .file("--suggest-map", map)
            .file("--model-explorer", self.onnx.model_explorer.as_ref())
            .file("--annotated-onnx", self.onnx.annotated_onnx.as_ref())
    }

    /// The candidate that was asked for, or the default for the device.
    pub fn candidate(&self) -> Participant {
        let gpu = self.data.on.device.is_gpu();
        let default = if gpu { EngineName::Cuda } else { EngineName::Scalar };
        self.candidate.clone().unwrap_or(Participant::Engine(default))
    }
}
