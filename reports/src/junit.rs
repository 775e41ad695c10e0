//! A comparison as JUnit XML, which continuous integration shows as a list of tests.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use record::{ArrayState, DiffRecord, Errors, Layer, LayerVerdict, Verdict};

use crate::error::{ReportError, Result};

/// The JUnit XML of a comparison: a suite for the verdict, one for each block with a test for each
/// layer, and one for the arrays that were refused. Layers with only an accumulated error, and those that
/// were not compared, are skipped; the test `verdict` fails for them.
///
/// # Errors
///
/// If the XML cannot be written, which is a bug.
pub fn junit(record: &DiffRecord) -> Result<String> {
    let mut report = Report::new("harness diff");
    report.add_test_suite(verdict(record));
    for block in record.layers.chunk_by(|a, b| a.block == b.block) {
        let mut suite = TestSuite::new(block[0].block.clone());
        suite.add_test_cases(block.iter().map(|layer| layer_case(record, layer)));
        report.add_test_suite(suite);
    }
    let refused = record.ledger.iter().filter(|entry| entry.state == ArrayState::Refused);
    let refused: Vec<TestCase> = refused
        .map(|entry| case(record, &entry.array, failure("refused", entry.detail.as_deref())))
        .collect();
    if !refused.is_empty() {
        let mut suite = TestSuite::new("arrays of the dump");
        suite.add_test_cases(refused);
        report.add_test_suite(suite);
    }
    let odd = |why: quick_junit::SerializeError| ReportError::Page {
        page: "junit",
        reason: why.to_string(),
    };
    report.to_string().map_err(odd)
}

fn verdict(record: &DiffRecord) -> TestSuite {
    let word = record.verdict.as_str();
    let status = match record.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        _ => failure(word, record.explanation.as_deref()),
    };
    let mut suite = TestSuite::new("verdict");
    suite.add_test_case(case(record, "verdict", status));
    suite
}

fn case(record: &DiffRecord, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(record.run.candidate.as_str());
    case
}

fn failure(kind: &str, message: Option<&str>) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(kind).set_message(message.unwrap_or(kind));
    status
}

fn layer_case(record: &DiffRecord, layer: &Layer) -> TestCase {
    let skipped = |message: String| {
        let mut status = TestCaseStatus::skipped();
        status.set_message(message);
        status
    };
    let status = match layer.verdict {
        LayerVerdict::Pass | LayerVerdict::Covered => TestCaseStatus::success(),
        LayerVerdict::Diverged => {
            let errors = layer.introduced.as_ref().or(layer.inherited.as_ref());
            failure("diverged", Some(&in_words(errors, record.bound)))
        }
        LayerVerdict::Inherited => skipped(
            "only the accumulated error is too large: an earlier layer is the cause".to_owned(),
        ),
        LayerVerdict::NotCompared => skipped("was not compared".to_owned()),
    };
    case(record, &layer.name, status)
}

fn in_words(errors: Option<&Errors>, bound: f64) -> String {
    match errors {
        Some(errors) => format!(
            "error ratio {:.3e}, which passes up to {bound}; relative L2 error {:.1e}, {} NaN",
            errors.ratio, errors.rel_l2, errors.nan
        ),
        None => "diverged".to_owned(),
    }
}
