//! The parts of `harness bench`, whose contestants are processes that run the network in turn.

pub mod args;
pub mod baseline;
pub mod contestant;
pub mod rounds;
pub mod stats;
pub mod table;
pub mod worker;
