//! `harness dump`: writes the activations of an engine to an npz file.

mod args;
mod run;

pub use args::DumpArgs;
pub use run::run;
