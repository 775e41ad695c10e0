//! The SqueezeTime forward pass (arXiv 2405.08344) on NVIDIA GPUs with kernels of our own: no cuDNN, no
//! cuBLAS.
//!
//! Reading order: `kernels/*.cu` with the `.rs` file beside each (what is computed, and how it is
//! launched; `kernels/mainloop.cuh` is the hot path), [`plan`] (the network as steps), [`run`] (where
//! everything lies for a batch, and which steps become one kernel), [`engine`], [`device`] (a GPU, or a
//! host that emulates one, so that every kernel can be proven without a GPU).

pub mod device;
pub mod engine;
pub mod kernels;
pub mod plan;
pub mod run;

pub use engine::{Cuda, load};
