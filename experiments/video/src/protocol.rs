//! The protocol of an evaluation, which says how views are cut from a video.

use serde::{Deserialize, Serialize};

use crate::crop::Crops;

/// The way in which views are cut from a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Number of clips, which are spread evenly over the video.
    pub clips: usize,
    /// Number of frames of a clip.
    pub frames: usize,
    /// Distance of two successive frames of a clip, in frames of the video.
    pub interval: usize,
    /// The shorter side after resizing, in pixels.
    pub short_side: usize,
    /// Side of the square crops, in pixels.
    pub crop: usize,
    /// Number and position of the crops.
    pub crops: Crops,
}

impl Protocol {
    /// Number of views of each video.
    pub fn views(&self) -> usize {
        self.clips * self.crops.count()
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Protocol { clips, frames, interval, short_side, crop, crops } = self;
        let crops = crops.count();
        write!(
            f,
            "{clips} clips of {frames} frames, every {interval}th; short side {short_side}; \
             {crops} crops of {crop}"
        )
    }
}
