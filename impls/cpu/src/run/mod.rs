//! How a plan is run: [`layout`] says what depends on the batch, [`split`] cuts a step into tasks,
//! [`exec`] turns a task into calls of kernels, [`observe`] shows results to a tap.

pub mod exec;
pub mod layout;
pub mod observe;
pub mod split;
