//! `export onnx --precision int8` with ONNX Runtime, what `diff` and `eval` say of such a file, and `eval` of ONNX
//! files and of other precisions.

mod common;

use std::path::Path;

use common::{Harness, Run, ffmpeg, json_of};
use prost::Message;

/// The built-in model.
const MINI: [&str; 4] = [
    "--weights",
    concat!(env!("CARGO_MANIFEST_DIR"), "/../mini/model.safetensors"),
    "--size",
    "64",
];

/// Whether there is a Python with ONNX Runtime. If not, the test is reported as skipped.
fn has_onnxruntime() -> bool {
    let found = std::env::var_os("HARNESS_PEERS").is_some();
    if !found {
        skip::skip!(Onnxruntime, "HARNESS_PEERS names no Python that has ONNX Runtime");
    }
    found
}

fn export(h: &Harness, out: &str, more: &[&str]) -> Run {
    let shape = ["--depth", "10", "--width", "0.25", "--classes", "10", "--pos-dim", "16,8,4,2"];
    h.run(&[&["export", "onnx", "--out", out], &MINI[..], &shape, more].concat())
}

/// Evaluates engines on ten videos of `mini`.
fn eval(h: &Harness, engines: &str) -> Run {
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mini").display().to_string();
    let out = h.path("run");
    let fixed = ["eval", "mini", "--part", "val", "--limit", "10", "--no-strips"];
    h.run(&[&fixed[..], &["--data", &data, "--out", &out, "--engine", engines]].concat())
}

#[test]
fn a_file_in_int8_passes_diff_and_keeps_its_accuracy() {
    if !has_onnxruntime() || ffmpeg().is_none() {
        return;
    }
    let h = Harness::new();
    let (float, int8) = (h.path("float.onnx"), h.path("int8.onnx"));
    export(&h, &float, &["--softmax"]).code(0);
    // The calibration takes the videos of this folder, which `eval` makes.
    let run = eval(&h, "scalar").code(0);
    assert!(run.stdout.contains("PASS"), "{}", run.stdout);
    assert!(
        run.stdout.contains("10 of the ") && run.stdout.contains(" videos of mini"),
        "{}",
        run.stdout
    );
    let videos = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mini/val").display().to_string();
    let run = export(&h, &int8, &["--precision", "int8", "--calibrate", &videos]).code(0);
    assert!(run.stderr.contains("calibrated on clips of"), "{}", run.stderr);
    let bytes = std::fs::read(&int8).unwrap();
    let file = onnx::proto::ModelProto::decode(bytes.as_slice()).unwrap();
    let said = |key: &str| {
        let found = file.metadata_props.iter().find(|entry| entry.key == key);
        found.unwrap_or_else(|| panic!("{key} is missing")).value.clone()
    };
    assert_eq!(said("precision"), "int8");
    assert!(said("quantised").starts_with("ONNX Runtime") && !said("quantised").contains('/'));
    assert!(said("weights").contains("model.safetensors sha256:"), "{}", said("weights"));

    let video =
        std::fs::read_dir(Path::new(&videos).join("appear")).unwrap().next().unwrap().unwrap();
    let video = video.path().display().to_string();
    let candidate = format!("onnx:{int8}");
    let flags = ["--candidate", &candidate, "--input", &video];
    let record = h.diff(&[&flags[..], &MINI].concat()).passes();
    assert_eq!(record["quantisation"]["weights_beyond"], 0);
    assert!(record["quantisation"]["weights"].as_u64().unwrap() > 600_000);

    std::fs::remove_dir_all(h.path("run")).unwrap();
    let engines = format!("scalar,cpu:bf16,onnx:{float},onnx:{int8}");
    let run = eval(&h, &engines).code(0);
    let record = json_of(&h.path("run/record.json"));
    let named: Vec<&str> = record["engines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["engine"].as_str().unwrap())
        .collect();
    assert!(named[1].starts_with("cpu bf16"), "{named:?}");
    assert!(named[2].starts_with("float.onnx f32 in ONNX Runtime"), "{named:?}");
    assert!(named[3].starts_with("int8.onnx quantised in ONNX Runtime"), "{named:?}");
    // The file with a softmax gives the same scores, since the mean over views is one of probabilities.
    for video in record["videos"].as_array().unwrap() {
        let score = |engine: usize| video["says"][engine]["of_label"].as_f64().unwrap();
        assert!((score(0) - score(2)).abs() < 1e-5, "{video}");
        assert!((score(0) - score(3)).abs() < 0.2, "{video}");
    }
    assert!(run.stderr.contains("103 of 103 modules with weights matched"), "{}", run.stderr);
    assert!(!run.stderr.contains("other weights"), "{}", run.stderr);
}

#[test]
fn a_file_whose_shortcuts_the_runtime_would_fuse_is_judged_as_a_whole() {
    if !has_onnxruntime() {
        return;
    }
    let h = Harness::new();
    let int8 = h.path("int8.onnx");
    // Blocks of depth 50 have a shortcut whose convolution ONNX Runtime fuses with the sum behind it.
    let model = ["--depth", "50", "--width", "0.0625", "--classes", "3", "--size", "64"];
    let export = ["export", "onnx", "--out", &int8, "--precision", "int8", "--calibrate", "2"];
    h.run(&[&export[..], &model].concat()).code(0);
    let candidate = format!("onnx:{int8}");
    let record = h.diff(&[&["--candidate", &candidate], &model[..]].concat()).passes();
    assert!(record["quantisation"]["quantisers"].as_array().unwrap().len() > 100);

    let coarse = h.path("coarse.onnx");
    std::fs::write(&coarse, with_scales(&int8, 3.6)).unwrap();
    let candidate = format!("onnx:{coarse}");
    let record = h.diff(&[&["--candidate", &candidate], &model[..]].concat()).fails();
    assert_eq!(record["verdict"], "incomplete");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("The quantisers are coarse"), "{explanation}");

    let clipping = h.path("clipping.onnx");
    std::fs::write(&clipping, with_scales(&int8, 0.05)).unwrap();
    let candidate = format!("onnx:{clipping}");
    let record = h.diff(&[&["--candidate", &candidate], &model[..]].concat()).fails();
    assert_eq!(
        (&record["verdict"], &record["cause"]),
        (&"diverged".into(), &"quantisation".into())
    );
    let next = record["next"].as_str().unwrap();
    assert!(next.contains("--input CALIBRATION.mp4"), "{next}");
    // The page names what the quantisers cost next to what the layers without them differ by.
    assert!(h.html().contains("Change of the logits by quantisers"));
    let described = record["run"]["candidate"].as_str().unwrap();
    assert!(described.starts_with("clipping.onnx quantised in"), "{described}");

    // With several clips the worst of each counts.
    let candidate = format!("onnx:{int8}");
    let of = |clips: &[&str]| {
        let flags = [&["--candidate", &candidate], &model[..], clips].concat();
        let record = h.diff(&flags).passes();
        record["quantisation"]["logits"].as_f64().unwrap()
    };
    let single = ["formula:0", "formula:1"].map(|input| of(&["--input", input]));
    assert_eq!(of(&["--clips", "2"]), single[0].max(single[1]));
}

/// The file with the scales of its activations multiplied by a factor, of which each alone passes.
fn with_scales(file: &str, factor: f32) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    let mut file = onnx::proto::ModelProto::decode(bytes.as_slice()).unwrap();
    let graph = file.graph.as_mut().unwrap();
    let quantisers = graph.node.iter().filter(|node| node.op_type == "QuantizeLinear");
    let scales: Vec<String> = quantisers.map(|node| node.input[1].clone()).collect();
    for tensor in graph.initializer.iter_mut().filter(|t| scales.contains(&t.name)) {
        tensor.float_data.iter_mut().for_each(|scale| *scale *= factor);
        for raw in tensor.raw_data.chunks_exact_mut(4) {
            let scale = f32::from_le_bytes(raw.try_into().unwrap());
            raw.copy_from_slice(&(scale * factor).to_le_bytes());
        }
    }
    file.encode_to_vec()
}

#[test]
fn what_cannot_be_quantised_or_evaluated_is_refused_in_a_sentence() {
    let h = Harness::new();
    let out = h.path("int8.onnx");
    let int8 = ["--precision", "int8"];
    export(&h, &out, &[&int8[..], &["--preprocess"]].concat()).refuses(&["--preprocess", "int8"]);
    export(&h, &out, &[&int8[..], &["--calibrate", "nowhere"]].concat())
        .refuses(&["--calibrate nowhere", "folder of videos"]);
    export(&h, &out, &[&int8[..], &["--python", "/nowhere/python"]].concat())
        .refuses(&["/nowhere/python"]);
    let run = export(&h, &out, &["--precision", "int4"]).code(2);
    assert!(run.stderr.contains("int4") && run.stderr.contains("bf16 or int8"), "{}", run.stderr);
    assert!(!Path::new(&out).exists());
    if ffmpeg().is_none() {
        return;
    }
    std::fs::write(h.path("text.onnx"), "not a network").unwrap();
    for engine in ["scalar:f16", "scalar:f33", "onnx:nowhere.onnx", "onnx:text.onnx"] {
        let run = eval(&h, engine).code(2);
        let (_, word) = engine.split_once(':').unwrap();
        assert!(run.stderr.contains(word) && !run.stderr.contains("panicked"), "{}", run.stderr);
    }
}

#[test]
fn a_file_with_other_weights_or_of_another_size_is_refused() {
    if !has_onnxruntime() || ffmpeg().is_none() {
        return;
    }
    let h = Harness::new();
    let other = h.path("other.onnx");
    let shape = ["--depth", "10", "--width", "0.25", "--classes", "10", "--pos-dim", "16,8,4,2"];
    let fixed = ["export", "onnx", "--weights", "formula:3", "--out", &other];
    h.run(&[&fixed[..], &shape, &["--size", "64"]].concat()).code(0);
    let run = eval(&h, &format!("onnx:{other}")).code(2);
    assert!(run.stderr.contains("have weights of the checkpoint"), "{}", run.stderr);
    // All weights are right, but the file returns something else.
    export(&h, &other, &[]).code(0);
    let mut file = onnx::proto::ModelProto::decode(&*std::fs::read(&other).unwrap()).unwrap();
    let graph = file.graph.as_mut().unwrap();
    let output = graph.output[0].name.clone();
    graph.node.push(onnx::proto::NodeProto {
        op_type: "Add".to_owned(),
        input: vec![output.clone(), output],
        output: vec!["doubled".to_owned()],
        ..Default::default()
    });
    graph.output[0].name = "doubled".to_owned();
    std::fs::write(&other, file.encode_to_vec()).unwrap();
    let run = eval(&h, &format!("onnx:{other}")).code(2);
    assert!(run.stderr.contains("its logits are not those of the network"), "{}", run.stderr);
    // Scores are made of probabilities, but not of these.
    export(&h, &other, &["--softmax"]).code(0);
    let mut file = onnx::proto::ModelProto::decode(&*std::fs::read(&other).unwrap()).unwrap();
    let graph = file.graph.as_mut().unwrap();
    let mut again = graph.node.last().unwrap().clone();
    assert_eq!(again.op_type, "Softmax");
    again.name.clear();
    again.input = again.output.clone();
    again.output = vec!["twice".to_owned()];
    graph.node.push(again);
    graph.output[0].name = "twice".to_owned();
    std::fs::write(&other, file.encode_to_vec()).unwrap();
    let run = eval(&h, &format!("onnx:{other}")).code(2);
    assert!(run.stderr.contains("its logits are not those of the network"), "{}", run.stderr);
    h.run(&["export", "onnx", "--out", &other, MINI[0], MINI[1], "--size", "96"]).code(0);
    let run = eval(&h, &format!("onnx:{other}")).code(2);
    assert!(run.stderr.contains("other.onnx") && run.stderr.contains("64"), "{}", run.stderr);
}
