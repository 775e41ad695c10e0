//! The page of a check on a GPU.

use super::provenance;
use super::study::{Section, View};
use record::{GpuRecord, GpuStep, KernelSource, Verdict};

/// Builds the view from a record of `harness gpu-check`.
pub(super) fn view(gpu: &GpuRecord) -> View {
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
