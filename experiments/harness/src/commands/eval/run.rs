//! `harness eval`: measures the accuracy of engines on videos, and whether they agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use checkpoint::Weights;
use record::Record;
use record::{Disagreement, EvalRecord, Manifest, Published, Verdict, Video};
use sha2::{Digest, Sha256};
use spec::{Config, Model, Precision};
use video::dataset::Dataset;
use video::list::Entry;

use super::args::EvalArgs;
use super::journal::{self, Header, JOURNAL_FILE, Journal};
use super::sheet;
use super::table::table;
use crate::eval::network::{config_of, model_and_weights, weights_in_words};
use crate::eval::pipeline::{self, NamedEngine};
use crate::eval::score::score;
use crate::eval::source::Videos;
use crate::flags::EngineName;
use crate::machine::{Sides, Started};
use crate::outcome::Outcome;
use crate::publish;
use crate::{engines, stop};

/// The largest margin between two scores that counts as a tie. The float32 budget at the end of a deep
/// network is about 4e-5 (relative L2), logits are of order 1, and a score, which is at most 1, changes by at
/// most half as much as its logit.
pub const TIE: f64 = 1e-4;
/// The number of disagreements whose frames the report shows.
const PICTURES: usize = 8;

/// Evaluates the engines, or merges the runs of shards.
pub fn run(args: &EvalArgs) -> Result<Outcome> {
    let started = Started::now();
    stop::listen();
    let device = engines::open_device(&args.on)?;
    let config = args.model.over(config_of(args.dataset, args.videos.protocol))?;
    let (model, weights) = model_and_weights(args.dataset, &config, args.weights.as_ref())?;
    let folder = args.out.clone().unwrap_or_else(|| started.folder("eval"));
    let videos = Videos::open(args.dataset, &args.videos, &config, args.shard)?;
    let mut engines = Vec::new();
    for engine in chosen_engines(args) {
        let engine = engines::load(engine, model.clone(), &weights, Precision::F32, device)?;
        engines.push(NamedEngine::new(engine.describe(), engine));
    }
    let header = header(args, &videos, &config, &engines, &weights);
    let (mut rows, whole) = match args.merge.is_empty() {
        true => evaluate(args, &videos, &folder, &header, &mut engines)?,
        false => (merge(&args.merge, &header)?, true),
    };
    rows.sort_by_key(|video| video.index);
    let mut record = record(args, &videos, &header, rows, !whole, &started);
    pictures(&videos, &mut record);
    let (text, passed) = (table(&record), record.verdict == Verdict::Pass);
    publish::publish(&Record::Eval(Box::new(record)), &folder, &args.report)?;
    publish::print(&text);
    Ok(if passed { Outcome::Passed } else { Outcome::Failed })
}

fn chosen_engines(args: &EvalArgs) -> Vec<EngineName> {
    if !args.engine.is_empty() {
        return args.engine.clone();
    }
    let reference = EngineName::REFERENCE;
    if args.on.device.is_gpu() {
        return vec![EngineName::Cuda, reference];
    }
    match (args.dataset, reference) {
        (Dataset::Mini, EngineName::Torch) => vec![reference, EngineName::Scalar],
        _ => vec![reference],
    }
}

fn header(
    args: &EvalArgs,
    videos: &Videos,
    config: &Config,
    engines: &[NamedEngine],
    weights: &Weights,
) -> Header {
    Header {
        journal: 1,
        list: format!("{}: {}", args.dataset, videos.list),
        entries: digest(videos.entries.iter().map(line)),
        protocol: format!("{}, {} order", videos.protocol, videos.order),
        shard: args.shard.map(|shard| shard.to_string()),
        engines: engines.iter().map(|engine| engine.name.clone()).collect(),
        weights: digest_of(weights),
        model: config.clone(),
        decoder: format!("ffmpeg {}", videos.ffmpeg.version),
        batch: args.model.batch_size,
    }
}

fn line(entry: &Entry) -> Vec<u8> {
    format!("{} {}\n", entry.path, entry.label).into_bytes()
}

/// The SHA-256 of all parts, in hexadecimal.
fn digest(parts: impl Iterator<Item = Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    parts.for_each(|part| hash.update(part));
    files::hex(&hash.finalize())
}

fn digest_of(weights: &Weights) -> String {
    digest(weights.names().filter_map(|name| {
        let mut bytes = name.as_bytes().to_vec();
        bytes.extend(weights.get(name)?.data.iter().flat_map(|value| value.to_le_bytes()));
        Some(bytes)
    }))
}

/// Evaluates the videos that are not in the journal yet; `false` if the user has stopped the run.
fn evaluate(
    args: &EvalArgs,
    videos: &Videos,
    folder: &Path,
    header: &Header,
    engines: &mut [NamedEngine],
) -> Result<(Vec<Video>, bool)> {
    let (mut journal, mut rows) = Journal::open(folder, header, args.resume)?;
    let known: BTreeSet<u64> = rows.iter().map(|video| video.index).collect();
    let left: Vec<usize> =
        videos.wanted.iter().copied().filter(|place| !known.contains(&(*place as u64))).collect();
    if !known.is_empty() {
        eprintln!("{} videos are done, and {} are left", known.len(), left.len());
    }
    let classes = header.model.classes;
    let whole = pipeline::run(videos, &left, engines, header.batch, classes, &mut |done| {
        journal.append(&done.video)?;
        rows.push(done.video);
        Ok(())
    })?;
    Ok((rows, whole))
}

/// The videos of all shards; fails if one is there twice, or if a shard belongs to another run.
fn merge(folders: &[PathBuf], header: &Header) -> Result<Vec<Video>> {
    let mut rows: BTreeMap<u64, Video> = BTreeMap::new();
    for folder in folders {
        let path = folder.join(JOURNAL_FILE);
        let (found, videos) = journal::read(&path, None)?;
        let same = Header { shard: None, ..found } == Header { shard: None, ..header.clone() };
        if !same {
            bail!(
                "{}: belongs to another run; merge shards of one evaluation only",
                path.display()
            );
        }
        for video in videos {
            let index = video.index;
            if rows.insert(index, video).is_some() {
                bail!(
                    "{}: video {index} is also in another of the runs; give each run once",
                    path.display()
                );
            }
        }
    }
    Ok(rows.into_values().collect())
}

fn record(
    args: &EvalArgs,
    videos: &Videos,
    header: &Header,
    rows: Vec<Video>,
    interrupted: bool,
    started: &Started,
) -> EvalRecord {
    let classes = header.model.classes;
    let views = videos.protocol.views();
    let with = |of: fn(&Video) -> Option<&String>| -> Vec<(String, String)> {
        rows.iter().filter_map(|video| Some((video.path.clone(), of(video)?.clone()))).collect()
    };
    let done: BTreeSet<usize> = rows.iter().map(|video| video.index as usize).collect();
    let left = videos.wanted.iter().any(|place| !done.contains(place));
    let manifest = Manifest {
        list: header.list.clone(),
        listed: (videos.wanted.len() + videos.missing.len()) as u64,
        evaluated: rows.iter().filter(|video| video.error.is_none()).count() as u64,
        missing: videos.missing.iter().map(|&at| videos.entries[at].path.clone()).collect(),
        undecodable: with(|video| video.error.as_ref()),
        damaged: with(|video| video.warning.as_ref()),
        shard: header.shard.clone(),
        decoder: header.decoder.clone(),
        interrupted: interrupted || left,
    };
    let named = |place: usize| score(&header.engines[place], place, &rows, classes, views);
    let disagreements = disagreements(&rows, &header.engines);
    let incomplete =
        !manifest.missing.is_empty() || !manifest.undecodable.is_empty() || manifest.interrupted;
    let verdict = match disagreements.iter().any(|d| !d.tie) {
        true => Verdict::Diverged,
        false if incomplete || manifest.evaluated == 0 => Verdict::Incomplete,
        false => Verdict::Pass,
    };
    let source = weights_in_words(args.weights.as_ref());
    let mut seeds = BTreeMap::new();
    if args.dataset == Dataset::Mini {
        seeds.insert("videos".to_owned(), video::mini::SEED);
    }
    let sides = Sides {
        candidate: header.engines.join(", "),
        reference: String::new(),
        yardstick: String::new(),
        weights: format!("{source} (sha256 of its numbers {})", &header.weights[..16]),
        input: header.list.clone(),
        seeds,
        batch: header.batch,
    };
    let published = args.dataset.published().map(|published| Published {
        source: "arXiv 2405.08344, test protocol".to_owned(),
        top1: published.top1,
        top5: published.top5,
    });
    let names = match args.dataset {
        Dataset::Mini => video::mini::CLASSES.map(str::to_owned).to_vec(),
        _ => vec![],
    };
    EvalRecord {
        verdict,
        dataset: args.dataset.to_string(),
        mode: args.videos.protocol.to_string(),
        protocol: videos.protocol.to_string(),
        order: videos.order.to_string(),
        classes: names,
        manifest,
        engines: (0..header.engines.len()).map(named).collect(),
        disagreements,
        tie: TIE,
        published,
        macs: Model::new(header.model.clone()).ok().map(|model| model.macs()),
        videos: rows,
        run: started.finish(&header.model, sides),
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

/// Adds strips of frames to the largest disagreements.
fn pictures(videos: &Videos, record: &mut EvalRecord) {
    for disagreement in record.disagreements.iter_mut().filter(|d| !d.tie).take(PICTURES) {
        let path = videos.folder.join(&disagreement.path);
        let views = video::views::load(&videos.ffmpeg, &path, &videos.protocol, videos.limits);
        disagreement.frames = views.ok().and_then(|views| sheet::strip(&videos.ffmpeg, &views));
    }
}
