//! The checkpoints that the three published programs saved, against the formula weights.

use std::path::PathBuf;

use checkpoint::{Source, Weights};
use skip::skip;
use spec::{Config, Model, ParamSpec};

const FILES: [&str; 4] = ["mmaction.pth", "legacy.pth", "mindspore.ckpt", "flax.pkl"];

fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/upstream");
    if folder.is_dir() {
        return Some(folder);
    }
    skip!(Shared, "../shared/upstream is not here");
    None
}

fn specs() -> Vec<ParamSpec> {
    let config = Config {
        width: 0.125,
        classes: 10,
        pos_dim: [16, 8, 4, 2],
        size: (64, 64),
        ..Config::default()
    };
    Model::new(config).unwrap().parameters().to_vec()
}

#[test]
fn checkpoints_of_the_published_programs_hold_the_formula_weights() {
    let Some(folder) = folder() else { return };
    let specs = specs();
    let formula = Weights::formula(&specs, 0);
    for file in FILES {
        let path = folder.join(format!("tiny_r50_w0125_{file}"));
        let weights = Weights::load(&Source::file(path), &specs).unwrap();
        for spec in &specs {
            let (found, expected) = (weights.get(&spec.name), formula.get(&spec.name));
            let (found, expected) = (found.unwrap(), expected.unwrap());
            assert_eq!(found.shape, expected.shape, "{file}: {}", spec.name);
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
            assert!(found.data.iter().zip(&expected.data).all(same), "{file}: {}", spec.name);
        }
        assert_eq!(weights.names().count(), specs.len(), "{file}");
        eprintln!("{}", weights.provenance());
    }
}

#[test]
fn the_error_for_another_model_names_the_flags_to_check() {
    let Some(folder) = folder() else { return };
    let path = folder.join("tiny_r50_w0125_mmaction.pth");
    let specs = Model::new(Config::default()).unwrap().parameters().to_vec();
    let text = Weights::load(&Source::file(path), &specs).unwrap_err().to_string();
    assert!(text.contains("has the shape [8, 48, 5, 5], expected [64, 48, 5, 5]"), "{text}");
    assert!(text.contains("--width"), "{text}");
}
