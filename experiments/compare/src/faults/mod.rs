//! The mistakes that ports make. Each is an edit of the description, of the weights, of the clip or of
//! what one module computes, so that the engines do not have to know about them.
//!
//! Reading order: `catalogue` (the table, and how to add a mistake), `places` (where each mistake
//! would change a result), `edit` (how it is made in an engine), `expr` and `network` (what each module
//! computes, as an expression whose parts can be replaced), `map`, `resize` and `clip` (the arithmetic
//! of the expressions), `graph` (which module reads which), `reach` (where a mistake shows, and what
//! the network would compute with it).
//!
//! A mistake is planted by changing the description and the weights, and by wrapping the engine:
//!
//! ```
//! use compare::faults;
//! use spec::{Config, Model};
//! # use checkpoint::Weights;
//!
//! # fn main() -> anyhow::Result<()> {
//! let mut model = Model::new(Config { depth: 10, ..Config::default() })?;
//! let mut weights = Weights::formula(model.parameters(), 0);
//! // A mistake, and the layer to plant it in, as `harness diff --inject` reads them.
//! let change = faults::parse(&model, "relu-missing@layer2.0")?;
//! assert!(model.module(change.site).name.starts_with("layer2.0"));
//! change.apply(&mut model, &mut weights);
//! // An engine that is loaded with these computes the mistake inside of `faults::Edited`.
//! # Ok(())
//! # }
//! ```

mod bias;
mod catalogue;
mod clip;
mod edit;
mod exercised;
pub(crate) mod expr;
mod graph;
mod hypotheses;
pub(crate) mod map;
mod network;
mod places;
mod reach;
pub(crate) mod resize;
mod rewrite;
mod unknown;

pub use bias::small_biases;
pub use catalogue::{Fault, choose, parse, throughout};
pub use edit::{Change, Edited, everywhere, relu};
pub use exercised::{NotExercised, SIZES, kept_by_weights, not_exercised, too_small, try_size};
pub use expr::round;
pub use graph::ModelGraph;
pub use hypotheses::hypotheses;
pub use map::Map;
pub use places::activation::AFTER_RELU;
pub use reach::{Trial, Values};
pub use unknown::Unknown;

#[cfg(test)]
mod tests;
