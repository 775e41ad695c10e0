//! Several inputs: the flag `--clips`. Every layer is judged with each of them, and the worst counts.

use anyhow::{Context, Result, bail};
use clap::Args;
use record::{ClipResult, Clips, OverClips, Verdict};
use spec::ModuleId;

use super::plan::Plan;
use crate::flags::{ClipSource, InputSource};
use crate::{input, progress};
use compare::measure::passes;
use compare::{Comparison, Measurements};

/// The flag for several inputs.
#[derive(Debug, Clone, Default, Args)]
pub struct ClipArgs {
    /// Judge every layer over several inputs, and take the worst: a number N for formula:0 to
    /// formula:N-1, or a folder of videos. Dumps cannot be run, so both sides must be engines.
    #[arg(long, value_name = "N|DIR", conflicts_with = "input")]
    pub clips: Option<ClipSource>,
}

/// The result over all inputs.
pub(super) struct Measured {
    /// For each layer the worst of all inputs.
    pub(super) worst: Measurements,
    /// What the record says about the inputs.
    pub(super) clips: Clips,
}

/// Compares with every input. Afterwards the comparison has the input with which the culprit's error is
/// largest, so that it can be explained and reproduced.
pub(super) fn measure(
    comparison: &mut Comparison,
    plan: &Plan,
    sources: &[InputSource],
) -> Result<Measured> {
    let batch = comparison.input.shape[0];
    let bar = progress::bar("comparing", comparison.steps() * sources.len() as u64);
    let (mut worst, mut inputs) = (None::<Measurements>, vec![]);
    let mut ratios: Vec<Vec<f64>> = vec![];
    for source in sources {
        comparison.input = clip(comparison, plan, source, batch)?;
        let measured = comparison.measure(&|| bar.inc(1))?;
        let own: Vec<Option<f64>> = measured
            .layers
            .iter()
            .map(|layer| layer.introduced.map(|e| if e.nan > 0 { f64::NAN } else { e.ratio }))
            .collect();
        ratios.push(own.iter().map(|ratio| ratio.unwrap_or(f64::NAN)).collect());
        inputs.push(result(comparison, source, &measured, &own));
        match &mut worst {
            Some(worst) => worst.keep_worse(measured),
            None => worst = Some(measured),
        }
    }
    bar.finish_and_clear();
    let Some(worst) = worst else { bail!("--clips: there are no inputs") };
    let modules = over_clips(comparison, &worst, &ratios);
    if let Some(culprit) = comparison.judge(&worst).culprit {
        let largest = largest(&ratios.iter().map(|all| all[culprit.0]).collect::<Vec<_>>());
        comparison.input = clip(comparison, plan, &sources[largest], batch)?;
    }
    Ok(Measured { worst, clips: Clips { inputs, modules } })
}

pub(super) fn clip(
    comparison: &Comparison,
    plan: &Plan,
    source: &InputSource,
    batch: usize,
) -> Result<spec::Tensor> {
    let clip = input::load(source, &plan.model, batch)
        .with_context(|| format!("--clips, the input {}", name(source)))?;
    Ok(comparison.precision.round(clip))
}

/// The name of an input in tables: a video goes without its folder.
fn name(source: &InputSource) -> String {
    let text = match source {
        InputSource::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into(),
        formula => formula.to_string(),
    };
    text.chars().map(|c: char| if c.is_control() { '?' } else { c }).collect()
}

fn result(
    comparison: &Comparison,
    source: &InputSource,
    measured: &Measurements,
    ratios: &[Option<f64>],
) -> ClipResult {
    let model = &comparison.model;
    let found = comparison.judge(measured);
    let known: Vec<(usize, f64)> =
        ratios.iter().enumerate().filter_map(|(at, ratio)| Some((at, (*ratio)?))).collect();
    let largest = largest(&known.iter().map(|(_, ratio)| *ratio).collect::<Vec<_>>());
    let worst = known.get(largest);
    ClipResult {
        input: name(source),
        verdict: found.verdict,
        first_divergent: match found.verdict {
            Verdict::Diverged => found.culprit.map(|id| model.module(id).name.clone()),
            _ => None,
        },
        worst: worst.map_or(0.0, |(_, ratio)| *ratio),
        worst_layer: worst.map(|(at, _)| model.modules()[*at].name.clone()),
        logits: measured.layers[model.output().0].inherited,
    }
}

/// Index of the largest value; NaN is larger than any number.
fn largest(values: &[f64]) -> usize {
    let rank = |value: f64| if value.is_nan() { f64::INFINITY } else { value };
    let best = (0..values.len())
        .max_by(|&a, &b| rank(values[a]).total_cmp(&rank(values[b])).then(b.cmp(&a)));
    best.unwrap_or(0)
}

/// The ratios of every module that was compared.
fn over_clips(
    comparison: &Comparison,
    worst: &Measurements,
    ratios: &[Vec<f64>],
) -> Vec<OverClips> {
    let compared = |id: &ModuleId| worst.layers[id.0].introduced.is_some();
    let ids = comparison.model.modules().iter().map(|module| module.id);
    let intervals: Vec<[f64; 2]> =
        (0..=ratios.len()).map(|passed| interval(passed, ratios.len())).collect();
    let of = |id: ModuleId| {
        let ratios: Vec<f64> = ratios.iter().map(|all| all[id.0]).collect();
        let mut sorted = ratios.clone();
        // `total_cmp` puts NaN last, as the largest.
        sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        let quantile = |share: f64| sorted[((sorted.len() - 1) as f64 * share).ceil() as usize];
        let passed = ratios.iter().filter(|ratio| passes(**ratio)).count();
        let [low, high] = intervals[passed];
        OverClips {
            name: comparison.model.module(id).name.clone(),
            passed: passed as u64,
            low,
            high,
            median: quantile(0.5),
            p90: quantile(0.9),
            worst_input: largest(&ratios) as u64,
            ratios,
        }
    };
    ids.filter(compared).map(of).collect()
}

/// The 95 % interval of Clopper and Pearson for a share of which `hits` of `of` were observed: its ends
/// are the shares for which so many hits, or so few, have a probability of 2.5 %.
fn interval(hits: usize, of: usize) -> [f64; 2] {
    // The probability of at least k hits, which grows with the share p.
    let at_least = |k: usize, p: f64| -> f64 {
        let mut log = of as f64 * (1.0 - p).ln();
        let mut tail = 0.0;
        for i in 0..=of {
            if i >= k {
                tail += log.exp();
            }
            log += ((of - i) as f64 / (i + 1) as f64).ln() + (p / (1.0 - p)).ln();
        }
        tail
    };
    let solve = |k: usize, probability: f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            match at_least(k, middle) < probability {
                true => low = middle,
                false => high = middle,
            }
        }
        f64::midpoint(low, high)
    };
    let low = if hits == 0 { 0.0 } else { solve(hits, 0.025) };
    let high = if hits == of { 1.0 } else { solve(hits + 1, 0.975) };
    [low, high]
}

/// The inputs in one sentence, for the record's entry about the run.
pub(super) fn in_words(sources: &[InputSource]) -> String {
    match (sources.first(), sources.last()) {
        (Some(first), Some(last)) if sources.len() > 1 => {
            format!("{} inputs, {} to {}", sources.len(), name(first), name(last))
        }
        (Some(only), _) => name(only),
        _ => String::new(),
    }
}

/// The results over all inputs, in sentences for the terminal and the report.
pub(super) fn remarks(clips: &Clips) -> Vec<String> {
    let failed: Vec<&ClipResult> =
        clips.inputs.iter().filter(|input| input.verdict == Verdict::Diverged).collect();
    let values: Vec<f64> = clips.inputs.iter().map(|input| input.worst).collect();
    let Some(worst) = clips.inputs.get(largest(&values)) else { return vec![] };
    let layer = worst.worst_layer.as_deref().unwrap_or("no layer");
    let always = clips.modules.iter().map(|module| module.low).fold(1.0, f64::min);
    let mut remarks = vec![format!(
        "{} inputs: {} without a divergence; the worst error / allowed is {:.3} at {layer} with {}",
        clips.inputs.len(),
        clips.inputs.len() - failed.len(),
        worst.worst,
        worst.input
    )];
    if failed.is_empty() {
        remarks.push(format!(
            "every layer passed with every input, so at least {:.1} % of such inputs pass (95 %, \
             Clopper-Pearson)",
            100.0 * always
        ));
    }
    let some = failed.iter().take(3).map(|input| {
        let first = input.first_divergent.as_deref().unwrap_or("an unknown layer");
        format!("{} diverges first at {first}", input.input)
    });
    remarks.extend(some);
    if failed.len() > 3 {
        remarks.push(format!("{} more inputs diverge (see the report)", failed.len() - 3));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_its_textbook_values() {
        let near = |[low, high]: [f64; 2], expected: [f64; 2]| {
            (low - expected[0]).abs() < 1e-4 && (high - expected[1]).abs() < 1e-4
        };
        assert!(near(interval(10, 100), [0.0490, 0.1762]), "{:?}", interval(10, 100));
        assert!(near(interval(8, 8), [0.6306, 1.0]), "{:?}", interval(8, 8));
        assert!(near(interval(0, 3), [0.0, 0.7076]), "{:?}", interval(0, 3));
    }

    #[test]
    fn nan_is_the_largest() {
        assert_eq!(largest(&[1.0, f64::NAN, 9.0]), 1);
        assert_eq!(largest(&[2.0, 2.0]), 0);
        assert_eq!(largest(&[]), 0);
    }

    #[test]
    fn a_number_or_a_folder() {
        assert_eq!("8".parse(), Ok(ClipSource::Seeds(8)));
        assert_eq!("videos".parse(), Ok(ClipSource::Folder("videos".into())));
        assert!("0".parse::<ClipSource>().is_err() && "1001".parse::<ClipSource>().is_err());
    }
}
