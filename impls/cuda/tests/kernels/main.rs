//! Every kernel on an emulated GPU, compared with plain loops in float64 over edge shapes.
//!
//! Outputs are filled with NaN first, every buffer ends at an inaccessible page, and several
//! schedules of the threads must give the same bits. With `HARNESS_TEST_GPU=0` the kernels run on a
//! real GPU instead.

#![allow(unsafe_code, reason = "launches kernels")]

mod band_faults;
mod bands;
mod clusters;
mod conv;
mod ctl;
mod dense;
mod faults;
mod lab;
mod maps;
mod pair;
mod pair_faults;
mod stem;
