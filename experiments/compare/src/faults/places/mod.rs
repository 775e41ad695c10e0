//! For each mistake of the catalogue, a function that lists the places where it would change a result.

pub mod activation;
pub mod block;
pub mod clip;
pub mod embedding;
pub mod gate;
pub mod norm;
pub mod number;
pub mod weight;
