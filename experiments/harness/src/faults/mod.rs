//! Mistakes that ports make. Each is an edit of the description, of the weights, of the input or of
//! one output, so that no engine has to know of them. They serve twice: `--inject` and `selftest`
//! make them on purpose to prove that they are noticed, and [`hypotheses`] tries them as the
//! explanation of a divergence that was found.

mod edit;
mod hypotheses;
mod inject;

pub use edit::{Change, Edited, relu};
pub use hypotheses::{AFTER_RELU, hypotheses};
pub use inject::{Fault, choose, not_exercised, parse};
