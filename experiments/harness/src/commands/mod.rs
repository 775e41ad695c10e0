//! The commands, a folder for each: its arguments in `args`, its work in `run`, its table in `table`. No
//! command uses another one.

pub mod ablate;
pub mod bench;
pub mod diff;
pub mod dump;
pub mod eval;
pub mod export;
#[cfg(feature = "cuda")]
pub mod gpu_check;
pub mod info;
pub mod report;
pub mod selftest;
pub mod train;
pub mod weights;
