//! Comparisons as JUnit XML.

mod common;

use common::{diverged, hostile, incomplete, passing};
use record::{ArrayState, DiffRecord, LedgerEntry};

fn xml(record: &DiffRecord) -> String {
    reports::junit(record).expect("XML")
}

#[test]
fn a_test_for_each_layer_and_one_for_the_verdict() {
    let record = passing();
    let text = xml(&record);
    assert_eq!(text.matches("<testcase ").count(), record.layers.len() + 1);
    assert!(text.contains("failures=\"0\"") && !text.contains("<failure"), "{}", &text[..400]);
}

#[test]
fn a_divergence_fails_its_layer_and_the_verdict_only() {
    let mut record = diverged();
    record.explanation = Some("First goes wrong at <somewhere>.".to_owned());
    let text = xml(&record);
    assert_eq!(text.matches("<failure ").count(), 2);
    assert!(text.contains("First goes wrong at &lt;somewhere&gt;."), "{text}");
    assert!(text.contains("error ratio 7.300e3") && text.contains("only the accumulated error"));
}

#[test]
fn what_was_not_compared_or_refused_is_not_a_success() {
    let mut record = incomplete();
    record.ledger.push(LedgerEntry {
        array: "layer1.0".to_owned(),
        module: None,
        state: ArrayState::Refused,
        detail: Some("shape [1]".to_owned()),
    });
    let text = xml(&record);
    assert_eq!(text.matches("<failure ").count(), 2);
    assert!(text.contains("was not compared") && text.contains("shape [1]"));
}

#[test]
fn markup_and_control_characters_are_escaped() {
    let mut record = hostile();
    record.layers[0].name.push('\u{1b}');
    let text = xml(&record);
    assert!(!text.contains("<script>") && !text.contains('\u{1b}'));
}
