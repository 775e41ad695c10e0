//! Refusals: exit code 2, one sentence that says what to do, no panic and no partly written file.

mod common;

use std::io::Write;
use std::path::Path;

use common::{Harness, golden};
use skip::skip;

const SMALL: [&str; 8] = ["--depth", "18", "--width", "0.125", "--classes", "7", "--size", "64"];

fn candidate(h: &Harness, file: &str) -> common::Run {
    h.diff(&[&SMALL[..], &["--candidate", &format!("npz:{file}")]].concat())
}

#[test]
fn a_typo_in_a_layer_suggests_the_nearest() {
    let h = Harness::new();
    let typo = [&SMALL[..], &["--layer", "layer1.0.conv2.spatal_conv"]].concat();
    h.diff(&typo).refuses(&["spatal_conv", "layer1.0.conv2.spatial_conv"]);
    h.diff(&[&SMALL[..], &["--layer", "clt3"]].concat()).refuses(&["did you mean ctl3"]);
}

/// A program that reads the file behind `--json` must not take an earlier verdict for the answer.
#[test]
fn a_failed_run_replaces_an_earlier_record_and_nothing_else() {
    let h = Harness::new();
    let (json, html) = (h.path("record.json"), h.path("report.html"));
    h.diff(&[&SMALL[..], &["--candidate", "scalar"]].concat()).passes();
    let files = ["--json", &json, "--html", &html];
    for words in [&["--candidate", "npz:none.npz"][..], &["--candidate", "nonsense"], &["--wrong"]]
    {
        h.run(&[&["diff"][..], &files, words].concat()).code(2);
        let left = common::json_of(&json);
        assert_eq!((&left["kind"], &left["verdict"]), (&"failure".into(), &"error".into()));
        let error = left["error"].as_str().unwrap();
        assert!(
            words.iter().any(|word| error.contains(word.trim_start_matches("npz:"))),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
        h.run(&["report", &json]).refuses(&["failed", error]);
        h.diff(&[&SMALL[..], &["--candidate", "scalar"]].concat()).passes();
    }
    // An input that `--json` names by mistake stays as it is.
    let map = h.path("map.json");
    std::fs::write(&map, "{}").unwrap();
    let words = ["diff", "--candidate", "npz:none.npz", "--map", &map, "--json", &map];
    h.run(&words).refuses(&["the command reads this file"]);
    assert_eq!(std::fs::read_to_string(&map).unwrap(), "{}");
    // Stdout has the JSON and nothing else.
    for words in [
        &["diff", "--candidate", "npz:none.npz"][..],
        &["eval", "none"],
        &["bench", "--rounds", "x"],
    ] {
        let run = h.run(&[words, &["--json", "-"]].concat()).code(2);
        let left: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(left["verdict"], "error", "{left}");
    }
    assert_eq!(h.run(&["diff", "--wrong"]).code(2).stdout, "");
}

#[test]
fn impossible_models_are_refused() {
    let h = Harness::new();
    h.diff(&["--depth", "51"]).refuses(&["depth 51", "10, 18, 34, 50"]);
    h.diff(&["--size", "20"]).refuses(&["20x20", "29x29"]);
    h.diff(&["--width", "0"]).refuses(&["--width"]);
    h.diff(&["--classes", "9999999999"]).refuses(&["--classes"]);
    h.diff(&["--set", "tfc=perhaps"]).refuses(&["tfc=perhaps", "tfc=off"]);
    h.diff(&["--batch-size", "99999999999"]).refuses(&["--batch-size"]);
}

#[test]
fn cuda_without_a_gpu_is_one_sentence() {
    if Path::new("/dev/nvidia0").exists() {
        skip!(Gpu, "cuda_without_a_gpu_is_one_sentence: this machine has a GPU");
        return;
    }
    let h = Harness::new();
    h.diff(&[&SMALL[..], &["--device", "cuda"]].concat())
        .refuses(&["--device cuda", "--device cpu"]);
    for (command, instead) in [
        (&["eval", "mini"][..], "--device cpu"),
        (&["bench"], "--device cpu"),
        (&["gpu-check"], "--rehearse"),
    ] {
        if !cfg!(feature = "cuda") {
            skip!(
                Feature,
                "the refusal of --device cuda in {}: built without CUDA",
                command.join(" ")
            );
            continue;
        }
        let run = h.run(&[command, &["--device", "cuda"]].concat());
        run.refuses(&["no NVIDIA driver", instead]);
    }
    h.diff(&[&SMALL[..], &["--candidate", "cuda"]].concat()).refuses(&["engine cpu"]);
    h.diff(&[&SMALL[..], &["--device", "gpu"]].concat()).code(2);
}

#[test]
fn unknown_engines_are_refused() {
    let h = Harness::new();
    for engine in ["gpu", "npz:", "jax"] {
        let run = h.diff(&[&SMALL[..], &["--candidate", engine]].concat()).code(2);
        assert!(run.stderr.contains("npz:FILE"), "{}", run.stderr);
    }
    h.diff(&[&SMALL[..], &["--precision", "bf16"]].concat()).refuses(&["scalar", "bf16"]);
}

#[test]
fn a_variant_that_sets_a_part_twice_is_refused() {
    let h = Harness::new();
    for (variants, words) in [
        (&["tfc=off+tfc=off"][..], "sets one part twice"),
        (&["tfc=off+ioi=off+tfc=on"], "sets one part twice"),
        (&["tfc=off", "tfc=off"], "given twice"),
    ] {
        let flags = variants.iter().flat_map(|variant| ["--set", variant]);
        let words_of: Vec<&str> = ["ablate", "mini"].into_iter().chain(flags).collect();
        h.run(&words_of).refuses(&[words]);
    }
}

#[test]
fn impossible_faults_are_refused() {
    let h = Harness::new();
    let inject = |fault: &str| h.diff(&[&SMALL[..], &["--inject", fault]].concat());
    inject("typo").refuses(&["`typo`", "swapped-weights"]);
    inject("eps@fc").refuses(&["eps@fc", "no place"]);
    let dump = format!("npz:{}", golden("dumps/torch_r18_w0125_t16_64.npz"));
    h.diff(&[&SMALL[..], &["--candidate", &dump, "--inject", "eps"]].concat())
        .refuses(&["--inject eps", "dump"]);
}

#[test]
fn unreadable_dumps_are_refused() {
    let h = Harness::new();
    let whole = std::fs::read(golden("dumps/torch_r18_w0125_t16_64.npz")).unwrap();
    let broken = |name: &str, bytes: &[u8]| {
        let path = h.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    candidate(&h, &h.path("absent.npz")).refuses(&["absent.npz"]);
    candidate(&h, &h.path(".")).refuses(&["folder"]);
    candidate(&h, &broken("empty", b"")).refuses(&["empty", "npz"]);
    candidate(&h, &broken("noarrays", &empty_npz())).refuses(&["no arrays"]);
    for cut in [1, 100, whole.len() / 2, whole.len() - 1] {
        candidate(&h, &broken("cut.npz", &whole[..cut])).refuses(&["cut.npz"]);
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 0x10;
    let run = candidate(&h, &broken("flipped.npz", &flipped));
    assert!(run.code != 0, "a flipped bit passed: {}", run.stdout);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// A zip file without entries: only its end-of-directory record.
fn empty_npz() -> Vec<u8> {
    let mut bytes = b"PK\x05\x06".to_vec();
    bytes.resize(22, 0);
    bytes
}

#[test]
fn a_shape_of_10_gib_in_a_small_file_allocates_nothing() {
    let h = Harness::new();
    let path = h.path("huge.npz");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    zip.start_file("conv1.npy", zip::write::SimpleFileOptions::default()).unwrap();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 32, 10485760), }";
    zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
    zip.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
    zip.write_all(header.as_bytes()).unwrap();
    zip.finish().unwrap();
    candidate(&h, &path).refuses(&["huge.npz", "conv1"]);
}

#[test]
fn a_dump_of_another_model_says_which_flags_to_check() {
    let h = Harness::new();
    let dump = golden("dumps/torch_r18_w0125_t16_64.npz");
    let other = ["--depth", "18", "--width", "0.25", "--size", "72", "--classes", "9"];
    h.diff(&[&other[..], &["--candidate", &format!("npz:{dump}")]].concat())
        .refuses(&["--width", "--size"]);
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let h = Harness::new();
    let dump = golden("dumps/torch_r18_w0125_t16_64.npz");
    h.diff(&[&SMALL[..], &["--input", &dump]].concat()).refuses(&["no array `input`"]);
    h.diff(&[&SMALL[..], &["--input", "formula:x"]].concat()).code(2);
}

#[test]
fn weights_that_cannot_be_used_are_refused() {
    let h = Harness::new();
    let weights = |name: &str, bytes: &[u8]| {
        let path = h.path(name);
        std::fs::write(&path, bytes).unwrap();
        h.diff(&[&SMALL[..], &["--weights", &path]].concat())
    };
    weights("empty.pth", b"").refuses(&["empty.pth"]);
    weights("text.pth", b"these are no weights").refuses(&["text.pth"]);
    weights("call.pkl", b"\x80\x02cos\nsystem\nX\x0b\0\0\0touch pwned\x85R.")
        .refuses(&["call.pkl", "os.system"]);
    assert!(!Path::new(&h.path("pwned")).exists(), "a pickle was executed");
    h.diff(&[&SMALL[..], &["--weights", &h.path(".")]].concat()).refuses(&["folder"]);
    h.diff(&[&SMALL[..], &["--weights", "absent.pth"]].concat()).refuses(&["absent.pth"]);
}

#[test]
fn a_checkpoint_of_another_width_names_the_tensor() {
    let h = Harness::new();
    let out = h.path("w.safetensors");
    let convert = ["weights", "convert", "formula:0", "--out", &out];
    h.run(&[&convert, &SMALL[..]].concat()).code(0);
    let other = ["--depth", "18", "--width", "0.25", "--classes", "7", "--size", "64"];
    h.diff(&[&other[..], &["--weights", &out]].concat()).refuses(&[
        "tensor `",
        "w.safetensors",
        "--width",
    ]);
    h.diff(&[&SMALL[..], &["--weights", &out]].concat()).passes();
}

#[test]
fn converted_weights_are_the_same_weights() {
    let h = Harness::new();
    for ending in ["npz", "pth", "safetensors"] {
        let out = h.path(&format!("w.{ending}"));
        h.run(&[&["weights", "convert", "formula:3", "--out", &out], &SMALL[..]].concat()).code(0);
        let dump = |weights: &str, name: &str| {
            let path = h.path(name);
            let some = ["dump", "--engine", "scalar", "--layer", "fc", "--weights", weights];
            h.run(&[&some[..], &["--out", &path], &SMALL].concat()).code(0);
            std::fs::read(path).unwrap()
        };
        assert_eq!(dump(&out, "a.npz"), dump("formula:3", "b.npz"), "{ending}");
        let inspect = h.run(&[&["weights", "inspect", &out], &SMALL[..]].concat()).code(0);
        assert!(inspect.stdout.contains("tensors"), "{}", inspect.stdout);
    }
}

#[test]
fn no_partly_written_file_stays() {
    let h = Harness::new();
    std::fs::write(h.path("file"), "").unwrap();
    let out = h.path("file/dump.npz");
    h.run(&[&["dump", "--engine", "scalar", "--out", &out], &SMALL[..]].concat())
        .refuses(&["dump.npz"]);
    let left: Vec<_> = std::fs::read_dir(h.path(".")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    // A folder that does not exist is made.
    let out = h.path("new/folder/dump.npz");
    h.run(&[&["dump", "--engine", "scalar", "--out", &out], &SMALL[..]].concat()).code(0);
}
