//! Strips of frames of single videos: small pictures in files next to the record of an evaluation.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The strips of an evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Strips {
    /// The strips: the worst mistakes, then the disagreements.
    pub shown: Vec<Strip>,
    /// Why there are none, or fewer than there are mistakes and disagreements to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Some frames of a video, side by side in one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Strip {
    /// Position of the video in the list.
    pub index: u64,
    /// Why the video is shown.
    pub why: StripReason,
    /// The picture below the folder of the record, such as `frames/12.jpg`.
    pub file: String,
    /// The bytes of the picture, a JPEG file; empty if it is not there. They are not in the JSON.
    #[serde(skip)]
    pub picture: Vec<u8>,
}

/// Why the frames of a video are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StripReason {
    /// The first engine gives a wrong class a high score.
    Mistake,
    /// Engines name different classes.
    Disagreement,
}

impl Strip {
    /// The largest picture in bytes.
    pub const MAX_BYTES: usize = 32 << 10;
    /// The folder of the pictures below that of the record.
    pub const FOLDER: &str = "frames";

    /// The name of the picture of a video.
    pub fn file_of(index: u64) -> String {
        format!("{}/{index}.jpg", Self::FOLDER)
    }

    /// The bytes of a picture, if they are small enough and begin as a JPEG file does.
    pub fn checked(picture: Vec<u8>) -> Option<Vec<u8>> {
        let fits = picture.len() <= Self::MAX_BYTES && picture.starts_with(&[0xff, 0xd8, 0xff]);
        fits.then_some(picture)
    }

    /// Reads the picture. A record may come from a stranger, so only the name that [`Strip::file_of`] gives
    /// is read, and no more than the largest picture has.
    fn read(&self, folder: &Path) -> Option<Vec<u8>> {
        if self.file != Self::file_of(self.index) {
            return None;
        }
        let read = || -> io::Result<Vec<u8>> {
            let path = folder.join(&self.file);
            if !std::fs::metadata(&path)?.is_file() {
                return Ok(vec![]);
            }
            let mut bytes = vec![];
            File::open(path)?.take(Self::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().ok().and_then(Self::checked)
    }
}

impl Strips {
    /// The largest number of strips that are read for a page.
    pub const MAX: usize = 32;

    /// Reads the pictures next to the record in `folder`.
    pub(crate) fn read(&mut self, folder: &Path) {
        for strip in self.shown.iter_mut().take(Self::MAX) {
            strip.picture = strip.read(folder).unwrap_or_default();
        }
    }
}
