//! Times kept by name, and whether today's are slower beyond chance.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use reports::record::{BenchRecord, Machine, Model, Setting};
use serde::{Deserialize, Serialize};

use super::stats;
use crate::files;

/// Slower by less than this is nobody's regression.
const LEAST: f64 = 1.03;
/// Chance that times of the same program differ so much.
const P: f64 = 0.01;

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Baseline {
    machine: Machine,
    /// Model and weights: times of others prove nothing.
    model: Model,
    weights: String,
    settings: Vec<Setting>,
}

fn path(name: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        bail!("`{name}` is no name for a baseline; use letters, digits, - and _");
    }
    Ok(PathBuf::from("runs/baselines").join(format!("{name}.json")))
}

/// The model whatever the batch, which belongs to the settings.
fn of_one_clip(model: &Model) -> Model {
    let mut model = model.clone();
    model.more.insert("batch_size".to_owned(), 1.into());
    model
}

/// Keeps the times.
pub fn save(name: &str, record: &BenchRecord) -> Result<()> {
    let kept = Baseline {
        machine: record.run.machine.clone(),
        model: of_one_clip(&record.run.model),
        weights: record.run.weights.clone(),
        settings: record.settings.clone(),
    };
    files::write(&path(name)?, serde_json::to_string(&kept)?.as_bytes())
}

/// What a comparison says.
#[derive(Default)]
pub struct Compared {
    /// Who is slower than then, in words.
    pub regressions: Vec<String>,
    /// What the baseline lacks, in words.
    pub missing: Vec<String>,
    /// How many contestants of settings were compared.
    pub count: usize,
}

/// What was kept under a name; refused where it was measured on another machine or of another model.
pub struct Kept(Baseline);

impl Kept {
    /// Reads it.
    pub fn open(name: &str, machine: &Machine, model: &Model, weights: &str) -> Result<Self> {
        let path = path(name)?;
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("there is no baseline `{name}`; make it by --save-baseline {name}")
        })?;
        let kept: Baseline = serde_json::from_str(&text)
            .with_context(|| format!("{}: is no baseline", path.display()))?;
        if (&kept.machine.cpu, kept.machine.cores) != (&machine.cpu, machine.cores) {
            bail!(
                "baseline `{name}` was measured on another machine ({}, {} cores), which proves \
                 nothing here; make a new one by --save-baseline",
                kept.machine.cpu,
                kept.machine.cores
            );
        }
        if kept.model != of_one_clip(model) || kept.weights != weights {
            bail!(
                "baseline `{name}` is of another model or other weights ({}); give the same flags, or \
                 make a new one by --save-baseline",
                kept.weights
            );
        }
        Ok(Kept(kept))
    }

    /// Today's times beside those.
    pub fn compare(&self, now: &[Setting]) -> Compared {
        let mut found = Compared::default();
        for setting in now {
            let place = format!(
                "{}, batch {}, {} threads",
                setting.precision, setting.batch, setting.threads
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
                found.count += 1;
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

/// How many times slower, and the chance of that, where it is a regression. A round counts once, by
/// its median: runs of one turn are not independent of each other.
fn slower(now: &[Vec<f64>], then: &[Vec<f64>]) -> Option<(f64, f64)> {
    let medians = |rounds: &[Vec<f64>]| rounds.iter().map(|r| stats::median(r)).collect::<Vec<_>>();
    let (new, old) = (medians(now), medians(then));
    let slower = stats::median(&new) / stats::median(&old);
    let p = stats::mann_whitney(&new, &old);
    (slower > LEAST && p < P).then_some((slower, p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_count_once_and_little_is_no_regression() {
        let rounds =
            |ms: f64| (0..12).map(|r| vec![ms + 0.01 * f64::from(r); 3]).collect::<Vec<_>>();
        assert!(slower(&rounds(12.0), &rounds(10.0)).is_some());
        assert!(slower(&rounds(10.2), &rounds(10.0)).is_none(), "2 % is nobody's regression");
        assert!(slower(&rounds(10.0), &rounds(12.0)).is_none(), "faster is no regression");
        assert!(
            slower(&rounds(12.0)[..2], &rounds(10.0)[..2]).is_none(),
            "two rounds prove nothing"
        );
    }
}
