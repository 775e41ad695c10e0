//! `harness ablate`: measures what each part of the network contributes.

mod args;
mod run;
mod table;

pub use args::AblateArgs;
pub use run::run;
