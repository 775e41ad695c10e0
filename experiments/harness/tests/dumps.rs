//! Dumps as other programs write them: correct ones pass whatever their form, and wrong ones do not.
//! The files of ../shared/cases are tested if they are there; files of the same kinds are made here.

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use common::{Harness, Run};
use ndarray::{ArrayD, Axis, IxDyn};
use ndarray_npy::{NpzReader, NpzWriter};

const SMALL: [&str; 8] = ["--depth", "10", "--width", "0.125", "--classes", "7", "--size", "64"];

type Arrays = BTreeMap<String, ArrayD<f32>>;

/// A correct dump of every module.
fn right(h: &Harness) -> Arrays {
    dumped(h, "formula:0")
}

/// A dump of every module, computed with these weights.
fn dumped(h: &Harness, weights: &str) -> Arrays {
    let out = h.path("right.npz");
    let fixed = ["dump", "--engine", "scalar", "--weights", weights, "--out", &out];
    h.run(&[&fixed, &SMALL[..]].concat()).code(0);
    let mut npz = NpzReader::new(File::open(out).unwrap()).unwrap();
    let names = npz.names().unwrap();
    let array = |name: String| (name.trim_end_matches(".npy").to_owned(), name);
    names.into_iter().map(array).map(|(short, name)| (short, npz.by_name(&name).unwrap())).collect()
}

fn write(path: &str, arrays: &Arrays) {
    let mut out = NpzWriter::new(File::create(path).unwrap());
    for (name, array) in arrays {
        out.add_array(name, array).unwrap();
    }
    out.finish().unwrap();
}

fn diff(h: &Harness, arrays: &Arrays, more: &[&str]) -> Run {
    let path = h.path("changed.npz");
    write(&path, arrays);
    let candidate = format!("npz:{path}");
    h.diff(&[&["--candidate", &candidate], &SMALL[..], more].concat())
}

fn relu(array: &ArrayD<f32>) -> ArrayD<f32> {
    array.mapv(|x| x.max(0.0))
}

fn has_remark(record: &serde_json::Value, words: &str) -> bool {
    let remarks = record["remarks"].as_array().unwrap();
    remarks.iter().any(|remark| remark.as_str().unwrap().contains(words))
}

fn states(record: &serde_json::Value, state: &str) -> usize {
    let ledger = record["ledger"].as_array().unwrap();
    ledger.iter().filter(|entry| entry["state"] == state).count()
}

/// The blocks of depth 10, whose last normalisation is bn2.
const BLOCKS: [&str; 4] = ["layer1.0", "layer2.0", "layer3.0", "layer4.0"];

#[test]
fn every_array_of_a_correct_dump_is_in_the_ledger_once() {
    let h = Harness::new();
    let arrays = right(&h);
    let record = diff(&h, &arrays, &[]).passes();
    assert_eq!(record["ledger"].as_array().unwrap().len(), arrays.len());
    assert_eq!((states(&record, "clip"), states(&record, "refused")), (1, 0));
    assert!(has_remark(&record, "judged in f32"), "{}", record["remarks"]);
}

#[test]
fn hooks_that_keep_references_are_understood() {
    let h = Harness::new();
    let mut arrays = right(&h);
    for block in BLOCKS {
        let bn1 = relu(&arrays[&format!("{block}.bn1")]);
        arrays.insert(format!("{block}.bn1"), bn1);
        arrays.insert(format!("{block}.bn2"), arrays[block].clone());
        for ctl in ["conv1", "conv2"] {
            let late = arrays[&format!("{block}.{ctl}.param_conv.3")].clone();
            arrays.insert(format!("{block}.{ctl}.param_conv.2"), late);
        }
    }
    let record = diff(&h, &arrays, &[]).passes();
    assert!(has_remark(&record, "hooks kept references"), "{}", record["remarks"]);
}

#[test]
fn a_mistake_is_named_in_a_dump_whose_hooks_kept_references() {
    let h = Harness::new();
    let out = h.path("w.npz");
    h.run(&[&["weights", "convert", "formula:0", "--out", &out], &SMALL[..6]].concat()).code(0);
    let mut npz = NpzReader::new(File::open(&out).unwrap()).unwrap();
    let mut weights: Arrays = BTreeMap::new();
    for name in npz.names().unwrap() {
        weights.insert(name.trim_end_matches(".npy").to_owned(), npz.by_name(&name).unwrap());
    }
    weights.get_mut("layer2.0.bn1.running_mean").unwrap().fill(0.0);
    weights.get_mut("layer2.0.bn1.running_var").unwrap().fill(1.0);
    let broken = h.path("broken.npz");
    write(&broken, &weights);
    let mut arrays = dumped(&h, &broken);
    for block in BLOCKS {
        let bn1 = relu(&arrays[&format!("{block}.bn1")]);
        arrays.insert(format!("{block}.bn1"), bn1);
    }
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["first_divergent"], "layer2.0.bn1");
    let explanation = record["culprit"]["explanation"].as_str().unwrap_or("");
    assert!(explanation.contains("running statistics"), "{}", record["culprit"]);
}

#[test]
fn a_relu_that_the_network_does_not_have_fails_at_one_place_and_at_all() {
    let h = Harness::new();
    for places in [&["layer2.0"][..], &["layer2.0", "layer3.0", "layer4.0"]] {
        for name in ["downsample.1", "shortcut_conv.1"] {
            let mut arrays = right(&h);
            for block in places {
                let name = format!("{block}.{name}");
                let late = relu(&arrays[&name]);
                arrays.insert(name, late);
            }
            let record = diff(&h, &arrays, &[]).fails();
            assert_eq!(record["first_divergent"], format!("layer2.0.{name}"));
        }
    }
}

#[test]
fn folded_batch_normalisation_is_understood_and_still_checked() {
    let h = Harness::new();
    let mut arrays = right(&h);
    let pairs: Vec<(String, String)> = arrays
        .keys()
        .filter_map(|name| {
            let (path, leaf) = name.rsplit_once('.').unwrap_or(("", name));
            let bn = match (path.rsplit('.').next().unwrap_or(""), leaf) {
                ("", "conv1") => "bn1".to_owned(),
                ("param_conv", "1") => format!("{path}.2"),
                ("glo_conv", "0") => format!("{path}.1"),
                ("glo_conv", "3") => format!("{path}.4"),
                ("downsample" | "shortcut_conv", "0") => format!("{path}.1"),
                _ => return None,
            };
            Some((name.clone(), bn))
        })
        .collect();
    for (conv, bn) in &pairs {
        let folded = arrays.remove(bn).unwrap();
        arrays.insert(conv.clone(), folded);
    }
    let record = diff(&h, &arrays, &[]).passes();
    assert!(has_remark(&record, "BatchNorm is folded"), "{}", record["remarks"]);
    assert_eq!(states(&record, "fused"), pairs.len());
    let wrong = &pairs[3].0;
    let scaled = arrays[wrong].mapv(|x| x * 1.001);
    arrays.insert(wrong.clone(), scaled);
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["verdict"], "diverged");
}

#[test]
fn every_array_of_a_module_is_checked_under_each_of_its_names() {
    let h = Harness::new();
    let healthy = right(&h);
    let wrong = |name: &str, of: &str| {
        let mut arrays = healthy.clone();
        arrays.insert(name.to_owned(), healthy[of].clone());
        let record = diff(&h, &arrays, &[]).passes();
        assert_eq!(states(&record, "same"), 1, "{name}");
        arrays.insert(name.to_owned(), healthy[of].mapv(|x| x * 1.01));
        let record = diff(&h, &arrays, &[]).fails();
        assert_eq!(record["verdict"], "diverged", "{name}");
    };
    for (name, of) in [
        ("layer1", "layer1.0"),
        ("layer2.0.conv1.spatial_conv.glo_conv", "layer2.0.conv1.spatial_conv.glo_conv.7"),
        ("layer3.0.downsample", "layer3.0.downsample.1"),
        ("fc", "logits"),
        ("backbone.net.conv1", "conv1"),
    ] {
        wrong(name, of);
    }
}

#[test]
fn an_impossible_shape_is_incomplete_and_an_empty_batch_is_refused() {
    let h = Harness::new();
    let healthy = right(&h);
    let mut arrays = healthy.clone();
    let name = "layer1.0.conv1.spatial_conv.glo_conv.2";
    arrays.insert(name.to_owned(), ArrayD::zeros(IxDyn(&[1, 5, 3])));
    let record = diff(&h, &arrays, &[]).fails();
    assert_eq!(record["verdict"], "incomplete");
    assert_eq!(states(&record, "refused"), 1);
    let nothing = |array: &ArrayD<f32>| {
        let mut shape = array.shape().to_vec();
        shape[0] = 0;
        ArrayD::zeros(IxDyn(&shape))
    };
    let empty: Arrays = healthy.iter().map(|(n, a)| (n.clone(), nothing(a))).collect();
    diff(&h, &empty, &[]).refuses(&["batch of 0", "nothing to compare"]);
}

#[test]
fn channels_last_is_a_property_of_the_whole_dump() {
    let h = Harness::new();
    let turned = |array: &ArrayD<f32>| match array.ndim() {
        4 => array.view().permuted_axes(IxDyn(&[0, 2, 3, 1])).as_standard_layout().into_owned(),
        _ => array.clone(),
    };
    let arrays: Arrays = right(&h).iter().map(|(n, a)| (n.clone(), turned(a))).collect();
    let record = diff(&h, &arrays, &[]).passes();
    assert!(has_remark(&record, "maps NHWC"), "{}", record["remarks"]);
}

#[test]
fn a_clip_is_found_by_its_shape_and_may_lack_a_batch_axis() {
    let h = Harness::new();
    let healthy = right(&h);
    let single: Arrays =
        healthy.iter().map(|(n, a)| (n.clone(), a.index_axis(Axis(0), 0).to_owned())).collect();
    diff(&h, &single, &[]).passes();
    let mut arrays = healthy.clone();
    let clip = arrays.remove("input").unwrap();
    arrays.insert("what.the.camera.saw".to_owned(), clip);
    let record = diff(&h, &arrays, &[]).passes();
    assert_eq!(states(&record, "clip"), 1);
    arrays.remove("what.the.camera.saw");
    diff(&h, &arrays, &[]).refuses(&["the clip", "--input"]);
    diff(&h, &arrays, &["--input", "formula:0"]).passes();
}

#[test]
fn other_classes_are_refused_before_anything_is_computed() {
    let h = Harness::new();
    let mut arrays = right(&h);
    arrays.insert("logits".to_owned(), ArrayD::zeros(IxDyn(&[1, 10])));
    diff(&h, &arrays, &[]).refuses(&["10 classes", "--classes 10"]);
}

#[test]
fn a_module_is_not_the_only_suspect_if_its_input_was_not_compared() {
    let h = Harness::new();
    let healthy = right(&h);
    let mut arrays: Arrays = healthy
        .iter()
        .filter(|(name, _)| ["input", "logits"].contains(&name.as_str()))
        .map(|(name, array)| (name.clone(), array.clone()))
        .collect();
    arrays.insert("logits".to_owned(), healthy["logits"].mapv(|x| x * 1.5));
    arrays.insert("stem/Conv_0".to_owned(), healthy["conv1"].clone());
    let record = diff(&h, &arrays, &[]).fails();
    let text = record["culprit"]["text"].as_str().unwrap();
    assert!(text.contains("between input and fc"), "{text}");
}

#[test]
fn the_shared_cases_have_their_expected_results() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    let Ok(list) = std::fs::read_to_string(cases.join("expected.tsv")) else {
        return skip::skip!(Shared, "../shared/cases is not there");
    };
    let h = Harness::new();
    let model = &SMALL[..6];
    let mut wrong = vec![];
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let (kind, file, expected) = (fields.next(), fields.next(), fields.next());
        let (Some("diff"), Some(file), Some(expected)) = (kind, file, expected) else { continue };
        let more = fields.next().unwrap_or("").replace('@', &format!("{}/", cases.display()));
        let more: Vec<&str> = more.split_whitespace().collect();
        let candidate = format!("npz:{}", cases.join("dumps").join(file).display());
        let fixed = ["--candidate", &candidate, "--size", "64"];
        let run = h.diff(&[&fixed, model, &more].concat());
        let mut words = expected.split(' ');
        let codes: Vec<i32> =
            words.next().unwrap().split('|').map(|code| code.parse().unwrap()).collect();
        let code = run.code;
        let mut right = codes.contains(&code);
        if let Some(layer) = words.next() {
            let named = run.fails()["first_divergent"].as_str().unwrap_or("").to_owned();
            right &= named.starts_with(layer);
        }
        if !right {
            wrong.push(format!("{file}: expected {expected}, got {code}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn negative_values_before_a_relu_are_checked() {
    let h = Harness::new();
    let healthy = right(&h);
    // The in-place sum `out += identity` of every block overwrites the array of bn2.
    let identity = |block: &str| {
        let shortcut = healthy.get(&format!("{block}.shortcut_conv.1"));
        shortcut.unwrap_or(&healthy["maxpool"]).clone()
    };
    let mut sums = healthy.clone();
    for block in BLOCKS {
        let sum = &healthy[&format!("{block}.bn2")] + &identity(block);
        sums.insert(format!("{block}.bn2"), sum);
    }
    let record = diff(&h, &sums, &[]).passes();
    assert!(has_remark(&record, "bn2 of a block"), "{}", record["remarks"]);
    let wrong = sums["layer3.0.bn2"].mapv(|x| if x < 0.0 { 5.0 * x } else { x });
    sums.insert("layer3.0.bn2".to_owned(), wrong);
    let record = diff(&h, &sums, &[]).fails();
    assert_eq!(record["verdict"], "diverged");
}

#[test]
fn sums_that_overwrite_the_identity_are_understood() {
    let h = Harness::new();
    let healthy = right(&h);
    let mut arrays = healthy.clone();
    arrays.insert("maxpool".to_owned(), healthy["layer1.0"].clone());
    for block in &BLOCKS[1..] {
        arrays.insert(format!("{block}.shortcut_conv.1"), healthy[*block].clone());
    }
    diff(&h, &arrays, &[]).passes();
}

#[test]
fn bfloat16_dumps_are_judged_in_bfloat16_and_partly_finer_ones_are_not() {
    let h = Harness::new();
    let healthy = right(&h);
    let coarse = |array: &ArrayD<f32>| {
        array.mapv(|x| f32::from_bits(x.to_bits().wrapping_add(0x8000) & 0xffff_0000))
    };
    let all: Arrays = healthy.iter().map(|(n, a)| (n.clone(), coarse(a))).collect();
    let record = diff(&h, &all, &[]).passes();
    assert!(has_remark(&record, "judged in bf16"), "{}", record["remarks"]);
    let mut part: Arrays = all.clone();
    for (name, array) in healthy.iter().filter(|(name, _)| name.starts_with("layer2")) {
        part.insert(name.clone(), array.clone());
    }
    part.insert("conv1".to_owned(), healthy["conv1"].mapv(|x| x * 1.001));
    let record = diff(&h, &part, &[]).fails();
    assert!(has_remark(&record, "judged in f32"), "{}", record["remarks"]);
}

#[test]
fn nothing_compared_is_refused() {
    let h = Harness::new();
    let healthy = right(&h);
    let only: Arrays = [("input".to_owned(), healthy["input"].clone())].into();
    diff(&h, &only, &[]).refuses(&["nothing was compared"]);
    diff(&h, &healthy, &["--layer", "input"]).refuses(&["nothing was compared"]);
    let path = h.path("empty.npz");
    let empty = ArrayD::zeros(IxDyn(&[0, 3, 16, 64, 64]));
    write(&path, &[("input".to_owned(), empty)].into());
    h.diff(&[&SMALL[..], &["--input", &path]].concat()).refuses(&["batch of 0"]);
}

#[test]
fn two_arrays_of_one_name_are_refused() {
    use std::io::Write;
    let h = Harness::new();
    let (path, array) = (h.path("twice.npz"), ArrayD::<f32>::zeros(IxDyn(&[1])));
    let mut bytes = vec![];
    ndarray_npy::WriteNpyExt::write_npy(&array, &mut bytes).unwrap();
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    for name in ["conv1.npy", "conv1"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
    let candidate = format!("npz:{path}");
    h.diff(&[&SMALL[..], &["--candidate", &candidate]].concat()).refuses(&["two entries `conv1`"]);
}

#[test]
fn a_wrong_array_of_a_reference_is_found_where_the_engine_has_fused_its_layer() {
    let h = Harness::new();
    let mut arrays = right(&h);
    let path = h.path("reference.npz");
    let reference = format!("npz:{path}");
    let flags = ["--candidate", "cpu", "--reference", &reference];
    write(&path, &arrays);
    h.diff(&[&SMALL[..], &flags].concat()).passes();
    let broken = arrays["layer2.0.downsample.0"].mapv(|_| f32::NAN);
    arrays.insert("layer2.0.downsample.0".to_owned(), broken);
    write(&path, &arrays);
    let record = h.diff(&[&SMALL[..], &flags].concat()).fails();
    assert_eq!(record["first_divergent"], "layer2.0.downsample.0");
}
