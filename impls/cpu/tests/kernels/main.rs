//! Every kernel of every instruction set against plain loops in float64, over edge shapes: outputs are
//! poisoned, and every buffer lies against a page that cannot be touched, once with its end and once
//! with its beginning.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "calls kernels")]

mod lab;
mod maps;
mod products;
mod winograd;
