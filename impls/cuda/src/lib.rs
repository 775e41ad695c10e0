//! The SqueezeTime forward pass (arXiv 2405.08344) on NVIDIA GPUs, with its own kernels instead of
//! cuDNN and cuBLAS.
//!
//! Reading order:
//!
//! 1. `kernels/*.cu`, each with the `.rs` file of the same name: what a kernel computes, and how it
//!    is launched. `kernels/mainloop.cuh` is where most of the time goes.
//! 2. [`plan`]: the network as a list of steps.
//! 3. [`run`]: what depends on the batch size, such as which steps become one kernel, and where
//!    maps lie.
//! 4. [`engine`]: the public interface.
//! 5. [`device`]: a GPU, or the host that emulates one, so that every kernel can be tested without
//!    a GPU.

pub mod device;
pub mod engine;
pub mod kernels;
pub mod plan;
pub mod run;
pub mod sweep;

pub use engine::{Cuda, load};
