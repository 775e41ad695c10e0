//! Prints, for `scripts/check_decord`, which frames of a video are evaluated: for each path on the command
//! line and each of the protocols `val` and `test` of k400 a line with tabs: path, protocol, number of
//! frames, SHA-256 of the sampled frames, SHA-256 of the frames that decord is said to take (or `-`), why
//! decord takes others (or `-`).

use std::path::Path;

use files::sha256;
use video::dataset::{Dataset, Mode};
use video::decode::{Decoder, Limits};
use video::ffmpeg::Ffmpeg;
use video::{Frame, VideoError, views};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ffmpeg = Ffmpeg::find()?;
    for path in std::env::args().skip(1) {
        for mode in [Mode::Val, Mode::Test] {
            match line(&ffmpeg, Path::new(&path), mode) {
                Ok(line) => println!("{path}\t{mode}\t{line}"),
                Err(why) => println!("{path}\t{mode}\t0\t-\t-\t{}", why.reason()),
            }
        }
    }
    Ok(())
}

fn line(ffmpeg: &Ffmpeg, path: &Path, mode: Mode) -> Result<String, VideoError> {
    let protocol = Dataset::K400.protocol(mode);
    let views = views::load_whole(ffmpeg, path, &protocol, Limits::default())?;
    let sampled = views.indexes.iter().flatten().map(|index| &views.decoded[index]);
    let (mut takes, mut why) = ("-".to_owned(), "-".to_owned());
    if let Some(remark) = &views.remark {
        why.clone_from(&remark.why);
        if !remark.takes.is_empty() {
            let mut decoder = Decoder::open(ffmpeg, path, Limits::default())?;
            let mut all = Vec::new();
            while let Some(frame) = decoder.next_frame()? {
                all.push(frame);
            }
            takes = hash(remark.takes.iter().filter_map(|&place| all.get(place)));
        }
    }
    Ok(format!("{}\t{}\t{takes}\t{why}", views.frames, hash(sampled)))
}

/// The SHA-256 of the bytes of frames, one after the other.
fn hash<'a>(frames: impl Iterator<Item = &'a Frame>) -> String {
    sha256(&frames.flat_map(|frame| frame.data.iter().copied()).collect::<Vec<u8>>())
}
