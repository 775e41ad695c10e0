//! Checkpoints that are intact but do not fit the model, and files that are not checkpoints.

use checkpoint::{Source, Verdict, Weights, inspect, inspect_bytes};
use spec::ParamSpec;

use crate::fixtures::{bytes, call, load, refusal, safetensors, specs};

/// The formula weights as a safetensors file, with some tensors replaced or left out.
fn file(edit: impl Fn(&str, Vec<usize>, Vec<f32>) -> Option<(Vec<usize>, Vec<f32>)>) -> Vec<u8> {
    let formula = Weights::formula(&specs(), 0);
    let tensors: Vec<_> = formula
        .names()
        .filter_map(|name| {
            let param = formula.get(name)?.clone();
            let (shape, data) = edit(name, param.shape, param.data)?;
            Some((name, shape, data))
        })
        .collect();
    let tensors: Vec<_> =
        tensors.iter().map(|(n, s, d)| (*n, s.as_slice(), d.as_slice())).collect();
    safetensors(&tensors)
}

#[test]
fn missing_statistics_are_an_error_with_their_name() {
    let text = refusal(&file(|name, s, d| (!name.contains("running_")).then_some((s, d))));
    assert!(text.contains("tensor `bn1.running_mean` of shape [4] is missing"), "{text}");
    assert!(text.contains("so are 3 more of the 15"), "{text}");
    assert!(text.contains("batch normalisation needs its statistics"), "{text}");
}

#[test]
fn half_a_classifier_is_an_error() {
    let text = refusal(&file(|name, s, d| (name != "fc.bias").then_some((s, d))));
    assert!(text.contains("tensor `fc.bias` of shape [5] is missing"), "{text}");
}

#[test]
fn a_wrong_shape_says_both_shapes() {
    let text = refusal(&file(|name, mut s, d| {
        if name == "conv1.weight" {
            s = vec![6, 4, 3, 3];
        }
        Some((s, d))
    }));
    let expected = "tensor `conv1.weight` has the shape [6, 4, 3, 3], expected [4, 6, 3, 3]";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn values_that_are_not_finite_are_an_error_with_their_place() {
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let bytes = file(|name, s, mut d| {
            if name == "bn1.bias" {
                d[2] = value;
            }
            Some((s, d))
        });
        let text = refusal(&bytes);
        assert!(text.contains(&format!("tensor `bn1.bias` has {word} at 2;")), "{text}");
        let found = inspect_bytes(&bytes, "FILE", None, &specs()).unwrap();
        let verdict = &found.problems().next().unwrap().verdict;
        assert!(matches!(verdict, Verdict::NotFinite { index: 2, count: 1, .. }), "{verdict:?}");
    }
}

#[test]
fn a_variance_below_zero_is_an_error_with_its_place() {
    let with = |variance: f32| {
        file(|name, s, mut d| {
            if name == "bn1.running_var" {
                d[1] = variance;
            }
            Some((s, d))
        })
    };
    let text = refusal(&with(-0.25));
    assert!(text.contains("tensor `bn1.running_var` has the variance -0.25 at 1;"), "{text}");
    let found = inspect_bytes(&with(-0.25), "FILE", None, &specs()).unwrap();
    let verdict = &found.problems().next().unwrap().verdict;
    assert!(matches!(verdict, Verdict::NegativeVariance { index: 1, count: 1, .. }), "{verdict:?}");
    // The eps of the normalisation makes up for what rounding leaves below zero.
    let found = inspect_bytes(&with(-1e-9), "FILE", None, &specs()).unwrap();
    assert_eq!(found.problems().count(), 0);
}

#[test]
fn unknown_and_duplicate_tensors_are_errors() {
    let formula = Weights::formula(&specs(), 0);
    let tensors = |more: &[&'static str]| {
        let mut list: Vec<_> = formula.names().map(|n| (n, formula.get(n).unwrap())).collect();
        let bias = formula.get("fc.bias").unwrap();
        list.extend(more.iter().map(|name| (*name, bias)));
        let list: Vec<_> =
            list.iter().map(|(n, p)| (*n, p.shape.as_slice(), p.data.as_slice())).collect();
        safetensors(&list)
    };
    let text = refusal(&tensors(&["extra.a", "extra.b", "extra.c", "extra.d"]));
    assert!(
        text.contains("4 tensors that the model does not know: `extra.a`, `extra.b`, `extra.c`, …"),
        "{text}"
    );
    let mut twice = formula.get("fc.bias").unwrap().data.clone();
    let double = |values: &[f32]| {
        let list = formula.names().map(|n| (n, formula.get(n).unwrap()));
        let mut list: Vec<_> =
            list.map(|(n, p)| (n, p.shape.as_slice(), p.data.as_slice())).collect();
        list.push(("cls_head.fc_cls.bias", &[5], values));
        safetensors(&list)
    };
    assert!(load(&double(&twice)).is_ok(), "the same bits under two names");
    twice[4] = twice[4].next_up();
    let text = refusal(&double(&twice));
    assert!(
        text.contains(
            "tensor `cls_head.fc_cls.bias` is the same tensor of the model as `fc.bias`, but \
             has other values; save one of the two"
        ),
        "{text}"
    );
    assert!(load(&tensors(&["optimizer.state.0", "bn1.num_batches_tracked"])).is_ok());
}

#[test]
fn a_checkpoint_of_another_network_gives_one_sentence() {
    let text = refusal(&safetensors(&[("stem.0.weight", &[1], &[1.0]), ("x", &[1], &[1.0])]));
    assert!(
        text.contains("none of its 2 tensors (`stem.0.weight`, `x`) fits this model"),
        "{text}"
    );
}

#[test]
fn quantised_weights_are_refused() {
    let specs = [ParamSpec { name: "fc.bias".into(), shape: vec![4] }];
    let header = br#"{"fc.bias":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend([1, 2, 3, 4]);
    let text = Weights::from_bytes(&bytes, "FILE", None, &specs).unwrap_err().to_string();
    assert!(text.contains("tensor `fc.bias` is stored as int8, which is not a float"), "{text}");
}

#[test]
fn folders_missing_files_and_empty_files_give_one_sentence_each() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pth");
    std::fs::write(&empty, b"").unwrap();
    let cases = [
        (folder.path().to_owned(), "this is a folder"),
        (folder.path().join("absent.pth"), "cannot be read"),
        (empty, "the file is empty"),
    ];
    for (path, expected) in cases {
        let text = Weights::load(&Source::file(path.clone()), &specs()).unwrap_err().to_string();
        assert!(text.contains(expected) && text.contains(&path.display().to_string()), "{text}");
        assert_eq!(inspect(&path, &specs()).unwrap_err().to_string(), text);
    }
}

#[test]
fn other_kinds_of_files_are_named() {
    let mut empty_zip = b"PK\x05\x06".to_vec();
    empty_zip.extend([0; 18]);
    let cases = [
        (empty_zip, "the archive is empty"),
        (b"<!DOCTYPE html>".to_vec(), "a web page"),
        (b"version https://git-lfs.github.com/spec/v1".to_vec(), "Git LFS"),
        (b"\x93NUMPY\x01\x00".to_vec(), "a single numpy array"),
        (b"text".to_vec(), "none of the supported formats"),
        (b"\x80\x02}.".to_vec(), "the pickle has no state dict: it is an empty dictionary"),
        (b"\x80\x02N.".to_vec(), "the pickle has no state dict: it is not a dictionary"),
        (call("collections", "OrderedDict", "x"), "not a tuple"),
        (b"\x80\x02}U\x05epochK\x01s.".to_vec(), "the keys `epoch`"),
    ];
    for (bytes, expected) in cases {
        let text = refusal(&bytes);
        assert!(text.contains(expected), "{text}");
    }
    assert!(load(&bytes("mmaction.pth")).is_ok());
}
