//! Runs the binary with arguments as a user types them, and checks output, record and exit code.

mod common;

use std::path::Path;

use common::{Harness, golden, json_of};

const SMALL: [&str; 8] = ["--depth", "18", "--width", "0.125", "--classes", "7", "--size", "64"];

fn without_size() -> &'static [&'static str] {
    &SMALL[..6]
}

/// What stands before a selected layer is fed, and must not widen what the layer is allowed.
#[test]
fn a_selected_layer_is_judged_as_in_the_whole_network() {
    let h = Harness::new();
    let small =
        ["--depth", "10", "--width", "0.125", "--classes", "7", "--size", "64", "--no-edge"];
    for candidate in [["cpu", "bf16"], ["scalar", "f32"]] {
        let flags = ["--candidate", candidate[0], "--precision", candidate[1]];
        let ratios = |more: &[&str]| {
            let record = h.diff(&[&flags[..], &small, more].concat()).passes();
            let layers = record["layers"].as_array().unwrap().clone();
            let of = |l: serde_json::Value| (l["name"].clone(), l["introduced"]["ratio"].clone());
            layers.into_iter().map(of).collect::<Vec<_>>()
        };
        let whole = ratios(&[]);
        for layer in ["ctl3", "layer3", "head"] {
            let own = ratios(&["--layer", layer]);
            assert!(own.iter().all(|one| whole.contains(one)), "{candidate:?} {layer}: {own:?}");
        }
    }
}

#[test]
fn info_is_also_json() {
    let h = Harness::new();
    let run = h.run(&["info", "--depth", "10", "--layer", "ctl1", "--json"]).code(0);
    let found: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(found["config"]["depth"], 10);
    let modules = found["modules"].as_array().unwrap();
    let name = |m: &serde_json::Value| m["name"].as_str().unwrap().to_owned();
    assert!(!modules.is_empty() && modules.iter().all(|m| name(m).starts_with("layer1.0.conv1")));
}

#[test]
fn a_healthy_engine_passes_with_every_module_compared() {
    let h = Harness::new();
    let record = h.diff(&SMALL).passes();
    assert_eq!(record["schema"], 1);
    assert_eq!(record["verdict"], "pass");
    assert!(record["first_divergent"].is_null());
    let layers = record["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 346);
    for layer in layers {
        assert_eq!(layer["verdict"], "pass", "{layer}");
        for error in ["introduced", "inherited"] {
            assert!(layer[error]["ratio"].as_f64().unwrap() <= 4.0, "{layer}");
        }
    }
    assert!(record["logits"]["rel_l2"].as_f64().unwrap() < 1e-5);
    assert!(h.html().contains("<!doctype html>") || h.html().contains("<!DOCTYPE html>"));
}

#[test]
fn the_table_fits_100_columns() {
    let h = Harness::new();
    for more in [&[][..], &["--inject", "missing-gate"], &["--layer", "ctl3"]] {
        let run = h.diff(&[&SMALL, more].concat());
        for line in run.stdout.lines() {
            let short = console_width(line) <= 100 || line.starts_with("The values fit");
            assert!(short, "{} columns: {line}", console_width(line));
        }
    }
}

fn console_width(line: &str) -> usize {
    line.chars().count()
}

#[test]
fn float64_engines_agree_to_1e_12() {
    let h = Harness::new();
    let record = h.diff(&[&SMALL[..], &["--precision", "f64"]].concat()).passes();
    for layer in record["layers"].as_array().unwrap() {
        assert!(layer["inherited"]["rel_l2"].as_f64().unwrap() <= 1e-12, "{layer}");
    }
}

#[test]
fn only_the_layers_asked_for_are_compared() {
    let h = Harness::new();
    let record = h.diff(&[&SMALL[..], &["--layer", "ctl3,bn1"]].concat()).passes();
    let names: Vec<&str> =
        record["layers"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"bn1") && names.contains(&"layer1.1.conv1"), "{names:?}");
    assert!(names.iter().all(|n| *n == "bn1" || n.starts_with("layer1.1.conv1")), "{names:?}");
}

#[test]
fn each_fault_is_found_located_and_explained() {
    let h = Harness::new();
    let cases = [
        ("swapped-weights@layer2.1", "swapped"),
        ("eps@layer3.0.bn1", "eps 1e-3"),
        ("align-corners@ctl5", "align_corners off"),
        ("shifted-frame", "one position too"),
        ("transposed-kernel@layer1.0.conv2.spatial_conv.glo_conv.3", "transposed"),
        ("channel-off@layer4.1", "channels are off by one"),
        ("missing-gate@ctl9", "gate g is missing"),
        ("bf16@layer2.0", "bf16"),
    ];
    for (fault, words) in cases {
        let run = h.diff(&[&SMALL[..], &["--inject", fault]].concat());
        assert_eq!(run.stderr.matches("injected at ").count(), 1, "{}", run.stderr);
        let record = run.fails();
        let explanation = record["culprit"]["explanation"].as_str().unwrap_or("");
        assert!(explanation.contains(words), "{fault}: {}", record["culprit"]);
        let named = record["first_divergent"].as_str().unwrap();
        let injected = h.stderr_line("injected at ");
        assert!(injected.starts_with(&format!("{named}:")), "{fault}: {named}, {injected}");
    }
}

#[test]
fn the_flax_port_diverges_at_the_embedding_of_a_one_pixel_map_only() {
    let h = Harness::new();
    let of = |size: &str| {
        let dump = format!("npz:{}", golden(&format!("dumps/flax_r18_w0125_t16_{size}.npz")));
        let flags = ["--size", size, "--candidate", &dump, "--input", "formula:0"];
        h.diff(&[without_size(), &flags].concat())
    };
    let record = of("57x65").fails();
    assert_eq!(record["verdict"], "diverged");
    assert_eq!(record["first_divergent"], "layer4.0.conv1.spatial_conv.pos_embed");
    assert_eq!(
        record["culprit"]["text"],
        "first goes wrong at layer4.0.conv1.spatial_conv (ctl13): pos_embed"
    );
    let explanation = record["culprit"]["explanation"].as_str().unwrap();
    assert!(
        explanation.contains("positional embedding is dropped on 1-pixel maps"),
        "{explanation}"
    );
    let record = of("64").passes();
    assert_eq!(record["unmatched"].as_array().unwrap().len(), 0, "{}", record["unmatched"]);
}

#[test]
fn a_pytorch_hook_dump_passes() {
    let h = Harness::new();
    let dump = format!("npz:{}", golden("dumps/torch_r18_w0125_t16_64.npz"));
    let flags = ["--candidate", &dump, "--input", "formula:0"];
    let record = h.diff(&[&SMALL[..], &flags].concat()).passes();
    let file = &record["files"][0];
    let bytes = std::fs::read(golden("dumps/torch_r18_w0125_t16_64.npz")).unwrap();
    assert_eq!(file["role"], "candidate");
    assert_eq!(file["bytes"], bytes.len());
    assert_eq!(file["sha256"], files::sha256(&bytes).as_str());
    assert_eq!(record["unmatched"].as_array().unwrap().len(), 0, "{}", record["unmatched"]);
}

#[test]
fn a_dump_of_ours_can_be_candidate_reference_or_both() {
    let h = Harness::new();
    let out = h.path("own.npz");
    h.run(&[&["dump", "--engine", "scalar", "--out", &out], &SMALL[..]].concat()).code(0);
    let npz = format!("npz:{out}");
    h.diff(&[&SMALL[..], &["--candidate", &npz]].concat()).passes();
    h.diff(&[&SMALL[..], &["--reference", &npz]].concat()).passes();
    let copy = h.path("copy.npz");
    std::fs::copy(&out, &copy).unwrap();
    let copy = format!("npz:{copy}");
    let record =
        h.diff(&[&SMALL[..], &["--candidate", &npz, "--reference", &copy]].concat()).passes();
    assert!(record["layers"][5]["introduced"].is_object(), "the dump's own values are there");
    let other = [&SMALL[..], &["--input", "formula:1", "--candidate", &npz]].concat();
    let record = h.diff(&other).fails();
    assert_eq!(record["first_divergent"], "input");
}

#[test]
fn a_dump_of_a_deeper_network_is_refused_with_the_flag() {
    let h = Harness::new();
    let out = h.path("own.npz");
    h.run(&[&["dump", "--engine", "scalar", "--out", &out], &SMALL[..]].concat()).code(0);
    let npz = format!("npz:{out}");
    let shallow: Vec<&str> =
        SMALL.iter().map(|word| if *word == "18" { "10" } else { word }).collect();
    assert!(shallow.contains(&"10"));
    let run = h.run(&[&["diff", "--candidate", &npz], &shallow[..]].concat()).code(2);
    assert!(run.stderr.contains("layer1.1 is a block") && run.stderr.contains("--depth"));
}

#[test]
fn a_dump_in_flax_names_and_layout_is_understood() {
    let h = Harness::new();
    let out = h.path("flax.npz");
    let naming = ["dump", "--engine", "scalar", "--naming", "flax", "--out", &out];
    h.run(&[&naming, &SMALL[..]].concat()).code(0);
    let npz = format!("npz:{out}");
    let record = h.diff(&[&SMALL[..], &["--candidate", &npz]].concat()).passes();
    let covered = |l: &&serde_json::Value| l["verdict"] == "covered";
    assert!(record["layers"].as_array().unwrap().iter().filter(covered).count() > 0);
}

#[test]
fn a_partial_dump_is_incomplete() {
    let h = Harness::new();
    let out = h.path("some.npz");
    let some = ["dump", "--engine", "scalar", "--layer", "layer1,fc", "--out", &out];
    h.run(&[&some, &SMALL[..]].concat()).code(0);
    let npz = format!("npz:{out}");
    let given = [&SMALL[..], &["--candidate", &npz, "--input", "formula:0"]].concat();
    let record = h.diff(&given).fails();
    assert_eq!(record["verdict"], "incomplete");
    h.diff(&[&given[..], &["--layer", "layer1"]].concat()).passes();
}

#[test]
fn every_ablation_is_equal_in_both_engines() {
    let h = Harness::new();
    for set in ["tfc=off", "ioi=off", "pos_embed=off", "pos_embed=flax", "align_corners=off"] {
        h.diff(&[&SMALL[..], &["--set", set]].concat()).passes();
    }
}

#[test]
fn selftest_finds_and_names_every_fault() {
    let h = Harness::new();
    let (json, html) = (h.path("s.json"), h.path("s.html"));
    let words = "swapped-weights,eps,align-corners,shifted-frame,transposed-kernel,channel-off,\
                 missing-gate,bf16";
    let fixed = ["selftest", "--places", "2", "--depth", "18", "--only", words];
    h.run(&[&fixed[..], &["--json", &json, "--html", &html]].concat()).code(0);
    let record = json_of(&json);
    assert!(record["faults"].as_array().unwrap().len() >= 8);
    for fault in record["faults"].as_array().unwrap() {
        assert_eq!(fault["injected"], fault["detected"], "{fault}");
        assert_eq!(fault["injected"], fault["named"], "{fault}");
    }
}

#[test]
fn reports_are_made_again_from_records_alone() {
    let h = Harness::new();
    h.diff(&SMALL).passes();
    let first = h.html();
    let run = h.run(&["report", &h.path("record.json")]).code(0);
    let again = std::fs::read_to_string(run.stdout.trim()).unwrap();
    assert_eq!(first, again);

    // Two runs in a folder and a README, as `report runs/*` names them.
    for run in ["a", "b"] {
        std::fs::create_dir_all(h.path(&format!("runs/{run}"))).unwrap();
        let to = h.path(&format!("runs/{run}/record.json"));
        std::fs::copy(h.path("record.json"), to).unwrap();
    }
    std::fs::write(h.path("runs/README.md"), "no record").unwrap();
    let (runs, readme, out) = (h.path("runs"), h.path("runs/README.md"), h.path("out"));
    let run = h.run(&["report", &runs, &readme, "--compare", "--out", &out]).code(0);
    assert_eq!(run.stdout.lines().count(), 4, "{}", run.stdout);
    assert!(
        run.stderr.contains("README.md: this is not a record, so it is left out"),
        "{}",
        run.stderr
    );
    for page in ["index.html", "comparison.html"] {
        assert!(Path::new(&h.path(&format!("out/{page}"))).exists(), "{page}");
    }
    h.run(&["report", &readme]).code(2);
}

#[test]
fn info_counts_the_published_size() {
    let h = Harness::new();
    let run = h.run(&["info"]).code(0);
    let text = &run.stdout;
    assert!(text.contains("28.89 M parameters") && text.contains("5.483 GMAC"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100));
}
