//! The SqueezeTime forward pass on CPUs, built for deployment: the network is planned once at load,
//! runs without allocating and uses only the kernels of this crate.
//!
//! Where to look: [`kernels::gemm`] is the hot path; its micro-kernels are in [`kernels::vectors`]
//! and [`kernels::tiles`], and [`kernels::winograd`] uses it for 3x3 convolutions. [`plan`] turns
//! the network into steps, [`run`] executes them, and [`isa`] compiles every kernel for every
//! instruction set.

pub mod element;
pub mod engine;
pub mod isa;
pub mod kernels;
pub mod memory;
pub mod pack;
pub mod plan;
pub mod pool;
pub mod roofline;
pub mod run;
pub mod simd;

pub use engine::{Cpu, Options, load};
pub use isa::{DetectedIsa, Isa};
pub use plan::choose::Convolution;
