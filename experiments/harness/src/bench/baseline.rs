//! Times kept by name, and whether today's are slower beyond chance.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use reports::record::{BenchRecord, Machine, Setting};
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
    settings: Vec<Setting>,
}

fn path(name: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        bail!("`{name}` is no name for a baseline; use letters, digits, - and _");
    }
    Ok(PathBuf::from("runs/baselines").join(format!("{name}.json")))
}

/// Keeps the times.
pub fn save(name: &str, record: &BenchRecord) -> Result<()> {
    let kept = Baseline { machine: record.run.machine.clone(), settings: record.settings.clone() };
    files::write(&path(name)?, serde_json::to_string(&kept)?.as_bytes())
}

/// One contestant of one setting that has become slower.
pub struct Regression {
    /// In words.
    pub what: String,
}

/// What was kept under a name; refused where it was measured on another machine.
pub struct Kept(Baseline);

impl Kept {
    /// Reads it.
    pub fn open(name: &str, machine: &Machine) -> Result<Self> {
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
        Ok(Kept(kept))
    }

    /// Who is slower than then.
    pub fn regressions(&self, now: &[Setting]) -> Vec<Regression> {
        let mut found = vec![];
        for setting in now {
            let same = |s: &&Setting| {
                (&s.precision, s.batch, s.threads)
                    == (&setting.precision, setting.batch, setting.threads)
            };
            let Some(then) = self.0.settings.iter().find(same) else { continue };
            for entry in &setting.entries {
                let Some(before) = then.entries.iter().find(|e| e.name == entry.name) else {
                    continue;
                };
                let all =
                    |rounds: &[Vec<f64>]| rounds.iter().flatten().copied().collect::<Vec<_>>();
                let (old, new) = (all(&before.rounds_s), all(&entry.rounds_s));
                let slower = stats::median(&new) / stats::median(&old);
                let p = stats::mann_whitney(&new, &old);
                if slower > LEAST && p < P {
                    let what = format!(
                        "{} {}, batch {}, {} threads: {:.1} % slower than the baseline (p = {p:.1e})",
                        entry.name,
                        setting.precision,
                        setting.batch,
                        setting.threads,
                        100.0 * (slower - 1.0)
                    );
                    found.push(Regression { what });
                }
            }
        }
        found
    }
}
