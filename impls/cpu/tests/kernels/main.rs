//! Every kernel of every instruction set against plain loops in float64, over edge shapes. Outputs
//! are poisoned with NaN. Every buffer lies next to an inaccessible page, in one run with its end
//! and in another with its beginning, so that an access out of bounds ends the process.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "calls kernels")]

mod lab;
mod maps;
mod products;
mod rows;
mod strassen;
mod winograd;
