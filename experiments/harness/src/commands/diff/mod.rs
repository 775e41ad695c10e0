//! `harness diff`: compares a candidate with a reference, layer by layer, and writes a report.
//!
//! Reading order: `args`, `names` (of a dump's arrays), `plan` (model, weights and both sides), `run`,
//! `findings` (verdict and culprit), `causes` (if it is not the port), `stored` (weights that a converter rounded), `quantised` (what quantisers cost), `sources` (the hashes of the files),
//! `edge` (the second, small comparison), `clips` (several inputs), `repro` (the smallest reproduction),
//! `remarks` (the sentences below the verdict), `answers` (what programs read).

mod answers;
mod args;
mod causes;
mod clips;
mod edge;
mod findings;
mod names;
mod plan;
mod quantised;
mod reconsider;
mod remarks;
mod repro;
mod run;
mod sources;
mod stored;
mod table;
mod viewers;

pub use args::DiffArgs;
pub use run::run;
