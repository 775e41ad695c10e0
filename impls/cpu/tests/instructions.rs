//! Counts the instructions of every kernel in a forward pass, with Callgrind, and compares them with those
//! in `instructions.tsv`. So a kernel that became slower is seen on a machine that is too busy to measure
//! time.
//!
//! ```text
//! HARNESS_WRITE_INSTRUCTIONS=1 cargo test --release -p cpu --test instructions
//! ```
//!
//! writes the file again, after a change that is meant to take more or fewer of them. The kernels are those
//! for AVX2, because Callgrind knows no AVX-512; they are made from the same source. The first line of the
//! file names the compiler. Another compiler gives other counts, so the tolerance is larger then.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use checkpoint::{Weights, formula};
use cpu::{Isa, Options};
use spec::{Config, Ignore, Model, Precision, Tensor};

/// By how much the instructions of a kernel may differ, with the compiler that the file names.
const TOLERATED: f64 = 0.005;
/// The same with another compiler.
const TOLERATED_OTHERWISE: f64 = 0.25;

/// The name of the test that is counted; this program calls itself with it.
const COUNTED: &str = "forward_passes_to_be_counted";

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/instructions.tsv")
}

#[test]
#[ignore = "is run by Callgrind, for the test below"]
fn forward_passes_to_be_counted() {
    let config = Config { width: 0.5, size: (56, 56), frames: 4, ..Config::default() };
    let model = Arc::new(Model::new(config).unwrap());
    let shape = model.input_shape(1);
    let input = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
    for precision in [Precision::F32, Precision::Bf16] {
        let weights = Weights::formula(model.parameters(), 0);
        let options = Options { threads: 1, isa: Some(Isa::Avx2), ..Options::default() };
        let mut engine = cpu::load(model.clone(), weights, precision, options).unwrap();
        engine.forward(&input, &mut Ignore).unwrap();
    }
}

/// The instructions of each kernel in what Callgrind wrote, without those of functions that it calls.
///
/// The format: `fn=(ID) NAME` begins the costs of a function, `cfn=(ID) NAME` names one that is called
/// (either without the name after the first time), each line of costs is a position and a number, and
/// the line after `calls=` is the cost of a call, which does not count here.
fn by_kernel(profile: &str) -> BTreeMap<String, u64> {
    let (mut names, mut counts) = (BTreeMap::new(), BTreeMap::new());
    let (mut current, mut called) = (None, false);
    for line in profile.lines() {
        let begins = line.strip_prefix("fn=");
        if let Some(function) = begins.or(line.strip_prefix("cfn=")) {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                names.insert(id.to_owned(), kernel(name));
            }
            if begins.is_some() {
                current = names.get(id).cloned().flatten();
            }
        } else if line.starts_with("calls=") {
            called = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if let (Some(kernel), Some(cost), false) = (&current, cost, called) {
                *counts.entry(kernel.clone()).or_insert(0) += cost;
            }
            called = false;
        }
    }
    counts
}

/// `avx2_f32::gemm` for the function of a kernel; None for other functions. In f32, `gemm_planes` is the same
/// function as `gemm`, so the compiler keeps one of them.
fn kernel(function: &str) -> Option<String> {
    let path = function.split_once("cpu::isa::avx2_")?.1;
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let path = path[..end.unwrap_or(path.len())].trim_end_matches(':');
    Some(format!("avx2_{}", path.replace("gemm_planes", "gemm")))
}

fn count() -> BTreeMap<String, u64> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("profile");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg("--compress-pos=no")
        .arg(std::env::current_exe().unwrap())
        .args([COUNTED, "--exact", "--ignored", "--test-threads=1"])
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "Callgrind failed: {said}");
    by_kernel(&std::fs::read_to_string(out).unwrap())
}

/// The version of the compiler, as it calls itself.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    said.unwrap_or_default().trim().to_owned()
}

#[test]
#[cfg_attr(debug_assertions, ignore = "the file is for --release")]
fn kernels_take_as_many_instructions_as_before() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip::skip!(Valgrind, "instructions are not counted");
    }
    if Isa::Avx2.detect().is_none() {
        return skip::skip!(Isa, "this processor has no avx2");
    }
    let counts = count();
    assert!(counts.len() > 10, "Callgrind shows few kernels: {counts:?}");
    if std::env::var_os("HARNESS_WRITE_INSTRUCTIONS").is_some() {
        let mut text =
            format!("# Instructions of each kernel, see instructions.rs; {}\n", compiler());
        counts.iter().for_each(|(name, count)| writeln!(text, "{name}\t{count}").unwrap());
        return std::fs::write(baseline(), text).unwrap();
    }
    let before = std::fs::read_to_string(baseline()).unwrap();
    let made_with = before.lines().next().unwrap();
    let same = made_with.ends_with(&format!("; {}", compiler()));
    let tolerated = if same { TOLERATED } else { TOLERATED_OTHERWISE };
    let before: BTreeMap<String, u64> = before
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect();
    let names: [Vec<&String>; 2] = [counts.keys().collect(), before.keys().collect()];
    assert_eq!(
        names[0], names[1],
        "the kernels in tests/instructions.tsv differ from those that ran"
    );
    // Fewer are a reason to write the file again, too: either the next slow kernel would stay unseen, or a
    // part of a kernel became a function of its own, which is not counted.
    let others: Vec<String> = counts
        .iter()
        .map(|(name, &count)| (name, count as f64 / before[name] as f64))
        .inspect(|(name, ratio)| println!("{name:28} {ratio:.4} of the instructions before"))
        .filter(|(_, ratio)| (ratio - 1.0).abs() > tolerated)
        .map(|(name, ratio)| format!("{name} {ratio:.3}"))
        .collect();
    assert!(
        others.is_empty(),
        "instructions of kernels over those before: {}. If that is meant, run\n\
         HARNESS_WRITE_INSTRUCTIONS=1 cargo test --release -p cpu --test instructions",
        others.join(", ")
    );
}

#[test]
fn the_costs_of_calls_do_not_count_and_names_are_remembered() {
    let profile = "version: 1\nevents: Ir\nfn=(4) main\n1 1\ncfn=(1) cpu::isa::avx2_f32::gemm\ncalls=1 0\n1 90\n\
                   fn=(1)\n10 5\n11 7\ncfn=(2) memcpy\ncalls=1 0\n11 1000\n12 1\nfn=(2)\n0 900\nfn=(1)\n10 20\n\
                   fn=(3) core::ops::function::FnOnce::call_once\n1 1\n";
    let want = BTreeMap::from([("avx2_f32::gemm".to_owned(), 33)]);
    assert_eq!(by_kernel(profile), want);
}
