//! What has to be mended after a divergence, and when passing proves nothing.

mod common;

use std::collections::BTreeMap;
use std::fs::File;

use common::{Harness, Run};
use ndarray::ArrayD;
use ndarray_npy::{NpzReader, NpzWriter};
use serde_json::Value;

const SMALL: [&str; 8] = ["--depth", "10", "--width", "0.125", "--classes", "7", "--size", "64"];

type Arrays = BTreeMap<String, ArrayD<f32>>;

/// A dump of every module, with these flags.
fn dumped(h: &Harness, more: &[&str]) -> Arrays {
    let out = h.path("dumped.npz");
    let fixed = ["dump", "--engine", "scalar", "--out", &out];
    h.run(&[&fixed, &SMALL[..], more].concat()).code(0);
    let mut npz = NpzReader::new(File::open(out).unwrap()).unwrap();
    let names = npz.names().unwrap();
    let array = |name: String| (name.trim_end_matches(".npy").to_owned(), name);
    names.into_iter().map(array).map(|(short, name)| (short, npz.by_name(&name).unwrap())).collect()
}

/// Writes arrays to a file, and returns it as a participant.
fn written(h: &Harness, name: &str, arrays: &Arrays) -> String {
    let path = h.path(name);
    let mut out = NpzWriter::new(File::create(&path).unwrap());
    for (name, array) in arrays {
        out.add_array(name, array).unwrap();
    }
    out.finish().unwrap();
    format!("npz:{path}")
}

fn diff(h: &Harness, arrays: &Arrays, more: &[&str]) -> Run {
    let candidate = written(h, "changed.npz", arrays);
    h.diff(&[&["--candidate", &candidate], &SMALL[..], more].concat())
}

fn some(arrays: &Arrays, names: &[&str]) -> Arrays {
    names.iter().map(|name| ((*name).to_owned(), arrays[*name].clone())).collect()
}

/// Rounds to bfloat16.
fn coarse(arrays: &Arrays) -> Arrays {
    let round = |x: f32| f32::from_bits(x.to_bits().wrapping_add(0x8000) & 0xffff_0000);
    arrays.iter().map(|(name, array)| (name.clone(), array.mapv(round))).collect()
}

fn verdict_of<'a>(record: &'a Value, name: &str) -> &'a str {
    let layers = record["layers"].as_array().unwrap();
    let layer = layers.iter().find(|layer| layer["name"] == name);
    layer.and_then(|layer| layer["verdict"].as_str()).unwrap()
}

#[test]
fn other_weights_are_the_cause_where_nearly_all_layers_are_off() {
    let h = Harness::new();
    let record = diff(&h, &dumped(&h, &[]), &["--weights", "formula:1"]).fails();
    assert_eq!(record["cause"], "weights");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("other weights than formula:1"), "{explanation}");
    assert!(record["next"].as_str().unwrap().ends_with("--weights WEIGHTS.pth"));
    let port = diff(&h, &dumped(&h, &["--inject", "relu-missing@layer2.0"]), &[]).fails();
    assert_eq!(port["cause"], "port");
}

/// The layer after the wrong array seems to diverge, too, because its own error is computed from that array.
#[test]
fn a_recording_is_the_cause_where_a_later_block_is_right() {
    let h = Harness::new();
    let names = ["input", "layer1.0", "layer2.0", "layer3.0", "layer4.0", "logits"];
    let mut arrays = some(&dumped(&h, &[]), &names);
    let layer = arrays.get_mut("layer2.0").unwrap();
    layer.index_axis_mut(ndarray::Axis(1), 3).mapv_inplace(|x| 1.3 * x);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(
        (&record["cause"], &record["first_divergent"]),
        (&"recording".into(), &"layer2.0".into())
    );
    assert_eq!(verdict_of(&record, "layer2.0"), "diverged");
    assert_eq!(verdict_of(&record, "layer3.0"), "inherited", "its input is wrong");
    assert_eq!(verdict_of(&record, "fc"), "pass");
    // A real mistake at the same place goes on.
    let wrong = dumped(&h, &["--inject", "relu-missing@layer2.0"]);
    let record = diff(&h, &some(&wrong, &names), &[]).fails();
    assert_eq!(record["cause"], "port");
}

#[test]
fn logits_alone_prove_nothing_in_bfloat16() {
    let h = Harness::new();
    let all = dumped(&h, &[]);
    let logits = some(&all, &["input", "logits"]);
    diff(&h, &logits, &["--layer", "fc"]).passes();
    // Half of the value would pass, and so would the output of a network with BGR frames.
    for (arrays, more) in [
        (coarse(&logits), &[][..]),
        (coarse(&some(&dumped(&h, &["--inject", "bgr"]), &["logits"])), &["--input", "formula:0"]),
    ] {
        let run = diff(&h, &arrays, &[&["--layer", "fc"], more].concat());
        let record = run.fails();
        assert_eq!(record["verdict"], "incomplete", "{}", record["explanation"]);
        let explanation = record["explanation"].as_str().unwrap();
        assert!(explanation.contains("proves nothing"), "{explanation}");
    }
    // With every layer, each is judged by its own small allowance.
    diff(&h, &coarse(&all), &[]).passes();
}

#[test]
fn a_mistake_in_one_layer_is_found_between_two_coarse_dumps() {
    let h = Harness::new();
    let right = written(&h, "right.npz", &coarse(&dumped(&h, &[])));
    let wrong = coarse(&dumped(&h, &["--inject", "transposed-kernel@layer3.0.downsample.0"]));
    let record = diff(&h, &wrong, &["--reference", &right]).fails();
    assert_eq!(record["first_divergent"], "layer3.0.downsample.0");
    // A reference with other weights is compared by accumulated errors only.
    let other = dumped(&h, &["--weights", "formula:1"]);
    let reference = written(&h, "other.npz", &other);
    let copy = written(&h, "copy.npz", &other);
    let record = h.diff(&[&["--candidate", &copy, "--reference", &reference], &SMALL[..]].concat());
    let record = record.passes();
    assert!(record["layers"][5]["introduced"].is_null(), "the weights of both are not known");
}

#[test]
fn the_flags_of_a_dump_are_named() {
    let h = Harness::new();
    let npz = written(&h, "ten.npz", &dumped(&h, &[]));
    let flags = "--depth 10 --width 0.125 --size 64 --classes 7";
    h.run(&["diff", "--candidate", &npz]).refuses(&[flags]);
    let deeper: Vec<&str> =
        SMALL.iter().map(|word| if *word == "10" { "18" } else { word }).collect();
    let run = h.run(&[&["diff", "--candidate", &npz], &deeper[..]].concat());
    run.refuses(&["a network of depth 10", "give --depth 10"]);
}

#[test]
fn the_order_in_which_a_stacked_clip_was_read_is_said() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &[]);
    let clip = arrays["input"].clone();
    let stacked = clip.into_shape_with_order(ndarray::IxDyn(&[1, 48, 64, 64])).unwrap();
    arrays.insert("input".to_owned(), stacked);
    let record = diff(&h, &arrays, &[]).passes();
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("read with channel colour * T + frame"), "{remarks}");
}

/// What follows is computed from the wrong values, so it is not the recording, even if the end is right again.
#[test]
fn a_mistake_that_a_later_layer_hides_is_one_of_the_port() {
    let h = Harness::new();
    let arrays = dumped(&h, &["--inject", "bias-missing@layer1.0.conv1.spatial_conv"]);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["cause"], "port");
}

#[test]
fn a_copy_of_a_wrong_array_is_not_called_right() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &[]);
    let gate = "layer1.0.conv1.param_conv.5";
    let wrong = arrays[gate].mapv(|x| 1.01 * x);
    arrays.insert(gate.to_owned(), wrong.clone());
    arrays.insert("layer1.0.conv1.param_conv".to_owned(), wrong);
    let record = diff(&h, &arrays, &[]).fails();
    let explanation = record["explanation"].as_str().unwrap();
    assert!(!explanation.contains("another array of"), "{explanation}");
}

#[test]
fn numbers_that_went_through_text_are_the_recording() {
    let h = Harness::new();
    let text = |x: f32| format!("{x:.5e}").parse::<f32>().unwrap();
    let arrays: Arrays =
        dumped(&h, &[]).into_iter().map(|(name, array)| (name, array.mapv(text))).collect();
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["cause"], "recording");
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("save them in binary"), "{remarks}");
    let port = dumped(&h, &["--inject", "relu-missing@layer2.0"]);
    let port: Arrays = port.into_iter().map(|(name, array)| (name, array.mapv(text))).collect();
    let port = diff(&h, &port, &[]).fails();
    assert!(port["remarks"].to_string().contains("6 decimal digits"), "{}", port["remarks"]);
    let whole = diff(&h, &dumped(&h, &[]), &[]).passes();
    assert!(!whole["remarks"].to_string().contains("save them in binary"));
}

#[test]
fn a_clip_that_was_saved_otherwise_than_it_was_read_is_named() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &[]);
    arrays.get_mut("input").unwrap().mapv_inplace(|x| 0.9 * x + 0.05);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["first_divergent"], "conv1");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("check first that the array `input`"), "{explanation}");
}

/// In bfloat16 the effect of the mistake on what follows may be allowed.
#[test]
fn a_mistake_in_a_half_format_is_one_of_the_port_if_its_readers_follow_from_it() {
    let h = Harness::new();
    let weights = h.path("weights.safetensors");
    h.run(&[&["weights", "convert", "formula:0", "--out", &weights], &SMALL[..6]].concat()).code(0);
    common::edit_weights(&weights, "layer4.0.conv1.param_conv.2.weight", |x| 0.9 * x);
    let arrays = coarse(&dumped(&h, &["--weights", &weights]));
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["first_divergent"], "layer4.0.conv1.param_conv.2");
    assert_eq!(record["cause"], "port");
    let mut arrays = coarse(&dumped(&h, &[]));
    arrays.get_mut("layer2.0.conv1.param_conv.1").unwrap().mapv_inplace(|x| 0.75 * x);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["cause"], "recording");
}

#[test]
fn the_classifier_that_is_wrong_beside_right_logits_is_the_recording() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &[]);
    let wrong = arrays["logits"].mapv(|x| -x);
    arrays.insert("fc".to_owned(), wrong);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["cause"], "recording");
    assert!(record["explanation"].as_str().unwrap().contains("another array of fc is right"));
}
