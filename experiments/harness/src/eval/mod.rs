//! Accuracy on videos: `source` finds the videos, `pipeline` runs them through engines, `journal` keeps
//! the finished ones, and `score` and `stats` compute the accuracy.

pub mod journal;
mod order;
pub mod pipeline;
pub mod score;
pub mod sheet;
pub mod source;
pub mod stats;

pub use order::Order;
