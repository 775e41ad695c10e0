//! The view of a self-test.

use serde::Serialize;

use super::provenance::{self, Provenance};
use crate::format::short;
use crate::record::{Fault, Place, SelftestRecord};

/// Everything that the template shows, formatted.
#[derive(Serialize)]
pub(super) struct View {
    title: String,
    verdict: &'static str,
    mark: &'static str,
    word: &'static str,
    sentence: String,
    faults: Vec<FaultView>,
    provenance: Provenance,
}

#[derive(Serialize)]
struct FaultView {
    name: String,
    anchor: String,
    injected: u64,
    detected: Share,
    named: Share,
    places: Vec<PlaceView>,
}

/// A part of the injections.
#[derive(Serialize)]
struct Share {
    count: u64,
    percent: String,
    /// Width of its bar, in percent.
    bar: u64,
    tone: &'static str,
}

#[derive(Serialize)]
struct PlaceView {
    module: String,
    detected: bool,
    named: Option<String>,
    right: bool,
    ratio: String,
}

/// Builds the view.
pub(super) fn view(selftest: &SelftestRecord) -> View {
    let total = |of: fn(&Fault) -> u64| selftest.faults.iter().map(of).fold(0, u64::saturating_add);
    let (injected, detected, named) =
        (total(|f| f.injected), total(|f| f.detected), total(|f| f.named));
    let whole = injected > 0 && detected == injected;
    let (verdict, mark, word) = match (injected, whole) {
        (0, _) => ("incomplete", "?", "Nothing injected"),
        (_, true) => ("pass", "✓", "Every fault detected"),
        (_, false) => ("diverged", "✗", "Faults missed"),
    };
    View {
        title: format!("self-test · {detected} of {injected} detected"),
        verdict,
        mark,
        word,
        sentence: format!(
            "{detected} of {injected} injected faults were detected, and for {named} the right layer was named"
        ),
        faults: selftest.faults.iter().enumerate().map(fault_view).collect(),
        provenance: provenance::of(&selftest.run),
    }
}

fn fault_view((index, fault): (usize, &Fault)) -> FaultView {
    FaultView {
        name: fault.fault.clone(),
        anchor: format!("fault-{index}"),
        injected: fault.injected,
        detected: share(fault.detected, fault.injected),
        named: share(fault.named, fault.injected),
        places: fault.places.iter().map(place_view).collect(),
    }
}

fn share(count: u64, of: u64) -> Share {
    let part = if of == 0 { 0.0 } else { count as f64 / of as f64 };
    Share {
        count,
        percent: format!("{:.0} %", 100.0 * part),
        bar: (100.0 * part.min(1.0)) as u64,
        tone: tone(part),
    }
}

/// The harness promises to detect every fault and to name the right layer in 95 % of them.
fn tone(part: f64) -> &'static str {
    const TONES: [(f64, &str); 2] = [(1.0, "pass"), (0.95, "warn")];
    TONES.iter().find(|(least, _)| part >= *least).map_or("bad", |(_, tone)| tone)
}

fn place_view(place: &Place) -> PlaceView {
    PlaceView {
        module: place.module.clone(),
        detected: place.detected,
        right: place.named.as_deref() == Some(place.module.as_str()),
        named: place.named.clone(),
        ratio: short(place.ratio),
    }
}
