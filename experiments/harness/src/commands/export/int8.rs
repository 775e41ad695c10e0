//! `--precision int8`: the float32 file, quantised by ONNX Runtime's tool, which calibrates it on clips.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use spec::Model;

use super::args::OnnxArgs;
use crate::engines::worker::{Program, Worker, find_peers};
use crate::flags::ClipSource;
use crate::{input, progress};

/// The Python program.
const FILES: [(&str, &str); 1] = [("harness_quantise.py", include_str!("quantise.py"))];

/// The most clips of a folder that are used, at equal distances. More hardly widen the ranges, and ONNX Runtime
/// runs each of them with every map as an output.
const MOST_CLIPS: usize = 64;

/// The number of formula clips without `--calibrate`.
const DEFAULT_CLIPS: usize = 8;

/// The largest total size of the tensors of one message; the program sends none.
const MAX_BYTES: usize = 1 << 20;

/// Quantises the bytes of a file.
///
/// # Errors
///
/// If a clip cannot be read, or if Python lacks the packages or fails.
pub(super) fn quantised(args: &OnnxArgs, model: &Model, float: &[u8]) -> Result<Vec<u8>> {
    if args.preprocess {
        bail!(
            "--precision int8 is calibrated on clips, so it cannot be combined with --preprocess"
        );
    }
    let clips = args.calibrate.as_ref().unwrap_or(&ClipSource::Seeds(DEFAULT_CLIPS));
    let sources = clips.spread("--calibrate", MOST_CLIPS)?;
    let folder = files::Folder::new().context("a temporary folder cannot be created")?;
    let at = |name: &str| folder.path().join(name);
    write(&at("float.onnx"), float)?;
    let mut worker = Worker::start(Program {
        name: "the quantiser".to_owned(),
        python: find_peers(args.python.python.as_deref())?,
        files: &FILES,
        arguments: vec![],
        environment: vec![],
        patience: args.python.patience,
        max_bytes: MAX_BYTES,
    })?;
    let bar = progress::bar("clips", sources.len() as u64);
    for (index, source) in sources.iter().enumerate() {
        let clip = input::load(source, model, 1)
            .with_context(|| format!("--calibrate, the clip {source}"))?;
        let path = at(&format!("{index}.npy"));
        worker.ask(&json!({"kind": "clip", "path": path}), &[&clip])?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let clips = clips_in_words(clips, sources.len());
    announce!("quantising, calibrated on {clips}");
    let answer = worker.ask(
        &json!({
            "kind": "quantise", "model": at("float.onnx"), "out": at("int8.onnx"), "input": "input",
            "clips": clips,
        }),
        &[],
    )?;
    announce!("{}: {} quantisers", answer.text("called"), answer.head["quantisers"]);
    std::fs::read(at("int8.onnx")).context("the quantised file cannot be read")
}

/// The clips, without a path of this machine.
fn clips_in_words(source: &ClipSource, count: usize) -> String {
    match source {
        ClipSource::Seeds(_) => format!("{count} formula clips"),
        ClipSource::Folder(_) => format!("clips of {count} videos"),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes)
        .with_context(|| format!("{} cannot be written; free disk space", path.display()))
}
