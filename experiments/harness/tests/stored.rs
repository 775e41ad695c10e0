//! Weights that a converter stored in half precision, and mistakes that a half format hides.

mod common;

use common::Harness;
use common::arrays::{Arrays, SMALL, read, written};
use serde_json::Value;

/// Rounds a float32 to the nearest float16.
fn to_f16(x: f32) -> f32 {
    const SMALLEST: f32 = 6.103_515_6e-5;
    let step = f32::powi(2.0, -24);
    match x.abs() < SMALLEST {
        true => (x / step).round_ties_even() * step,
        false => f32::from_bits((x.to_bits() + 0xfff + ((x.to_bits() >> 13) & 1)) & !0x1fff),
    }
}

/// Rounds a float32 to the nearest bfloat16.
fn to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

/// A dump of a network whose weights were changed, as a participant.
fn dumped(h: &Harness, more: &[&str], change: impl Fn(&mut Arrays)) -> String {
    let (weights, out) = (h.path("weights.npz"), h.path("dump.npz"));
    let convert = ["weights", "convert", "formula:0", "--out", &weights];
    h.run(&[&convert[..], &SMALL[..6]].concat()).code(0);
    let mut arrays = read(&weights);
    change(&mut arrays);
    let changed = written(h, "changed.npz", &arrays);
    let changed = changed.trim_start_matches("npz:");
    let dump = ["dump", "--engine", "scalar", "--weights", changed, "--out", &out];
    h.run(&[&dump[..], &SMALL, more].concat()).code(0);
    format!("npz:{out}")
}

/// Whether an array is the weight of a convolution or of the classifier.
fn is_kernel(name: &str, array: &ndarray::ArrayD<f32>) -> bool {
    name.ends_with(".weight") && array.ndim() > 1
}

/// Rounds the kernels, and all other parameters as well if `all`.
fn rounded(arrays: &mut Arrays, all: bool, round: fn(f32) -> f32) {
    for (name, array) in arrays {
        if all || is_kernel(name, array) {
            array.mapv_inplace(round);
        }
    }
}

/// Rounds every kernel with the scale of the BatchNorm directly behind it.
fn folded(arrays: &mut Arrays) {
    let kernels = arrays.iter().filter(|(name, array)| is_kernel(name, array));
    let kernels: Vec<String> = kernels.map(|(name, _)| name.clone()).collect();
    for name in &kernels {
        let module = name.trim_end_matches(".weight");
        let norm = match module.rsplit_once('.') {
            None if module == "conv1" => Some("bn1".to_owned()),
            Some((front, last)) => last.parse::<usize>().ok().map(|n| format!("{front}.{}", n + 1)),
            None => None,
        };
        let norm = norm.filter(|norm| arrays.contains_key(&format!("{norm}.running_var")));
        let scales: Vec<f32> = match norm {
            Some(norm) => {
                let weight = &arrays[&format!("{norm}.weight")];
                let variance = &arrays[&format!("{norm}.running_var")];
                weight.iter().zip(variance).map(|(w, v)| w / (v + 1e-5).sqrt()).collect()
            }
            None => vec![1.0; arrays[name].shape()[0]],
        };
        let kernel = arrays.get_mut(name).unwrap();
        for (mut channel, scale) in kernel.outer_iter_mut().zip(scales) {
            channel.mapv_inplace(|w| to_f16(w * scale) / scale);
        }
    }
}

fn diverged(h: &Harness, dump: &str, more: &[&str]) -> Value {
    h.diff(&[&["--candidate", dump, "--no-edge"], &SMALL[..], more].concat()).fails()
}

/// No layer is ported wrongly, and each has another output than with float32 weights.
#[test]
fn weights_that_were_stored_in_half_precision_are_the_cause() {
    let h = Harness::new();
    type Change = fn(&mut Arrays);
    let cases: [(Change, &str, &str); 4] = [
        (|a| rounded(a, false, to_f16), "f16:kernels", "classifier that were rounded to float16"),
        (|a| rounded(a, true, to_f16), "f16", "all rounded to float16"),
        (|a| rounded(a, false, to_bf16), "bf16:kernels", "rounded to bfloat16"),
        (folded, "f16:folded", "after each BatchNorm was folded"),
    ];
    for (change, flag, words) in cases {
        let record = diverged(&h, &dumped(&h, &[], change), &[]);
        assert_eq!(record["cause"], "weights", "{flag}: {}", record["explanation"]);
        let explanation = record["explanation"].as_str().unwrap();
        assert!(explanation.contains(words), "{flag}: {explanation}");
        let next = record["next"].as_str().unwrap();
        assert!(next.ends_with(&format!("--round-weights {flag}")), "{next}");
        // Programs compute the scale of a BatchNorm in different ways, so that a product half-way between two numbers
        // may be rounded either way.
        if flag != "f16:folded" {
            let words: Vec<&str> = next.split(' ').skip(1).collect();
            assert_eq!(h.run(&words).code, 0, "{next}");
        }
    }
}

/// The rounding of weights explains small errors of all layers, and no others.
#[test]
fn a_mistake_beside_rounded_weights_is_said_and_is_no_rounding_by_itself() {
    let h = Harness::new();
    let place = ["--inject", "bias-missing@layer2.0.conv2.spatial_conv.short_conv"];
    let dump = dumped(&h, &place, |arrays| rounded(arrays, false, to_f16));
    let record = diverged(&h, &dump, &[]);
    assert_eq!(record["cause"], "weights");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("Besides, 1 layer is wrong"), "{explanation}");
    let dump = dumped(&h, &["--inject", "eps-1e-6@everywhere"], |_| ());
    let record = diverged(&h, &dump, &[]);
    assert_eq!(record["cause"], "port", "{}", record["explanation"]);
}

/// What passes in bfloat16 although it is wrong is said, and nothing of it in float32.
#[test]
fn a_bias_that_bfloat16_hides_is_listed_as_not_exercised() {
    let h = Harness::new();
    let missing = "bias-missing@layer2.0.conv2.spatial_conv.short_conv";
    let run = |precision: &str, more: &[&str]| {
        let flags = ["--candidate", "cpu", "--no-edge", "--precision", precision];
        h.diff(&[&flags[..], &SMALL, more].concat())
    };
    let record = run("bf16", &["--inject", missing]).passes();
    let listed = record["not_exercised"].to_string();
    assert!(listed.contains("missing bias (in "), "{listed}");
    let remarks = record["remarks"].to_string();
    assert!(remarks.contains("in bf16 an own error of "), "{remarks}");
    let record = run("f32", &[]).passes();
    assert!(!record["not_exercised"].to_string().contains("missing bias"));
    assert!(!record["remarks"].to_string().contains("an own error of"));
    run("f32", &["--inject", missing]).fails();
}

#[test]
fn the_weights_of_a_formula_are_listed() {
    let h = Harness::new();
    let run = h.run(&[&["weights", "inspect", "formula:3"], &SMALL[..6]].concat()).code(0);
    assert!(run.stdout.contains("conv1.weight"), "{}", run.stdout);
    assert!(run.stdout.contains("made by the formula with the seed 3"), "{}", run.stdout);
}
