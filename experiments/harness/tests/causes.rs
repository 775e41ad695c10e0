//! What has to be mended after a divergence, and when passing proves nothing.

mod common;

use common::Harness;
use common::arrays::{Arrays, SMALL, diff, dumped, some, written};
use serde_json::Value;

/// Rounds to bfloat16.
fn coarse(arrays: &Arrays) -> Arrays {
    arrays.iter().map(|(name, array)| (name.clone(), array.mapv(to_bf16))).collect()
}

fn to_bf16(x: f32) -> f32 {
    f32::from_bits(x.to_bits().wrapping_add(0x8000) & 0xffff_0000)
}

/// Runs the next command of a record as it is printed, and returns its exit code.
fn run_next(h: &Harness, record: &Value) -> i32 {
    let words = record["next"].as_str().unwrap().split(' ').skip(1).collect::<Vec<_>>();
    h.run(&words).code
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

/// The values of neighbours follow from each other, but what comes after them does not.
#[test]
fn neighbouring_arrays_of_another_run_are_the_recording() {
    let h = Harness::new();
    let (mut arrays, other) = (dumped(&h, &[]), dumped(&h, &["--input", "formula:5"]));
    for name in ["layer2.0.conv1.param_conv.1", "layer2.0.conv1.param_conv.2"] {
        arrays.insert(name.to_owned(), other[name].clone());
    }
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["cause"], "recording");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("fc is right in the whole run"), "{explanation}");
}

/// Its effect ends there, so that what is right behind it proves nothing.
#[test]
fn a_mistake_before_a_normalisation_of_zeros_is_one_of_the_port() {
    let h = Harness::new();
    let weights = h.path("weights.safetensors");
    h.run(&[&["weights", "convert", "formula:0", "--out", &weights], &SMALL[..6]].concat()).code(0);
    common::edit_weights(&weights, "layer2.0.bn2.weight", |_| 0.0);
    let given = ["--weights", &weights];
    let last = "tfc-missing@layer2.0.conv2";
    for fault in [last, "relu-missing@layer2.0.conv2", "bias-missing@layer2.0.conv2.spatial_conv"] {
        let wrong = dumped(&h, &[&given[..], &["--inject", fault]].concat());
        let record = diff(&h, &wrong, &given).fails();
        assert_eq!(record["cause"], "port", "{fault}: {}", record["explanation"]);
    }
}

#[test]
fn one_array_of_fewer_digits_is_the_recording() {
    let h = Harness::new();
    let name = "layer2.0.conv1.spatial_conv.short_conv";
    let text = |x: f32| format!("{x:.4}").parse::<f32>().unwrap();
    for (round, words) in [(to_bf16 as fn(f32) -> f32, "to bf16"), (text, "to 4 digits behind")] {
        let mut arrays = dumped(&h, &[]);
        arrays.get_mut(name).unwrap().mapv_inplace(round);
        let record = diff(&h, &arrays, &[]).fails();
        assert_eq!(
            (&record["cause"], &record["first_divergent"]),
            (&"recording".into(), &name.into())
        );
        assert!(
            record["explanation"].as_str().unwrap().contains(words),
            "{}",
            record["explanation"]
        );
    }
}

#[test]
fn a_wrong_reference_is_not_blamed_on_the_candidate() {
    let h = Harness::new();
    let right = dumped(&h, &[]);
    let mistake = ["--inject", "relu-missing@layer2.0"];
    let reference = written(&h, "reference.npz", &dumped(&h, &mistake));
    for candidate in ["cpu", &written(&h, "right.npz", &right)] {
        let flags = ["--candidate", candidate, "--reference", &reference];
        let record = h.diff(&[&flags, &SMALL[..]].concat()).fails();
        assert_eq!(record["cause"], "reference", "{candidate}");
        let place = record["first_divergent"].as_str().unwrap();
        assert!(place.starts_with("layer2.0.conv2.param_conv"), "{place}");
        let next = record["next"].as_str().unwrap();
        assert!(next.ends_with(&format!("--candidate {reference}")), "{next}");
        assert!(!next.contains("--reference"), "{next}");
    }
    // Where both are wrong, the candidate has to be mended, too.
    let record = diff(&h, &dumped(&h, &["--inject", "bgr"]), &["--reference", &reference]).fails();
    assert_ne!(record["cause"], "reference");
    // The other way round it is the candidate.
    let right = written(&h, "right.npz", &right);
    let record = diff(&h, &dumped(&h, &mistake), &["--reference", &right]).fails();
    assert_ne!(record["cause"], "reference");
}

#[test]
fn two_dumps_of_zeros_prove_nothing() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &[]);
    for (_, array) in arrays.iter_mut().filter(|(name, _)| *name != "input") {
        array.fill(0.0);
    }
    let reference = written(&h, "zeros.npz", &arrays);
    arrays.insert("note".to_owned(), arrays["logits"].clone());
    let record = diff(&h, &arrays, &["--reference", &reference]).fails();
    assert_eq!(record["verdict"], "incomplete");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("one value everywhere"), "{explanation}");
}

/// Its values are those of a coarser format because the port computed them in it.
#[test]
fn a_layer_that_was_computed_in_bfloat16_is_one_of_the_port() {
    let h = Harness::new();
    for place in ["conv1", "layer2.0.conv1.param_conv.1"] {
        let arrays = dumped(&h, &["--inject", &format!("bf16@{place}")]);
        let record = diff(&h, &arrays, &[]).fails();
        assert_eq!(record["cause"], "port", "{place}: {}", record["explanation"]);
    }
}

#[test]
fn logits_that_are_changed_behind_the_classifier_are_the_port() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &[]);
    arrays.insert("fc".to_owned(), arrays["logits"].clone());
    arrays.get_mut("logits").unwrap().mapv_inplace(|x| 0.5 * x);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["cause"], "port");
}

/// Between dumps of the same engine the errors of what is right are zero.
#[test]
fn an_early_mistake_between_two_dumps_is_one_of_the_port() {
    let h = Harness::new();
    let right = written(&h, "right.npz", &dumped(&h, &[]));
    for fault in ["transposed-kernel@conv1", "bgr", "bn-missing@bn1"] {
        let wrong = dumped(&h, &["--inject", fault]);
        let record = diff(&h, &wrong, &["--reference", &right]).fails();
        assert_eq!(record["cause"], "port", "{fault}: {}", record["explanation"]);
    }
}

#[test]
fn two_dumps_of_other_clips_or_weights_are_told_apart() {
    let h = Harness::new();
    let right = dumped(&h, &[]);
    let mut causes = vec![];
    for flags in [["--input", "formula:5"], ["--weights", "formula:1"]] {
        let reference = written(&h, "other.npz", &dumped(&h, &flags));
        let record = diff(&h, &right, &["--reference", &reference]).fails();
        causes.push(record["cause"].as_str().unwrap().to_owned());
    }
    assert_eq!(causes, ["preprocessing", "weights"]);
    // Where neither is the network, agreeing is all that is said.
    let mut other = dumped(&h, &["--weights", "formula:1"]);
    let reference = written(&h, "other.npz", &other);
    other.insert("note".to_owned(), other["logits"].clone());
    let record = diff(&h, &other, &["--reference", &reference]).passes();
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("whether the two sides agree"), "{remarks}");
}

#[test]
fn two_dumps_of_another_clip_than_the_one_that_is_named_are_not_blamed_on_the_weights() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &["--input", "formula:5"]);
    let named = ["--input", "formula:0"];
    let reference = written(&h, "reference.npz", &arrays);
    arrays.insert("note".to_owned(), arrays["logits"].clone());
    let record = diff(&h, &arrays, &[&["--reference", &reference], &named[..]].concat()).fails();
    assert_eq!(
        (&record["cause"], &record["first_divergent"]),
        (&"preprocessing".into(), &"input".into())
    );
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("The clip in both dumps"), "{explanation}");
    assert!(!record["remarks"].to_string().contains("give the weights"), "{}", record["remarks"]);
    assert_eq!(run_next(&h, &record), 0);
    // Dumps without their clip tell by the first layer alone.
    arrays.remove("input");
    let reference = written(&h, "reference.npz", &arrays);
    arrays.remove("note");
    let record = diff(&h, &arrays, &[&["--reference", &reference], &named[..]].concat()).passes();
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("another clip than --input formula:0"), "{remarks}");
}

/// Without a clip of its own, the reference is compared on the candidate's.
#[test]
fn the_next_command_for_a_wrong_reference_works_as_it_stands() {
    let h = Harness::new();
    let mut wrong = dumped(&h, &["--inject", "relu-missing@layer2.0"]);
    wrong.remove("input");
    let reference = written(&h, "reference.npz", &wrong);
    let against = ["--reference", &reference];
    let record = diff(&h, &dumped(&h, &[]), &against).fails();
    assert_eq!(record["cause"], "reference");
    assert_eq!(run_next(&h, &record), 1);
    // The flags that are about the candidate are left out.
    let mut arrays = dumped(&h, &[]);
    let first = arrays.remove("conv1").unwrap();
    arrays.insert("theirs".to_owned(), first);
    let map = h.path("names.map");
    std::fs::write(&map, "theirs = conv1\nconv1 = -\n").unwrap();
    let record = diff(&h, &arrays, &[&against[..], &["--map", &map]].concat()).fails();
    assert_eq!(record["cause"], "reference");
    assert!(!record["next"].as_str().unwrap().contains("--map"), "{}", record["next"]);
    assert_eq!(run_next(&h, &record), 1);
    let planted = ["--candidate", "scalar", "--inject", "relu6@layer2.0.conv1.spatial_conv"];
    let flags = [&planted[..], &against, &["--input", "formula:0"]].concat();
    let record = h.diff(&[&flags[..], &SMALL].concat()).fails();
    assert_eq!(record["cause"], "reference");
    assert_eq!(run_next(&h, &record), 1);
}

/// A planted mistake of preprocessing does not change the clip that was given, which the dump records.
#[test]
fn a_mistake_in_reading_the_recorded_clip_is_found() {
    let h = Harness::new();
    let clip = dumped(&h, &[]).remove("input");
    for (fault, words) in [("shifted-frame", "one position too"), ("bgr", "BGR")] {
        let arrays = dumped(&h, &["--inject", fault]);
        assert_eq!(arrays.get("input"), clip.as_ref(), "{fault}");
        let record = diff(&h, &arrays, &[]).fails();
        assert_eq!(
            (&record["cause"], &record["first_divergent"]),
            (&"port".into(), &"conv1".into())
        );
        let explanation = record["explanation"].as_str().unwrap();
        assert!(explanation.contains(words), "{fault}: {explanation}");
    }
}

/// The hook kept a reference to the map that the gate then multiplied in place.
#[test]
fn a_map_that_is_changed_in_place_after_its_first_reader_is_one_of_the_port() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &["--inject", "gate-on-short@layer1.0.conv1.spatial_conv"]);
    let gated = &arrays["maxpool"] * &arrays["layer1.0.conv1.param_conv.5"];
    arrays.insert("maxpool".to_owned(), gated);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["cause"], "port");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("changes it in between, in place"), "{explanation}");
}

/// What is wrong behind a recording is not taken for what followed from it.
#[test]
fn a_recording_beside_a_mistake_at_another_reader_is_still_one() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &["--inject", "bn-missing@layer1.0.bn2"]);
    arrays.get_mut("maxpool").unwrap().mapv_inplace(|x| 1.3 * x);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(
        (&record["cause"], &record["first_divergent"]),
        (&"port".into(), &"layer1.0.bn2".into())
    );
    let mut arrays = dumped(&h, &[]);
    arrays.get_mut("layer2.0").unwrap().mapv_inplace(|x| 1.3 * x);
    arrays.get_mut("logits").unwrap().mapv_inplace(|x| 2.0 * x);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!((&record["cause"], &record["first_divergent"]), (&"port".into(), &"fc".into()));
}

/// A wrong value, too, tells from which of two it was computed.
#[test]
fn a_recording_whose_only_reader_has_a_mistake_is_still_one() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &["--inject", "bf16@layer3.0.downsample.0"]);
    arrays.get_mut("layer2.0").unwrap().mapv_inplace(|x| 1.3 * x);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(
        (&record["cause"], &record["first_divergent"]),
        (&"recording".into(), &"layer2.0".into())
    );
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("layer3.0.downsample.0 is off by only"), "{explanation}");
}

#[test]
fn a_wrong_candidate_is_named_beside_a_wrong_reference() {
    let h = Harness::new();
    let mut right = dumped(&h, &[]);
    right.get_mut("layer2.0.bn1").unwrap().mapv_inplace(|x| 1.3 * x);
    let reference = written(&h, "reference.npz", &right);
    let wrong = dumped(&h, &["--inject", "bn-missing@layer3.0.bn1"]);
    let record = diff(&h, &wrong, &["--reference", &reference]).fails();
    assert_eq!(
        (&record["cause"], &record["first_divergent"]),
        (&"port".into(), &"layer3.0.bn1".into())
    );
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("first in layer2.0.bn1"), "{remarks}");
}

#[test]
fn a_wrong_recording_does_not_hide_a_mistake_behind_it() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &["--inject", "tfc-missing@layer4.0.conv2"]);
    arrays.get_mut("layer1.0.conv1.param_conv.1").unwrap().mapv_inplace(|x| -x);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(
        (&record["cause"], &record["first_divergent"]),
        (&"port".into(), &"layer4.0.conv2".into())
    );
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("besides, the recording of layer1.0.conv1.param_conv.1"), "{remarks}");
    // Nor a small one.
    let mut arrays = dumped(&h, &["--inject", "eps@layer3.0.bn1"]);
    arrays.get_mut("layer1.0.conv1.param_conv.1").unwrap().mapv_inplace(|x| -x);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(
        (&record["cause"], &record["first_divergent"]),
        (&"port".into(), &"layer3.0.bn1".into())
    );
}

#[test]
fn a_clip_that_holds_nan_is_refused() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &[]);
    arrays.get_mut("input").unwrap()[[0, 1, 2, 3, 4]] = f32::NAN;
    let clip = written(&h, "clip.npz", &some(&arrays, &["input"]));
    let clip = clip.trim_start_matches("npz:");
    for flags in
        [["--candidate", "scalar", "--input", clip], ["--candidate", "cpu", "--input", clip]]
    {
        let run = h.run(&[&["diff", "--no-edge"], &flags[..], &SMALL].concat());
        run.refuses(&["1 of 196608 values of the clip are NaN or infinite"]);
    }
    let dump = written(&h, "dump.npz", &arrays);
    let run = h.run(&[&["diff", "--candidate", &dump], &SMALL[..]].concat());
    run.refuses(&["values of the clip are NaN or infinite"]);
}

#[test]
fn a_planted_mistake_without_effect_is_said_to_have_none() {
    let h = Harness::new();
    let place = "relu6@layer2.0.conv1.spatial_conv";
    let flags = ["--candidate", "scalar", "--no-edge", "--inject", place];
    let record = h.diff(&[&flags[..], &SMALL].concat()).passes();
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("changes no compared value"), "{remarks}");
}

/// Although the output is closer to the right one than to what would follow from the recordings.
#[test]
fn an_output_that_is_wrong_proves_nothing() {
    let h = Harness::new();
    let mut arrays = dumped(&h, &["--inject", "bf16@layer4.0.conv2.temporal_conv"]);
    for name in ["layer2.0", "layer3.0.downsample.0"] {
        arrays.get_mut(name).unwrap().mapv_inplace(|x| 1.3 * x);
    }
    let record = diff(&h, &arrays, &[]).fails();
    let explanation = record["explanation"].as_str().unwrap();
    assert!(!explanation.contains("fc is right"), "{explanation}");
}
