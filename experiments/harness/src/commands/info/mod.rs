//! `harness info`: prints the modules of a model.

mod args;
mod run;

pub use args::InfoArgs;
pub use run::run;
