//! Tests of records on disk and of the tables made from them.

mod common;

use std::fs;
use std::path::Path;

use common::{all, passing};
use polars::prelude::{ParquetReader, SerReader};
use record::{Record, parse_record, read_record, to_json, write_record};
use reports::{to_table, write_report};

/// The JSON of a record. Tests compare records as JSON, since NaN is not equal to itself.
fn json(record: &Record) -> String {
    to_json(record).expect("JSON")
}

fn failure(text: &str) -> String {
    match parse_record(text, Path::new("run.json")) {
        Ok(_) => panic!("this is not a record, but was accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_record_survives_writing_and_reading() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, record) in all() {
        let path = folder.path().join(name).join("record.json");
        write_record(&record, &path).expect("written");
        let from_file = read_record(&path).expect("read from its file");
        let from_folder = read_record(&folder.path().join(name)).expect("read from its folder");
        assert_eq!(json(&from_file), json(&record), "{name}");
        assert_eq!(json(&from_folder), json(&record), "{name}");
    }
}

#[test]
fn what_is_not_finite_is_written_as_a_string_and_never_as_null() {
    let mut record = passing();
    record.layers.truncate(1);
    record.layers[0].introduced = Some(common::broken(f64::NAN));
    record.bound = f64::NEG_INFINITY;
    let text = json(&Record::Diff(Box::new(record)));
    assert!(text.contains(r#""ratio": "NaN""#) && text.contains(r#""bound": "-inf""#), "{text}");
}

#[test]
fn a_ratio_without_an_interval_is_not_written_as_null() {
    let mut record = common::bench::bench();
    record.settings.truncate(1);
    record.settings[0].entries[0].to_peer = Some(("torch".into(), [0.7, f64::NAN, f64::INFINITY]));
    let record = Record::Bench(Box::new(record));
    let read = parse_record(&json(&record), Path::new("run.json")).expect("a record");
    assert_eq!(json(&read), json(&record));
}

#[test]
fn published_runs_can_be_read() {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    for entry in fs::read_dir(runs).expect("the folder") {
        let folder = entry.expect("an entry").path();
        if folder.is_dir() {
            let record = read_record(&folder).expect("a record");
            reports::render(&record).expect("a page");
        }
    }
}

#[test]
fn unknown_fields_are_tolerated() {
    let record = Record::Diff(Box::new(passing()));
    let text = json(&record).replacen('{', r#"{ "new_in_a_later_version": [1, {"a": null}],"#, 1);
    let read = parse_record(&text, Path::new("run.json")).expect("a record");
    assert_eq!(json(&read), json(&record));
}

#[test]
fn unknown_versions_and_kinds_say_what_to_do() {
    insta::assert_snapshot!(
        [
            failure(r#"{"schema": 2, "kind": "diff"}"#),
            failure(r#"{"kind": "diff"}"#),
            failure(r#"{"schema": 1, "kind": "race"}"#),
            failure(r#"{"schema": 1}"#),
            failure(r#"{"schema": 1, "kind": "diff"}"#),
            failure(r#"[]"#),
            failure("PK\u{3}\u{4}"),
            failure(""),
        ]
        .join("\n")
    );
}

#[test]
fn a_heatmap_that_does_not_fill_its_shape_is_refused() {
    let mut record = common::diverged();
    let map = record.heatmap.as_mut().expect("a heatmap");
    (map.height, map.width) = (usize::MAX, 2);
    let text = json(&Record::Diff(Box::new(record)));
    assert!(failure(&text).contains("holds 784 values"), "{}", failure(&text));
}

#[test]
fn every_truncation_of_a_record_is_an_error_and_not_a_panic() {
    let mut record = common::diverged();
    record.layers.truncate(2);
    record.heatmap = None;
    let text = json(&Record::Diff(Box::new(record)));
    for end in 0..text.trim_end().len() {
        if let Some(part) = text.get(..end) {
            failure(part);
        }
    }
}

#[test]
fn what_cannot_be_read_or_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = read_record(folder.path()).expect_err("there is no record").to_string();
    assert!(message.contains("record.json"), "{message}");

    let binary = folder.path().join("binary");
    fs::write(&binary, [0xff, 0xfe, 0]).expect("written");
    assert!(read_record(&binary).is_err());

    let below_a_file = binary.join("report.html");
    let record = Record::Diff(Box::new(passing()));
    let message = write_report(&record, &below_a_file, None).expect_err("no folder").to_string();
    assert!(message.contains("cannot write"), "{message}");
}

#[test]
fn parquet_holds_the_table_and_nothing_else_is_left_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, record) in all() {
        let place = folder.path().join(name);
        let parquet = place.join("layers.parquet");
        write_report(&record, &place.join("report.html"), Some(&parquet)).expect("written");
        let file = fs::File::open(&parquet).expect("a file");
        let read = ParquetReader::new(file).finish().expect("a table");
        let table = to_table(&record).expect("a table");
        assert!(read.equals_missing(&table), "{name}: {read:?}");
        assert_eq!(fs::read_dir(&place).expect("a folder").count(), 2, "{name}");
    }
}

#[test]
fn the_table_has_a_row_for_each_layer_and_keeps_nan_apart_from_missing() {
    let mut record = common::incomplete();
    record.layers[0].introduced = Some(common::broken(f64::NAN));
    let layers = record.layers.len();
    let relu = record.layers.iter().position(|l| l.introduced.is_none()).expect("one");
    let table = to_table(&Record::Diff(Box::new(record))).expect("a table");
    assert_eq!(table.shape(), (layers, 30));
    let ratio = table.column("introduced_ratio").expect("the column").f64().expect("floats");
    assert!(ratio.get(0).is_some_and(f64::is_nan));
    assert_eq!(ratio.get(relu), None);
}
