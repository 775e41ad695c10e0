//! How a plan is run: [`layout`] says what depends on the batch, [`arena`] where everything lies,
//! [`bind`] turns steps into launches of kernels, [`observe`] shows values to a tap.

pub mod arena;
pub mod bind;
pub mod layout;
pub mod observe;
