//! The JSON schema of records: every record that is written fits it, and the published file is current.

mod common;

use std::path::{Path, PathBuf};

use common::{all, passing};
use jsonschema::Validator;
use record::{Ended, Failure, Record, read_record, to_json};
use serde_json::Value;

fn validator() -> Validator {
    jsonschema::validator_for(&record::schema()).expect("a schema")
}

#[track_caller]
fn fits(validator: &Validator, name: &str, text: &str) {
    let value: Value = serde_json::from_str(text).expect("JSON");
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .take(3)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
}

#[test]
fn every_kind_of_record_fits_the_schema() {
    let validator = validator();
    for (name, record) in all() {
        fits(&validator, name, &to_json(&record).expect("JSON"));
    }
}

#[test]
fn what_a_failed_run_leaves_fits_the_schema_and_is_no_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("record.json");
    for (verdict, exit_code) in [(Ended::Error, 2), (Ended::Stopped, 75)] {
        let failure = Failure { verdict, error: "x.npz is missing".to_owned(), exit_code };
        // The first is new, the second replaces it.
        assert!(failure.write(&path).expect("written"));
        let text = std::fs::read_to_string(&path).expect("text");
        fits(&validator(), "failure", &text);
        let error = read_record(&path).expect_err("no record").to_string();
        assert!(error.contains("failed") && error.contains("x.npz is missing"), "{error}");
        let mut wrong: Value = serde_json::from_str(&text).expect("JSON");
        wrong["verdict"] = Value::from("pass");
        assert!(!validator().is_valid(&wrong));
    }
    std::fs::write(&path, "{\"answer\": 1}").expect("written");
    let failure = Failure { verdict: Ended::Error, error: String::new(), exit_code: 2 };
    assert!(!failure.write(&path).expect("looked at"), "another file is kept");
    assert_eq!(std::fs::read_to_string(&path).expect("text"), "{\"answer\": 1}");
}

#[test]
fn published_records_fit_the_schema() {
    let validator = validator();
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    let mut count = 0;
    for entry in std::fs::read_dir(runs).expect("the folder") {
        let path = entry.expect("an entry").path().join("record.json");
        if let Ok(text) = std::fs::read_to_string(&path) {
            fits(&validator, &path.display().to_string(), &text);
            count += 1;
        }
    }
    assert!(count >= 5, "{count} published records");
}

#[test]
fn a_record_without_a_verdict_or_of_another_version_does_not_fit() {
    let validator = validator();
    let text = to_json(&Record::Diff(Box::new(passing()))).expect("JSON");
    let right: Value = serde_json::from_str(&text).expect("JSON");
    assert!(validator.is_valid(&right));
    for (field, value) in [
        ("verdict", Value::from("fine")),
        ("schema", Value::from(2)),
        ("kind", Value::from("diffs")),
        ("bound", Value::from("four")),
        ("layers", Value::Null),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value;
        assert!(!validator.is_valid(&wrong), "{field}");
        wrong.as_object_mut().expect("an object").remove(field);
        assert!(!validator.is_valid(&wrong), "without {field}");
    }
}

/// `HARNESS_WRITE_SCHEMA=1 cargo test -p reports --test schema` writes the file again.
#[test]
fn the_published_schema_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("record/schema.json");
    let mut text = serde_json::to_string_pretty(&record::schema()).expect("JSON");
    text.push('\n');
    if std::env::var_os("HARNESS_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == text, "{} is not what `harness schema` prints", path.display());
}
