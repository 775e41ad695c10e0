//! `harness report`: makes reports again from their records.

mod args;
mod pdf;
mod run;

pub use args::ReportArgs;
pub use run::run;
