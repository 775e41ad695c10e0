//! The library as a program uses it: dumps of the engine `scalar`, with one property of the recording
//! program at a time.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use checkpoint::{Weights, formula};
use compare::dump::{Closing, Dump, Naming, Writer, ledger};
use compare::faults::{self, Fault, relu};
use compare::{Comparison, Findings, Measurements, Side};
use record::{ArrayState, LedgerEntry, Verdict};
use spec::{Config, Engine, Flow, Kind, Model, ModuleId, Precision, Selection, Tap, Tensor};

/// A small network with its weights and a clip.
struct Case {
    model: Model,
    weights: Weights,
    clip: Tensor,
}

impl Case {
    fn new() -> Self {
        let config = Config {
            depth: 10,
            width: 0.125,
            frames: 4,
            size: (33, 40),
            classes: 3,
            ..Config::default()
        };
        let model = Model::new(config).unwrap();
        let weights = Weights::formula(model.parameters(), 0);
        let shape = model.input_shape(1);
        let clip = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
        Case { model, weights, clip }
    }

    fn load(&self, precision: Precision) -> Result<Box<dyn Engine>> {
        let model = Arc::new(self.model.clone());
        Ok(match precision {
            Precision::F64 => Box::new(scalar::Scalar::<f64>::new(model, &self.weights)?),
            _ => Box::new(scalar::Scalar::<f32>::new(model, &self.weights)?),
        })
    }

    /// The outputs of all modules in float32, in the order of execution.
    fn outputs(&self) -> Vec<(ModuleId, Tensor)> {
        struct All(Vec<(ModuleId, Tensor)>);
        impl Tap for All {
            fn wants(&self, _: ModuleId) -> bool {
                true
            }
            fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
                self.0.push((id, value));
                Flow::Continue
            }
        }
        let mut all = All(vec![]);
        self.load(Precision::F32).unwrap().forward(&self.clip, &mut all).unwrap();
        all.0
    }

    fn id(&self, name: &str) -> ModuleId {
        self.model.find(name).unwrap_or_else(|| panic!("no module {name}")).id
    }

    /// Writes a dump of these outputs.
    fn write(&self, path: &Path, outputs: &[(ModuleId, Tensor)]) {
        let mut writer = Writer::create(path, Naming::Torch).unwrap();
        for (id, value) in outputs {
            writer.add(&self.model, *id, value.clone()).unwrap();
        }
        writer.finish().unwrap();
    }

    fn compare(&self, dump: Dump, selection: Option<Selection>) -> Compared {
        let (model, clip) = (self.model.clone(), self.clip.clone());
        let load = |precision| self.load(precision);
        let mut comparison =
            Comparison::new(model, Side::Dump(dump), clip, Precision::F32, load).unwrap();
        comparison.selection = selection.unwrap_or(comparison.selection);
        let measured = comparison.measure(&|| ()).unwrap();
        let findings = comparison.judge(&measured);
        let Side::Dump(dump) = &comparison.candidate else { unreachable!() };
        let closing = Closing {
            fates: &measured.fates,
            readings: &measured.readings,
            selection: &comparison.selection,
            gave_clip: false,
            steps_compared: false,
        };
        let ledger = ledger(dump, &self.model, &closing);
        Compared { findings, measured, ledger }
    }

    /// Writes these outputs into a dump, and compares it.
    fn recorded(&self, outputs: &[(ModuleId, Tensor)], selection: Option<Selection>) -> Compared {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.npz");
        self.write(&path, outputs);
        self.compare(Dump::open(&path, &self.model, 1).unwrap(), selection)
    }
}

struct Compared {
    findings: Findings,
    measured: Measurements,
    ledger: Vec<LedgerEntry>,
}

impl Compared {
    fn state(&self, array: &str) -> ArrayState {
        self.ledger.iter().find(|entry| entry.array == array).unwrap().state
    }
}

#[test]
fn a_right_dump_passes_and_every_array_is_compared() {
    let case = Case::new();
    let found = case.recorded(&case.outputs(), None);
    assert_eq!(found.findings.verdict, Verdict::Pass);
    assert!(
        found.ledger.iter().all(|entry| entry.state == ArrayState::Compared),
        "{:?}",
        found.ledger
    );
    assert!(found.measured.readings.is_empty());
}

/// Hooks that keep references record what the in-place ReLU left. The array then shows the ReLU, and the
/// comparison is that of the ReLU: nothing is accused, and a change behind the ReLU is found.
#[test]
fn references_that_hooks_kept_are_read_as_what_they_show() {
    let case = Case::new();
    let mut outputs = case.outputs();
    // A program does it everywhere: to each BN that a ReLU follows.
    let pairs = case.model.modules().windows(2);
    let before_relu =
        pairs.filter(|pair| pair[0].kind == Kind::BatchNorm && pair[1].kind == Kind::Relu);
    let overwritten: Vec<ModuleId> = before_relu.map(|pair| pair[0].id).collect();
    assert!(overwritten.len() > 4);
    for (id, value) in &mut outputs {
        if overwritten.contains(id) {
            *value = relu(value.clone());
        }
    }
    let found = case.recorded(&outputs, None);
    assert_eq!(found.findings.verdict, Verdict::Pass);
    assert!(overwritten.iter().all(|id| found.measured.readings.contains_key(id)));
    let noted = |id: &ModuleId| found.measured.layers[id.0].note.is_some();
    assert!(overwritten.iter().all(noted));
}

#[test]
fn arrays_that_are_not_selected_do_not_count() {
    let case = Case::new();
    let names = ["layer1"];
    let selection = Selection::by_names(case.model.modules(), names).unwrap();
    let found = case.recorded(&case.outputs(), Some(selection));
    assert_eq!(found.state("layer2.0.conv1"), ArrayState::NotSelected);
    assert_eq!(found.state("layer1.0.bn1"), ArrayState::Compared);
    assert_eq!(found.findings.verdict, Verdict::Pass);
}

#[test]
fn one_wrong_value_is_the_culprit_and_its_ledger_says_so() {
    let case = Case::new();
    let mut outputs = case.outputs();
    let wrong = case.id("layer3.0.bn1");
    for (id, value) in &mut outputs {
        if *id == wrong {
            let spec::Data::F32(values) = &mut value.data else { unreachable!() };
            values[0] += 1.0;
        }
    }
    let found = case.recorded(&outputs, None);
    assert_eq!(found.findings.verdict, Verdict::Diverged);
    assert_eq!(found.findings.culprit, Some(wrong));
    assert!(!found.measured.fates.values().all(|fate| fate.passed()));
    let entry = found.ledger.iter().find(|e| e.array == "layer3.0.bn1").unwrap();
    assert_eq!(entry.detail.as_deref(), Some("beyond the bound"));
}

/// A text file in the archive does not count as an array with the name of a module.
#[test]
fn a_text_beside_the_arrays_is_of_no_known_name() {
    use std::io::Write;
    let case = Case::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump.npz");
    case.write(&path, &case.outputs());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut archive = zip::ZipWriter::new_append(file).unwrap();
    archive.start_file("notes.txt", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(b"recorded on a Friday").unwrap();
    archive.finish().unwrap();
    let found = case.compare(Dump::open(&path, &case.model, 1).unwrap(), None);
    assert_eq!(found.state("notes.txt"), ArrayState::Unknown);
    assert_eq!(found.findings.verdict, Verdict::Pass);
}

/// The words of a ReLU name the module that it follows.
#[test]
fn a_missing_relu_is_named_by_its_place() {
    let case = Case::new();
    let change = faults::parse(&case.model, "relu-missing@layer2.0").unwrap();
    assert!(change.what.contains("ReLU") && change.what.contains("layer2.0"), "{}", change.what);
}

/// A fault of one module replaces the output of that module only, and not the clip.
#[test]
fn a_change_computes_only_what_it_edits() {
    let case = Case::new();
    let model = &case.model;
    let change = faults::parse(model, "relu-missing@layer2.0").unwrap();
    assert!(change.computes(model, model.input).is_none());
    // There are two places to make this mistake: the clip, and the weights of the stem.
    let places = Fault::ALL.iter().find(|fault| fault.word == "pixels-0-1").unwrap().places(model);
    let clip = places.iter().find(|change| change.site == model.input).unwrap();
    assert!(clip.computes(model, model.input).is_some());
    assert!(clip.computes(model, case.id("bn1")).is_none());
}
