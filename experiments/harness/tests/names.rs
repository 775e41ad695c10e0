//! Dumps with names of their own: `--map` and `--suggest-map`.

mod common;

use std::fs::File;

use common::{Harness, Run};
use ndarray::ArrayD;
use ndarray_npy::{NpzReader, NpzWriter};
use serde_json::Value;

const SMALL: [&str; 8] = ["--depth", "18", "--width", "0.125", "--classes", "7", "--size", "64"];

/// Writes a dump of `scalar` with these flags, and returns its arrays in the order of execution.
fn arrays(h: &Harness, more: &[&str]) -> Vec<(String, ArrayD<f32>)> {
    let out = h.path("named.npz");
    h.run(&[&["dump", "--engine", "scalar", "--out", &out], &SMALL[..], more].concat()).code(0);
    let mut npz = NpzReader::new(File::open(out).unwrap()).unwrap();
    let names = npz.names().unwrap();
    let read =
        |name: String| (name.trim_end_matches(".npy").to_owned(), npz.by_name(&name).unwrap());
    names.into_iter().map(read).collect()
}

fn write(h: &Harness, arrays: &[(String, ArrayD<f32>)]) -> String {
    let path = h.path("foreign.npz");
    let mut out = NpzWriter::new(File::create(&path).unwrap());
    for (name, array) in arrays {
        out.add_array(name, array).unwrap();
    }
    out.finish().unwrap();
    path
}

/// Names without any meaning, in the order of execution.
fn numbered(arrays: Vec<(String, ArrayD<f32>)>) -> (Vec<String>, Vec<(String, ArrayD<f32>)>) {
    let names = arrays.iter().map(|(name, _)| name.clone()).collect();
    let rename = |(at, (_, array))| (format!("{at:04}_op"), array);
    (names, arrays.into_iter().enumerate().map(rename).collect())
}

fn suggest(h: &Harness, path: &str, more: &[&str]) -> Run {
    let (candidate, map) = (format!("npz:{path}"), h.path("names.map"));
    let fixed = ["--candidate", &candidate, "--suggest-map", &map];
    h.diff(&[&fixed, &SMALL[..], more].concat())
}

/// The modules of the written map, by array.
fn mapped(h: &Harness) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(h.path("names.map")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains('='));
    let pair = |line: &str| {
        let (theirs, ours) = line.split_once('=').unwrap();
        let ours = ours.split('#').next().unwrap();
        (theirs.trim().to_owned(), ours.trim().to_owned())
    };
    lines.map(pair).collect()
}

/// Asserts that every line of the map is right, and returns the number of lines.
#[track_caller]
fn all_right(h: &Harness, names: &[String]) -> usize {
    let found = mapped(h);
    for (array, module) in &found {
        let at: usize = array[..4].parse().unwrap();
        let expected = if names[at] == "logits" { "fc" } else { names[at].as_str() };
        assert_eq!(module, expected, "{array}");
    }
    found.len()
}

fn first(record: &Value) -> &str {
    record["first_divergent"].as_str().unwrap_or("none")
}

#[test]
fn a_dump_of_numbers_is_mapped_and_the_map_serves_again() {
    let h = Harness::new();
    let (names, arrays) = numbered(arrays(&h, &[]));
    let path = write(&h, &arrays);
    let record = suggest(&h, &path, &[]).passes();
    assert_eq!(all_right(&h, &names), names.len());
    let candidate = format!("npz:{path}");
    let map = h.path("names.map");
    let fixed = ["--candidate", &candidate, "--map", &map];
    let again = h.diff(&[&fixed, &SMALL[..]].concat()).passes();
    assert_eq!(again["layers"], record["layers"]);
    // Without a map nothing but the clip is known.
    let run = h.diff(&[&["--candidate", &candidate], &SMALL[..]].concat());
    run.refuses(&["nothing was compared"]);
}

/// The values of one array of a dump are those of another clip.
fn with_a_stale_array(h: &Harness, module: &str) -> Vec<(String, ArrayD<f32>)> {
    let mut arrays = arrays(h, &[]);
    let others = self::arrays(h, &["--input", "formula:1"]);
    let at = arrays.iter().position(|(name, _)| name == module).unwrap();
    arrays[at].1 = others[at].1.clone();
    arrays
}

#[test]
fn an_array_that_no_module_was_found_for_keeps_the_verdict_from_pass() {
    let h = Harness::new();
    let arrays = with_a_stale_array(&h, "layer3.0");
    let named = format!("npz:{}", write(&h, &arrays));
    h.diff(&[&["--candidate", &named], &SMALL[..]].concat()).fails();
    let (names, arrays) = numbered(arrays);
    let at = names.iter().position(|name| name == "layer3.0").unwrap();
    let record = suggest(&h, &write(&h, &arrays), &[]).fails();
    assert_eq!(record["verdict"], "incomplete");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains(&format!("{at:04}_op")), "{explanation}");
    assert!(explanation.contains("layer3.0"), "{explanation}");
    // Who says that it shows no module has decided.
    let mut map = std::fs::read_to_string(h.path("names.map")).unwrap();
    map += &format!("\n{at:04}_op = -\n");
    std::fs::write(h.path("names.map"), map).unwrap();
    let (path, map) = (format!("npz:{}", h.path("foreign.npz")), h.path("names.map"));
    h.diff(&[&["--candidate", &path, "--map", &map], &SMALL[..]].concat()).passes();
}

#[test]
fn an_array_behind_an_unknown_prefix_keeps_the_verdict_from_pass() {
    let h = Harness::new();
    for prefix in ["student.", "encoder/"] {
        let mut arrays = with_a_stale_array(&h, "layer3.0");
        let at = arrays.iter().position(|(name, _)| name == "layer3.0").unwrap();
        arrays[at].0 = format!("{prefix}layer3.0");
        let path = format!("npz:{}", write(&h, &arrays));
        let record = h.diff(&[&["--candidate", &path], &SMALL[..]].concat()).fails();
        assert_eq!(record["verdict"], "incomplete");
        let explanation = record["explanation"].as_str().unwrap();
        assert!(explanation.contains(&format!("{prefix}layer3.0")), "{explanation}");
        // It does not matter if another array bears the module's own name.
        arrays[at].0 = "layer3.0".to_owned();
        let right = self::arrays(&h, &[]).swap_remove(at).1;
        arrays[at].1 = right.clone();
        arrays.push((format!("{prefix}layer3.0"), right));
        let path = format!("npz:{}", write(&h, &arrays));
        h.diff(&[&["--candidate", &path], &SMALL[..]].concat()).passes();
    }
}

#[test]
fn names_in_another_order_than_that_of_execution_are_mapped_by_value() {
    let h = Harness::new();
    let (names, mut arrays) = numbered(arrays(&h, &[]));
    let count = arrays.len();
    arrays.sort_by_key(|(name, _)| name[..4].parse::<usize>().unwrap() * 7919 % count);
    let renamed = arrays.into_iter().map(|(name, array)| (format!("{name}_{}", name.len()), array));
    let path = write(&h, &renamed.collect::<Vec<_>>());
    suggest(&h, &path, &[]).passes();
    assert_eq!(all_right(&h, &names), names.len());
}

#[test]
fn a_planted_mistake_is_found_behind_foreign_names() {
    let h = Harness::new();
    for fault in [
        "swapped-weights@layer2.0.conv1.temporal_conv",
        "transposed-kernel@layer1.0.conv1.spatial_conv.glo_conv.3",
        "bn-statistics@layer3.0.bn1",
        "relu-missing@layer2.1",
        "missing-gate@everywhere",
        "align-corners@layer4.0.conv2",
        "kernel-hwio@conv1",
    ] {
        let arrays = arrays(&h, &["--inject", fault]);
        let named = write(&h, &arrays);
        let candidate = format!("npz:{named}");
        let expected = h.diff(&[&["--candidate", &candidate], &SMALL[..]].concat()).fails();
        let (names, arrays) = numbered(arrays);
        let record = suggest(&h, &write(&h, &arrays), &[]).fails();
        assert_eq!(first(&record), first(&expected), "{fault}");
        assert_eq!(record["verdict"], expected["verdict"], "{fault}");
        all_right(&h, &names);
    }
}

#[test]
fn a_flax_dump_without_activations_is_mapped_up_to_its_layout() {
    let h = Harness::new();
    for more in [&[][..], &["--inject", "swapped-weights@layer3.0.conv2.temporal_conv"]] {
        let arrays = arrays(&h, &[&["--naming", "flax"], more].concat());
        let named = format!("npz:{}", write(&h, &arrays));
        let expected = h.diff(&[&["--candidate", &named], &SMALL[..]].concat());
        let code = expected.code;
        let expected = expected.code(code);
        let (_, arrays) = numbered(arrays);
        let run = suggest(&h, &write(&h, &arrays), &[]).code(code);
        assert_eq!(run.stdout.contains("DIVERGED"), expected.stdout.contains("DIVERGED"));
        if code == 1 {
            let record = common::json_of(&h.path("record.json"));
            assert_eq!(first(&record), "layer3.0.conv2.temporal_conv");
        }
    }
}

#[test]
fn arrays_that_show_no_module_are_not_taken_for_one() {
    let h = Harness::new();
    let (names, mut arrays) = numbered(arrays(&h, &[]));
    let at = names.iter().position(|name| name == "layer2.1.bn1").unwrap();
    let relu = arrays[at].1.mapv(|x| x.max(0.0));
    let noise = arrays[at].1.mapv(|x| (x * 12_345.678).sin());
    arrays.insert(at + 1, ("a_relu".to_owned(), relu));
    arrays.insert(at + 2, ("noise".to_owned(), noise));
    let record = suggest(&h, &write(&h, &arrays), &[]).passes();
    let text = std::fs::read_to_string(h.path("names.map")).unwrap();
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap();
    assert!(line("a_relu").starts_with("a_relu = -") && line("a_relu").contains("ReLU"), "{text}");
    assert!(line("noise").starts_with("# noise = ?"), "{text}");
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("noise is left to you"), "{remarks}");
}

/// A dump as a runtime that fuses writes it: of each chain of a convolution, its normalisation and its
/// activation the last array, and values between modules under numbers.
fn fused(h: &Harness, more: &[&str]) -> Vec<(String, String, ArrayD<f32>)> {
    let all = arrays(h, more);
    let of = |name: &str| all.iter().find(|(own, _)| own == name).unwrap().1.clone();
    let lacking =
        ["param_conv.1", "param_conv.2", "param_conv.4", "glo_conv.0", "glo_conv.1", "glo_conv.3"];
    let lacking =
        [&lacking[..], &["glo_conv.4", "glo_conv.6", "downsample.0", "shortcut_conv.0"]].concat();
    let mut kept = vec![];
    for (name, array) in &all {
        if name == "conv1" || lacking.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let array = if name == "bn1" { array.mapv(|x| x.max(0.0)) } else { array.clone() };
        kept.push((name.clone(), array));
        let Some((block, ctl)) =
            name.rsplit_once(".conv").filter(|_| name.ends_with("param_conv.5"))
        else {
            if let Some(ctl) = name.strip_suffix("pos_embed") {
                let sum = of(&format!("{ctl}glo_conv.2")) + of(name);
                kept.push(("-".to_owned(), sum));
            }
            continue;
        };
        let before = match (ctl.starts_with('2'), &block[5..]) {
            (true, _) => of(&format!("{block}.bn1")).mapv(|x| x.max(0.0)),
            (false, "1.0") => of("maxpool"),
            (false, place) if place.ends_with('0') => of(&format!("{block}.downsample.1")),
            (false, place) => of(&format!("layer{}.0", &place[..1])),
        };
        kept.push(("-".to_owned(), before * of(name)));
    }
    let number = |(at, (name, array))| (format!("{at:04}_op"), name, array);
    kept.into_iter().enumerate().map(number).collect()
}

#[test]
fn a_fused_dump_with_values_between_modules_passes_and_a_mistake_in_it_is_named() {
    let h = Harness::new();
    for (fault, expected) in [
        (None, "none"),
        (Some("swapped-weights@layer2.0.conv1.temporal_conv"), "layer2.0.conv1.temporal_conv"),
        // Its last ReLU but that of the block itself.
        (Some("relu-missing@layer2.1"), "layer2.1.conv2.param_conv.3"),
    ] {
        let more = fault.map_or(vec![], |fault| vec!["--inject", fault]);
        let all = fused(&h, &more);
        let named: Vec<_> =
            all.iter().map(|(own, _, array)| (own.clone(), array.clone())).collect();
        let run = suggest(&h, &write(&h, &named), &[]);
        let record = if fault.is_some() { run.fails() } else { run.passes() };
        assert_eq!(first(&record), expected);
        let text = std::fs::read_to_string(h.path("names.map")).unwrap();
        let map = mapped(&h);
        assert_eq!(map.len(), all.len(), "{text}");
        let pairs = map.iter().zip(&all).filter(|_| fault.is_none());
        for ((_, found), (array, module, _)) in pairs {
            // A sigmoid that is saturated has the values of its input up to a factor and an offset.
            let alike =
                found.replace("glo_conv.6", "glo_conv.7").replace("param_conv.4", "param_conv.5");
            let expected = if module == "logits" { "fc" } else { module.as_str() };
            assert_eq!(alike, expected, "{array}");
        }
    }
}

#[test]
fn the_steps_of_a_normalisation_are_not_modules() {
    let h = Harness::new();
    let (names, mut arrays) = numbered(arrays(&h, &[]));
    let at = |name: &str| names.iter().position(|own| own == name).unwrap();
    let (conv, bn) = (at("layer2.1.conv1"), at("layer2.1.bn1"));
    let mut shifted = [arrays[conv].1.clone(), arrays[bn].1.clone()];
    for array in &mut shifted {
        for (channel, mut map) in array.axis_iter_mut(ndarray::Axis(1)).enumerate() {
            map.mapv_inplace(|x| x + 0.1 + 0.05 * channel as f32);
        }
    }
    let [less, before] = shifted;
    arrays.insert(bn, ("less".to_owned(), less));
    arrays.insert(bn + 1, ("before".to_owned(), before));
    suggest(&h, &write(&h, &arrays), &[]).passes();
    let text = std::fs::read_to_string(h.path("names.map")).unwrap();
    for name in ["less", "before"] {
        assert!(text.contains(&format!("\n{name} = -  # by value: ")), "{text}");
    }
}

#[test]
fn an_array_of_a_module_that_is_missing_is_not_guessed() {
    // The array of one module is replaced by noise, and the modules that read it are right.
    let h = Harness::new();
    let (names, mut arrays) = numbered(arrays(&h, &[]));
    let at = names.iter().position(|name| name == "layer2.1.conv1.temporal_conv").unwrap();
    arrays[at].1.mapv_inplace(|x| (x * 12_345.678).sin());
    let record = suggest(&h, &write(&h, &arrays), &[]).fails();
    assert_eq!(record["verdict"], "incomplete");
    let next = record["next"].as_str().unwrap();
    assert!(next.contains("--map") && !next.contains("--suggest-map"), "{next}");
}

#[test]
fn a_map_by_hand_with_globs() {
    let h = Harness::new();
    let mut arrays = arrays(&h, &[]);
    for (name, _) in &mut arrays {
        *name = match name.strip_prefix("layer") {
            Some(rest) => format!("net/stage-{rest}"),
            None => format!("net/{name}"),
        };
    }
    let path = write(&h, &arrays);
    let map = h.path("own.map");
    std::fs::write(&map, "# ours\nnet/stage-* = layer*\nnet/* = *\nunused = fc\n").unwrap();
    let candidate = format!("npz:{path}");
    let fixed = ["--candidate", &candidate, "--map", &map];
    let record = h.diff(&[&fixed, &SMALL[..]].concat()).passes();
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("line 4 of the map fits no array"), "{remarks}");
    std::fs::write(&map, "net/* = layer9\n").unwrap();
    h.diff(&[&fixed, &SMALL[..]].concat()).refuses(&["own.map, line 1", "layer9", "did you mean"]);
    h.diff(&[&["--map", &map], &SMALL[..]].concat()).refuses(&["--map", "dump"]);
}
