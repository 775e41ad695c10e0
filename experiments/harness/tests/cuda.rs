//! `harness diff` compares the engine `cuda`, on an emulated GPU, with the reference.
#![cfg(all(feature = "libtorch", feature = "cuda"))]

mod common;

use common::{Harness, json_of};

const SMALL: [&str; 10] = [
    "--device",
    "emulated",
    "--width",
    "0.125",
    "--classes",
    "7",
    "--size",
    "45x37",
    "--frames",
    "4",
];

/// Whether a GPU can be emulated. If not, the test is reported as skipped.
fn emulated() -> bool {
    let host = cuda::device::Host::new(1);
    host.inspect_err(|error| skip::skip!(Gxx, "{error}")).is_ok()
}

#[test]
fn every_precision_passes_against_libtorch() {
    for precision in ["f32", "tf32", "bf16", "f16"] {
        if emulated() {
            // On a GPU the default candidate is the engine `cuda`.
            let more = ["--precision", precision, "--depth", "50"];
            let record = Harness::new().diff(&[&SMALL[..], &more].concat()).passes();
            assert!(
                record["run"]["candidate"].as_str().unwrap().starts_with("cuda"),
                "{precision}"
            );
        }
    }
}

#[test]
fn every_ablation_passes_and_a_fault_is_found() {
    for part in ["tfc=off", "ioi=off", "pos_embed=off", "align_corners=off"] {
        if emulated() {
            let more = ["--set", part, "--precision", "bf16", "--depth", "18"];
            Harness::new().diff(&[&SMALL[..], &more].concat()).passes();
        }
    }
    if emulated() {
        let fault = ["--depth", "18", "--inject", "missing-gate"];
        Harness::new().diff(&[&SMALL[..], &fault].concat()).fails();
    }
}

#[test]
fn a_rehearsed_gpu_check_is_marked_as_incomplete() {
    if !emulated() {
        return;
    }
    let h = Harness::new();
    let run = h.run(&["gpu-check", "--rehearse", "--out", &h.path("check")]).code(1);
    assert!(run.stdout.contains("diff bf16"), "{}", run.stdout);
    let record = json_of(&h.path("check/record.json"));
    assert_eq!(record["verdict"], "incomplete");
    assert_eq!(record["emulated"], true);
    let steps = record["steps"].as_array().unwrap();
    let wrong = h.run(&["gpu-check", "--rehearse", "--only", "bench"]).code(2);
    assert!(wrong.stderr.contains("the steps are: diff bf16; repeat; kernels"), "{}", wrong.stderr);
    let outcome = |name: &str| steps.iter().find(|s| s["name"] == name).unwrap()["outcome"].clone();
    assert_eq!(outcome("repeat"), "passed");
    assert_eq!(outcome("diff f32"), "passed");
    assert_eq!(outcome("kernels"), "left out", "no compiled tests were given");
    sweep(&h);
    // The report marks a kernel whose source has changed since the check as stale.
    let path = h.path("check/record.json");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let digest = record["kernels"][0]["checked"].as_str().unwrap().to_owned();
    text = text.replace(&digest, "00");
    std::fs::write(&path, text).unwrap();
    h.run(&["report", &h.path("check")]).code(0);
    let page = std::fs::read_to_string(h.path("check/report.html")).unwrap();
    assert!(page.contains("stale") && page.contains("The GPU was emulated"));
}

/// `--sweep` times tilings, and writes those that are the fastest as the planner reads them.
fn sweep(h: &Harness) {
    let list = h.path("list");
    let args =
        ["gpu-check", "--rehearse", "--only", "sweep", "--out", &h.path("sweep"), "--sweep", &list];
    std::fs::write(&list, "# tiny\n5 7 3 32x32 1\n40 16 1 32x16 1\n5 7 3 32x16 2\n").unwrap();
    let run = h.run(&args).code(1);
    assert!(run.stdout.contains("fastest"), "{}", run.stdout);
    let times = json_of(&h.path("sweep/sweep.json"));
    assert_eq!(times.as_array().unwrap().len(), 3);
    let record = json_of(&h.path("sweep/record.json"));
    assert_eq!(record["steps"][0]["name"], "sweep");
    assert_eq!(record["steps"][0]["outcome"], "passed");
    let rows = std::fs::read_to_string(h.path("sweep/tiles.tsv")).unwrap();
    let rows: Vec<&str> = rows.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rows.len(), 2, "one row for each product: {rows:?}");
    assert!(rows[0].starts_with("132\t227\tbf16\t5\t7\t3\t"), "{rows:?}");
    std::fs::write(&list, "5 7 3 32x31 1\n").unwrap();
    let wrong = h.run(&args).code(2);
    assert!(wrong.stderr.contains("line 1: `32x31` is not a tile"), "{}", wrong.stderr);
}
