//! `harness export onnx`: the content of the file, what is refused, and that ONNX Runtime computes the
//! same as the reference from the file.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Harness, Run, json_of};
use ndarray::ArrayD;
use ndarray_npy::NpzReader;
use onnx::proto;
use prost::Message;
use proto::{Extent, GraphProto, ModelProto, ValueInfoProto, element};

/// A small network, whose shapes the tests know.
const SMALL: [&str; 10] =
    ["--depth", "18", "--width", "0.125", "--classes", "7", "--size", "57x65", "--frames", "8"];

fn export(h: &Harness, out: &str, more: &[&str]) -> Run {
    h.run(&[&["export", "onnx", "--out", out], &SMALL[..], more].concat())
}

fn exported(h: &Harness, more: &[&str]) -> ModelProto {
    let out = h.path("model.onnx");
    export(h, &out, more).code(0);
    ModelProto::decode(std::fs::read(out).unwrap().as_slice()).unwrap()
}

fn graph_of(h: &Harness, more: &[&str]) -> GraphProto {
    exported(h, more).graph.unwrap()
}

/// The name, element type and extents of an input or output, as text.
fn described(value: &ValueInfoProto) -> String {
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).unwrap();
    let extents = tensor.shape.as_ref().unwrap().dim.iter().map(|dim| match &dim.value {
        Some(Extent::Value(value)) => value.to_string(),
        Some(Extent::Param(name)) => name.clone(),
        None => "?".to_owned(),
    });
    let extents: Vec<String> = extents.collect();
    format!("{} {} [{}]", value.name, tensor.elem_type, extents.join(", "))
}

fn count(graph: &GraphProto, op: &str) -> usize {
    graph.node.iter().filter(|node| node.op_type == op).count()
}

#[test]
fn every_opset_has_its_ir_version() {
    let h = Harness::new();
    for (opset, ir) in [(17, 8), (18, 8), (19, 9), (20, 9), (21, 10), (22, 10), (23, 11)] {
        let file = exported(&h, &["--opset", &opset.to_string()]);
        assert_eq!((file.opset_import[0].version, file.ir_version), (opset, ir));
    }
}

#[test]
fn the_file_is_the_network_with_a_dynamic_batch() {
    let h = Harness::new();
    let graph = graph_of(&h, &["--batch-size", "3"]);
    let float = element::FLOAT;
    assert_eq!(described(&graph.input[0]), format!("input {float} [batch, 3, 8, 57, 65]"));
    assert_eq!(described(&graph.output[0]), format!("logits {float} [batch, 7]"));
    let last = graph.node.last().unwrap();
    assert_eq!((last.name.as_str(), last.op_type.as_str()), ("fc", "Gemm"));
    assert_eq!(last.output, ["logits"]);
    // Depth 18 has the stem, 16 CTLs of 7 convolutions, three downsamplings and three shortcuts.
    assert_eq!(count(&graph, "Conv"), 1 + 16 * 7 + 3 + 3);
    let dims = |name: &str| {
        let found = graph.initializer.iter().find(|t| t.name == name);
        found.unwrap_or_else(|| panic!("{name} is missing")).dims.clone()
    };
    assert_eq!(dims("conv1.weight"), [8, 24, 5, 5]);
    assert_eq!(dims("layer2.0.downsample.0.weight").len(), 4);
    assert_eq!(dims("fc.weight"), [7, 64]);
    // The embedding is stored at the size of its map, not at 7 x 7.
    assert_eq!(dims("layer1.0.conv1.spatial_conv.pos_embed"), [1, 16, 15, 17]);
    assert!(graph.initializer.iter().all(|t| {
        let each = if t.data_type == element::INT64 { 8 } else { 4 };
        t.raw_data.len() as i64 == each * t.dims.iter().product::<i64>()
    }));
}

#[test]
fn input_and_output_follow_the_options() {
    let h = Harness::new();
    let graph = graph_of(&h, &["--softmax", "--preprocess"]);
    let (float, uint8) = (element::FLOAT, element::UINT8);
    assert_eq!(described(&graph.input[0]), format!("frames {uint8} [batch, 8, 57, 65, 3]"));
    assert_eq!(described(&graph.output[0]), format!("probabilities {float} [batch, 7]"));
    assert!(graph.node.iter().any(|node| node.name == "fc" && node.output == ["logits"]));
    for (off, less) in [("tfc=off", 2), ("ioi=off", 4)] {
        let convs = count(&graph_of(&h, &["--set", off]), "Conv");
        assert_eq!(convs, 119 - 16 * less, "{off}");
    }
}

#[test]
fn metadata_names_the_weights_without_their_folder() {
    let h = Harness::new();
    let weights = h.path("secret-folder/w.safetensors");
    std::fs::create_dir(h.path("secret-folder")).unwrap();
    let convert = ["weights", "convert", "formula:3", "--out", &weights];
    h.run(&[&convert, &SMALL[..]].concat()).code(0);
    let of = |source: &str| {
        let file = exported(&h, &["--weights", source]);
        let all: Vec<String> = file.metadata_props.iter().map(|e| e.value.clone()).collect();
        assert!(!all.concat().contains("secret-folder"), "{all:?}");
        let entry = file.metadata_props.iter().find(|e| e.key == "weights");
        entry.unwrap().value.clone()
    };
    assert_eq!(of("formula:3"), "formula:3");
    let named = of(&weights);
    let hash = named.strip_prefix("w.safetensors sha256:").unwrap_or_else(|| panic!("{named}"));
    assert!(hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{named}");
}

#[test]
fn impossible_exports_are_refused_and_nothing_is_written() {
    let h = Harness::new();
    let out = h.path("new/m.onnx");
    for opset in ["16", "24", "99"] {
        export(&h, &out, &["--opset", opset]).refuses(&["--opset", opset, "17 to 23"]);
    }
    let huge = ["export", "onnx", "--out", &out, "--depth", "200", "--width", "8"];
    h.run(&huge).refuses(&["GiB", "--width"]);
    // These weights are below the limit, but the embeddings resized to the maps are above it.
    let wide = ["export", "onnx", "--out", &out, "--depth", "34", "--size", "8192"];
    h.run(&wide).refuses(&["GiB", "--size"]);
    export(&h, &out, &["--weights", "absent.pth"]).refuses(&["absent.pth"]);
    assert!(
        !Path::new(&h.path("new")).exists(),
        "a folder was made although the export was refused"
    );
}

#[test]
fn the_file_does_not_overwrite_weights_or_folders() {
    let h = Harness::new();
    let folder = h.path("folder");
    std::fs::create_dir(&folder).unwrap();
    for place in [folder.as_str(), "folder/", "absent/", "..", "/", "."] {
        export(&h, place, &[]).refuses(&["--out", "folder", "name a file"]);
    }
    export(&h, "", &[]).code(2);
    let weights = h.path("w.safetensors");
    h.run(&[&["weights", "convert", "formula:0", "--out", &weights], &SMALL[..]].concat()).code(0);
    let before = std::fs::read(&weights).unwrap();
    std::os::unix::fs::symlink(&weights, h.path("link.onnx")).unwrap();
    for place in ["w.safetensors", "folder/../w.safetensors", "link.onnx"] {
        export(&h, place, &["--weights", &weights]).refuses(&["--out", "reads this file (`"]);
    }
    assert_eq!(std::fs::read(&weights).unwrap(), before);
    // A file is in the place of the folder.
    export(&h, "w.safetensors/m.onnx", &[]).refuses(&["w.safetensors/m.onnx"]);
}

/// A checkpoint without the classifier.
fn backbone(h: &Harness) -> String {
    let (whole, path) = (h.path("whole.npz"), h.path("backbone.npz"));
    h.run(&[&["weights", "convert", "formula:0", "--out", &whole], &SMALL[..]].concat()).code(0);
    let mut from = zip::ZipArchive::new(std::fs::File::open(whole).unwrap()).unwrap();
    let mut to = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for index in 0..from.len() {
        let entry = from.by_index(index).unwrap();
        if !entry.name().unwrap().starts_with("fc.") {
            to.raw_copy_file(entry).unwrap();
        }
    }
    to.finish().unwrap();
    path
}

#[test]
fn a_backbone_ends_in_features_and_has_no_probabilities() {
    let h = Harness::new();
    let weights = backbone(&h);
    let refused = h.path("refused.onnx");
    export(&h, &refused, &["--weights", &weights, "--softmax"]).refuses(&[
        "--softmax",
        "backbone.npz",
        "classifier",
    ]);
    assert!(!Path::new(&refused).exists());
    let out = h.path("model.onnx");
    let run = export(&h, &out, &["--weights", &weights]).code(0);
    assert!(run.stderr.contains("without a classifier"), "{}", run.stderr);
    let graph = graph_of(&h, &["--weights", &weights]);
    assert_eq!(described(&graph.output[0]), format!("features {} [batch, 64]", element::FLOAT));
}

/// The Python that has ONNX Runtime. If none is set, the test is reported as skipped.
fn python() -> Option<Command> {
    let Some(python) = std::env::var_os("HARNESS_PEERS") else {
        skip::skip!(Onnxruntime, "HARNESS_PEERS names no Python that has ONNX Runtime");
        return None;
    };
    Some(Command::new(python))
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/lib")
}

#[track_caller]
fn succeeded(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn onnx_runtime_agrees_with_the_reference() {
    let models: [&[&str]; 7] = [
        &["--depth", "18", "--width", "0.125"],
        &["--depth", "18", "--width", "0.3", "--batch-size", "3"],
        &["--depth", "50", "--width", "0.125", "--batch-size", "3"],
        &["--depth", "50", "--width", "0.3"],
        &["--depth", "18", "--width", "0.125", "--set", "tfc=off"],
        &["--depth", "18", "--width", "0.125", "--set", "ioi=off,align_corners=off"],
        &["--depth", "50", "--width", "0.125", "--set", "pos_embed=off"],
    ];
    for model in models {
        let Some(mut python) = python() else { return };
        let output = python
            .arg(scripts().join("check_onnx.py"))
            .arg(env!("CARGO_BIN_EXE_harness"))
            .args(["--opset", "17,23", "--size", "57x65", "--frames", "8", "--classes", "7"])
            .args(model)
            .output()
            .unwrap();
        succeeded(&output);
        let table = String::from_utf8(output.stdout).unwrap();
        assert_eq!(table.matches("  pass").count(), 2, "{model:?} {table}");
    }
}

#[test]
fn a_file_with_other_weights_is_noticed() {
    let h = Harness::new();
    // A program that exports other weights than those of the comparison.
    let other = h.path("other");
    let real = env!("CARGO_BIN_EXE_harness");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = export ] && exec {real:?} \"$@\" --weights formula:1\nexec {real:?} \"$@\"\n"
    );
    std::fs::write(&other, script).unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
    let Some(mut python) = python() else { return };
    let output = python
        .arg(scripts().join("check_onnx.py"))
        .args([&other, "--opset", "17"])
        .args(SMALL)
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("valid") && table.contains("diverged"), "{table}");
}

/// Runs an ONNX file in ONNX Runtime on the arrays that the Python code `arrays` makes.
fn infer(h: &Harness, model: &str, arrays: &str, out: &str) -> Option<()> {
    let code = format!(
        "import numpy as np, check_onnx\n{arrays}\ncheck_onnx.infer({model:?}, arrays, {out:?})"
    );
    let output = python()?
        .args(["-c", &code])
        .current_dir(h.path("."))
        .env("PYTHONPATH", scripts())
        .output()
        .unwrap();
    succeeded(&output);
    Some(())
}

/// Python code that makes random frames, and the clip that is made by normalising them.
const FRAMES: &str = "\
frames = np.random.default_rng(0).integers(0, 256, (2, 8, 57, 65, 3), np.uint8)
mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
clip = ((frames.astype(np.float32) - mean) / std).transpose(0, 4, 1, 2, 3)
arrays = {'frames': frames, 'input': clip}";

/// Compares the logits in a dump with the reference.
fn compare_logits(h: &Harness, dump: &str, more: &[&str]) -> Run {
    let candidate = format!("npz:{}", h.path(dump));
    let fixed = ["--layer", "fc", "--candidate", &candidate, "--batch-size", "2"];
    h.diff(&[&fixed, &SMALL[..], more].concat())
}

#[test]
fn frames_are_normalised_as_in_the_protocol_and_probabilities_fit_the_logits() {
    let h = Harness::new();
    export(&h, &h.path("frames.onnx"), &["--preprocess"]).code(0);
    export(&h, &h.path("both.onnx"), &["--preprocess", "--softmax"]).code(0);
    let Some(()) = infer(&h, "frames.onnx", FRAMES, "logits.npz") else { return };
    infer(&h, "both.onnx", FRAMES, "probabilities.npz").unwrap();
    compare_logits(&h, "logits.npz", &[]).passes();
    assert!(json_of(&h.path("record.json"))["logits"]["ratio"].as_f64().unwrap() <= 4.0);
    // The comparison fails with other weights.
    compare_logits(&h, "logits.npz", &["--weights", "formula:1"]).fails();
    let read = |file: &str, name: &str| -> ArrayD<f32> {
        NpzReader::new(std::fs::File::open(h.path(file)).unwrap()).unwrap().by_name(name).unwrap()
    };
    let (logits, found) =
        (read("logits.npz", "logits"), read("probabilities.npz", "probabilities"));
    for (logits, found) in logits.outer_iter().zip(found.outer_iter()) {
        let most = logits.fold(f64::MIN, |m, &z| m.max(f64::from(z)));
        let powers: Vec<f64> = logits.iter().map(|&z| (f64::from(z) - most).exp()).collect();
        let sum: f64 = powers.iter().sum();
        for (power, &p) in powers.iter().zip(&found) {
            // The error of a difference, an exponential, a sum of 7 and a division in float32.
            let bound = (10.0 + most.abs()) * f64::from(f32::EPSILON) * (power / sum);
            assert!((f64::from(p) - power / sum).abs() <= bound, "{p} {}", power / sum);
        }
    }
}
