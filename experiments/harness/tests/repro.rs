//! `--repro`: the smallest reproduction of a divergence, run in numpy.

mod common;

use std::fs::File;
use std::process::{Command, Output};

use common::{Harness, Run};
use ndarray::ArrayD;
use ndarray_npy::{NpzReader, NpzWriter};

/// A size at which the embeddings are resized, and maps are not square.
const SMALL: [&str; 8] = ["--depth", "50", "--width", "0.125", "--classes", "7", "--size", "57x65"];

/// One module of each kind and of each way to read others.
const MODULES: [&str; 20] = [
    "conv1",
    "bn1",
    "maxpool",
    "layer1.0.conv1",
    "layer1.0.conv2.param_conv.0",
    "layer1.0.conv2.param_conv.1",
    "layer1.0.conv2.param_conv.3",
    "layer1.0.conv2.param_conv.5",
    "layer1.0.conv2.temporal_conv",
    "layer1.0.conv2.spatial_conv.short_conv",
    "layer1.0.conv2.spatial_conv.glo_conv.0",
    "layer1.0.conv2.spatial_conv.pos_embed",
    "layer1.0.conv2.spatial_conv.glo_conv.3",
    "layer1.0.conv2.spatial_conv.glo_conv.7",
    "layer1.0.conv2.spatial_conv",
    "layer1.0.conv2",
    "layer2.0.downsample.0",
    "layer2.0.shortcut_conv.1",
    "layer2.1",
    "avgpool",
];

/// The Python that has numpy. If none is set, the test is reported as skipped.
fn python() -> Option<String> {
    let found = std::env::var("HARNESS_PEERS").ok();
    if found.is_none() {
        skip::skip!(Numpy, "HARNESS_PEERS names no Python that has numpy");
    }
    found
}

fn check(python: &str, folder: &str) -> Output {
    Command::new(python).arg(format!("{folder}/check.py")).output().unwrap()
}

/// Changes one array of the dump, and compares it with `--repro`.
fn with_wrong(h: &Harness, dump: &str, place: &str, more: &[&str]) -> Run {
    let mut npz = NpzReader::new(File::open(dump).unwrap()).unwrap();
    let wrong = h.path("wrong.npz");
    let mut out = NpzWriter::new(File::create(&wrong).unwrap());
    for name in npz.names().unwrap() {
        let name = name.trim_end_matches(".npy");
        let mut array: ArrayD<f32> = npz.by_name(name).unwrap();
        if name == place {
            array.mapv_inplace(|x| x * 1.01 + 0.01);
        }
        out.add_array(name, &array).unwrap();
    }
    out.finish().unwrap();
    let (candidate, repro) = (format!("npz:{wrong}"), h.path("repro"));
    h.diff(&[&["--candidate", &candidate, "--repro", &repro], &SMALL[..], more].concat())
}

fn dump(h: &Harness) -> String {
    let dump = h.path("right.npz");
    h.run(&[&["dump", "--engine", "scalar", "--out", &dump], &SMALL[..]].concat()).code(0);
    dump
}

#[test]
fn every_kind_of_module_is_reproduced_in_numpy() {
    let Some(python) = python() else { return };
    let h = Harness::new();
    let dump = dump(&h);
    for place in MODULES.into_iter().chain(["logits"]) {
        let record = with_wrong(&h, &dump, place, &[]).fails();
        let name = if place == "logits" { "fc" } else { place };
        assert_eq!(record["first_divergent"], name);
        let folder = h.path("repro");
        assert_eq!(record["next"], format!("python3 {folder}/check.py"));
        // 2 would mean that numpy does not reproduce the float64 output to 1e-12.
        let output = check(&python, &folder);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{place}: {text}{stderr}");
        assert!(text.contains(name) && text.contains("DIVERGED"), "{text}");
        let lines = std::fs::read_to_string(format!("{folder}/check.py")).unwrap().lines().count();
        assert!(lines < 75, "{place}: {lines} lines");
        std::fs::copy(format!("{folder}/expected.npy"), format!("{folder}/candidate.npy")).unwrap();
        assert_eq!(check(&python, &folder).status.code(), Some(0), "{place}, mended");
    }
}

/// The array of a container shows its last member, too: the wrong one of the two is named and reproduced.
#[test]
fn of_two_arrays_of_a_module_the_wrong_one_is_reproduced() {
    let h = Harness::new();
    let right = dump(&h);
    let mut npz = NpzReader::new(File::open(&right).unwrap()).unwrap();
    let twice = h.path("twice.npz");
    let mut out = NpzWriter::new(File::create(&twice).unwrap());
    for name in npz.names().unwrap() {
        let name = name.trim_end_matches(".npy");
        let array: ArrayD<f32> = npz.by_name(name).unwrap();
        out.add_array(name, &array).unwrap();
        if name == "layer1.2" {
            out.add_array("layer1", &(array + 1.0)).unwrap();
        }
    }
    out.finish().unwrap();
    let (candidate, repro) = (format!("npz:{twice}"), h.path("repro"));
    let flags = ["--candidate", &candidate, "--repro", &repro];
    let record = h.diff(&[&flags[..], &SMALL].concat()).fails();
    assert_eq!(record["first_divergent"], "layer1.2");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("The array `layer1` is wrong"), "{explanation}");
    let read = |name: &str| -> ArrayD<f64> {
        ndarray_npy::read_npy(format!("{repro}/{name}.npy"))
            .or_else(|_| {
                let array = ndarray_npy::read_npy::<_, ArrayD<f32>>(format!("{repro}/{name}.npy"));
                array.map(|array| array.mapv(f64::from))
            })
            .unwrap()
    };
    let difference = (read("candidate") - read("expected")).mean().unwrap();
    assert!((difference - 1.0).abs() < 1e-3, "{difference}");
    // The port went on with the right values, which the logits show.
    let explanation = record["explanation"].as_str().unwrap();
    assert!(
        explanation.contains("it is the recording of this layer that is wrong"),
        "{explanation}"
    );
}

#[test]
fn an_engine_with_a_planted_mistake_is_reproduced() {
    let Some(python) = python() else { return };
    let h = Harness::new();
    let repro = h.path("engine");
    let fixed = ["--repro", &repro, "--no-edge"];
    for (candidate, fault) in [
        ("scalar", "transposed-kernel@layer2.0.conv2"),
        ("scalar", "align-corners@layer1.1.conv2"),
        ("cpu", "bn-statistics@layer2.0.bn2"),
    ] {
        let flags = ["--candidate", candidate, "--inject", fault];
        h.diff(&[&fixed[..], &flags, &SMALL].concat()).fails();
        let output = check(&python, &repro);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{fault}: {text}");
        let (expected, own) = (format!("{repro}/expected.npy"), format!("{repro}/candidate.npy"));
        std::fs::copy(expected, own).unwrap();
        assert_eq!(check(&python, &repro).status.code(), Some(0), "{fault}, mended");
    }
}

#[test]
fn nothing_is_written_without_a_divergence_or_into_other_folders() {
    let h = Harness::new();
    let repro = h.path("none");
    let small = [&["--repro", &repro, "--no-edge"], &SMALL[..]].concat();
    let run = h.diff(&small);
    assert!(run.stderr.contains("nothing was written"), "{}", run.stderr);
    run.passes();
    assert!(!std::path::Path::new(&repro).exists());
    std::fs::create_dir(&repro).unwrap();
    std::fs::write(format!("{repro}/notes.txt"), "mine").unwrap();
    let wrong = [&small[..], &["--inject", "relu-missing@layer1.0"]].concat();
    let run = h.diff(&wrong).code(2);
    assert!(run.stderr.contains("is not empty") && run.stderr.contains("name a new folder"));
    assert_eq!(std::fs::read_dir(&repro).unwrap().count(), 1);
}
