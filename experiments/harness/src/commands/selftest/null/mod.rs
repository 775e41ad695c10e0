//! `harness selftest --null N`: measures how often the tool accuses a correct engine.
//!
//! Networks, weights, clips and engines are drawn at random. Every candidate is correct and is compared as
//! `harness diff` compares it. The rate of false alarms is counted, and also predicted from the tail of the
//! error ratios.

mod draw;
mod tail;
mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use checkpoint::Weights;
use record::{NullCase, NullGroup, NullRecord, Quantiles, Record, Verdict, measure_words};
use spec::{Config, Engine, Kind, Model, Precision, Tensor};

use self::draw::{Candidate, Draw};
use self::tally::{MEASURES, Ratios, Tally};
use super::args::SelftestArgs;
use crate::engines::{self, Device};
use crate::flags::EngineName;
use crate::machine::{Sides, Started};
use crate::outcome::Outcome;
use crate::publish;
use crate::{progress, stop};
use compare::measure::BOUND;
use compare::{Comparison, Measured, Side};

/// Makes `count` comparisons, or fewer if the user stops the run; prints the distribution of the error
/// ratios, and writes the record and the report.
pub fn run(args: &SelftestArgs, count: usize) -> Result<Outcome> {
    let started = Started::now();
    let device = engines::open_device(&args.data.on)?;
    stop::gently("the record holds the comparisons so far, and the same command makes all again");
    let bar = progress::bar("comparing", count as u64);
    let (mut tally, mut alarms) = (Tally::default(), 0);
    for number in args.first_draw.. {
        if tally.comparisons() >= count || stop::asked() {
            break;
        }
        let draw = Draw::new(number, args.seed);
        tally.largest.push(vec![]);
        let mut bench = TestBench::new(&draw, args.reference, device)
            .with_context(|| format!("draw {number} of seed {}", args.seed))?;
        for candidate in draw.candidates() {
            if tally.comparisons() >= count || stop::asked() {
                break;
            }
            let case = bench.compare(&candidate, args.seed, &mut tally)?;
            if case.alarm {
                alarms += 1;
                bar.suspend(|| announce!("ALARM {}", in_words(&case)));
            }
            tally.case(case);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let verdict = match alarms {
        0 if tally.comparisons() < count => Verdict::Incomplete,
        0 => Verdict::Pass,
        _ => Verdict::Diverged,
    };
    let record = record(args, &tally, (verdict, alarms), &started);
    publish::print_result(&table(&record), &args.out);
    publish::publish(&Record::Null(Box::new(record)), &started.folder("null"), &args.out)?;
    Ok(match verdict {
        Verdict::Incomplete => Outcome::Stopped,
        _ => Outcome::of(verdict == Verdict::Pass),
    })
}

/// A draw with its comparisons, one for each precision, whose truth and comparison run are kept.
struct TestBench<'a> {
    draw: &'a Draw,
    reference: EngineName,
    device: Device,
    model: Model,
    weights: Weights,
    clip: Tensor,
    comparisons: BTreeMap<String, Comparison>,
}

impl<'a> TestBench<'a> {
    fn new(draw: &'a Draw, reference: EngineName, device: Device) -> Result<Self> {
        let model = Model::new(draw.config.clone())?;
        let weights = draw.load_weights(&model)?;
        let clip = draw.load_clip(&model)?;
        let comparisons = BTreeMap::new();
        Ok(TestBench { draw, reference, device, model, weights, clip, comparisons })
    }

    fn reference(&self, precision: Precision) -> Result<Box<dyn Engine>> {
        let model = self.model.clone();
        engines::load_reference(self.reference, model, &self.weights, precision, self.device)
    }

    fn candidate(&self, candidate: &Candidate) -> Result<Box<dyn Engine>> {
        let device = self.device.with_cpu(candidate.isa, candidate.convolution);
        let (model, weights) = (self.model.clone(), &self.weights);
        if candidate.unfold {
            return engines::libtorch::load_unfolded(
                Arc::new(model),
                weights,
                candidate.precision,
                device.torch,
            );
        }
        engines::load(candidate.engine, model, weights, candidate.precision, device)
    }

    /// Compares a candidate as `harness diff` does.
    fn compare(&mut self, drawn: &Candidate, seed: u64, tally: &mut Tally) -> Result<NullCase> {
        let precision = drawn.precision;
        let input = precision.round(self.clip.clone());
        let engine = self.candidate(drawn)?;
        let (candidate, key) = (Side::Engine(engine), precision.to_string());
        // Reuses the truth and the comparison run of the last comparison in this precision.
        let comparison = match self.comparisons.remove(&key) {
            Some(before) => Comparison { candidate, ..before },
            None => {
                let load = |precision| self.reference(precision);
                Comparison::new(self.model.clone(), candidate, input, precision, load)?
            }
        };
        let comparison = self.comparisons.entry(key.clone()).or_insert(comparison);
        let measured = comparison.measure(&|| ())?;
        let found = comparison.judge(&measured);
        let mut worst = (0.0, String::new(), MEASURES[0]);
        for (module, layer) in self.model.modules().iter().zip(&measured.layers) {
            let ratios = ratios(layer);
            let kind = if module.kind == Kind::Conv { conv(module) } else { module.kind.word() };
            tally.add(&drawn.name(), &key, kind, ratios);
            for (ratio, measure) in ratios.into_iter().zip(MEASURES) {
                if ratio > worst.0 {
                    worst = (ratio, module.name.clone(), measure);
                }
            }
        }
        let (mut ratio, module, measure) = worst;
        let alarm = found.verdict != Verdict::Pass;
        if alarm && ratio <= BOUND {
            ratio = f64::NAN;
        }
        Ok(NullCase {
            ratio,
            module,
            measure: measure.to_owned(),
            engine: drawn.name(),
            precision: key,
            alarm,
            command: self.draw.command(drawn, seed),
        })
    }
}

/// The group of a convolution, by the number of terms in its sums.
fn conv(module: &spec::Module) -> &'static str {
    let map = module.shape.iter().skip(1).product::<usize>() > 1;
    match (map, module.name.as_str()) {
        (_, "conv1") => "conv, stem",
        (false, _) => "conv, one pixel",
        (true, name) if name.contains("short_conv") => "conv 3x3",
        (true, name) if name.ends_with("glo_conv.0") || name.ends_with("glo_conv.6") => "conv 3x3",
        (true, name) if name.ends_with("glo_conv.3") => "conv 7x7",
        _ => "conv, other",
    }
}

/// The four error ratios of a module, in the order of [`MEASURES`]; NaN for what was not measured.
fn ratios(layer: &Measured) -> Ratios {
    let [[a, b], [c, d]] = layer.ratios.map(|both| both.unwrap_or([f64::NAN; 2]));
    [a, b, c, d]
}

fn record(
    args: &SelftestArgs,
    tally: &Tally,
    (verdict, alarms): (Verdict, u64),
    started: &Started,
) -> NullRecord {
    let sides = Sides {
        candidate: "correct engines, drawn at random".to_owned(),
        reference: format!("{} f64", args.reference),
        yardstick: format!("{} in the candidate's precision", args.reference),
        weights: "drawn at random".to_owned(),
        input: "drawn at random".to_owned(),
        seeds: BTreeMap::from([("draws".to_owned(), args.seed)]),
        batch: 1,
        device: args.data.on.device,
    };
    NullRecord {
        verdict,
        bound: BOUND,
        comparisons: tally.comparisons() as u64,
        draws: tally.largest.iter().filter(|draw| !draw.is_empty()).count() as u64,
        alarms,
        measurements: tally.measurements(),
        tail: tail::fit(&tally.largest, BOUND, args.seed),
        histogram: tally.histogram(),
        groups: tally.groups(),
        worst: tally.worst().to_vec(),
        run: started.finish(&Config::default(), sides),
    }
}

/// The table: for each engine the ratios of the kind of layer where they are largest.
fn table(record: &NullRecord) -> String {
    let mut text = format!(
        "{:24} {:>5} {:>9}  {}\n{:41} {}",
        "engine",
        "",
        "layers",
        "99.9 % quantile and largest ratio in the worst kind of layer:",
        "",
        MEASURES.map(|measure| format!("{:>21}", measure_words(measure))).concat()
    );
    let mut engines: BTreeMap<(&str, &str), Vec<&NullGroup>> = BTreeMap::new();
    for group in &record.groups {
        engines.entry((&group.engine, &group.precision)).or_default().push(group);
    }
    for ((engine, precision), groups) in engines {
        let layers: u64 = groups.iter().map(|group| group.count).sum();
        text += &format!("\n{engine:24} {precision:>5} {layers:>9}  ");
        for at in 0..MEASURES.len() {
            let worst = |of: fn(&Quantiles) -> f64| {
                groups.iter().map(|group| of(&group.ratios[at])).fold(0.0, f64::max)
            };
            text += &format!("{:14.2} {:6.2}", worst(|q| q.p999), worst(|q| q.largest));
        }
    }
    text += "\n\nworst comparisons";
    for case in &record.worst {
        text += &format!("\n  {}", in_words(case));
    }
    text += &format!(
        "\n\n{} false alarms in {} comparisons of correct engines ({}, {} ratios; {} or less passes)",
        record.alarms,
        record.comparisons,
        reports::count(record.draws as usize, "draw"),
        record.measurements,
        record.bound
    );
    if let Some(tail) = &record.tail {
        text += &format!(
            "\npredicted from the tail beyond {:.2}: {:.1e} false alarms per comparison (95 % \
             interval {:.1e} to {:.1e}; shape {:.2})",
            tail.threshold, tail.rate, tail.low, tail.high, tail.shape
        );
    }
    text
}

fn in_words(case: &NullCase) -> String {
    format!(
        "{:.2} {} at {} ({} {}): {}",
        case.ratio,
        measure_words(&case.measure),
        case.module,
        case.engine,
        case.precision,
        case.command
    )
}
