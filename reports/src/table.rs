//! The table of a record as a polars data frame, which is also written as Parquet.
//!
//! The pages and plots of a comparison are computed from this data frame, so the Parquet file holds the
//! same values as the report.

use std::path::Path;

use polars::prelude::{
    Column, DataFrame, KeyValueMetadata, NamedFrom, ParquetWriter, PolarsResult, Series,
};

use crate::error::Result;
use crate::write_atomically;
use record::{
    AblateRecord, Answer, BenchEntry, BenchRecord, DiffRecord, Errors, EvalRecord, GpuRecord,
    Layer, NullRecord, Place, Quantiles, Record, SelftestRecord, TrainRecord, Video,
};

/// A column made from a field of [`Errors`]: its name without the prefix, and how it is read.
type ErrorColumn<T> = (&'static str, fn(&Errors) -> T);

/// The floating-point columns of an [`Errors`]. The table has them twice, with the prefixes
/// `introduced_` and `inherited_`.
const FLOATS: [ErrorColumn<f64>; 6] = [
    ("rel_l2", |e| e.rel_l2),
    ("max_abs", |e| e.max_abs),
    ("max_rel", |e| e.max_rel),
    ("cosine", |e| e.cosine),
    ("ratio", |e| e.ratio),
    ("e_ref", |e| e.e_ref),
];

/// The integer columns of an [`Errors`], with the same prefixes.
const COUNTS: [ErrorColumn<u64>; 3] = [("ulp", |e| e.ulp), ("nan", |e| e.nan), ("inf", |e| e.inf)];

/// Makes the table of a record: one row for each layer, injected fault, video and engine, epoch,
/// trained network, contestant, step or group of ratios, depending on the kind of the record.
///
/// # Errors
///
/// If polars refuses the columns, which is a bug in this crate.
pub fn to_table(record: &Record) -> Result<DataFrame> {
    let table = match record {
        Record::Diff(diff) => layers_table(diff),
        Record::Selftest(selftest) => faults_table(selftest),
        Record::Eval(eval) => videos_table(eval),
        Record::Train(train) => epochs_table(train),
        Record::Ablate(ablate) => variants_table(ablate),
        Record::Bench(bench) => times_table(bench),
        Record::Gpu(gpu) => steps_table(gpu),
        Record::Null(null) => ratios_table(null),
    };
    Ok(table?)
}

/// One row for each layer, in order of execution.
pub(crate) fn layers_table(diff: &DiffRecord) -> PolarsResult<DataFrame> {
    let layers = &diff.layers;
    let mut columns = vec![
        integers("depth", 0..layers.len() as u64),
        texts("name", layers, |l| Some(&l.name)),
        texts("alias", layers, |l| l.alias.as_deref()),
        texts("kind", layers, |l| Some(l.kind.as_str())),
        texts("block", layers, |l| Some(&l.block)),
        strings("shape", layers.iter().map(|l| shape_text(&l.shape))),
        integers("params", layers.iter().map(|l| l.params)),
        integers("macs", layers.iter().map(|l| l.macs)),
        column("n", layers.iter().map(|l| l.n).collect::<Vec<_>>()),
        texts("verdict", layers, |l| Some(l.verdict.as_str())),
        texts("covered_by", layers, |l| l.covered_by.as_deref()),
        texts("note", layers, |l| l.note.as_deref()),
    ];
    columns.extend(error_columns("introduced", layers, |l| l.introduced.as_ref()));
    columns.extend(error_columns("inherited", layers, |l| l.inherited.as_ref()));
    DataFrame::new(layers.len(), columns)
}

/// One row for each injected fault.
fn faults_table(selftest: &SelftestRecord) -> PolarsResult<DataFrame> {
    let rows: Vec<(&str, &Place)> = selftest
        .faults
        .iter()
        .flat_map(|fault| fault.places.iter().map(|place| (fault.fault.as_str(), place)))
        .collect();
    let columns = vec![
        texts("fault", &rows, |(fault, _)| Some(fault)),
        texts("setting", &rows, |(_, place)| Some(&place.setting)),
        texts("module", &rows, |(_, place)| Some(&place.module)),
        column("detected", rows.iter().map(|(_, place)| place.detected).collect::<Vec<_>>()),
        texts("named", &rows, |(_, place)| place.named.as_deref()),
        texts("explanation", &rows, |(_, place)| place.explanation.as_deref()),
        column("ratio", rows.iter().map(|(_, place)| place.ratio).collect::<Vec<_>>()),
    ];
    DataFrame::new(rows.len(), columns)
}

/// One row for each video and engine, in the order of the list. No column depends on when or how fast
/// the run was made.
fn videos_table(eval: &EvalRecord) -> PolarsResult<DataFrame> {
    let unanswered = std::iter::once(None);
    let rows: Vec<(&Video, Option<(&str, &Answer)>)> = eval
        .videos
        .iter()
        .flat_map(|video| {
            let engines = eval.engines.iter().map(|score| score.engine.as_str());
            let says: Vec<_> = engines.zip(&video.says).map(Some).collect();
            let rows = if says.is_empty() { unanswered.clone().collect() } else { says };
            rows.into_iter().map(move |answer| (video, answer))
        })
        .collect();
    let answer = |of: fn(&Answer) -> f64| -> Vec<Option<f64>> {
        rows.iter().map(|(_, says)| says.map(|(_, answer)| of(answer))).collect()
    };
    let mut columns = vec![
        integers("index", rows.iter().map(|(video, _)| video.index)),
        texts("path", &rows, |(video, _)| Some(&video.path)),
        integers("label", rows.iter().map(|(video, _)| video.label)),
        integers("frames", rows.iter().map(|(video, _)| video.frames)),
        texts("error", &rows, |(video, _)| video.error.as_deref()),
        texts("warning", &rows, |(video, _)| video.warning.as_deref()),
        texts("engine", &rows, |(_, says)| says.map(|(engine, _)| engine)),
        column(
            "right",
            rows.iter().map(|(_, says)| says.map(|(_, a)| a.right)).collect::<Vec<_>>(),
        ),
        column("margin", answer(Answer::margin)),
        column("score_of_label", answer(|answer| answer.of_label)),
    ];
    for place in 0..5 {
        let top: Vec<Option<u64>> = rows
            .iter()
            .map(|(_, says)| says.and_then(|(_, answer)| answer.top.get(place).copied()))
            .collect();
        let scores: Vec<Option<f64>> = rows
            .iter()
            .map(|(_, says)| says.and_then(|(_, answer)| answer.scores.get(place).copied()))
            .collect();
        columns.push(column(&format!("class{}", place + 1), top));
        columns.push(column(&format!("score{}", place + 1), scores));
    }
    DataFrame::new(rows.len(), columns)
}

/// One row for each epoch.
fn epochs_table(train: &TrainRecord) -> PolarsResult<DataFrame> {
    let epochs = &train.epochs;
    let floats = |of: fn(&record::Epoch) -> f64| epochs.iter().map(of).collect::<Vec<_>>();
    let columns = vec![
        integers("epoch", epochs.iter().map(|e| e.epoch)),
        column("rate", floats(|e| e.rate)),
        column("loss", floats(|e| e.loss)),
        column("train", floats(|e| e.train)),
        column("val", floats(|e| e.val.share())),
    ];
    DataFrame::new(epochs.len(), columns)
}

/// One row for each contestant of each setting.
fn times_table(bench: &BenchRecord) -> PolarsResult<DataFrame> {
    let rows: Vec<_> =
        bench.settings.iter().flat_map(|s| s.entries.iter().map(move |e| (s, e))).collect();
    let float = |name: &str, read: fn(&BenchEntry) -> f64| {
        column(name, rows.iter().map(|(_, e)| read(e)).collect::<Vec<_>>())
    };
    let columns = vec![
        strings("contestant", rows.iter().map(|(_, e)| e.name.clone())),
        strings("precision", rows.iter().map(|(s, _)| s.precision.clone())),
        integers("batch", rows.iter().map(|(s, _)| s.batch)),
        integers("threads", rows.iter().map(|(s, _)| s.threads)),
        float("p50_s", |e| e.p50_s),
        float("p99_s", |e| e.p99_s),
        float("load_s", |e| e.load_s),
        float("first_s", |e| e.first_s),
        float("error", |e| e.error),
        integers("peak_bytes", rows.iter().map(|(_, e)| e.peak_bytes)),
    ];
    DataFrame::new(rows.len(), columns)
}

/// One row for each step of a check on a GPU.
fn steps_table(gpu: &GpuRecord) -> PolarsResult<DataFrame> {
    let steps = &gpu.steps;
    let columns = vec![
        texts("step", steps, |step| Some(&step.name)),
        texts("outcome", steps, |step| Some(&step.outcome)),
        column("seconds", steps.iter().map(|step| step.seconds).collect::<Vec<_>>()),
        texts("command", steps, |step| Some(&step.command)),
    ];
    DataFrame::new(steps.len(), columns)
}

/// One row for each engine, precision, kind of layer, and measure.
fn ratios_table(null: &NullRecord) -> PolarsResult<DataFrame> {
    const MEASURES: [&str; 4] =
        ["introduced_l2", "introduced_largest", "inherited_l2", "inherited_largest"];
    let groups = null.groups.iter();
    let rows: Vec<_> = groups
        .flat_map(|group| {
            MEASURES.iter().zip(&group.ratios).map(move |(name, q)| (group, *name, q))
        })
        .collect();
    let quantile = |name: &str, of: fn(&Quantiles) -> f64| {
        column(name, rows.iter().map(|(_, _, q)| of(q)).collect::<Vec<_>>())
    };
    let columns = vec![
        texts("engine", &rows, |(group, ..)| Some(&group.engine)),
        texts("precision", &rows, |(group, ..)| Some(&group.precision)),
        texts("layer", &rows, |(group, ..)| Some(&group.layer)),
        texts("measure", &rows, |(_, name, _)| Some(name)),
        integers("count", rows.iter().map(|(group, ..)| group.count)),
        quantile("median", |q| q.median),
        quantile("p99", |q| q.p99),
        quantile("p999", |q| q.p999),
        quantile("largest", |q| q.largest),
    ];
    DataFrame::new(rows.len(), columns)
}

/// One row for each variant and trained network.
fn variants_table(ablate: &AblateRecord) -> PolarsResult<DataFrame> {
    let rows: Vec<_> = ablate
        .variants
        .iter()
        .flat_map(|variant| variant.accuracy.iter().map(move |rate| (variant, rate)))
        .collect();
    let columns = vec![
        texts("variant", &rows, |(variant, _)| Some(&variant.name)),
        integers("hits", rows.iter().map(|(_, rate)| rate.hits)),
        integers("videos", rows.iter().map(|(_, rate)| rate.of)),
        column("p", rows.iter().map(|(v, _)| v.paired.as_ref().map(|p| p.p)).collect::<Vec<_>>()),
        integers("macs", rows.iter().map(|(variant, _)| variant.macs)),
    ];
    DataFrame::new(rows.len(), columns)
}

fn error_columns(prefix: &str, layers: &[Layer], of: fn(&Layer) -> Option<&Errors>) -> Vec<Column> {
    let floats = FLOATS.iter().map(|(name, read)| {
        let values: Vec<Option<f64>> = layers.iter().map(|l| of(l).map(read)).collect();
        column(&format!("{prefix}_{name}"), values)
    });
    let counts = COUNTS.iter().map(|(name, read)| {
        let values: Vec<Option<u64>> = layers.iter().map(|l| of(l).map(read)).collect();
        column(&format!("{prefix}_{name}"), values)
    });
    floats.chain(counts).collect()
}

fn column<T, Phantom: ?Sized>(name: &str, values: T) -> Column
where
    Series: NamedFrom<T, Phantom>,
{
    Series::new(name.into(), values).into()
}

fn texts<T>(name: &str, rows: &[T], of: impl Fn(&T) -> Option<&str>) -> Column {
    column(name, rows.iter().map(of).collect::<Vec<Option<&str>>>())
}

fn strings(name: &str, values: impl Iterator<Item = String>) -> Column {
    column(name, values.collect::<Vec<_>>())
}

fn integers(name: &str, values: impl Iterator<Item = u64>) -> Column {
    column(name, values.collect::<Vec<_>>())
}

fn shape_text(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ")
}

/// Writes the table of a record as Parquet. The metadata holds the kind of the record as `kind` and,
/// except for evaluations, the run (command, machine, versions, …) as JSON under `run`.
///
/// # Errors
///
/// If the table cannot be made or the file cannot be written.
pub fn write_parquet(record: &Record, path: &Path) -> Result<()> {
    let mut table = to_table(record)?;
    let run = serde_json::to_string(record.run())
        .map_err(|error| crate::ReportError::write(path, error.into()))?;
    let mut metadata = vec![("kind".to_owned(), record.kind().to_owned())];
    // Without the run, a resumed evaluation writes the same bytes as an uninterrupted one.
    if !matches!(record, Record::Eval(_)) {
        metadata.push(("run".to_owned(), run));
    }
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes)
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(metadata)))
        .finish(&mut table)?;
    write_atomically(path, &bytes)
}
