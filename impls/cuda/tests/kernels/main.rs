//! Every kernel on an emulated GPU against plain loops in float64, over edge shapes: outputs are
//! poisoned, every buffer ends at a page that cannot be touched, and several schedules of the threads
//! must give the same bits.

#![allow(unsafe_code, reason = "launches kernels")]

mod conv;
mod faults;
mod lab;
mod maps;
