//! The page of a check on a GPU.

use super::study::{Section, View};
use super::{Headline, Page, provenance};
use crate::error::Result;
use crate::table::{Column, column};
use record::{GpuRecord, GpuStep, KernelSource, Verdict};

impl Page for GpuRecord {
    fn render(&self) -> Result<String> {
        super::fill("study.html", &view(self))
    }

    fn headline(&self) -> Headline {
        Headline::new(self.verdict, "GPU check", self.device.clone())
    }

    fn table_name(&self) -> &'static str {
        "steps.parquet"
    }

    fn table(&self) -> Vec<Column> {
        let steps = &self.steps;
        vec![
            column("step", steps, |step| step.name.as_str()),
            column("outcome", steps, |step| step.outcome.as_str()),
            column("seconds", steps, |step| step.seconds),
            column("command", steps, |step| step.command.as_str()),
        ]
    }
}

/// Builds the view.
fn view(gpu: &GpuRecord) -> View {
    let (mark, word) = match gpu.verdict {
        Verdict::Pass => ("✓", "Checked on a GPU"),
        Verdict::Diverged => ("✗", "A step failed"),
        Verdict::Incomplete => ("?", "Not checked completely"),
    };
    let passed = gpu.steps.iter().filter(|step| step.outcome == "passed").count();
    let sections = vec![
        Section::new("Steps", "Each step is a separate command; the end of its output is below.")
            .table(
                &["Step", "What it proves", "Outcome", "Time", "Command"],
                gpu.steps.iter().map(step_row).collect(),
            ),
        Section::new(
            "Kernels",
            "A kernel is stale if its source, or a file that it includes, has changed since the check.",
        )
        .table(
            &["Kernel", "State", "Checked source (SHA-256)"],
            gpu.kernels.iter().map(kernel_row).collect(),
        ),
        Section::new("Output of the steps", "")
            .table(&["Step", "End of its output"], gpu.steps.iter().map(said_row).collect()),
    ];
    View {
        title: format!("GPU check · {}", gpu.device),
        kind: "gpu-check",
        verdict: gpu.verdict.as_str(),
        mark,
        word: word.to_owned(),
        sentence: format!("{passed} of {} steps passed on {}", gpu.steps.len(), gpu.device),
        warnings: warnings(gpu),
        sections,
        provenance: provenance::of(&gpu.run),
    }
}

fn warnings(gpu: &GpuRecord) -> Vec<String> {
    let stale: Vec<&str> = gpu
        .kernels
        .iter()
        .filter(|kernel| kernel.matches() == Some(false))
        .map(|kernel| kernel.file.as_str())
        .collect();
    let mut warnings = vec![];
    if gpu.emulated {
        warnings
            .push("The GPU was emulated: nothing on this page was measured on a GPU.".to_owned());
    }
    if !stale.is_empty() {
        let stale = stale.join(", ");
        warnings.push(format!(
            "These kernels have changed since the check, which no longer covers them: {stale}"
        ));
    }
    warnings
}

fn step_row(step: &GpuStep) -> Vec<String> {
    vec![
        step.name.clone(),
        step.proves.clone(),
        step.outcome.clone(),
        format!("{:.1} s", step.seconds),
        step.command.clone(),
    ]
}

fn kernel_row(kernel: &KernelSource) -> Vec<String> {
    let state = match kernel.matches() {
        None => "unknown",
        Some(true) => "as checked",
        Some(false) => "stale",
    };
    let short: String = kernel.checked.chars().take(16).collect();
    vec![kernel.file.clone(), state.to_owned(), short]
}

fn said_row(step: &GpuStep) -> Vec<String> {
    vec![step.name.clone(), step.said.clone()]
}
