//! Checkpoints like those that people have (`../shared/cases`, made from public bug reports). Each must
//! give the values of the file that `expected.tsv` names, bit for bit after rounding to float32.

use std::path::PathBuf;

use checkpoint::{Source, Weights};
use spec::{Config, Model, ParamSpec};

fn specs() -> Vec<ParamSpec> {
    let config = Config { depth: 10, width: 0.125, classes: 7, ..Config::default() };
    Model::new(config).unwrap().parameters().to_vec()
}

fn bits(weights: &Weights) -> Vec<(&str, &[usize], Vec<u32>)> {
    let tensor = |name| {
        let param = weights.get(name).unwrap();
        (name, param.shape.as_slice(), param.data.iter().map(|x| x.to_bits()).collect())
    };
    weights.names().map(tensor).collect()
}

#[test]
fn checkpoints_from_bug_reports_give_the_values_of_torch_load() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    let Ok(expected) = std::fs::read_to_string(folder.join("expected.tsv")) else {
        skip::skip!(Shared, "../shared/cases is not here");
        return;
    };
    let specs = specs();
    let mut count = 0;
    for line in expected.lines().filter(|line| line.starts_with("weights\t")) {
        let [_, file, truth, ..] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let load = |name: &str| {
            let source = Source::file(folder.join("weights").join(name));
            Weights::load(&source, &specs).unwrap_or_else(|why| panic!("{why}"))
        };
        let (found, truth) = (load(file), load(truth));
        assert!(bits(&found) == bits(&truth), "{file}");
        println!("{}: {:?}", found.provenance(), found.provenance().note());
        count += 1;
    }
    assert!(count >= 13, "{count} files");
}

#[test]
fn the_chosen_set_is_reported_and_another_can_be_selected() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/weights");
    let path = folder.join("ema_beside_raw.pth");
    if !path.is_file() {
        skip::skip!(Shared, "../shared/cases is not here");
        return;
    }
    let specs = specs();
    let raw = Weights::load(&Source::file(&path), &specs).unwrap();
    let others = &raw.provenance().passed_over;
    let other = others.iter().find(|other| other.ties).expect("another set that fits");
    assert!(raw.provenance().note().unwrap().contains(&other.key));
    let source = Source::File { path, key: Some(other.key.clone()) };
    let averaged = Weights::load(&source, &specs).unwrap();
    assert_eq!(averaged.provenance().section.as_deref(), Some(other.key.as_str()));
    assert_eq!(averaged.provenance().source, source.to_string());
    assert!(bits(&raw) != bits(&averaged));
}
