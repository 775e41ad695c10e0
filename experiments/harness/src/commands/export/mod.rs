//! `harness export`: writes the network for other runtimes.

mod args;
mod int8;
mod run;

pub use args::ExportCommand;
pub use run::run;
