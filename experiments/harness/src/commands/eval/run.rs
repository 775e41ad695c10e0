//! `harness eval`: measures the accuracy of engines on videos, and whether they agree.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use checkpoint::Weights;
use record::Record;
use record::{EvalRecord, Speed, Verdict, Video};
use sha2::{Digest, Sha256};
use spec::{Config, Engine, Model};
use video::dataset::Dataset;
use video::list::Entry;

use super::args::EvalArgs;
use super::journal::{Header, VERSION, Writer};
use super::merge::{Merged, merge};
use super::summary::{Found, record};
use super::table::table;
use super::{checked, resume, strips};
use crate::command_line::CommandLine;
use crate::engines::Device;
use crate::eval::network::{config_of, model_and_weights, weights_in_words};
use crate::eval::pipeline::{self, NamedEngine, Ran};
use crate::eval::source::Videos;
use crate::flags::{DeviceName, EngineName, EvalEngine, Shard};
use crate::lock::{Lock, PATIENCE};
use crate::machine::Started;
use crate::outcome::Outcome;
use crate::{engines, models, publish, stop};

/// Evaluates the engines, or merges runs.
pub fn run(args: &EvalArgs) -> Result<Outcome> {
    let started = Started::now();
    if args.merge.is_empty() { evaluate(args, &started) } else { join(args, &started) }
}

fn join(args: &EvalArgs, started: &Started) -> Result<Outcome> {
    let Merged { header, rows, listed, missing } = merge(args)?;
    let allow_damaged = args.videos.allow_damaged;
    let device = DeviceName::Cpu;
    let found =
        Found { rows, listed, missing, interrupted: false, allow_damaged, speed: None, device };
    let mut record = record(args.dataset, &header, found, started);
    record.strips = Some(strips::none("the runs were merged without their videos"));
    publish_all(args, record, &args.out.clone().unwrap_or_else(|| started.folder("eval")))
}

fn evaluate(args: &EvalArgs, started: &Started) -> Result<Outcome> {
    stop::gently("no video was evaluated, and the same command starts again");
    let device = engines::open_device(&args.on)?;
    let base = config_of(args.dataset, args.videos.protocol);
    let flags = models::completed_for_data(&args.model, args.weights.as_ref(), &base);
    let config = flags.over(base)?;
    let (model, weights) = model_and_weights(args.dataset, &config, args.weights.as_ref())?;
    let folder = args.out.clone().unwrap_or_else(|| started.folder("eval"));
    let shard = shard(args)?;
    let videos = Videos::open(args.dataset, &args.videos, &config, args.model.counting(), shard)?;
    let chosen = chosen_engines(args);
    if let Some(twice) = (1..chosen.len()).find(|&at| chosen[..at].contains(&chosen[at])) {
        bail!(
            "--engine {}: it is named twice, and an engine agrees with itself whatever it computes; name another one",
            chosen[twice]
        );
    }
    if chosen.len() < 2 && !videos.have_labels() {
        bail!(
            "{}: the videos have no labels and there is one engine only, so nothing can be measured; \
             give two engines with --engine, or a list with labels",
            videos.list
        );
    }
    let mut engines = Vec::new();
    for engine in &chosen {
        engines.push(loaded(engine, args, &model, &weights, device)?);
    }
    let header = header(args, &videos, shard, &config, &engines, &weights);
    let _lock = Lock::acquire(&folder, PATIENCE)?;
    let again = CommandLine::this().with("--out", &folder.display().to_string()).in_words();
    stop::gently(format!("the finished videos are kept, and this goes on: {again}"));
    let (rows, Ran { whole, speed }) = rows(args, &videos, &folder, &header, &mut engines, &_lock)?;
    let missing = videos.missing.iter().filter(|&&at| !rows.contains_key(&(at as u64)));
    let found = Found {
        missing: missing.map(|&at| videos.entries[at].path.clone()).collect(),
        interrupted: videos.wanted.iter().any(|&at| !rows.contains_key(&(at as u64))),
        listed: videos.wanted.len() + videos.missing.len(),
        rows: rows.into_values().collect(),
        allow_damaged: args.videos.allow_damaged,
        speed: speed.or_else(|| earlier_speed(&folder)),
        device: args.on.device,
    };
    let mut record = record(args.dataset, &header, found, started);
    record.strips = Some(match (args.no_strips, whole) {
        (true, _) => strips::none("--no-strips left them out"),
        (_, false) => strips::none("the run was stopped before its end"),
        (false, true) => strips::write(&videos, &record, &folder)?,
    });
    let outcome = publish_all(args, record, &folder)?;
    Ok(if whole { outcome } else { Outcome::Stopped })
}

/// The speed of the run that evaluated the videos, if there was nothing left to do.
fn earlier_speed(folder: &Path) -> Option<Speed> {
    match record::read_record(&folder.join("record.json")) {
        Ok(Record::Eval(earlier)) => earlier.speed,
        _ => None,
    }
}

/// Writes the record and the report, and prints the table.
fn publish_all(args: &EvalArgs, record: EvalRecord, folder: &Path) -> Result<Outcome> {
    let (text, passed) = (table(&record), record.verdict == Verdict::Pass);
    publish::answer(&Record::Eval(Box::new(record)), &text, folder, &args.report)?;
    Ok(Outcome::of(passed))
}

fn shard(args: &EvalArgs) -> Result<Option<Shard>> {
    let Some(flag) = args.shard else { return Ok(None) };
    let (shard, from) =
        flag.resolve(|name| std::env::var(name).ok()).map_err(|why| anyhow!(why))?;
    if let Some(from) = from {
        announce!("shard {shard}, from {from}");
    }
    Ok(Some(shard))
}

fn loaded(
    engine: &EvalEngine,
    args: &EvalArgs,
    model: &Model,
    weights: &Weights,
    device: Device,
) -> Result<NamedEngine> {
    let (engine, mixes): (Box<dyn Engine>, bool) = match engine {
        EvalEngine::Own(name, precision) => {
            let engine = engines::load(*name, model.clone(), weights, *precision, device)?;
            (engine, name.mixes_clips())
        }
        // A runtime may choose its algorithms by the size of the batch.
        EvalEngine::Onnx(path) => (checked::onnx_file(path, args, model, weights, device)?, false),
    };
    Ok(NamedEngine::new(engine.describe(), engine).mixing(mixes))
}

fn chosen_engines(args: &EvalArgs) -> Vec<EvalEngine> {
    if !args.engine.is_empty() {
        return args.engine.clone();
    }
    default_engines(args).into_iter().map(EvalEngine::from).collect()
}

fn default_engines(args: &EvalArgs) -> Vec<EngineName> {
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
    shard: Option<Shard>,
    config: &Config,
    engines: &[NamedEngine],
    weights: &Weights,
) -> Header {
    Header {
        journal: VERSION,
        dataset: args.dataset.to_string(),
        list: match args.dataset {
            Dataset::Mini => videos.list.clone(),
            other => format!("{other}: {}", videos.list),
        },
        listed: videos.entries.len(),
        entries: digest_of_entries(&videos.entries),
        mode: args.videos.protocol.to_string(),
        protocol: videos.protocol.to_string(),
        views: videos.protocol.views(),
        order: videos.order.to_string(),
        shard: shard.map(|shard| shard.to_string()),
        engines: engines.iter().map(|engine| engine.name.clone()).collect(),
        weights: digest_of_weights(weights),
        source: weights_in_words(args.weights.as_ref()),
        model: config.clone(),
        decoder: format!("ffmpeg {}", videos.ffmpeg.version),
        batch: args.model.batch_size,
    }
}

/// The SHA-256 of all entries of a list, in hexadecimal.
pub fn digest_of_entries(entries: &[Entry]) -> String {
    digest(entries.iter().map(|entry| {
        let label = entry.label.map_or(-1, |label| label as i64);
        format!("{} {label}\n", entry.path).into_bytes()
    }))
}

fn digest(parts: impl Iterator<Item = Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    parts.for_each(|part| hash.update(part));
    files::hex(&hash.finalize())
}

fn digest_of_weights(weights: &Weights) -> String {
    digest(weights.names().filter_map(|name| {
        let mut bytes = name.as_bytes().to_vec();
        bytes.extend(weights.get(name)?.data.iter().flat_map(|value| value.to_le_bytes()));
        Some(bytes)
    }))
}

/// Evaluates the videos that the journal lacks, and returns all by their index.
fn rows(
    args: &EvalArgs,
    videos: &Videos,
    folder: &Path,
    header: &Header,
    engines: &mut [NamedEngine],
    lock: &Lock,
) -> Result<(BTreeMap<u64, Video>, Ran)> {
    let (mut writer, journal) = Writer::open(folder, header)?;
    let left = resume::left(videos, &journal, args.retry_errors, folder);
    let mut rows = journal.videos;
    let classes = header.model.classes;
    let ran = pipeline::run(videos, &left, engines, header.batch, classes, &mut |done| {
        lock.check()?;
        writer.append(&done.video)?;
        rows.insert(done.video.index, done.video);
        Ok(())
    })?;
    Ok((rows, ran))
}
