//! Mistakes that ports make. Each is an edit of the description, of the weights, of the clip or of
//! what one module computes, so that no engine has to know of them.
//!
//! Reading order: [`catalogue`] (the table), `places` (where each would change a result), `edit` (how
//! it is made in an engine), `reach` (where it shows), `network` and `expr` (what a module computes,
//! as an expression whose parts can be exchanged), `map` and `resize` (its arithmetic).

mod catalogue;
mod clip;
mod edit;
mod exercised;
mod expr;
mod ground;
mod hypotheses;
mod map;
mod network;
mod places;
mod reach;
mod resize;
mod rewrite;
mod unknown;

pub use catalogue::{Fault, choose, parse, throughout};
pub use edit::{Change, Edited, everywhere, relu};
pub use exercised::{SIZES, not_exercised, try_size};
pub use expr::round;
pub use ground::Ground;
pub use hypotheses::hypotheses;
pub use map::Map;
pub use places::activation::AFTER_RELU;
pub use reach::{Trial, Values};
pub use unknown::Unknown;

#[cfg(test)]
mod tests;
