//! What is left to do of a run that was started before.

use std::collections::BTreeMap;
use std::path::Path;

use record::{FileState, Video};

use super::journal::{JOURNAL_FILE, Journal};
use crate::eval::pipeline::state_of;
use crate::eval::source::Videos;

/// Why a video is evaluated again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Again {
    Accident,
    Changed,
    Asked,
}

impl Again {
    fn in_words(self) -> &'static str {
        match self {
            Again::Accident => "after an accident",
            Again::Changed => "since their files have changed",
            Again::Asked => "as --retry-errors asks",
        }
    }
}

/// The places in the list of the videos that are to be evaluated: those that are not finished, and those
/// whose error may be gone. Says on stderr what is done and why something is done again.
pub fn left(videos: &Videos, journal: &Journal, retry_errors: bool, folder: &Path) -> Vec<usize> {
    let mut again: BTreeMap<Again, usize> = BTreeMap::new();
    let wanted = videos.wanted.iter().copied().filter(|&place| {
        let Some(video) = journal.videos.get(&(place as u64)) else { return true };
        let file = state_of(&videos.file(place));
        let why = again_since(video, file, retry_errors);
        why.into_iter().for_each(|why| *again.entry(why).or_default() += 1);
        why.is_some()
    });
    let wanted: Vec<usize> = wanted.collect();
    if let Some(first) = journal.damaged.first() {
        announce!(
            "{}: {} damaged (the first is line {first}); a video that no other line has is evaluated \
             again",
            folder.join(JOURNAL_FILE).display(),
            match journal.damaged.len() {
                1 => "1 line is".to_owned(),
                count => format!("{count} lines are"),
            }
        );
    }
    if !journal.videos.is_empty() {
        let repeated: usize = again.values().sum();
        let done = journal.videos.len() - repeated;
        announce!("videos done: {done}, left: {}", wanted.len());
    }
    for (why, count) in again {
        announce!("{count} of these are tried again {}", why.in_words());
    }
    wanted
}

/// Why a finished video is evaluated again; `None` if it is not. An answer stands if only the time of its
/// file has changed: jobs copy the videos to the disk of their machine.
fn again_since(video: &Video, file: Option<FileState>, retry_errors: bool) -> Option<Again> {
    if video.error.is_none() && video.damage.is_none() {
        let bytes = |file: Option<FileState>| file.map(|file| file.bytes);
        let other = bytes(file).is_some()
            && bytes(video.file).is_some()
            && bytes(file) != bytes(video.file);
        return other.then_some(Again::Changed);
    }
    if video.error.is_some() && video.transient {
        return Some(Again::Accident);
    }
    if file.is_some() && file != video.file {
        return Some(Again::Changed);
    }
    (retry_errors && video.error.is_some()).then_some(Again::Asked)
}

#[cfg(test)]
mod tests {
    use record::Damage;

    use super::*;

    fn video(error: Option<&str>, transient: bool, damage: Option<Damage>) -> Video {
        Video {
            index: 0,
            path: "a.mp4".to_owned(),
            label: None,
            frames: 0,
            says: vec![],
            error: error.map(str::to_owned),
            transient,
            file: Some(FileState { bytes: 1, modified: 1 }),
            damage,
            warning: None,
            decord: None,
            decode_seconds: 0.0,
        }
    }

    #[test]
    fn errors_are_tried_again_where_that_may_help() {
        let (same, other) =
            (FileState { bytes: 1, modified: 1 }, FileState { bytes: 2, modified: 1 });
        let bad = video(Some("no video"), false, None);
        let cut = Some(Damage { came: 1, promised: 9 });
        let cases = [
            (video(None, false, None), same, true, None),
            (video(None, false, None), FileState { bytes: 1, modified: 2 }, true, None),
            (
                video(None, false, None),
                FileState { bytes: 2, modified: 1 },
                false,
                Some(Again::Changed),
            ),
            (video(Some("SIGKILL"), true, None), same, false, Some(Again::Accident)),
            (bad.clone(), same, false, None),
            (bad.clone(), other, false, Some(Again::Changed)),
            (bad.clone(), same, true, Some(Again::Asked)),
            (video(None, false, cut), same, true, None),
            (video(None, false, cut), other, false, Some(Again::Changed)),
        ];
        for (video, file, asked, wanted) in cases {
            assert_eq!(again_since(&video, Some(file), asked), wanted, "{video:?}");
        }
        assert_eq!(again_since(&bad, None, false), None, "the file is gone");
    }
}
