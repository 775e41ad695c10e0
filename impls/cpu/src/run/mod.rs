//! The execution of a plan: [`layout`] places the buffers for a batch, [`split`] cuts a step into
//! tasks, [`tiles`] orders Winograd tiles, [`exec`] turns a task into kernel calls ([`strassen`] and
//! [`rows`] those of one kind of step each), and [`observe`] hands results to a tap.

pub mod exec;
pub mod layout;
pub mod observe;
pub mod rows;
pub mod split;
pub mod strassen;
pub mod tiles;
