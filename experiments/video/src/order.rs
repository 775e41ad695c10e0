//! The orders in which a clip's frames can be given to the network.

use std::fmt;
use std::str::FromStr;

use crate::mini::rng::Rng;

/// An order of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The order of the video.
    Natural,
    /// The order of the video, reversed.
    Reversed,
    /// A random order for each video; the value is the seed.
    Shuffled(u64),
    /// One random frame, repeated; the value is the seed.
    Still(u64),
}

impl Order {
    /// The index of the frame at each position of a clip, for the video with the index `video`.
    pub fn of(self, frames: usize, video: usize) -> Vec<usize> {
        let drawn = |seed: u64| Rng::new(seed).fork(7).fork(1 + video as u64).order(frames);
        match self {
            Order::Natural => (0..frames).collect(),
            Order::Reversed => (0..frames).rev().collect(),
            Order::Shuffled(seed) => drawn(seed),
            Order::Still(seed) => vec![drawn(seed).first().copied().unwrap_or(0); frames],
        }
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, seed) = text.split_once(':').unwrap_or((text, "0"));
        let seed = seed.parse().map_err(|_| format!("`{text}`: the seed is not a whole number"))?;
        match word {
            "natural" => Ok(Order::Natural),
            "reversed" => Ok(Order::Reversed),
            "shuffled" => Ok(Order::Shuffled(seed)),
            "still" => Ok(Order::Still(seed)),
            _ => Err(format!(
                "`{text}` is not an order of frames; use natural, reversed, shuffled[:SEED] or still[:SEED]"
            )),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Natural => f.write_str("natural"),
            Order::Reversed => f.write_str("reversed"),
            Order::Shuffled(seed) => write!(f, "shuffled:{seed}"),
            Order::Still(seed) => write!(f, "still:{seed}"),
        }
    }
}
