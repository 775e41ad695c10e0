//! How a plan is run.
//!
//! [`layout`] decides what depends on the batch size, [`bind`] turns
//! steps into launches of kernels, [`observe`] hands activations to a tap, [`predict`] estimates times without a GPU,
//! [`check`] asks a GPU whether it runs in bands, [`cluster_check`] whether it runs clusters, [`pair_check`] whether it
//! runs two convolutions in one kernel.

pub mod bind;
pub mod check;
pub mod cluster_check;
pub mod layout;
pub mod observe;
pub mod pair_check;
pub mod predict;
