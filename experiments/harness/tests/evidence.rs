//! What a comparison may count as evidence.

mod common;

use common::Harness;
use common::arrays::{Arrays, SMALL, diff, dumped, read, written};

/// The weights of the small network, changed by name.
fn weights(h: &Harness, change: impl Fn(&str, &mut ndarray::ArrayD<f32>)) -> String {
    let path = h.path("weights.npz");
    h.run(&[&["weights", "convert", "formula:0", "--out", &path], &SMALL[..6]].concat()).code(0);
    let mut arrays: Arrays = read(&path);
    arrays.iter_mut().for_each(|(name, array)| change(name, array));
    written(h, "weights.npz", &arrays).trim_start_matches("npz:").to_owned()
}

#[test]
fn a_network_that_computes_one_value_proves_nothing() {
    let h = Harness::new();
    let none = weights(&h, |name, array| {
        if !name.contains("running_var") {
            array.fill(0.0);
        }
    });
    let given = ["--weights", &none];
    for candidate in ["scalar", "cpu"] {
        let flags = ["--candidate", candidate, "--no-edge"];
        let record = h.diff(&[&flags, &given[..], &SMALL].concat()).fails();
        assert_eq!(record["verdict"], "incomplete", "{candidate}");
        let explanation = record["explanation"].as_str().unwrap();
        assert!(explanation.contains("holds one value everywhere"), "{explanation}");
        let next = record["next"].as_str().unwrap();
        assert!(next.ends_with("--weights formula:0"), "{next}");
    }
    let record = diff(&h, &dumped(&h, &given), &given).fails();
    assert_eq!(record["verdict"], "incomplete");
    // A classifier of zeros hides the whole network from the logits.
    let head = weights(&h, |name, array| {
        if name.starts_with("fc.") || name.contains(".fc") || name.contains("cls") {
            array.fill(0.0);
        }
    });
    let flags = ["--candidate", "scalar", "--no-edge", "--weights", &head];
    let record = h.diff(&[&flags, &SMALL[..]].concat()).fails();
    assert_eq!(record["verdict"], "incomplete");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("the first is fc"), "{explanation}");
    // So does a clip of zeros, from the first convolution on.
    let mut arrays = dumped(&h, &[]);
    arrays.retain(|name, _| name == "input");
    arrays.get_mut("input").unwrap().fill(0.0);
    let clip = written(&h, "clip.npz", &arrays);
    let clip = clip.trim_start_matches("npz:");
    let flags = ["--candidate", "cpu", "--no-edge", "--input", clip];
    let record = h.diff(&[&flags, &SMALL[..]].concat()).fails();
    assert_eq!(record["verdict"], "incomplete");
    assert!(!record["next"].as_str().unwrap().contains("--input"), "{}", record["next"]);
}

/// New residual branches end in zeros, a class may be the only one, and ablations fix values.
#[test]
fn a_network_with_a_branch_of_zeros_passes() {
    let h = Harness::new();
    let zeros = weights(&h, |name, array| {
        if name.ends_with(".0.bn2.weight") || name.ends_with(".0.bn2.bias") {
            array.fill(0.0);
        }
    });
    let flags = ["--candidate", "scalar", "--no-edge", "--weights", &zeros];
    let record = h.diff(&[&flags, &SMALL[..]].concat()).passes();
    let remarks = record["remarks"].to_string();
    assert!(
        remarks.contains("one value everywhere in layer1.0.bn2 and in 3 other layers"),
        "{remarks}"
    );
    let small =
        ["--depth", "10", "--width", "0.125", "--size", "32", "--candidate", "scalar", "--no-edge"];
    h.diff(&[&small[..], &["--classes", "1"]].concat()).passes();
    for set in ["tfc=off", "pos_embed=off", "ioi=off"] {
        let record = h.diff(&[&small[..], &["--set", set]].concat()).passes();
        let remarks = record["remarks"].to_string();
        assert!(!remarks.contains("one value everywhere"), "{set}: {remarks}");
    }
}

/// An array whose name says nothing may be what the program returns.
#[test]
fn arrays_of_unknown_names_that_look_like_logits_are_compared() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &[]);
    let logits = arrays["logits"].clone();
    arrays.insert("output".to_owned(), logits.clone());
    arrays.insert("cls_score".to_owned(), logits.mapv(|x| 1.1 * x));
    let powers = logits.mapv(f32::exp);
    arrays.insert("scores".to_owned(), &powers / powers.sum());
    let record = diff(&h, &arrays, &[]).passes();
    let remarks = record["remarks"].to_string();
    let alike = |array: &str, words: &str| {
        let start =
            format!("the array `{array}`, whose name is unknown, has the shape of the logits and ");
        assert!(remarks.contains(&(start + words)), "{array}: {remarks}");
    };
    alike("output", "agrees with them");
    alike("cls_score", "differs from them (relative L2 1.0e-1)");
    alike("scores", "holds their softmax");
    // As the remark says, a line in a map has it judged.
    let map = h.path("names.map");
    std::fs::write(&map, "cls_score = fc\noutput = fc\nscores = -\n").unwrap();
    let record = diff(&h, &arrays, &["--map", &map]).fails();
    assert_eq!(record["first_divergent"], "fc");
}

/// What was recorded but not selected is evidence, too.
#[test]
fn a_selection_does_not_hide_that_a_map_is_changed_in_place() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &["--inject", "gate-on-short@layer1.0.conv1.spatial_conv"]);
    let gated = &arrays["maxpool"] * &arrays["layer1.0.conv1.param_conv.5"];
    arrays.insert("maxpool".to_owned(), gated);
    let record = diff(&h, &arrays, &["--layer", "maxpool"]).fails();
    assert_eq!(record["cause"], "port");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("changes it in between, in place"), "{explanation}");
}
