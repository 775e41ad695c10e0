//! From a video file to the network's input, as the official evaluation does it (mmaction2's
//! decord, OpenCV and numpy pipeline), and the data sets that are evaluated.
//!
//! Reading order, which is the order of the work: [`ffmpeg`] finds the decoder, [`decode`] gives
//! frames in order, [`sample`] says which are wanted, [`resize`] and [`crop`] make views of them,
//! [`normalize`] makes the network's numbers. [`views`] puts these together after a [`protocol`];
//! [`dataset`] and [`list`] say which files there are, [`mini`] is a data set in the program.

pub mod crop;
pub mod dataset;
pub mod decode;
mod error;
pub mod ffmpeg;
pub mod list;
pub mod mini;
pub mod normalize;
mod ppm;
pub mod protocol;
pub mod resize;
pub mod sample;
pub mod views;

pub use error::VideoError;

/// A picture: RGB, 8 bits a channel, rows from the top, [height, width, 3].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The values, `3 * width * height` of them.
    pub data: Vec<u8>,
}
