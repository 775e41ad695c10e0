//! `harness bench`: measures the latency of our engines and of other runtimes.
//!
//! Every contestant is a process (`contestant`), which is this program itself for our engines
//! (`worker`); `process` reads what Linux tells about it. `rounds` gives them their turns, `stats`
//! computes medians and intervals, and `baseline` compares with the times of an earlier run.

mod args;
mod baseline;
mod contestant;
mod process;
mod rounds;
mod run;
mod stats;
mod table;
mod worker;

pub use args::{BenchArgs, WorkerArgs};
pub use run::run;
pub use worker::run as work;
