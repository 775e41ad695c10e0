//! `harness gpu-check`: runs every check of the engine `cuda` on a GPU, and writes a record to publish.

mod args;
mod run;

pub use args::GpuCheckArgs;
pub use run::run;
