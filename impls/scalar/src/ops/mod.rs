//! The arithmetic of the network: one file for each kind of step, written as loops over the
//! definition.

pub mod activation;
pub mod combine;
pub mod conv;
pub mod linear;
pub mod norm;
pub mod pool;
