//! `harness gpu-check`: runs every check of the engine `cuda` on a GPU, and writes a record to publish.

mod args;
mod check;
mod run;
mod steps;
mod sweep;

pub use args::GpuCheckArgs;
pub use run::run;
