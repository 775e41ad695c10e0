//! Names of arrays: the flags `--map` and `--suggest-map`, and the map that a run uses.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use spec::{Engine, Model, Tensor};

use compare::dump::{NameMap, Npz};
use compare::suggest::{How, Suggestion, suggest};

/// The flags for dumps whose arrays have names of their own.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Names in a dump")]
pub struct NameArgs {
    /// Names of the dump's arrays: a file with lines `theirs = ours`, where theirs may have `*`, ours may
    /// be several modules or `-` for none, and `#` begins a comment.
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// Match arrays of unknown names with modules by their values and their order, use the result, and
    /// write it to FILE [default: names.map in the folder of the run] for --map.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub suggest_map: Option<Option<PathBuf>>,
}

/// The map that a run uses.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// The map for the dump.
    pub(super) map: NameMap,
    /// What was proposed, in sentences for the report.
    pub(super) remarks: Vec<String>,
    /// The file that the proposal was written to, if one was made.
    pub(super) written: Option<PathBuf>,
    /// The number of arrays for which the proposal has no module.
    pub(super) open: usize,
}

impl NameArgs {
    /// Whether any of the flags is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let map = self.map.as_ref().map(|_| "--map");
        map.or(self.suggest_map.as_ref().map(|_| "--suggest-map"))
    }

    /// Reads the map and makes the proposal. `truth` loads the engine for it, `clip` is the clip that
    /// the user named, and `folder` is that of the run.
    pub(super) fn resolve(
        &self,
        dump: Option<&PathBuf>,
        model: &Model,
        truth: impl FnOnce() -> Result<Box<dyn Engine>>,
        clip: impl FnOnce() -> Result<Option<Tensor>>,
        folder: &Path,
    ) -> Result<Names> {
        let Some(dump) = dump else {
            return match self.given() {
                Some(flag) => bail!(
                    "{flag}: neither side is a dump or a live model, and only these have names of their own; give \
                     npz:FILE or python:FILE:FUNCTION as --candidate"
                ),
                None => Ok(Names::default()),
            };
        };
        let map = self.map.as_ref().map(|path| NameMap::read(path, model)).transpose()?;
        let map = map.unwrap_or_default();
        let Some(target) = &self.suggest_map else {
            let remarks = unused(&map, dump).into_iter().collect();
            return Ok(Names { map, remarks, ..Names::default() });
        };
        let found = suggest(truth()?.as_mut(), model, dump, &map, clip()?.as_ref())
            .context("while matching the arrays of the dump by their values")?;
        let path = target.clone().unwrap_or_else(|| folder.join("names.map"));
        let text = found.text(&file_name(dump), model);
        files::write(&path, text.as_bytes())
            .with_context(|| format!("{}: the map cannot be written", path.display()))?;
        announce!("map {}", path.display());
        let remarks = remarks(&found);
        Ok(Names { map: found.map(), remarks, open: found.count(How::Open), written: Some(path) })
    }
}

/// The lines of a map that fit no array of the dump, in a sentence.
fn unused(map: &NameMap, dump: &Path) -> Option<String> {
    let names = Npz::open(dump).ok()?.names();
    let unused = map.unused(&names);
    if !unused.is_empty() && unused.len() == map.count() {
        return Some("no left side of the map is the name of an array in the file".to_owned());
    }
    let lines: Vec<String> = unused.iter().map(usize::to_string).collect();
    let some = lines.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    match lines.len() {
        0 => None,
        1 => Some(format!("line {some} of the map fits no array")),
        count => Some(format!(
            "{count} lines of the map fit no array (lines {some}{})",
            if count > 5 { ", …" } else { "" }
        )),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

/// What was proposed, in sentences.
fn remarks(found: &Suggestion) -> Vec<String> {
    let parts = [
        (How::Name, "by name"),
        (How::Value, "by value"),
        (How::Order, "by order"),
        (How::Nothing, "that show no module"),
        (How::Open, "not decided"),
    ];
    let counted = parts.iter().filter_map(|(how, words)| match found.count(*how) {
        0 => None,
        count => Some(format!("{count} {words}")),
    });
    let counted: Vec<String> = counted.collect();
    let mut remarks = vec![format!("names of the arrays: {}", counted.join(", "))];
    let of = |how: How| found.entries.iter().filter(move |entry| entry.how == how);
    for entry in of(How::Order).take(3) {
        let modules = entry.modules.join(", ");
        remarks.push(format!("{} is taken for {modules} {}", entry.array, entry.why));
    }
    for entry in of(How::Open).take(3) {
        remarks.push(format!("{} is left to you: {}", entry.array, entry.why));
    }
    // The names come from a file.
    let clean = |text: String| text.replace(|c: char| c.is_control(), "?");
    remarks.into_iter().map(clean).collect()
}
