//! Merges the runs of parts of one list from their journals, without the videos.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use record::Video;

use super::args::EvalArgs;
use super::journal::{self, Header, JOURNAL_FILE};
use super::run::digest_of_entries;
use crate::eval::source;
use crate::lock::LOCK_FILE;

/// The fields of a header that differ between the parts of one run, or between machines.
const OWN: [&str; 3] = ["list", "shard", "source"];

/// Parts that were merged.
pub struct Merged {
    /// The header of the whole.
    pub header: Header,
    /// The videos in the order of the list.
    pub rows: Vec<Video>,
    /// Number of videos that should be there.
    pub listed: usize,
    /// Names of the videos that no run has.
    pub missing: Vec<String>,
}

/// The videos of all runs; fails if one belongs to another evaluation, or if two disagree on a video.
pub fn merge(args: &EvalArgs) -> Result<Merged> {
    let mut whole: Option<Header> = None;
    let mut rows: BTreeMap<u64, (Video, &Path)> = BTreeMap::new();
    for folder in &args.merge {
        let journal = journal::read(&folder.join(JOURNAL_FILE))?;
        report_state(folder, &journal);
        let first = whole.get_or_insert_with(|| journal.header.clone());
        check(folder, &journal.header, first, args)?;
        for (index, video) in journal.videos {
            let (video, folder) = match rows.remove(&index) {
                Some(known) => better(known, (video, folder))?,
                None => (video, folder.as_path()),
            };
            rows.insert(index, (video, folder));
        }
    }
    let Some(mut header) = whole else { bail!("--merge: give the folders of the runs") };
    header.shard = None;
    let limit = if args.videos.limit == 0 { header.listed } else { args.videos.limit };
    let listed = limit.min(header.listed);
    rows.retain(|&index, _| index < listed as u64);
    let gone: Vec<usize> = (0..listed).filter(|&at| !rows.contains_key(&(at as u64))).collect();
    let missing = names(args, &header, &gone);
    announce!(
        "{} runs have {} of {listed} videos of {}, with {}, weights {}",
        args.merge.len(),
        rows.len(),
        files::printable(&header.list),
        header.engines.join(", "),
        files::printable(&header.source),
    );
    Ok(Merged { header, rows: rows.into_values().map(|(v, _)| v).collect(), listed, missing })
}

fn report_state(folder: &Path, journal: &journal::Journal) {
    if !journal.damaged.is_empty() {
        let (count, first) = (journal.damaged.len(), journal.damaged[0]);
        announce!(
            "{}: {count} damaged lines were left out (the first is line {first})",
            folder.join(JOURNAL_FILE).display()
        );
    }
    if folder.join(LOCK_FILE).exists() {
        announce!("{}: this run is not over, or was killed", folder.display());
    }
}

/// Fails if a run belongs to another evaluation than the first one, or than the arguments.
fn check(folder: &Path, header: &Header, first: &Header, args: &EvalArgs) -> Result<()> {
    if let Some(differs) = journal::difference(header, first, &OWN) {
        bail!(
            "{}: belongs to another run than {} ({differs}); merge parts of one evaluation only",
            folder.display(),
            args.merge[0].display(),
        );
    }
    let dataset = args.dataset.to_string();
    if header.dataset != dataset {
        let found = &header.dataset;
        bail!("{}: is a run on {found}, not on {dataset}; name that one", folder.display());
    }
    Ok(())
}

/// Of two results for one video the one with answers. Fails if both have answers, and not the same.
fn better<'a>(a: (Video, &'a Path), b: (Video, &'a Path)) -> Result<(Video, &'a Path)> {
    match (&a.0.error, &b.0.error) {
        (Some(_), _) => Ok(b),
        (None, Some(_)) => Ok(a),
        (None, None) if timeless(&a.0) == timeless(&b.0) => Ok(a),
        (None, None) => bail!(
            "{} and {} have different results for video {} ({}); merge only runs that agree",
            a.1.display(),
            b.1.display(),
            a.0.index,
            a.0.path
        ),
    }
}

/// A result without what differs from run to run: times, and the state of the file.
fn timeless(video: &Video) -> serde_json::Value {
    let mut video = Video { file: None, decode_seconds: 0.0, ..video.clone() };
    video.says.iter_mut().for_each(|answer| answer.seconds = 0.0);
    serde_json::to_value(video).unwrap_or_default()
}

/// The names of videos by their places in the list, which is read if it is there.
fn names(args: &EvalArgs, header: &Header, places: &[usize]) -> Vec<String> {
    let entries = match places {
        [] => None,
        _ => source::entries(args.dataset, &args.videos, header.model.classes),
    };
    let entries = entries.filter(|entries| digest_of_entries(entries) == header.entries);
    let name = |&at: &usize| match &entries {
        Some(entries) => entries[at].path.clone(),
        None => format!("video {at} of the list"),
    };
    places.iter().map(name).collect()
}
