//! `diff` and `eval` of ONNX files that compute something else than one clip at a time shows, or that return more
//! than the logits.

mod common;

use common::{Harness, Run};
use onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use prost::Message;
use serde_json::Value;

const MODEL: [&str; 8] = ["--depth", "10", "--width", "0.125", "--classes", "7", "--size", "64"];

/// Whether there is a Python with ONNX Runtime. If not, the test is reported as skipped.
fn has_onnxruntime() -> bool {
    let found = std::env::var_os("HARNESS_PEERS").is_some();
    if !found {
        skip::skip!(Onnxruntime, "HARNESS_PEERS names no Python that has ONNX Runtime");
    }
    found
}

/// A right file, changed.
fn diff(h: &Harness, change: fn(&mut GraphProto)) -> Run {
    let path = h.path("model.onnx");
    h.run(&[&["export", "onnx", "--out", &path], &MODEL[..]].concat()).code(0);
    let mut file = ModelProto::decode(&*std::fs::read(&path).unwrap()).unwrap();
    change(file.graph.as_mut().unwrap());
    std::fs::write(&path, file.encode_to_vec()).unwrap();
    let candidate = format!("onnx:{path}");
    let run = h.diff(&[&["--candidate", &candidate], &MODEL[..]].concat());
    assert_ne!(run.code, 2, "{}", run.stderr);
    run
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn scalar(name: &str, value: f32) -> TensorProto {
    let float_data = vec![value];
    TensorProto { name: name.to_owned(), data_type: 1, float_data, ..TensorProto::default() }
}

fn mixed(record: &Value) -> bool {
    record["not_exercised"].to_string().contains("clips that depend on each other")
}

/// A label is an integer, and stands before the logits here.
#[test]
fn a_file_may_also_return_the_label() {
    if !has_onnxruntime() {
        return;
    }
    let h = Harness::new();
    let record = diff(&h, |graph| {
        let logits = graph.output[0].name.clone();
        graph.node.push(node("ArgMax", &[&logits], "label"));
        let mut label: ValueInfoProto = graph.output[0].clone();
        label.name = "label".to_owned();
        let kind = label.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()).unwrap();
        kind.elem_type = 7;
        graph.output.insert(0, label);
    });
    let record = record.passes();
    assert!(!mixed(&record), "two clips were run together");
    assert!(record["remarks"].to_string().contains("two clips in a batch have the same logits"));
}

/// Probabilities may stand before the logits.
#[test]
fn the_output_that_is_called_logits_is_compared() {
    if !has_onnxruntime() {
        return;
    }
    let h = Harness::new();
    let record = diff(&h, |graph| {
        let logits = graph.output[0].name.clone();
        assert!(logits.contains("logits"));
        graph.node.push(node("Softmax", &[&logits], "probabilities"));
        let mut probabilities = graph.output[0].clone();
        probabilities.name = "probabilities".to_owned();
        graph.output.insert(0, probabilities);
    });
    record.passes();
}

/// A sigmoid is at most 1 anyway.
#[test]
fn a_clip_that_cuts_nothing_off_passes() {
    if !has_onnxruntime() {
        return;
    }
    let h = Harness::new();
    let record = diff(&h, |graph| {
        let at = graph.node.iter().position(|node| node.op_type == "Sigmoid").unwrap();
        let gate = graph.node[at].output[0].clone();
        graph.initializer.push(scalar("one", 1.0));
        graph.node[at].output[0] = "before".to_owned();
        graph.node.insert(at + 1, node("Clip", &["before", "", "one"], &gate));
    });
    record.passes();
}

#[test]
fn clips_that_depend_on_each_other_do_not_pass() {
    if !has_onnxruntime() {
        return;
    }
    // The logits less those of the first clip, and added again to all: of one clip nothing is changed.
    let h = Harness::new();
    let record = diff(&h, |graph| {
        let logits = graph.output[0].name.clone();
        let mut mean = node("ReduceMean", &[&logits], "mean");
        mean.attribute.push(AttributeProto {
            name: "axes".to_owned(),
            r#type: 7,
            ints: vec![0],
            ..AttributeProto::default()
        });
        let sub = node("Sub", &[&logits, "mean"], "rest");
        graph.node.extend([mean, sub, node("Sub", &[&logits, "rest"], "mixed")]);
        graph.output[0].name = "mixed".to_owned();
    });
    let record = record.fails();
    assert_eq!(record["verdict"], "incomplete");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("the clips of a batch depend on each other"), "{explanation}");
}

/// No value of this clip is so large.
#[test]
fn values_that_are_cut_off_do_not_pass() {
    if !has_onnxruntime() {
        return;
    }
    let h = Harness::new();
    let record = diff(&h, |graph| {
        graph.initializer.push(scalar("most", 5000.0));
        let logits = graph.output[0].name.clone();
        graph.node.push(node("Clip", &[&logits, "", "most"], "cut"));
        graph.output[0].name = "cut".to_owned();
    });
    let record = record.fails();
    assert_eq!(record["verdict"], "incomplete");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("cuts values off at 5000"), "{explanation}");
}

/// float16 rounds such a bias to zero.
#[test]
fn a_bias_that_float16_cannot_hold_passes() {
    if !has_onnxruntime() {
        return;
    }
    let h = Harness::new();
    let (weights, path) = (h.path("weights.safetensors"), h.path("half.onnx"));
    h.run(&[&["weights", "convert", "formula:0", "--out", &weights], &MODEL[..6]].concat()).code(0);
    common::edit_weights(&weights, "layer1.0.conv1.spatial_conv.glo_conv.0.bias", |_| 1e-10);
    let model = [&MODEL[..], &["--weights", &weights]].concat();
    h.run(&[&["export", "onnx", "--precision", "f16", "--out", &path], &model[..]].concat())
        .code(0);
    let candidate = format!("onnx:{path}");
    h.diff(&[&["--candidate", &candidate], &model[..]].concat()).passes();
}
