//! `harness weights`: lists the tensors of a checkpoint, and converts checkpoints.

mod args;
mod run;

pub use args::WeightsCommand;
pub use run::run;
