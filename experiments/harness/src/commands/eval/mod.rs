//! `harness eval`: measures the accuracy of engines on videos, and whether they agree.
//!
//! `journal` keeps the finished videos, so that a run can be resumed and shards can be merged; `sheet`
//! makes the pictures of disagreements.

mod args;
mod journal;
mod run;
mod sheet;
mod table;

pub use args::EvalArgs;
pub use run::run;
