//! The record of a bench: latency of each contestant in each setting.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Body, Run, Verdict, float};

/// The outcome of `harness bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchRecord {
    /// `Diverged` if a contestant's output was wrong or the engine is slower than the baseline.
    pub verdict: Verdict,
    /// One entry for each precision, batch size and number of threads.
    pub settings: Vec<Setting>,
    /// Multiply-accumulates for one clip.
    pub macs: u64,
    /// Number of rounds of each setting.
    pub rounds: u64,
    /// Number of timed forward passes in each turn of a contestant.
    pub runs: u64,
    /// The baseline that the times were compared with; `None` if there was none.
    #[serde(default)]
    pub baseline: Option<Baseline>,
    /// What makes the times unreliable, one sentence each: measure again before you decide by them.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Significant slowdowns against the baseline, one sentence each.
    #[serde(default)]
    pub regressions: Vec<String>,
    /// Command, machine, versions and configuration of the run.
    pub run: Run,
}

impl Body for BenchRecord {
    fn run(&self) -> &Run {
        &self.run
    }
}

/// A comparison with earlier times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// Name of the baseline.
    pub name: String,
    /// For each compared contestant and setting, in words, its median time divided by the earlier one.
    pub ratios: Vec<(String, f64)>,
    /// What the baseline lacks, one sentence each.
    pub missing: Vec<String>,
}

/// One setting, in which the contestants ran in turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    /// Precision of the computation, such as `f32` or `bf16`.
    pub precision: String,
    /// Number of clips in a batch.
    pub batch: u64,
    /// Number of threads of each contestant.
    pub threads: u64,
    /// The contestants that ran.
    pub entries: Vec<BenchEntry>,
    /// The contestants that could not run, with the reason.
    #[serde(default)]
    pub left_out: Vec<(String, String)>,
    /// Whether one of these failed, rather than not supporting the setting.
    #[serde(default)]
    pub broken: bool,
    /// Measured peak speed of multiply-adds, GFLOP/s.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub peak_gflops: f64,
    /// Measured peak speed of reading memory, GB/s.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub peak_gbs: f64,
}

/// One contestant in one setting. Times are seconds for a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchEntry {
    /// Name of the contestant, such as `cpu` or `openvino`.
    pub name: String,
    /// Version of the engine or runtime.
    pub version: String,
    /// Fastest forward pass.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub min_s: f64,
    /// Median.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p50_s: f64,
    /// Lower end of the median's 95 % interval.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p50_low_s: f64,
    /// Upper end of the median's 95 % interval.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p50_high_s: f64,
    /// 90th percentile.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p90_s: f64,
    /// 95th percentile.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p95_s: f64,
    /// 99th percentile.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p99_s: f64,
    /// Time to load the model.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub load_s: f64,
    /// First forward pass.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub first_s: f64,
    /// Median from frames as bytes in the host's memory [N, T, H, W, 3] to the logits there, with normalisation
    /// and copies, which is what `eval` pays for a batch after decoding.
    #[serde(default)]
    pub from_bytes_s: Option<f64>,
    /// Peak growth of the resident memory by loading and running, in bytes.
    pub peak_bytes: u64,
    /// Relative L2 error of a timed output against float64.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub error: f64,
    /// Whether the error is small enough for the precision.
    pub right: bool,
    /// Name of the fastest other runtime, and the ratio of the medians to its median with both ends of
    /// the 95 % interval.
    #[serde(default, with = "float::named")]
    #[schemars(with = "Option<(String, [float::Number; 3])>")]
    pub to_peer: Option<(String, [f64; 3])>,
    /// Times of all forward passes, by round.
    pub rounds_s: Vec<Vec<f64>>,
    /// The processes that ran these rounds, one after the other.
    #[serde(default)]
    pub processes: Vec<BenchProcess>,
    /// The contestant's profile, one entry for each step.
    #[serde(default)]
    pub layers: Vec<LayerTime>,
}

/// One process of a contestant. Processes of the same program can differ in speed throughout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchProcess {
    /// Number of rounds that it ran.
    pub rounds: u64,
    /// Median of its forward passes.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub p50_s: f64,
    /// Median over its turns of the time in which a thread sees what another one wrote, measured between turns:
    /// longer if the cores have no common cache. Absent with one thread, and on a GPU.
    pub handover_s: Option<f64>,
    /// Number of page faults during its turns; absent where the system does not tell.
    pub page_faults: Option<u64>,
    /// Share of its anonymous memory that is in huge pages, 0 to 1; absent where the system does not tell.
    pub huge_pages: Option<f64>,
}

impl Setting {
    /// The time from core to core while this setting was measured: the median over all processes, in seconds.
    pub fn handover_s(&self) -> Option<f64> {
        let processes = self.entries.iter().flat_map(|entry| &entry.processes);
        let mut all: Vec<f64> = processes.filter_map(|process| process.handover_s).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }
}

/// The slowest process of a contestant next to the median one.
#[derive(Debug, Clone, Copy)]
pub struct Spread<'a> {
    /// The time of the slowest process divided by that of the median one.
    pub ratio: f64,
    /// The slowest process.
    pub slowest: &'a BenchProcess,
    /// The median process.
    pub median: &'a BenchProcess,
}

/// If the 99th percentile exceeds the fastest time by more than this factor, something disturbed the measurement.
const STEADY: f64 = 2.0;

impl BenchEntry {
    /// By which factor the times scatter, if that is too much for a reliable median.
    pub fn unsteady(&self) -> Option<f64> {
        let spread = self.p99_s / self.min_s;
        (spread.is_finite() && spread > STEADY).then_some(spread)
    }

    /// The spread between processes; `None` with fewer than two.
    pub fn spread(&self) -> Option<Spread<'_>> {
        let mut sorted: Vec<&BenchProcess> = self.processes.iter().collect();
        sorted.sort_by(|a, b| a.p50_s.total_cmp(&b.p50_s));
        let slowest = *sorted.last().filter(|_| sorted.len() > 1)?;
        let median = sorted[(sorted.len() - 1) / 2];
        Some(Spread { ratio: slowest.p50_s / median.p50_s, slowest, median })
    }
}

impl Spread<'_> {
    /// What the measurements say about a process that is slow; `None` if it is not.
    pub fn reason(&self) -> Option<String> {
        const SLOW: f64 = 1.1;
        const LONGER: f64 = 2.0;
        const MORE_FAULTS: u64 = 1000;
        const FEWER: f64 = 0.1;
        // No cache is so far away.
        const NOT_RUNNING_S: f64 = 2e-6;
        let Spread { slowest, median, .. } = self;
        let pair = |of: fn(&BenchProcess) -> Option<f64>| of(slowest).zip(of(median));
        let mut found = vec![];
        if let Some((slow, usual)) = pair(|p| p.handover_s)
            && slow > LONGER * usual
        {
            let why = match slow > NOT_RUNNING_S {
                true => "another program used a core",
                false => "its cores had no common cache",
            };
            found.push(format!(
                "{why} ({:.0} ns from core to core, not {:.0})",
                1e9 * slow,
                1e9 * usual
            ));
        }
        if let Some((slow, usual)) = slowest.page_faults.zip(median.page_faults)
            && slow > usual + MORE_FAULTS
        {
            found.push(format!("{slow} page faults instead of {usual}"));
        }
        if let Some((slow, usual)) = pair(|p| p.huge_pages)
            && slow < usual - FEWER
        {
            let [slow, usual] = [slow, usual].map(|share| 100.0 * share);
            found.push(format!("{slow:.0} % of its memory in huge pages instead of {usual:.0} %"));
        }
        if found.is_empty() {
            found.push(
                "page faults, huge pages and the time from core to core tell no reason".to_owned(),
            );
        }
        (self.ratio > SLOW).then(|| found.join(", "))
    }
}

/// One step in the profile of a contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LayerTime {
    /// Name of the step in the contestant's profile.
    pub name: String,
    /// Kind of work, such as `Conv`.
    pub kind: String,
    /// Time for a batch in milliseconds.
    #[serde(with = "float")]
    #[schemars(with = "float::Number")]
    pub ms: f64,
    /// Operations of the direct convolutions that the step computes, 10^9.
    #[serde(default)]
    pub gflop: Option<f64>,
    /// Size of weights, inputs and outputs, 10^6 bytes.
    #[serde(default)]
    pub mb: Option<f64>,
    /// The time in milliseconds that the contestant's model of the machine predicts, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_ms: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(p50_s: f64, handover_s: f64, page_faults: u64) -> BenchProcess {
        BenchProcess {
            rounds: 1,
            p50_s,
            handover_s: Some(handover_s),
            page_faults: Some(page_faults),
            huge_pages: None,
        }
    }

    #[test]
    fn a_slow_process_has_a_reason_or_it_is_said_that_none_was_found() {
        let usual = process(0.1, 32e-9, 3);
        let reason = |slowest: &BenchProcess| {
            let ratio = slowest.p50_s / usual.p50_s;
            Spread { ratio, slowest, median: &usual }.reason()
        };
        assert_eq!(reason(&process(0.109, 155e-9, 3)), None);
        let apart = reason(&process(0.13, 155e-9, 3)).unwrap();
        assert_eq!(apart, "its cores had no common cache (155 ns from core to core, not 32)");
        let busy = reason(&process(0.13, 1e-4, 3)).unwrap();
        assert_eq!(busy, "another program used a core (100000 ns from core to core, not 32)");
        let faults = reason(&process(0.13, 33e-9, 90_000)).unwrap();
        assert_eq!(faults, "90000 page faults instead of 3");
        assert!(reason(&process(0.13, 33e-9, 4)).unwrap().ends_with("tell no reason"));
    }
}
