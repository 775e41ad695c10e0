//! How a run was made and how to repeat it.

use serde::Serialize;

use crate::format::{shell, short};
use record::{Git, Model, Run};

/// The command line, and everything else on which the result of a run depends.
#[derive(Serialize)]
pub(super) struct Provenance {
    command: String,
    dirty: bool,
    facts: Vec<(String, String)>,
}

impl Provenance {
    /// The same with more names and values after the first ones, which say what took part.
    pub fn with(mut self, more: impl IntoIterator<Item = (String, String)>) -> Self {
        self.facts.extend(more);
        self
    }

    /// Names and values.
    pub fn facts(self) -> Vec<(String, String)> {
        self.facts
    }
}

/// Formats the provenance of a run.
pub(super) fn of(run: &Run) -> Provenance {
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![
        fact("Candidate", run.candidate.clone()),
        fact("Reference", run.reference.clone()),
        fact("Comparison run", run.yardstick.clone()),
        fact("Weights", run.weights.clone()),
        fact("Input", run.input.clone()),
        fact("Model", model(&run.model)),
        fact("Started", format!("{}, took {} s", run.started, short(run.seconds))),
        fact("Machine", machine(run)),
        fact("GPU", run.machine.gpu.clone().unwrap_or_default()),
        fact("CPU extensions", run.machine.extensions.join(", ")),
        fact("Revision", run.git.as_ref().map_or_else(|| "not in a checkout".to_owned(), revision)),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    facts.extend(run.seeds.iter().map(|(name, seed)| (format!("Seed: {name}"), seed.to_string())));
    facts.extend(run.versions.iter().map(|(name, version)| (name.clone(), version.clone())));
    Provenance {
        command: shell(&run.command),
        dirty: run.git.as_ref().is_some_and(|git| git.dirty),
        facts,
    }
}

fn revision(git: &Git) -> String {
    let state = if git.dirty { ", with uncommitted changes" } else { "" };
    format!("{}{state}", git.revision)
}

fn machine(run: &Run) -> String {
    let machine = &run.machine;
    format!(
        "{}, {} cores, {} GiB, {}",
        machine.cpu,
        machine.cores,
        short(machine.memory_gib),
        machine.os
    )
}

/// The configuration of a network in words.
pub(super) fn model(model: &Model) -> String {
    let pos_dim: Vec<String> = model.pos_dim.iter().map(u64::to_string).collect();
    let mut text = format!(
        "depth {}, width {}, {} frames, {} × {}, {} classes, pos_dim {}",
        model.depth,
        model.width,
        model.frames,
        model.size[0],
        model.size[1],
        model.classes,
        pos_dim.join(",")
    );
    for (name, value) in &model.more {
        text.push_str(&format!(", {name} {value}"));
    }
    text
}
