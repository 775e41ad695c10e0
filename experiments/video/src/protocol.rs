//! The protocol of an evaluation, which says how views are cut from a video.

use serde::{Deserialize, Serialize};

use crate::crop::Crops;
use crate::decord::Counting;

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
    /// Which frames a video is taken to have.
    pub counting: Counting,
}

impl Protocol {
    /// Number of views of each video.
    pub fn views(&self) -> usize {
        self.clips * self.crops.count()
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Protocol { clips, frames, interval, short_side, crop, crops, counting } = self;
        let crops = crops.count();
        let of = match counting {
            Counting::Decord => "frames as decord 0.6.0 counts them",
            Counting::Decoded => "frames as a player shows them",
        };
        let ending = |number: usize| if number == 1 { "" } else { "s" };
        write!(
            f,
            "{clips} clip{} of {frames} frames, every {interval}th; short side {short_side}; \
             {crops} crop{} of {crop}; {of}",
            ending(*clips),
            ending(crops)
        )
    }
}
