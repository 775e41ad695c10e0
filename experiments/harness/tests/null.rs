//! Correct engines pass, and slightly wrong values do not.

mod common;

use std::fs::File;

use common::{Harness, json_of};
use ndarray::ArrayD;
use ndarray_npy::{NpzReader, NpzWriter};

/// A 3x3 convolution over 16 channels by Winograd's algorithm, compared at the normalisation after it.
/// Before Winograd had its own allowance, a correct engine reached a ratio of 4.08 here.
#[test]
fn winograd_over_short_sums_does_not_diverge() {
    let isa = if cpu::Isa::Avx2.detect().is_some() { "avx2" } else { "portable" };
    let model = "--depth 18 --width 0.25 --size 57x65 --classes 7";
    let data = "--weights formula:255 --input formula:1255";
    let all = format!("--candidate cpu --isa {isa} {data} {model}");
    let record = Harness::new().diff(&all.split(' ').collect::<Vec<_>>()).passes();
    let layers = record["layers"].as_array().unwrap();
    let name = "layer1.1.conv1.spatial_conv.glo_conv.1";
    let layer = layers.iter().find(|layer| layer["name"] == name).unwrap();
    // 0.9 with libtorch as the comparison run, 1.2 with the scalar engine.
    assert!(layer["introduced"]["ratio"].as_f64().unwrap() < 2.0, "{layer}");
}

#[test]
fn correct_engines_pass_on_random_networks_and_the_record_holds_their_largest_ratios() {
    let harness = Harness::new();
    let (json, html) = (harness.path("null.json"), harness.path("null.html"));
    let run = harness.run(&["selftest", "--null", "20", "--json", &json, "--html", &html]).code(0);
    assert!(run.stdout.contains("0 false alarms in 20 comparisons"), "{}", run.stdout);
    let record = json_of(&json);
    assert_eq!((record["kind"].as_str(), record["verdict"].as_str()), (Some("null"), Some("pass")));
    assert_eq!(record["comparisons"], 20);
    let worst = record["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 10);
    let ratio = worst[0]["ratio"].as_f64().unwrap();
    assert!(0.0 < ratio && ratio <= 4.0, "{ratio}");
    // The command in the record reproduces the comparison.
    let command = worst[0]["command"].as_str().unwrap().to_owned();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let again = harness.run(&[&words[..], &["--json", &json, "--html", &html]].concat()).code(0);
    assert!(!again.stdout.is_empty());
    assert!(json_of(&json).to_string().contains(worst[0]["module"].as_str().unwrap()));
}

#[test]
fn first_draw_needs_null() {
    Harness::new().run(&["selftest", "--first-draw", "3"]).code(2);
}

/// The allowances do not hide mistakes: an error of 0.1 % is found in every kind of layer.
#[test]
fn one_layer_scaled_by_a_thousandth_diverges() {
    let harness = Harness::new();
    let model = ["--depth", "10", "--width", "0.25", "--size", "57x65", "--classes", "7"];
    let dump = harness.path("right.npz");
    harness.run(&[&["dump", "--engine", "scalar", "--out", &dump], &model[..]].concat()).code(0);
    let block = "layer2.0.conv1";
    let wrong = [
        "conv1".to_owned(),
        format!("{block}.param_conv.1"),
        format!("{block}.temporal_conv"),
        format!("{block}.spatial_conv.short_conv"),
        format!("{block}.spatial_conv.glo_conv.0"),
        format!("{block}.spatial_conv.glo_conv.1"),
        format!("{block}.spatial_conv.glo_conv.3"),
        format!("{block}.spatial_conv.glo_conv.6"),
        "layer3.0.shortcut_conv.0".to_owned(),
    ];
    for name in wrong {
        let scaled = harness.path("scaled.npz");
        let mut from = NpzReader::new(File::open(&dump).unwrap()).unwrap();
        let mut to = NpzWriter::new(File::create(&scaled).unwrap());
        for entry in from.names().unwrap() {
            let mut array: ArrayD<f32> = from.by_name(&entry).unwrap();
            let entry = entry.trim_end_matches(".npy");
            if entry == name {
                array *= 1.001;
            }
            to.add_array(entry, &array).unwrap();
        }
        to.finish().unwrap();
        let candidate = format!("npz:{scaled}");
        let record = harness.diff(&[&["--candidate", &candidate], &model[..]].concat()).fails();
        assert_eq!(record["first_divergent"], name.as_str());
    }
}
