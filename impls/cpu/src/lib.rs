//! The SqueezeTime forward pass on the processor, made to be shipped: planned once at load, run
//! without allocating, from kernels of our own.
//!
//! Where to look: [`kernels::gemm`] is the hot path, with its sums in [`kernels::vectors`] and
//! [`kernels::tiles`]; [`kernels::winograd`] wraps it for 3x3 convolutions; [`plan`] turns the network into steps; [`run`] runs them; [`isa`] compiles every
//! kernel for every instruction set.

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

pub use engine::{Cpu, Options, Timed, load};
pub use isa::{Isa, Level};
pub use plan::choose::Convolution;
