//! libtorch's forward pass against the recorded outputs of the published programs.
#![cfg(feature = "libtorch")]

mod common;

use common::{Npz, Record, assert_within, cases, engine};
use spec::names::canonical_module;
use spec::relative_l2;
use spec::{Kind, Module, PosEmbed, Precision};

fn logits(file: &str) -> Vec<f64> {
    let mut npz = Npz::open(file);
    match file.starts_with("pt_") {
        true => npz.get::<f64>("logits").into_raw_vec_and_offset().0,
        false => npz.get::<f32>("logits").iter().map(|&x| f64::from(x)).collect(),
    }
}

#[test]
fn float64_equals_the_authors_pytorch_in_every_module() {
    for (file, config, clips) in cases("pt_") {
        let (model, mut torch, input) = engine(config, Precision::F64, clips);
        let (record, output) = Record::of(&mut torch, &input);
        let mut npz = Npz::open(&file);
        assert_within(relative_l2(&output.to_f64(), &logits(&file)), 1e-10, &file);
        let mut compared = 0;
        for name in npz.names() {
            let Some(path) = name.strip_prefix("samp/") else { continue };
            let canonical = canonical_module(path);
            let Some(module) = model.find(&canonical) else { continue };
            let value = record.0.iter().find(|(id, _)| *id == module.id).expect("a tapped module");
            let step = (value.1.len() / 64).max(1);
            let got: Vec<f64> = (0..64).map(|i| value.1.at(i * step % value.1.len())).collect();
            let want = npz.get::<f64>(&name);
            let want: Vec<f64> = want.iter().copied().collect();
            // The bound leaves room for the float64 rounding of a few hundred modules; a mistake
            // changes a value by 1e-3 or more.
            assert_within(relative_l2(&got, &want), 1e-10, &format!("{file}: {path}"));
            compared += 1;
        }
        // The goldens do not record the input, the pooled features, the embeddings, or the first CTL
        // of a basic block.
        let unrecorded = |m: &&Module| {
            let first_ctl = m.kind == Kind::Ctl && m.name.ends_with("conv1");
            first_ctl || matches!(m.name.as_str(), "input" | "avgpool") || m.kind == Kind::PosEmbed
        };
        let unrecorded = model.modules().iter().filter(unrecorded).count();
        assert_eq!(compared, model.modules().len() - unrecorded, "{file}: modules compared");
    }
}

#[test]
fn float32_logits_equal_the_authors_pytorch() {
    for (file, config, clips) in cases("pt_") {
        let (_, mut torch, input) = engine(config, Precision::F32, clips);
        let (_, output) = Record::of(&mut torch, &input);
        assert_within(relative_l2(&output.to_f64(), &logits(&file)), 1e-5, &file);
    }
}

#[test]
fn flax_and_mindspore_differ_by_no_more_than_was_measured() {
    // Their float32 logits differ from float64 by at most 1.4e-5, for logits with an rms of 1.3 or
    // more.
    for prefix in ["fl_", "ms_"] {
        for (file, mut config, clips) in cases(prefix) {
            if prefix == "fl_" {
                config.semantics.pos_embed = PosEmbed::Flax;
            }
            let (_, mut torch, input) = engine(config, Precision::F64, clips);
            let (_, output) = Record::of(&mut torch, &input);
            let want = logits(&file);
            let errors = output.iter().zip(&want).map(|(g, w)| (g - w).abs());
            let worst = errors.fold(0.0, |a: f64, e| if e.is_nan() { e } else { a.max(e) });
            assert_within(worst, 2e-5, &file);
        }
    }
}

#[test]
fn the_flax_port_drops_the_embedding_at_one_pixel_maps() {
    let (file, config, clips) =
        cases("fl_r18").into_iter().next().expect("the case with a 1-pixel map");
    let (_, mut torch, input) = engine(config, Precision::F64, clips);
    let (_, output) = Record::of(&mut torch, &input);
    let want = logits(&file);
    let worst = output.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
    assert!(worst > 1e-3, "the published Flax logits differ by 2.1e-3, but here by {worst:e}");
}
