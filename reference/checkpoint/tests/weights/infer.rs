//! The configuration of a network follows from the shapes of its checkpoint, in every format.

use checkpoint::{Inferred, OutFormat, Source, Weights, infer};
use spec::{Config, Model};

use crate::fixtures;

fn config() -> Config {
    Config {
        depth: 18,
        width: 0.125,
        frames: 8,
        classes: 7,
        pos_dim: [16, 8, 4, 2],
        ..Config::default()
    }
}

#[test]
fn it_is_the_same_in_every_format_that_is_written() {
    let model = Model::new(config()).unwrap();
    let weights = Weights::formula(model.parameters(), 0);
    let folder = tempfile::tempdir().unwrap();
    let expected = Inferred {
        depth: Some(18),
        width: Some(0.125),
        frames: Some(8),
        classes: Some(7),
        pos_dim: Some([16, 8, 4, 2]),
    };
    for name in ["w.safetensors", "w.npz", "w.pth"] {
        let path = folder.path().join(name);
        checkpoint::write(&weights, &path, OutFormat::by_ending(&path).unwrap()).unwrap();
        assert_eq!(infer(&Source::file(&path)).unwrap(), expected, "{name}");
    }
}

#[test]
fn small_files_of_every_format_say_what_they_hold() {
    for name in fixtures::ALL {
        let found = infer(&Source::file(fixtures::folder().join(name))).unwrap();
        assert_eq!((found.depth, found.width, found.pos_dim), (None, None, None), "{name}");
        let frames = if name == "backbone.pth" { found.frames } else { Some(2) };
        assert_eq!(found.frames, frames, "{name}");
    }
}

#[test]
fn nothing_is_inferred_from_a_formula_and_a_missing_file_is_an_error() {
    assert_eq!(infer(&Source::Formula(0)).unwrap(), Inferred::default());
    assert!(infer(&Source::file("nowhere.pth")).is_err());
}
