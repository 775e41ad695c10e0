//! The steps of the check, the most valuable first: time on a GPU is short, and the check may be cut off.

use anyhow::{Result, bail};

use super::args::GpuCheckArgs;
use crate::flags::DeviceName;

/// What a step runs.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// The script with the probes of the hardware.
    Probes,
    /// A command of this program, with its arguments.
    Harness(Vec<String>),
    /// The compiled tests of the kernels: the tool that runs them, if any, and their arguments.
    Tests(Vec<String>, Vec<String>),
    /// The network, many times, in this process.
    Repeat,
    /// Candidates for the tiling of products, in this process.
    Sweep,
}

/// A step with its name, the claim that it proves and its time limit in seconds.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub name: String,
    pub proves: &'static str,
    pub action: Action,
    pub limit_s: u64,
    /// Whether nothing else may run beside the step, because it measures time.
    pub alone: bool,
    /// Whether `--quick` keeps the step.
    pub quick: bool,
    /// Name and value of an environment variable that changes how the engine runs.
    pub setting: Option<(&'static str, &'static str)>,
}

impl Step {
    fn new(name: &str, proves: &'static str, limit_s: u64, action: Action) -> Self {
        let name = name.to_owned();
        Step { name, proves, action, limit_s, alone: false, quick: false, setting: None }
    }

    fn harness(name: &str, proves: &'static str, limit_s: u64, words: &str) -> Self {
        Step::new(name, proves, limit_s, Action::Harness(split(words)))
    }

    fn tests(name: &str, proves: &'static str, limit_s: u64, before: &str, words: &str) -> Self {
        Step::new(name, proves, limit_s, Action::Tests(split(before), split(words)))
    }

    fn alone(self) -> Self {
        Step { alone: true, ..self }
    }

    fn quick(self) -> Self {
        Step { quick: true, ..self }
    }

    fn with(self, name: &'static str, value: &'static str) -> Self {
        Step { setting: Some((name, value)), ..self }
    }
}

fn split(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

/// The configurations that are checked in addition to the default one: name and flags.
const CONFIGURATIONS: [(&str, &str); 10] = [
    ("57x65", "--size 57x65"),
    ("T 8", "--frames 8"),
    ("without TFC", "--set tfc=off"),
    ("without IOI", "--set ioi=off"),
    ("286x286", "--size 286"),
    ("width 0.3", "--width 0.3 --size 96"),
    ("depth 18", "--depth 18"),
    ("depth 101", "--depth 101"),
    ("without embedding", "--set pos_embed=off"),
    ("half-pixel embedding", "--set align_corners=off"),
];

/// The part of the tests of the kernels that the sanitizers, which are slow, run.
const SANITIZED: &str =
    "--test-threads 1 fused_block dense import mean two_inputs cluster_is_right";

/// Tests that need no GPU, because they plant faults in kernels.
const WITHOUT_GPU: &str = "--skip faults::";

/// The steps on a GPU.
pub(super) fn on_gpu(device: DeviceName) -> Vec<Step> {
    let diff = |name: &str, precision: &str, flags: &str| {
        let proves = "agrees with libtorch, layer by layer";
        let words =
            format!("diff --device {device} --candidate cuda --precision {precision} {flags}");
        Step::harness(name, proves, 60, &words)
    };
    let bench = |name: &str, limit, words: &str| {
        let proves = "speed compared with PyTorch's fastest settings, in one run";
        let words = format!("bench --device {device} --threads 1 --starts 1 {words}");
        Step::harness(name, proves, limit, &words).alone()
    };
    let probes = "what the hardware does where the design of the kernels depends on it";
    let repeat = Step::new("repeat", "the same bits in 100 runs", 60, Action::Repeat);
    let kernels = "every kernel is right over edge shapes";
    let eval = format!("eval mini --device {device} --engine cuda,cpu");
    let eval_proves = "no disagreement beyond ties with the engine cpu";
    // Eager libtorch takes seconds for a large batch, and says nothing that torch-graph does not.
    let peers = "--engines cuda,torch-graph,torch-compile";
    let mut steps = vec![
        Step::new("probes", probes, 90, Action::Probes).alone().quick(),
        Step::tests(
            "bands",
            kernels,
            60,
            "",
            &format!("--test-threads 1 {WITHOUT_GPU} bands:: stem:: pair:: clusters::"),
        )
        .alone()
        .quick(),
        diff("diff bf16", "bf16", "").alone().quick(),
        bench(
            "bench graph",
            60,
            "--engines cuda,torch-graph --batch 1,256 --precision bf16 --rounds 6 --runs 3",
        )
        .quick(),
        bench(
            "bench late starts",
            30,
            "--engines cuda --batch 1 --precision bf16 --rounds 6 --runs 10 --no-profile",
        )
        .with("HARNESS_CUDA_EARLY_STARTS", "off")
        .quick(),
        bench(
            "bench without clusters",
            30,
            "--engines cuda --batch 1 --precision bf16 --rounds 6 --runs 10 --no-profile",
        )
        .with("HARNESS_CUDA_CLUSTERS", "off")
        .quick(),
        bench(
            "bench with a map of the clip",
            30,
            "--engines cuda --batch 256 --precision bf16 --rounds 6 --runs 3 --no-profile",
        )
        .with("HARNESS_CUDA_BANDS", "shifted")
        .quick(),
        bench(
            "bench in tiles",
            60,
            "--engines cuda --batch 1,256 --precision bf16 --rounds 6 --runs 3",
        )
        .with("HARNESS_CUDA_BANDS", "off")
        .quick(),
        bench(
            "bench batch 1",
            150,
            &format!("{peers} --batch 1 --precision bf16 --rounds 10 --runs 10 --no-profile"),
        ),
        bench(
            "bench batch 256",
            150,
            &format!("{peers} --batch 256 --precision bf16 --rounds 6 --runs 3 --no-profile"),
        ),
        repeat.alone().quick(),
        Step::tests("kernels", kernels, 120, "", &format!("--test-threads 1 {WITHOUT_GPU}"))
            .quick(),
        Step::harness("eval mini", eval_proves, 60, &eval).quick(),
    ];
    steps.extend(["f32", "f16", "tf32"].map(|p| diff(&format!("diff {p}"), p, "").quick()));
    for precision in ["bf16", "f32"] {
        for (name, flags) in CONFIGURATIONS {
            steps.push(diff(&format!("diff {precision}, {name}"), precision, flags));
        }
    }
    for tool in ["memcheck", "racecheck"] {
        let before = format!("compute-sanitizer --tool {tool} --error-exitcode 9");
        let proves = "no invalid memory access and no race";
        steps.push(Step::tests(tool, proves, 120, &before, SANITIZED));
    }
    steps.push(bench(
        "bench precisions",
        90,
        "--engines cuda,torch-graph --batch 1,256 --precision f32,tf32,f16 --rounds 5 --runs 3 --no-profile",
    ));
    steps
}

/// The step that `--sweep` adds.
pub(super) fn sweep() -> Step {
    Step::new("sweep", "which tiling of a product is the fastest", 0, Action::Sweep).alone().quick()
}

/// The steps of a rehearsal, which need no GPU.
pub(super) fn rehearsal() -> Vec<Step> {
    let small = "--depth 10 --width 0.125 --frames 2 --size 32 --classes 3";
    let diff = |precision: &str| {
        let words =
            format!("diff --device emulated --candidate cuda --precision {precision} {small}");
        Step::harness(&format!("diff {precision}"), "agrees, layer by layer", 120, &words)
    };
    let repeat = Step::new("repeat", "the same bits", 60, Action::Repeat);
    let kernels = "kernels are right over edge shapes";
    let tests = "--test-threads 1 dense two_inputs";
    vec![
        diff("bf16").alone().quick(),
        repeat.alone().quick(),
        Step::tests("kernels", kernels, 120, "", tests),
        diff("f32"),
    ]
}

/// The steps that the arguments ask for; fails if `--only` names none.
pub(super) fn chosen(args: &GpuCheckArgs, all: &[Step]) -> Result<Vec<Step>> {
    let begins = |step: &Step, name: &str| step.name.starts_with(name);
    let names: Vec<&str> = args.only.iter().map(|name| name.trim()).collect();
    if let Some(wrong) = names.iter().find(|name| !all.iter().any(|step| begins(step, name))) {
        let steps: Vec<&str> = all.iter().map(|step| step.name.as_str()).collect();
        bail!("--only {wrong}: no step begins with this; the steps are: {}", steps.join("; "));
    }
    let named = |step: &&Step| names.is_empty() || names.iter().any(|name| begins(step, name));
    let kept = all.iter().filter(named).filter(|step| step.quick || !args.quick);
    let kept: Vec<Step> = kept.cloned().collect();
    if kept.is_empty() {
        bail!("--quick keeps none of the steps that --only names; leave out one of the two");
    }
    Ok(kept)
}
