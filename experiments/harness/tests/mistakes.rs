//! Mistakes of real ports and real recordings that are made in files, not with `--inject`.

mod common;

use std::fs::File;

use common::Harness;
use ndarray::ArrayD;
use ndarray_npy::{NpzReader, NpzWriter};

const SMALL: [&str; 8] = ["--depth", "18", "--width", "0.125", "--classes", "7", "--size", "64"];

/// Copies an npz file of float32 arrays and changes some of them.
fn rewrite(from: &str, to: &str, change: impl Fn(&str, &mut ArrayD<f32>)) {
    let mut npz = NpzReader::new(File::open(from).unwrap()).unwrap();
    let mut out = NpzWriter::new(File::create(to).unwrap());
    for name in npz.names().unwrap() {
        let mut array: ArrayD<f32> = npz.by_name(&name).unwrap();
        change(name.trim_end_matches(".npy"), &mut array);
        out.add_array(name.trim_end_matches(".npy"), &array).unwrap();
    }
    out.finish().unwrap();
}

fn dump(h: &Harness, weights: &str) -> String {
    let out = h.path("dump.npz");
    let fixed = ["dump", "--engine", "torch", "--weights", weights, "--out", &out];
    let engine = if cfg!(feature = "libtorch") { "torch" } else { "scalar" };
    let fixed = fixed.map(|word| if word == "torch" { engine } else { word });
    h.run(&[&fixed[..], &SMALL].concat()).code(0);
    out
}

/// Changes a correct dump and compares it.
fn changed(h: &Harness, more: &[&str], change: impl Fn(&str, &mut ArrayD<f32>)) -> common::Run {
    let other = h.path("changed.npz");
    rewrite(&dump(h, "formula:0"), &other, change);
    h.diff(&[&SMALL[..], &["--candidate", &format!("npz:{other}")], more].concat())
}

#[test]
fn arrays_recorded_after_an_in_place_relu_pass_with_a_note() {
    let h = Harness::new();
    let late = |name: &str| name.ends_with("bn1") && !name.contains("conv");
    let record = changed(&h, &[], |name, array| {
        if late(name) {
            array.mapv_inplace(|x| x.max(0.0));
        }
    })
    .passes();
    let noted = |l: &&serde_json::Value| {
        l["note"].as_str().is_some_and(|note| note.contains("in-place ReLU"))
    };
    let noted: Vec<_> = record["layers"].as_array().unwrap().iter().filter(noted).collect();
    assert!(noted.len() >= 9, "{} layers noted", noted.len());
}

#[test]
fn softmax_in_place_of_logits_is_named() {
    let h = Harness::new();
    let record = changed(&h, &[], |name, array| {
        if name == "logits" {
            array.mapv_inplace(f32::exp);
            let sum = array.sum();
            array.mapv_inplace(|x| x / sum);
        }
    })
    .fails();
    assert_eq!(record["first_divergent"], "fc");
    let explanation = record["culprit"]["explanation"].as_str().unwrap();
    assert!(explanation.contains("softmax"), "{explanation}");
}

#[test]
fn running_statistics_that_were_not_loaded_are_named() {
    let h = Harness::new();
    let (weights, broken) = (h.path("w.npz"), h.path("broken.npz"));
    h.run(&[&["weights", "convert", "formula:0", "--out", &weights], &SMALL[..]].concat()).code(0);
    rewrite(&weights, &broken, |name, array| match name.rsplit('.').next() {
        Some("running_mean") => array.fill(0.0),
        Some("running_var") => array.fill(1.0),
        _ => {}
    });
    let npz = format!("npz:{}", dump(&h, &broken));
    let record = h.diff(&[&SMALL[..], &["--candidate", &npz]].concat()).fails();
    assert_eq!(record["first_divergent"], "bn1");
    let explanation = record["culprit"]["explanation"].as_str().unwrap();
    assert!(explanation.contains("running statistics were not loaded"), "{explanation}");
}

#[test]
fn a_single_wrong_value_is_found() {
    let h = Harness::new();
    let place = "layer3.0.conv2.spatial_conv.short_conv";
    let record = changed(&h, &[], |name, array| {
        if name == place {
            array.as_slice_mut().unwrap()[17] *= 1.0 + 1e-3;
        }
    })
    .fails();
    assert_eq!(record["first_divergent"], place);
}

#[test]
fn one_nan_is_found() {
    let h = Harness::new();
    let place = "layer2.1.bn2";
    let record = changed(&h, &[], |name, array| {
        if name == place {
            array.as_slice_mut().unwrap()[3] = f32::NAN;
        }
    })
    .fails();
    assert_eq!(record["first_divergent"], place);
    let layers = record["layers"].as_array().unwrap();
    let layer = layers.iter().find(|l| l["name"] == place).unwrap();
    assert_eq!(layer["introduced"]["nan"], 1);
    assert_eq!(layer["introduced"]["ratio"], "NaN");
}

#[test]
fn a_reversed_frame_order_is_named() {
    let h = Harness::new();
    let record = changed(&h, &["--input", "formula:0"], |name, array| {
        if name == "input" {
            array.invert_axis(ndarray::Axis(2));
            *array = array.as_standard_layout().into_owned();
        }
    })
    .fails();
    assert_eq!(record["first_divergent"], "input");
    let explanation = record["culprit"]["explanation"].as_str().unwrap();
    assert!(explanation.contains("reverse order"), "{explanation}");
}
