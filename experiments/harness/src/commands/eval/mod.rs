//! `harness eval`: measures the accuracy of engines on videos, and whether they agree.
//!
//! `journal` keeps the finished videos, so that a run can go on (`resume`) and the runs of several machines
//! can be merged (`merge`); [`crate::lock`] admits one writer. `summary` makes the record, and `strips` the pictures of
//! mistakes and disagreements.

mod args;
mod checked;
mod journal;
mod merge;
mod resume;
mod run;
mod strips;
mod summary;
mod table;

pub use args::EvalArgs;
pub use run::run;
