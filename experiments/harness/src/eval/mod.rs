//! Accuracy on videos: `network` makes the network for a data set, `source` finds the videos, `pipeline` runs
//! them through engines (`engine`), and `score` and `stats` compute the accuracy, `speed` the speed. The
//! commands `eval`, `ablate` and `train` share this module.

pub mod engine;
pub mod network;
pub mod pipeline;
pub mod score;
pub mod source;
mod speed;
pub mod stats;
