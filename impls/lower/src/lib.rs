//! What the engines `cpu` and `cuda` share before any kernel. The engines `scalar` and `torch` do not
//! use this crate: a comparison with them checks it, too.
//!
//! - [`fold`]: the learned values, with batch normalisations as scale and shift;
//! - [`embedding`]: the positional embedding at the size of its map;
//! - [`epilogue`]: the stages after which the result of a step can be observed;
//! - [`tap`]: the exchange of values with a tap;
//! - [`arena`]: where buffers lie in one block of memory.

pub mod arena;
pub mod embedding;
pub mod epilogue;
pub mod fold;
pub mod tap;

pub use epilogue::{Activation, Stage};
