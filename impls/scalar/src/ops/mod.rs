//! The arithmetic of the network: one file per kind of step, each a definition in loops.

pub mod activation;
pub mod combine;
pub mod conv;
pub mod linear;
pub mod norm;
pub mod pool;
