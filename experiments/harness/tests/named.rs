//! A divergence is explained by the mistake that was planted, or not at all.

mod common;

use std::fs::File;

use common::{Harness, json_of};
use ndarray::ArrayD;
use ndarray_npy::{NpzReader, NpzWriter};

const SMALL: [&str; 8] = ["--depth", "10", "--width", "0.125", "--classes", "7", "--size", "64"];

/// A correct dump with one array changed, as the value of `--candidate`.
fn dump_with(h: &Harness, place: &str, change: impl Fn(&mut ArrayD<f32>)) -> String {
    let (right, wrong) = (h.path("right.npz"), h.path("wrong.npz"));
    h.run(&[&["dump", "--engine", "scalar", "--out", &right], &SMALL[..]].concat()).code(0);
    let mut npz = NpzReader::new(File::open(right).unwrap()).unwrap();
    let mut out = NpzWriter::new(File::create(&wrong).unwrap());
    for name in npz.names().unwrap() {
        let name = name.trim_end_matches(".npy");
        let mut array: ArrayD<f32> = npz.by_name(name).unwrap();
        if name == place {
            change(&mut array);
        }
        out.add_array(name, &array).unwrap();
    }
    out.finish().unwrap();
    format!("npz:{wrong}")
}

#[test]
fn a_scaled_1x1_convolution_is_located_and_not_named() {
    let h = Harness::new();
    for place in ["layer2.0.conv1.temporal_conv", "layer3.0.shortcut_conv.0"] {
        let dump = dump_with(&h, place, |array| array.mapv_inplace(|x| x * 1.01));
        let record = h.diff(&[&SMALL[..], &["--candidate", &dump]].concat()).fails();
        assert_eq!(record["first_divergent"], place);
        let culprit = &record["culprit"];
        // What follows was computed with the right values.
        assert_eq!(record["cause"], "recording", "{culprit}");
        let tried = culprit["hypotheses"].as_array().unwrap();
        assert!(tried.iter().all(|h| h["fits"] == false), "{culprit}");
        let observed = tried[0]["what"].as_str().unwrap();
        assert!(observed.contains("1.010000 times"), "{culprit}");
        let offered =
            |words: &str| tried.iter().any(|h| h["what"].as_str().unwrap().contains(words));
        assert!(!offered("180 degrees") && !offered("transposed (height"), "{culprit}");
    }
}

#[test]
fn a_mistake_that_is_made_everywhere_is_named_once() {
    let h = Harness::new();
    let cases = [
        ("eps@everywhere", "eps 1e-3 instead of 1e-5, in all "),
        ("gate-missing-ioi@everywhere", "(glo_conv.0 reads x), in all 8 places"),
        ("relu-missing@everywhere", "a ReLU is missing, in all "),
    ];
    for (fault, words) in cases {
        let record = h.diff(&[&SMALL[..], &["--inject", fault]].concat()).fails();
        let explanation = record["culprit"]["explanation"].as_str().unwrap_or("");
        assert!(explanation.contains(words), "{fault}: {}", record["culprit"]);
    }
    let record = h.diff(&[&SMALL[..], &["--inject", "eps"]].concat()).fails();
    let explanation = record["culprit"]["explanation"].as_str().unwrap();
    assert!(!explanation.contains("places"), "only one place was planted: {explanation}");
}

#[test]
fn mistakes_in_hidden_modules_are_named_at_the_next_module() {
    let h = Harness::new();
    let json = h.path("s.json");
    let words = "max-pool-same,relu-missing,sigmoid-early,gate-missing-ioi,gate-on-short,\
                 frame-major,bgr,same-padding,relu6,resize-antialias,embedding-late,scaled,noise";
    let small = ["--depth", "10", "--width", "0.125", "--places", "1"];
    let fixed = ["selftest", "--only", words, "--json", &json];
    let run = h.run(&[&fixed[..], &small].concat()).code(0);
    let record = json_of(&json);
    let confusion = record["confusion"].as_array().unwrap();
    assert!(confusion.iter().any(|counts| counts["setting"] == "flax dump"));
    for counts in confusion {
        let right = if counts["known"] == true { "itself" } else { "located" };
        for column in ["itself", "another", "located", "missed"] {
            let expected = u64::from(column == right);
            assert_eq!(counts[column], expected, "{counts}");
        }
    }
    let longest = run.stdout.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(100), "{}", run.stdout);
}

#[test]
fn a_mistake_without_a_place_names_a_size_that_has_one() {
    let h = Harness::new();
    let model = ["--depth", "10", "--width", "0.125", "--classes", "7", "--size", "225"];
    h.diff(&[&model[..], &["--inject", "max-pool-same"]].concat()).refuses(&[
        "max-pool-same",
        "no place",
        "64x64",
    ]);
    h.run(&["selftest", "--only", "eps,typo"]).refuses(&["typo", "relu-missing", "scaled"]);
}

#[test]
fn a_mistake_between_layers_that_an_engine_fuses_is_refused() {
    let h = Harness::new();
    let inject = |candidate: &str| {
        let words = ["--candidate", candidate, "--inject", "residual-after-relu"];
        h.diff(&[&SMALL[..], &words].concat())
    };
    inject("scalar").fails();
    let run = inject("cpu").code(2);
    assert!(run.stderr.contains("--candidate scalar"), "{}", run.stderr);
}
