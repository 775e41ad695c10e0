//! The SqueezeTime network (arXiv 2405.08344) written from scratch in plain loops, to be read next
//! to the paper. It uses no kernel library, no target features and no `unsafe`.
//!
//! Reading order: [`network`] (the walk over the model: stem, blocks, channel-time learning,
//! head), [`ops`] (what each step computes), [`resize`] (what four published programs mean by a
//! bilinear resize), [`tap`] (how the walk is observed).
//!
//! Precision: activations are stored in `T`, which is f32 or f64. Every sum is accumulated in f64,
//! in one fixed order, and rounded to `T` once. The only rounding error of a float32 run is
//! therefore that of its activations, and the result has the same bits for any number of threads.
//! The exception is [`resize`], which computes in `T` throughout, as the programs that it
//! describes do.

mod engine;
mod map;
pub mod network;
pub mod ops;
mod params;
mod real;
pub mod resize;
pub mod tap;

pub use engine::Scalar;
pub use map::Map;
pub use params::Params;
pub use real::Real;
