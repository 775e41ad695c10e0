//! The record of an evaluation, from its header and its videos.

use std::collections::{BTreeMap, BTreeSet};

use record::{
    Damage, DecordFile, Disagreement, EvalRecord, Manifest, Published, Speed, Verdict, Video,
};
use spec::Model;
use video::dataset::Dataset;

use super::journal::Header;
use crate::eval::score::score;
use crate::flags::DeviceName;
use crate::machine::{Sides, Started};

/// The largest margin between two scores that counts as a tie. The error that float32 allows at the end of a deep
/// network is about 4e-5 (relative L2), logits are of order 1, and a score, which is at most 1, changes by at
/// most half as much as its logit.
const TIE: f64 = 1e-4;

/// What a run, or several that were merged, have found.
pub struct Found {
    /// The videos in the order of the list.
    pub rows: Vec<Video>,
    /// Number of videos that should be there.
    pub listed: usize,
    /// Names of the videos that are not there.
    pub missing: Vec<String>,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
    /// Whether damaged videos are allowed.
    pub allow_damaged: bool,
    /// How fast the run was.
    pub speed: Option<Speed>,
    /// The device that computed; the CPU for runs that were merged, whose machines are not known.
    pub device: DeviceName,
}

/// The record of an evaluation.
pub fn record(dataset: Dataset, header: &Header, found: Found, started: &Started) -> EvalRecord {
    let Found { rows, listed, missing, interrupted, allow_damaged, speed, device } = found;
    let with = |of: fn(&Video) -> Option<&String>| -> Vec<(String, String)> {
        rows.iter().filter_map(|video| Some((video.path.clone(), of(video)?.clone()))).collect()
    };
    let manifest = Manifest {
        list: header.list.clone(),
        listed: listed as u64,
        in_list: Some(header.listed as u64),
        evaluated: rows.iter().filter(|video| video.error.is_none()).count() as u64,
        missing,
        undecodable: with(|video| video.error.as_ref()),
        damaged: rows.iter().filter_map(damage).collect(),
        damage_allowed: allow_damaged,
        warned: with(|video| video.warning.as_ref()),
        decord: rows.iter().filter_map(decord_file).collect(),
        shard: header.shard.clone(),
        decoder: header.decoder.clone(),
        interrupted,
    };
    let (classes, views) = (header.model.classes, header.views);
    let named = |place: usize| score(&header.engines[place], place, &rows, classes, views);
    let disagreements = disagreements(&rows, &header.engines);
    let published = dataset.published().filter(|published| {
        // Another network, other frames or a list of one's own have no published accuracy.
        let size = header.model.size;
        let whole = spec::Config { classes: dataset.classes(), size, ..spec::Config::default() };
        header.model == whole && header.order == "natural" && listed >= published.videos
    });
    let published = published.map(|published| Published {
        source: "arXiv 2405.08344, test protocol".to_owned(),
        top1: published.top1,
        top5: published.top5,
    });
    let names = match dataset {
        Dataset::Mini => video::mini::CLASSES.map(str::to_owned).to_vec(),
        _ => vec![],
    };
    EvalRecord {
        verdict: verdict(&manifest, &disagreements),
        dataset: header.dataset.clone(),
        mode: header.mode.clone(),
        protocol: header.protocol.clone(),
        order: header.order.clone(),
        classes: names,
        manifest,
        engines: (0..header.engines.len()).map(named).collect(),
        disagreements,
        strips: None,
        tie: TIE,
        published,
        speed,
        macs: Model::new(header.model.clone()).ok().map(|model| model.macs()),
        videos: rows,
        run: started.finish(&header.model, sides(dataset, header, device)),
    }
}

/// A damaged video with both numbers of frames.
fn damage(video: &Video) -> Option<(String, String)> {
    let Damage { came, promised } = video.damage?;
    Some((video.path.clone(), format!("{came} of {promised} promised frames came")))
}

fn decord_file(video: &Video) -> Option<DecordFile> {
    Some(DecordFile { path: video.path.clone(), remark: video.decord.clone()? })
}

fn verdict(manifest: &Manifest, disagreements: &[Disagreement]) -> Verdict {
    let incomplete = !manifest.missing.is_empty()
        || !manifest.undecodable.is_empty()
        || manifest.interrupted
        || (!manifest.damaged.is_empty() && !manifest.damage_allowed)
        || manifest.evaluated == 0;
    match disagreements.iter().any(|d| !d.tie) {
        true => Verdict::Diverged,
        false if incomplete => Verdict::Incomplete,
        false => Verdict::Pass,
    }
}

fn sides(dataset: Dataset, header: &Header, device: DeviceName) -> Sides {
    let mut seeds = BTreeMap::new();
    if dataset == Dataset::Mini {
        seeds.insert("videos".to_owned(), video::mini::SEED);
    }
    let hash: String = header.weights.chars().take(16).collect();
    Sides {
        candidate: header.engines.join(", "),
        reference: String::new(),
        yardstick: String::new(),
        weights: format!("{} (sha256 of its numbers {hash})", header.source),
        input: header.list.clone(),
        seeds,
        batch: header.batch,
        device,
    }
}

/// The videos for which engines name different classes, those with the largest margin first.
fn disagreements(rows: &[Video], engines: &[String]) -> Vec<Disagreement> {
    let mut all: Vec<Disagreement> = rows
        .iter()
        .filter_map(|video| {
            let firsts: BTreeSet<Option<&u64>> = video.says.iter().map(|a| a.top.first()).collect();
            let broken = video.says.iter().any(|a| a.scores.iter().any(|score| score.is_nan()));
            if video.says.len() < 2 || (firsts.len() < 2 && !broken) {
                return None;
            }
            let margins = video.says.iter().map(record::Answer::margin);
            let margin = if broken { f64::NAN } else { margins.fold(0.0, f64::max) };
            let named = engines.iter().zip(&video.says);
            let named = named.filter_map(|(e, a)| Some((e.clone(), *a.top.first()?))).collect();
            let (path, label) = (video.path.clone(), video.label);
            Some(Disagreement { path, label, named, margin, tie: margin <= TIE, frames: None })
        })
        .collect();
    let sure = |d: &Disagreement| if d.margin.is_nan() { f64::INFINITY } else { d.margin };
    all.sort_by(|a, b| sure(b).total_cmp(&sure(a)));
    all
}
