//! Accuracy on videos: `network` makes the network for a data set, `source` finds the videos, `pipeline` runs them through engines, and
//! `score` and `stats` compute the accuracy. The commands `eval`, `ablate` and `train` share this module.

pub mod network;
pub mod pipeline;
pub mod score;
pub mod source;
pub mod stats;
