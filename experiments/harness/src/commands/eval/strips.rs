//! Strips of frames of the worst mistakes and of disagreements, as pictures next to the record.
//!
//! The videos are decoded again, since a run does not keep frames. No failure here fails the run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::Result;
use record::{EvalRecord, Strip, StripReason, Strips, Video};
use video::ffmpeg::Ffmpeg;
use video::views::Views;

use crate::eval::source::Videos;
use crate::stop;

/// The largest number of strips for each reason.
const EACH: usize = 8;
/// The number of frames in a strip, evenly spaced over the first clip.
const FRAMES: usize = 4;
/// The filter that makes a strip 64 pixels high, and at most 1024 wide.
const SMALL: &str = "scale='min(1024,max(2,round(iw*64/ih)))':64";

/// No strips, for this reason.
pub fn none(why: &str) -> Strips {
    Strips { shown: vec![], note: Some(format!("There are no frames, since {why}.")) }
}

/// Writes the strips of a run into its folder, in place of those that it had before.
pub fn write(videos: &Videos, record: &EvalRecord, folder: &Path) -> Result<Strips> {
    remove(&folder.join(Strip::FOLDER));
    let chosen = chosen(record);
    let (mut shown, mut failed) = (vec![], vec![]);
    for &(video, why) in &chosen {
        if stop::asked() {
            return Ok(Strips { shown, note: Some("The strips were interrupted.".to_owned()) });
        }
        let (index, file) = (video.index, Strip::file_of(video.index));
        match strip(videos, index as usize) {
            Some(picture) => {
                crate::disk::write(&folder.join(&file), &picture)?;
                shown.push(Strip { index, why, file, picture });
            }
            None => failed.push(files::printable(&video.path).to_string()),
        }
    }
    let note = (!failed.is_empty()).then(|| {
        let (count, first) = (failed.len(), &failed[0]);
        let of = chosen.len();
        format!("The frames of {count} of {of} videos could not be read again, such as {first}.")
    });
    if let Some(note) = &note {
        announce!("strips: {note}");
    }
    Ok(Strips { shown, note })
}

/// Removes the strips of an earlier run in the same folder, and nothing else.
fn remove(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_suffix(".jpg").unwrap_or_default();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            // One that stays is overwritten, or not named in the record.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The videos to show: the mistakes of the first engine with the highest scores, then the disagreements with
/// the largest margins. A video on which engines disagree counts as a disagreement only.
fn chosen(record: &EvalRecord) -> Vec<(&Video, StripReason)> {
    let by_path: BTreeMap<&str, &Video> =
        record.videos.iter().map(|video| (video.path.as_str(), video)).collect();
    let beyond = record.disagreements.iter().filter(|d| !d.tie).take(EACH);
    let disagreements: Vec<&Video> =
        beyond.filter_map(|d| by_path.get(d.path.as_str()).copied()).collect();
    let taken: BTreeSet<u64> = disagreements.iter().map(|video| video.index).collect();
    let mut wrong: Vec<(&Video, f64)> = record
        .videos
        .iter()
        .filter(|video| video.label.is_some() && !taken.contains(&video.index))
        .filter_map(|video| {
            let answer = video.says.first().filter(|answer| !answer.right)?;
            Some((video, *answer.scores.first()?))
        })
        .collect();
    // NaN is worse than any score; of equal scores the earlier video comes first.
    let badness = |score: f64| if score.is_nan() { f64::INFINITY } else { score };
    wrong.sort_by(|a, b| badness(b.1).total_cmp(&badness(a.1)));
    let wrong = wrong.into_iter().take(EACH).map(|(video, _)| (video, StripReason::Mistake));
    let others = disagreements.into_iter().map(|video| (video, StripReason::Disagreement));
    wrong.chain(others).collect()
}

/// The strip of a video as a JPEG file; `None` if it cannot be decoded, or if the picture is too large.
fn strip(videos: &Videos, place: usize) -> Option<Vec<u8>> {
    let path = videos.file(place);
    let views = video::views::load(&videos.ffmpeg, &path, &videos.protocol, videos.limits).ok()?;
    Strip::checked(jpeg(&videos.ffmpeg, &pixmap(&views)?)?)
}

/// Frames of the first clip side by side, as a portable pixmap.
fn pixmap(views: &Views) -> Option<Vec<u8>> {
    let indexes = views.indexes.first()?;
    let frames: Vec<_> = (0..FRAMES)
        .filter_map(|at| views.small.get(indexes.get(at * indexes.len() / FRAMES)?))
        .collect();
    let first = frames.first()?;
    let (width, height) = (frames.len() * first.width, first.height);
    let mut pixmap = format!("P6\n{width} {height}\n255\n").into_bytes();
    for row in 0..height {
        for frame in &frames {
            pixmap.extend(&frame.data[3 * row * frame.width..][..3 * frame.width]);
        }
    }
    Some(pixmap)
}

fn jpeg(ffmpeg: &Ffmpeg, pixmap: &[u8]) -> Option<Vec<u8>> {
    let mut child = ffmpeg
        .command()
        .args(["-v", "quiet", "-f", "image2pipe", "-c:v", "ppm", "-i", "pipe:0"])
        .args(["-vf", SMALL, "-q:v", "5", "-c:v", "mjpeg", "-f", "image2pipe", "pipe:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // The picture comes when the whole pixmap was read, so that neither side waits for the other.
    let sent = child.stdin.take()?.write_all(pixmap).is_ok();
    let output = child.wait_with_output().ok()?;
    (sent && output.status.success()).then_some(output.stdout)
}
