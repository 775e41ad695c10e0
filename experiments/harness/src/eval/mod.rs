//! Accuracy on videos: `source` says which, `pipeline` runs them, `journal` keeps what is done,
//! `score` and `stats` make numbers of it.

pub mod journal;
mod order;
pub mod pipeline;
pub mod score;
pub mod sheet;
pub mod source;
pub mod stats;

pub use order::Order;
