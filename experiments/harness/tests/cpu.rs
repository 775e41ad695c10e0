//! `harness diff` compares the engine `cpu` with the reference.
#![cfg(feature = "libtorch")]

mod common;

use common::Harness;

const SMALL: [&str; 8] =
    ["--candidate", "cpu", "--width", "0.3", "--classes", "7", "--size", "57x65"];

/// The instruction sets of this machine. The others are reported as skipped.
fn levels() -> Vec<cpu::Isa> {
    let there = |isa: &cpu::Isa| {
        if isa.detect().is_none() {
            skip::skip!(Isa, "this processor has no {isa}");
        }
        isa.detect().is_some()
    };
    cpu::Isa::ALL.into_iter().filter(there).collect()
}

#[test]
fn every_instruction_set_passes_in_both_precisions() {
    for isa in levels() {
        for precision in ["f32", "bf16"] {
            for depth in ["18", "50"] {
                let more = ["--isa", isa.name(), "--precision", precision, "--depth", depth];
                let record = Harness::new().diff(&[&SMALL[..], &more].concat()).passes();
                assert!(record["logits"]["rel_l2"].as_f64().unwrap() < 0.05);
            }
        }
    }
}

#[test]
fn every_ablation_passes() {
    for part in ["tfc=off", "ioi=off", "pos_embed=off", "align_corners=off", "pos_embed=flax"] {
        for precision in ["f32", "bf16"] {
            let more = ["--set", part, "--precision", precision, "--depth", "10"];
            Harness::new().diff(&[&SMALL[..], &more].concat()).passes();
        }
    }
}

#[test]
fn fused_layers_are_covered_and_a_fault_is_found() {
    let record = Harness::new().diff(&[&SMALL[..], &["--depth", "18"]].concat()).passes();
    let layers = record["layers"].as_array().unwrap();
    let covered = |layer: &&serde_json::Value| layer["verdict"] == "covered";
    let fused: Vec<_> = layers.iter().filter(covered).collect();
    assert!(!fused.is_empty() && fused.len() * 2 < layers.len());
    assert!(fused.iter().all(|layer| layer["covered_by"].is_string()));
    let fault = ["--depth", "18", "--inject", "missing-gate"];
    let run = Harness::new().diff(&[&SMALL[..], &fault].concat());
    assert_eq!(run.code, 1, "{}", run.stdout);
}

#[test]
fn one_layer_alone_passes() {
    for layer in ["ctl3", "layer2", "fc"] {
        Harness::new().diff(&[&SMALL[..], &["--layer", layer]].concat()).passes();
    }
}

#[test]
fn unsupported_settings_are_refused() {
    let h = Harness::new();
    let f64 = h.diff(&[&SMALL[..], &["--precision", "f64"]].concat());
    f64.refuses(&["f32 or bf16"]);
    let unknown = h.diff(&[&SMALL[..], &["--isa", "mmx"]].concat());
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("portable"), "{}", unknown.stderr);
}
