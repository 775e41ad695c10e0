//! What decord 0.6.0, with which the published accuracies were measured, makes of a file, where that is not
//! what the file shows: which stream it takes, how it turns frames, how many frames it counts, and which
//! frames its seeks arrive at.
//!
//! All of it was found by running decord on files of every kind (`scripts/check_decord` does so again), and
//! stands here as rules: `stream`, `turn`, `Facts::seeks_right` and the walk in `seeks`.

mod seeks;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::decode::{Dump, Packet, Stream};

/// Which frames a video is taken to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counting {
    /// Those that decord 0.6.0 counts: one for each packet of the stream with the highest bit rate.
    Decord,
    /// Those that a player shows.
    Decoded,
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Counting::Decord => "decord",
            Counting::Decoded => "decoded",
        })
    }
}

impl FromStr for Counting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "decord" => Ok(Counting::Decord),
            "decoded" => Ok(Counting::Decoded),
            _ => Err(format!("`{text}` is not a way to count frames; use decord or decoded")),
        }
    }
}

/// Where decord's frames are not ours, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Why decord takes other frames, as a sentence.
    pub why: String,
    /// The frame that decord takes for each sampled index, in the order of the clips; empty where that
    /// cannot be computed.
    pub takes: Vec<usize>,
}

/// The stream that is taken, as an index into the video streams of a file.
pub(crate) fn stream(videos: &[&Stream], counting: Counting) -> usize {
    // Of equal streams the first wins. A player prefers the default stream, then the largest picture.
    let worth = |stream: &Stream| match counting {
        Counting::Decord => (false, stream.bit_rate),
        Counting::Decoded => (stream.default, stream.pixels),
    };
    let best = videos.iter().enumerate().rev().max_by_key(|(_, stream)| worth(stream));
    best.map_or(0, |(at, _)| at)
}

/// ffmpeg's filter that turns frames as decord does. It knows three angles and no mirror.
pub(crate) fn turn(degrees: f64) -> Option<&'static str> {
    const TURNS: [(f64, &str); 3] =
        [(90.0, "transpose=clock"), (180.0, "hflip,vflip"), (270.0, "transpose=cclock")];
    TURNS.iter().find(|(angle, _)| (degrees - angle).abs() < 0.005).map(|(_, filter)| *filter)
}

/// The frames of a file, as one of the two ways to count has them.
pub(crate) struct Count {
    /// Number of frames that clips are sampled from.
    pub(crate) frames: usize,
    shown: usize,
    packets: Option<Vec<Packet>>,
    facts: Option<Facts>,
}

/// What decides whether decord's seeks arrive where they should.
#[derive(Debug, Clone, Copy)]
struct Facts {
    family: Family,
    /// The codec is one of those that keep the order of display to themselves in AVI.
    hides_order: bool,
    /// A frame is decoded before one that is shown earlier.
    reordered: bool,
    /// A group of pictures needs frames of the one before it.
    open: bool,
    /// There is not one frame for each packet.
    unshown: bool,
}

/// Containers, by how decord seeks in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// MP4 and QuickTime, whose seeks are computed.
    Mov,
    Matroska,
    Avi,
    Stream,
    Other,
}

/// The beginning of ffmpeg's name for a format.
const FAMILIES: [(&str, Family); 5] = [
    ("mov,", Family::Mov),
    ("matroska", Family::Matroska),
    ("flv", Family::Matroska),
    ("avi", Family::Avi),
    ("mpegts", Family::Stream),
];

impl Facts {
    fn new(dump: &Dump, stream: Option<&Stream>, packets: &[Packet], shown: usize) -> Self {
        let family = FAMILIES.iter().find(|(name, _)| dump.format.starts_with(name));
        let codec = stream.map_or("", |stream| &stream.codec);
        let places = seeks::places(packets);
        let moved = |keys: bool| {
            places.iter().enumerate().any(|(at, &place)| at != place && (!keys || packets[at].key))
        };
        Facts {
            family: family.map_or(Family::Other, |(_, family)| *family),
            hides_order: ["h264", "hevc"].contains(&codec),
            reordered: moved(false),
            open: moved(true),
            unshown: shown + packets.iter().filter(|packet| packet.hidden).count() != packets.len(),
        }
    }

    /// Whether decord's random access gives the frames that it counts, where that is not computed.
    fn seeks_right(self) -> bool {
        match self.family {
            Family::Mov | Family::Matroska => !self.open && !self.unshown,
            Family::Avi => !self.reordered && !self.hides_order && !self.unshown,
            Family::Stream => !self.reordered && !self.unshown,
            Family::Other => false,
        }
    }

    fn why(self) -> &'static str {
        match self {
            Facts { unshown: true, .. } => "it holds packets without a frame of their own",
            Facts { open: true, .. } => "its groups of pictures are open",
            Facts { reordered: true, .. } => "its frames are stored in another order than shown",
            Facts { hides_order: true, .. } => "its codec does not belong in this container",
            _ => "decord was not checked with this container",
        }
    }
}

/// Where decord's threads race, so that single frames differ between two runs of it.
const VARIES: &str =
    "an edit list and open groups of pictures, on which decord varies from run to run";

impl Count {
    /// Counts the frames of a decoded file, of which `shown` came.
    pub(crate) fn new(
        counting: Counting,
        shown: usize,
        packets: Option<Vec<Packet>>,
        dump: &Dump,
        stream: Option<&Stream>,
    ) -> Self {
        if counting == Counting::Decoded {
            return Count { frames: shown, shown, packets: None, facts: None };
        }
        let facts = packets.as_ref().map(|packets| Facts::new(dump, stream, packets, shown));
        Count { frames: packets.as_ref().map_or(shown, Vec::len), shown, packets, facts }
    }

    /// The decoded frame that stands for each index of `asked`, and what to say about decord. Indexes are
    /// frames in order; those beyond the last frame are the last one. Only where an edit list hides packets,
    /// so that no order is the right one, they are what decord's walk through the file arrives at.
    pub(crate) fn places(&self, asked: &[usize]) -> (Vec<usize>, Option<Remark>) {
        let last = self.shown.saturating_sub(1);
        let ordered: Vec<usize> = asked.iter().map(|&index| index.min(last)).collect();
        let (Some(packets), Some(facts)) = (&self.packets, self.facts) else {
            return (ordered, None);
        };
        let hidden = packets.iter().any(|packet| packet.hidden);
        let walked = match facts.family {
            Family::Mov if !facts.unshown => seeks::walk(packets, asked),
            _ => None,
        };
        match walked {
            Some(takes) if hidden => {
                let varies = Remark { why: VARIES.to_owned(), takes: vec![] };
                (takes, facts.open.then_some(varies))
            }
            Some(takes) if takes == ordered => (ordered, None),
            Some(takes) => (ordered, Some(Remark { why: facts.why().to_owned(), takes })),
            None if hidden => {
                let why = "an edit list hides frames that decord counts".to_owned();
                (ordered, Some(Remark { why, takes: vec![] }))
            }
            None if facts.seeks_right() => (ordered, None),
            None => (ordered, Some(Remark { why: facts.why().to_owned(), takes: vec![] })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decord_takes_the_highest_bit_rate_and_a_player_the_default_stream() {
        let stream_of =
            |bit_rate, pixels, default| Stream { bit_rate, pixels, default, ..Stream::default() };
        let (small, large) = (stream_of(742, 100, false), stream_of(76, 200, true));
        assert_eq!(stream(&[&large, &small], Counting::Decord), 1);
        assert_eq!(stream(&[&large, &small], Counting::Decoded), 0);
        assert_eq!(stream(&[&small, &small], Counting::Decord), 0);
        assert_eq!(stream(&[], Counting::Decord), 0);
    }

    #[test]
    fn three_angles_are_turned() {
        assert_eq!([0.0, 45.0, 89.0, 360.0].map(turn), [None; 4]);
        assert_eq!(turn(90.0), Some("transpose=clock"));
    }
}
