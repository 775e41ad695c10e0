//! Where each mistake of the catalogue would change a result.

pub mod activation;
pub mod block;
pub mod clip;
pub mod embedding;
pub mod gate;
pub mod norm;
pub mod number;
pub mod weight;
