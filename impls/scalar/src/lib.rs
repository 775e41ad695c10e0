//! The SqueezeTime network (arXiv 2405.08344) from scratch, in plain loops made to be read beside
//! the paper: no library of kernels under it, no target features, no `unsafe`.
//!
//! Reading order: [`network`] (the walk over the model: stem, blocks, channel-time learning,
//! head), [`ops`] (what each step computes), [`resize`] (what four published programs mean by a
//! bilinear resize), [`tap`] (how the walk is observed).
//!
//! Numbers: activations are held in `T`, which is f32 or f64. Every sum is accumulated in f64, in
//! one fixed order, and rounded to `T` once. A float32 run therefore carries the rounding of its
//! activations and nothing else, and the result is the same bits whatever the number of threads.
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
