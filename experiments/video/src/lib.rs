//! Makes the network's input from video files, as the official evaluation does (mmaction2's pipeline of
//! decord, OpenCV and numpy), and describes the data sets that are evaluated.
//!
//! Reading order, which is the order of the steps: [`ffmpeg`] finds the decoder, [`decode`] returns the
//! frames in order, [`decord`] says which of them the official evaluation has, [`sample`] chooses some of them, [`resize`] and [`crop`] make views of these, and
//! [`normalize`] makes the network's input. [`views`] combines the steps for a [`protocol`]. [`dataset`] and
//! [`list`] describe the data sets and their files, and [`mini`] is a built-in data set.

mod container;
pub mod crop;
pub mod dataset;
pub mod decode;
pub mod decord;
mod error;
pub mod ffmpeg;
pub mod list;
pub mod mini;
pub mod normalize;
pub mod order;
mod ppm;
pub mod protocol;
pub mod resize;
pub mod sample;
mod signals;
pub mod views;

pub use error::VideoError;

/// A picture [height, width, 3]: RGB bytes, with the top row first and no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// The `3 * width * height` bytes.
    pub data: Vec<u8>,
}
