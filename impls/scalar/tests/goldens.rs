//! The network against the outputs of the three published programs.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{Case, Npz, Record, assert_within, max_error};
use scalar::Real;
use spec::model::Body;
use spec::relative_l2;
use spec::{Config, Model, ModuleId, PosEmbed, Precision, Semantics, Tensor};

/// The configuration and the number of clips of the golden case `name`.
fn case(name: &str) -> Case {
    let tiny = Config { width: 0.125, classes: 10, ..Config::default() };
    let (config, clips) = match name {
        "r50_w1_t16_224" => (Config::default(), 1),
        "r50_w0125_t16_64" => (Config { size: (64, 64), pos_dim: [16, 8, 4, 2], ..tiny }, 1),
        "r50_w0125_t16_72x88_pos56" => (Config { size: (72, 88), ..tiny }, 1),
        "r18_w025_t16_57x65" => {
            (Config { depth: 18, width: 0.25, classes: 7, size: (57, 65), ..tiny }, 1)
        }
        "r10_w025_t8_96" => {
            let config = Config { depth: 10, width: 0.25, frames: 8, classes: 5, ..tiny };
            (Config { size: (96, 96), pos_dim: [24, 12, 6, 3], ..config }, 3)
        }
        other => panic!("no case {other}"),
    };
    Case::new(config, clips)
}

fn with(name: &str, semantics: Semantics) -> Case {
    let mut case = case(name);
    let config = Config { semantics, ..case.model.config.clone() };
    case.model = Arc::new(Model::new(config).unwrap());
    case
}

/// The largest allowed relative L2 error of the logits and of every module.
fn bound(precision: Precision) -> f64 {
    if precision == Precision::F64 { 1e-10 } else { 1e-5 }
}

/// Compares the logits and every recorded module with the authors' program in float64.
fn agrees_with_pytorch<T: Real>(name: &str) {
    let bound = bound(T::PRECISION);
    let case = case(name);
    let mut golden = Npz::open(&format!("pt_{name}.npz"));
    let mut record = Record::default();
    let logits = case.run_with::<T>(&mut record).unwrap();

    let want: Vec<f64> = golden.get("logits").into_iter().collect();
    assert_within(relative_l2(&logits.to_f64(), &want), bound, "logits");
    let mut unrecorded: BTreeSet<&str> =
        case.model.modules().iter().map(|m| m.name.as_str()).collect();
    for name in golden.names() {
        let name = name.trim_end_matches(".npy");
        if let Some(official) = name.strip_prefix("stat/")
            && let Some(id) = module_of(&case, official)
        {
            let stat: Vec<f64> = golden.get(name).into_iter().collect();
            let samples: Vec<f64> = golden.get(&format!("samp/{official}")).into_iter().collect();
            agrees_with_stat(record.value(id), &stat, &samples, bound, official);
            unrecorded.remove(case.model.module(id).name.as_str());
        }
    }
    assert_eq!(unrecorded, not_in_recordings(&case), "modules that were not compared");
}

/// The modules that the goldens do not record: the clip, the mean before the classifier and the
/// embeddings, which are not modules of the authors' program, and the first CTL of a basic block.
fn not_in_recordings(case: &Case) -> BTreeSet<&str> {
    let embeddings = case.model.ctls().map(|ctl| ctl.spatial_conv.pos_embed.name.as_str());
    let first_ctls = case.model.blocks.iter().filter_map(|block| match &block.body {
        Body::Basic { ctl1, .. } => Some(ctl1.name.as_str()),
        Body::Bottleneck { .. } => None,
    });
    embeddings.chain(first_ctls).chain(["input", "avgpool"]).collect()
}

/// The module with an official name; `None` for containers, which repeat their last module.
fn module_of(case: &Case, official: &str) -> Option<ModuleId> {
    let name = match official {
        "cls_head.fc_cls" => "fc",
        other => other.strip_prefix("backbone.net.").expect("a name below backbone.net"),
    };
    case.model.find(name).map(|module| module.id)
}

fn agrees_with_stat(value: &Tensor, stat: &[f64], samples: &[f64], bound: f64, name: &str) {
    let mut shape = value.shape.clone();
    shape.resize(4, 0);
    assert!(shape.iter().zip(&stat[3..]).all(|(&s, &want)| s as f64 == want), "shape of {name}");

    let (values, size) = (value.to_f64(), value.len());
    let picked: Vec<f64> = (0..64).map(|i| values[i * (size / 64).max(1) % size]).collect();
    assert_within(relative_l2(&picked, samples), bound, &format!("samples of {name}"));

    let [mean, rms, max] = [stat[0], stat[1], stat[2]];
    let count = size as f64;
    let got = [
        (values.iter().sum::<f64>() / count, mean),
        ((values.iter().map(|v| v * v).sum::<f64>() / count).sqrt(), rms),
        (max_error(&values, &vec![0.0; size]), max),
    ];
    for (index, (got, want)) in got.into_iter().enumerate() {
        let what = format!("{} of {name}", ["mean", "rms", "max"][index]);
        assert_within((got - want).abs(), bound * max, &what);
    }
}

#[test]
fn depth_50_agrees_with_pytorch() {
    agrees_with_pytorch::<f64>("r50_w0125_t16_64");
    agrees_with_pytorch::<f32>("r50_w0125_t16_64");
}

#[test]
fn a_resized_embedding_agrees_with_pytorch() {
    agrees_with_pytorch::<f64>("r50_w0125_t16_72x88_pos56");
    agrees_with_pytorch::<f32>("r50_w0125_t16_72x88_pos56");
}

#[test]
fn basic_blocks_and_one_pixel_maps_agree_with_pytorch() {
    agrees_with_pytorch::<f64>("r18_w025_t16_57x65");
    agrees_with_pytorch::<f32>("r18_w025_t16_57x65");
}

#[test]
fn a_batch_of_three_agrees_with_pytorch() {
    agrees_with_pytorch::<f64>("r10_w025_t8_96");
    agrees_with_pytorch::<f32>("r10_w025_t8_96");
}

#[test]
fn the_default_network_agrees_with_pytorch() {
    agrees_with_pytorch::<f64>("r50_w1_t16_224");
    agrees_with_pytorch::<f32>("r50_w1_t16_224");
}

/// Ten times the largest difference that was measured for the float32 logits of the other programs.
const OTHER_PROGRAMS: f64 = 1e-4;

fn agrees_with_logits(case: &Case, golden: &str) {
    let want: Vec<f64> =
        Npz::open(golden).get::<f32>("logits").iter().copied().map(f64::from).collect();
    let got = case.run::<f32>().to_f64();
    assert_within(max_error(&got, &want), OTHER_PROGRAMS, golden);
}

#[test]
fn logits_agree_with_mindspore() {
    for name in ["r50_w0125_t16_64", "r50_w0125_t16_72x88_pos56", "r50_w1_t16_224"] {
        agrees_with_logits(&case(name), &format!("ms_{name}.npz"));
    }
}

#[test]
fn logits_agree_with_flax_under_its_own_resize() {
    let flax = Semantics { pos_embed: PosEmbed::Flax, ..Semantics::default() };
    for name in
        ["r50_w0125_t16_64", "r50_w0125_t16_72x88_pos56", "r50_w1_t16_224", "r18_w025_t16_57x65"]
    {
        agrees_with_logits(&with(name, flax), &format!("fl_{name}.npz"));
    }
}

/// The Flax port really diverges at one-pixel maps: without its emulation the logits differ.
#[test]
fn flax_differs_from_pytorch_at_one_pixel_maps() {
    let golden = Npz::open("fl_r18_w025_t16_57x65.npz").get::<f32>("logits");
    let want: Vec<f64> = golden.iter().copied().map(f64::from).collect();
    let got = case("r18_w025_t16_57x65").run::<f32>().to_f64();
    let error = max_error(&got, &want);
    assert!((1e-3..1e-2).contains(&error), "align_corners differs from Flax by {error:e}");
}
