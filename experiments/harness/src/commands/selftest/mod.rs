//! `harness selftest`: would the tool notice a mistake, and would it accuse a correct engine?
//!
//! `bench` plants mistakes and `matrix` counts what was found; `mutations` damages dumps and checkpoints;
//! `null` compares correct engines.

mod args;
mod bench;
mod matrix;
mod mutations;
mod null;
mod run;

pub use args::SelftestArgs;
pub use run::run;
