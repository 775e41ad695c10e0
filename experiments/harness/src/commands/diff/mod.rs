//! `harness diff`: compares a candidate with a reference, layer by layer, and writes a report.
//!
//! Reading order: `args`, `plan` (model, weights and both sides), `run`, `findings` (verdict and
//! culprit), `edge` (the second, small comparison), `remarks` (the sentences below the verdict).

mod args;
mod edge;
mod findings;
mod plan;
mod remarks;
mod run;
mod table;
mod viewers;

pub use args::DiffArgs;
pub use run::run;
