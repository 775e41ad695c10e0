//! `harness bench`: contestants in processes of their own, told in turn to run.

pub mod args;
pub mod baseline;
pub mod contestant;
pub mod rounds;
pub mod stats;
pub mod table;
pub mod worker;
