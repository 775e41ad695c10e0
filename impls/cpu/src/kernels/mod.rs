//! The kernels, generic over the instruction set ([`crate::simd::Simd`]) and the storage format
//! ([`crate::element::Element`]). [`crate::isa`] compiles each kernel for every instruction set.
//!
//! The hot path is [`gemm`]: all convolutions except the depthwise ones end in it.

#![allow(unsafe_code, reason = "kernels work on raw memory and CPU intrinsics")]

pub mod epilogue;
pub mod gemm;
pub mod import;
pub mod peak;
pub mod rows;
pub mod spatial;
pub mod strassen;
pub mod tiles;
pub mod vectors;
pub mod winograd;
