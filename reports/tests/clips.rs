//! The section of a comparison's page about several inputs.

mod common;

use common::{HOSTILE, diverged};
use record::{ClipResult, Clips, DiffRecord, OverClips, Record, Verdict};

/// A record over this many inputs, of which the last one is NaN everywhere.
fn over(count: usize, name: &str) -> DiffRecord {
    let mut record = diverged();
    let input = |at: usize| ClipResult {
        input: format!("{name}{at}"),
        verdict: if at + 1 == count { Verdict::Diverged } else { Verdict::Pass },
        first_divergent: (at + 1 == count).then(|| "conv1".to_owned()),
        worst: if at + 1 == count { f64::NAN } else { 0.5 },
        worst_layer: Some("conv1".to_owned()),
        logits: None,
    };
    let ratios: Vec<f64> =
        (0..count).map(|at| if at + 1 == count { f64::NAN } else { 0.5 }).collect();
    let module = |layer: &record::Layer| OverClips {
        name: layer.name.clone(),
        passed: count.saturating_sub(1) as u64,
        low: 0.2,
        high: 0.9,
        median: 0.5,
        p90: f64::NAN,
        worst_input: count as u64, // a record by another program may be wrong
        ratios: ratios.clone(),
    };
    record.clips = Some(Clips {
        inputs: (0..count).map(input).collect(),
        modules: record.layers.iter().map(module).collect(),
    });
    record
}

fn page(record: DiffRecord) -> String {
    reports::render(&Record::Diff(Box::new(record))).expect("a page")
}

#[test]
fn every_input_has_a_row_and_every_block_a_cell_for_it() {
    let record = over(3, "formula:");
    let blocks = record.layers.chunk_by(|a, b| a.block == b.block).count();
    let text = page(record);
    assert!(text.contains("<h2>3 inputs</h2>") && text.contains("formula:2"));
    assert_eq!(text.matches("title=\"formula:1: ").count(), blocks);
    assert!(text.contains("2 of 3") && text.contains("20.0 to 90.0 %") && text.contains("NaN"));
}

#[test]
fn many_inputs_none_and_hostile_names_are_shown() {
    let text = page(over(200, "v"));
    assert!(text.contains("v199") && !text.contains("title=\"v1: "));
    assert!(page(over(0, "v")).contains("<h2>0 inputs</h2>"));
    assert!(!page(over(2, HOSTILE)).contains("<script>document.title"));
    assert!(!page(diverged()).contains("id=\"clips\""));
}
