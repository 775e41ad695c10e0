//! What is made of a video for an evaluation.

use serde::{Deserialize, Serialize};

use crate::crop::Crops;

/// How a video becomes views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Clips, evenly over the video.
    pub clips: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// Frames of the video from one frame of a clip to the next.
    pub interval: usize,
    /// The shorter side after resizing, in pixels.
    pub short_side: usize,
    /// Side of the squares that the network is given.
    pub crop: usize,
    /// Which squares.
    pub crops: Crops,
}

impl Protocol {
    /// Views of each video.
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
