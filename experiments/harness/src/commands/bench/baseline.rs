//! Baselines: times that are saved by name, and a test whether later times are significantly slower.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use record::{BenchRecord, Machine, Model, Setting};
use serde::{Deserialize, Serialize};

use super::stats;

/// The folder of the baselines.
pub const FOLDER: &str = "runs/baselines";
/// A contestant that is slower by at most this factor is not a regression.
const MIN_SLOWDOWN: f64 = 1.03;
/// Significance level: a smaller p-value makes a slowdown a regression.
const P: f64 = 0.01;

/// The content of a baseline's file.
#[derive(Serialize, Deserialize)]
struct Baseline {
    machine: Machine,
    /// The model for a batch of one clip: times of another model cannot be compared.
    model: Model,
    weights: String,
    settings: Vec<Setting>,
}

/// Fails if a baseline cannot have this name.
pub fn check(name: &str) -> Result<()> {
    path(name).map(|_| ())
}

fn path(name: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        bail!("`{name}` is not a valid name for a baseline; use letters, digits, ., - and _");
    }
    Ok(PathBuf::from(FOLDER).join(format!("{name}.json")))
}

/// The model with a batch of one clip, because each setting has its own batch.
fn of_one_clip(model: &Model) -> Model {
    let mut model = model.clone();
    model.more.insert("batch_size".to_owned(), 1.into());
    model
}

/// Saves the times of a bench as `runs/baselines/NAME.json`.
pub fn save(name: &str, record: &BenchRecord) -> Result<()> {
    let kept = Baseline {
        machine: record.run.machine.clone(),
        model: of_one_clip(&record.run.model),
        weights: record.run.weights.clone(),
        settings: record.settings.clone(),
    };
    crate::disk::write(&path(name)?, serde_json::to_string(&kept)?.as_bytes())
}

/// The result of a comparison with a baseline.
#[derive(Default)]
pub struct Compared {
    /// A sentence for each contestant that is significantly slower than in the baseline.
    pub regressions: Vec<String>,
    /// A sentence for each setting or contestant that the baseline lacks.
    pub missing: Vec<String>,
    /// For each compared contestant and setting, in words, its time divided by that of the baseline.
    pub ratios: Vec<(String, f64)>,
}

/// A baseline that was measured on this machine, with the same model and weights.
pub struct Kept(Baseline);

impl Kept {
    /// Reads a baseline; fails if it was measured on another machine or with another model or weights.
    pub fn open(name: &str, machine: &Machine, model: &Model, weights: &str) -> Result<Self> {
        let path = path(name)?;
        if !path.exists() {
            bail!("there is no baseline `{name}`; make it with --save-baseline {name}");
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        let kept: Baseline = serde_json::from_str(&text)
            .with_context(|| format!("{}: is not a baseline", path.display()))?;
        if (&kept.machine.cpu, kept.machine.cores) != (&machine.cpu, machine.cores) {
            bail!(
                "baseline `{name}` was measured on another machine ({}, {} cores), whose times \
                 cannot be compared; make a new one with --save-baseline",
                kept.machine.cpu,
                kept.machine.cores
            );
        }
        if kept.model != of_one_clip(model) || kept.weights != weights {
            bail!(
                "baseline `{name}` has another model or other weights ({}); give the same flags, or \
                 make a new one with --save-baseline",
                kept.weights
            );
        }
        Ok(Kept(kept))
    }

    /// Compares the times of the settings `now` with the baseline.
    pub fn compare(&self, now: &[Setting]) -> Compared {
        let mut found = Compared::default();
        for setting in now {
            let place = format!(
                "{}, batch {}, {}",
                setting.precision,
                setting.batch,
                reports::count(setting.threads as usize, "thread")
            );
            let same = |s: &&Setting| {
                (&s.precision, s.batch, s.threads)
                    == (&setting.precision, setting.batch, setting.threads)
            };
            let Some(then) = self.0.settings.iter().find(same) else {
                found.missing.push(format!("the baseline lacks {place}"));
                continue;
            };
            for entry in &setting.entries {
                let Some(before) = then.entries.iter().find(|e| e.name == entry.name) else {
                    found.missing.push(format!("the baseline lacks {} in {place}", entry.name));
                    continue;
                };
                let what = format!("{}, {place}", entry.name);
                found.ratios.push((what, ratio(&entry.rounds_s, &before.rounds_s)));
                if let Some((slower, p)) = slower(&entry.rounds_s, &before.rounds_s) {
                    found.regressions.push(format!(
                        "{} {place}: {:.1} % slower than the baseline (p = {p:.1e})",
                        entry.name,
                        100.0 * (slower - 1.0)
                    ));
                }
            }
        }
        found
    }
}

/// The median of each round, because the runs of one turn are not independent of each other.
fn medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    rounds.iter().map(|round| stats::median(round)).collect()
}

/// The time now, divided by that of the baseline.
fn ratio(now: &[Vec<f64>], then: &[Vec<f64>]) -> f64 {
    stats::median(&medians(now)) / stats::median(&medians(then))
}

/// The slowdown (a factor) and its p-value, if it is a regression.
fn slower(now: &[Vec<f64>], then: &[Vec<f64>]) -> Option<(f64, f64)> {
    let slower = ratio(now, then);
    let p = stats::mann_whitney(&medians(now), &medians(then));
    (slower > MIN_SLOWDOWN && p < P).then_some((slower, p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_counts_once_and_a_small_slowdown_is_not_a_regression() {
        let rounds =
            |ms: f64| (0..12).map(|r| vec![ms + 0.01 * f64::from(r); 3]).collect::<Vec<_>>();
        assert!(slower(&rounds(12.0), &rounds(10.0)).is_some());
        assert!(slower(&rounds(10.2), &rounds(10.0)).is_none(), "2 % is not a regression");
        assert!(slower(&rounds(10.0), &rounds(12.0)).is_none(), "faster is not a regression");
        assert!(
            slower(&rounds(12.0)[..2], &rounds(10.0)[..2]).is_none(),
            "two rounds prove nothing"
        );
    }
}
