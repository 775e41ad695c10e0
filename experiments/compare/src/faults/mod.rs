//! The mistakes that ports make. Each is an edit of the description, of the weights, of the clip or of
//! what one module computes, so that the engines do not have to know about them.
//!
//! Reading order: [`catalogue`] (the table, and how to add a mistake), `places` (where each mistake
//! would change a result), `edit` (how it is made in an engine), `expr` and `network` (what each module
//! computes, as an expression whose parts can be replaced), `map`, `resize` and `clip` (the arithmetic
//! of the expressions), `ground` (which module reads which), `reach` (where a mistake shows, and what
//! the network would compute with it).

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
pub use ground::ModelGraph;
pub use hypotheses::hypotheses;
pub use map::Map;
pub use places::activation::AFTER_RELU;
pub use reach::{Trial, Values};
pub use unknown::Unknown;

#[cfg(test)]
mod tests;
