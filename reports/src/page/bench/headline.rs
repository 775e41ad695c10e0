//! The result of a bench in words.

use super::{is_ours, ms_number, shown, title};
use crate::format::{count, short};
use crate::page::study::list;
use record::{BenchEntry, BenchRecord, Setting};

/// How an engine of ours compares with the fastest other runtime in one setting.
pub(super) struct SpeedUp<'a> {
    pub setting: &'a Setting,
    pub entry: &'a BenchEntry,
    pub peer: &'a str,
    /// How many times as fast, with the ends of the 95 % interval.
    pub times: f64,
    pub interval: (f64, f64),
}

/// All comparisons of our engines with the fastest other runtime that have a finite ratio.
pub(super) fn speed_ups<'a>(bench: &'a BenchRecord) -> Vec<SpeedUp<'a>> {
    let of = |setting: &'a Setting| setting.entries.iter().map(move |entry| (setting, entry));
    let ours = bench.settings.iter().flat_map(of).filter(|(_, entry)| is_ours(&entry.name));
    let compared = ours.filter_map(|(setting, entry)| {
        let (peer, [ratio, low, high]) = entry.to_peer.as_ref()?;
        let sound = *ratio > 0.0 && ratio.is_finite();
        let interval = (1.0 / high, 1.0 / low);
        sound.then_some(SpeedUp { setting, entry, peer, times: 1.0 / ratio, interval })
    });
    compared.collect()
}

/// The headline, such as `cpu is 1.5 times as fast as the fastest other runtime, onnxruntime`.
pub(super) fn word(bench: &BenchRecord) -> String {
    let all = speed_ups(bench);
    let mut engines: Vec<&str> = all.iter().map(|s| s.entry.name.as_str()).collect();
    engines.dedup();
    let Some(engine) = engines.first() else { return without_peer(bench) };
    let of: Vec<&SpeedUp<'_>> = all.iter().filter(|s| s.entry.name == *engine).collect();
    let mut peers: Vec<String> = of.iter().map(|s| s.peer.to_owned()).collect();
    peers.sort();
    peers.dedup();
    let least = of.iter().map(|s| s.times).fold(f64::INFINITY, f64::min);
    let most = of.iter().map(|s| s.times).fold(0.0, f64::max);
    let (least, most) = (factor(least), factor(most));
    let range = if least == most { least } else { format!("{least} to {most}") };
    let peers = list_or(&peers);
    let faster = of.iter().filter(|s| s.times > 1.0).count();
    let unsure = of.iter().filter(|s| s.interval.0 < 1.0 && s.interval.1 > 1.0).count();
    let settings = match (faster, of.len()) {
        (_, 1) => String::new(),
        (n, all) if n == all => format!(", in {n} of {all} settings"),
        (n, all) => format!(", faster in {n} of {all} settings"),
    };
    let doubt = match (unsure, of.len()) {
        (0, _) => String::new(),
        (_, 1) => "; the difference may be chance".to_owned(),
        (n, _) => format!("; in {n} of them the difference may be chance"),
    };
    format!(
        "{engine} is {range} times as fast as the fastest other runtime, {peers}{settings}{doubt}"
    )
}

/// The headline where no other runtime was measured.
fn without_peer(bench: &BenchRecord) -> String {
    let ours = bench.settings.iter().flat_map(|s| s.entries.iter().map(move |e| (s, e)));
    match ours.clone().find(|(_, e)| is_ours(&e.name)).or(ours.clone().next()) {
        Some((setting, entry)) => format!(
            "{} takes {} ms ({}); no other runtime was measured",
            entry.name,
            ms_number(entry.p50_s),
            title(setting)
        ),
        None => "Nothing was measured".to_owned(),
    }
}

/// The sentence under the headline: how it was measured, and on which device.
pub(super) fn sentence(bench: &BenchRecord) -> String {
    let baseline = bench.baseline.as_ref().map_or(String::new(), |baseline| {
        format!(
            "; compared with the baseline {}: {}, {} significantly slower",
            baseline.name,
            count(baseline.ratios.len(), "time"),
            bench.regressions.len()
        )
    });
    format!(
        "{} in {} of {}, {}\u{a0}GMAC for a clip; computed on {}{baseline}",
        count(bench.settings.len(), "setting"),
        count(bench.rounds as usize, "interleaved round"),
        count(bench.runs as usize, "run"),
        short(bench.macs as f64 / 1e9),
        device(bench)
    )
}

/// The device that computed. Records before the field `gpu` was added do not name a GPU.
pub(in crate::page) fn device(bench: &BenchRecord) -> String {
    let machine = &bench.run.machine;
    let entries = || bench.settings.iter().flat_map(|s| &s.entries);
    match &machine.gpu {
        Some(name) => name.clone(),
        None if entries().any(|e| e.name == "cuda") => format!(
            "a GPU that the record does not name; its host has {} cores of {}",
            machine.cores, machine.cpu
        ),
        None => format!("{}, {} cores", machine.cpu, machine.cores),
    }
}

/// A sentence for each contestant whose times scatter, and whether it decides the headline.
pub(super) fn unsteady(bench: &BenchRecord) -> Vec<(bool, String)> {
    let mut found = vec![];
    for setting in &bench.settings {
        for entry in &setting.entries {
            let Some(spread) = entry.unsteady() else { continue };
            let fastest = |e: &BenchEntry| e.to_peer.as_ref().is_some_and(|p| p.0 == entry.name);
            let decides = is_ours(&entry.name) || setting.entries.iter().any(fastest);
            let advice = match decides {
                true => {
                    "the ratios of this setting are not reliable: measure again on an idle machine"
                }
                false => "its own median is not reliable; the headline does not depend on it",
            };
            found.push((
                decides,
                format!(
                    "{}: the times of {} scatter by a factor of {}, from {} (fastest) to {} ms (p99); \
                     {advice}.",
                    title(setting),
                    shown(&entry.name),
                    short(spread),
                    ms_number(entry.min_s),
                    ms_number(entry.p99_s),
                ),
            ));
        }
    }
    found
}

/// A factor with two digits; with three near 1, where one digit would hide who is faster.
fn factor(times: f64) -> String {
    match times {
        t if (0.9..1.1).contains(&t) => format!("{t:.2}"),
        t if t < 10.0 => format!("{t:.1}"),
        t => short(t),
    }
}

/// Names joined by `or`, since the fastest runtime differs between settings.
fn list_or(names: &[String]) -> String {
    list(names).replace(" and ", " or ")
}
