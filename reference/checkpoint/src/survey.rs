//! Matches the tensors of a checkpoint with those of a model. Loading and inspecting both use this, so
//! that they cannot disagree.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use spec::ParamSpec;

use super::Param;
use super::error::{Failure, counted, first_three, quoted};
use super::format::{Format, detect};
use super::inspect::{Verdict, not_weights};
use super::names::{self, Naming};
use super::provenance::Provenance;
use super::read::Checkpoint;
use super::read::choose::Wanted;
use super::tensor::{Number, RawTensor};

/// Prefixes of the names of tensors that trainers store in addition to the weights. The statistics for
/// normalising clips (`data_preprocessor`) are ignored too, because the evaluation protocol fixes them.
const TRAINER_STATE: [&str; 12] = [
    "optimizer.",
    "opt_state",
    "optim.",
    "moments.",
    "moment1.",
    "moment2.",
    "accum.",
    "learning_rate",
    "global_step",
    "step_num",
    "epoch_num",
    "data_preprocessor.",
];

/// The tensors of the classifier, which a backbone does not have.
const HEAD: [&str; 2] = ["fc.weight", "fc.bias"];

/// One tensor of the file.
pub(super) struct Entry<'a> {
    pub(super) raw: RawTensor<'a>,
    /// The official name; `None` for a tensor that no forward pass reads.
    pub(super) canonical: Option<String>,
    /// The verdict from name, shape and format only; the values have not been read.
    pub(super) verdict: Verdict,
}

/// The comparison of a checkpoint with a model.
pub(super) struct Survey<'a, 's> {
    pub(super) checkpoint: Checkpoint<'a>,
    pub(super) format: Format,
    pub(super) naming: Naming,
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) missing: Vec<&'s ParamSpec>,
    pub(super) has_head: bool,
    needed: usize,
}

impl<'a, 's> Survey<'a, 's> {
    pub(super) fn new(
        bytes: &'a [u8],
        format: Option<Format>,
        wanted: &Wanted<'s>,
    ) -> Result<Self, Failure> {
        let specs = wanted.specs;
        let format = format.map_or_else(|| detect(bytes), Ok)?;
        let mut checkpoint = Checkpoint::read(bytes, format, wanted)?;
        let tensors = std::mem::take(&mut checkpoint.tensors);
        let naming = names::naming(tensors.iter().map(|raw| raw.name.as_str()));
        let shapes: HashMap<&str, &ParamSpec> =
            specs.iter().map(|spec| (spec.name.as_str(), spec)).collect();
        let mut found: HashMap<String, String> = HashMap::new();
        let mut entries: Vec<_> =
            tensors.into_iter().map(|raw| Entry::new(raw, &shapes, &mut found)).collect();
        settle_duplicates(&checkpoint, &mut entries, specs.len());
        let has_head = HEAD.iter().any(|name| found.contains_key(*name));
        let is_missing = |spec: &&ParamSpec| {
            let excused = !has_head && HEAD.contains(&spec.name.as_str());
            !excused && !found.contains_key(&spec.name)
        };
        let missing = specs.iter().filter(is_missing).collect();
        let needed = specs.len();
        Ok(Survey { checkpoint, format, naming, entries, missing, has_head, needed })
    }

    /// Reads the values of a tensor and checks that a network can compute with them.
    pub(super) fn check_values(&self, entry: &Entry<'a>) -> Verdict {
        match self.checkpoint.values(&entry.raw) {
            Err(failure) => Verdict::Unreadable { why: failure.what().to_owned() },
            Ok(values) => usable(&values.to_f32(), entry.canonical.as_deref()),
        }
    }

    /// Loads the tensors that the model uses, or returns the first problem.
    pub(super) fn load(&self) -> Result<BTreeMap<String, Arc<Param>>, Failure> {
        let elsewhere = |verdict: &Verdict| matches!(verdict, Verdict::Unknown | Verdict::Ignored);
        if self.entries.iter().all(|entry| elsewhere(&entry.verdict)) {
            return Err(self.no_match());
        }
        let wrong = |verdict: &Verdict| !verdict.is_fine() && *verdict != Verdict::Unknown;
        if let Some(entry) = self.entries.iter().find(|entry| wrong(&entry.verdict)) {
            let others = self.entries.iter().filter(|entry| wrong(&entry.verdict)).count() - 1;
            return Err(failure(&entry.raw, &entry.verdict, others));
        }
        if let [first, rest @ ..] = self.missing.as_slice() {
            return Err(self.incomplete(first, rest.len()));
        }
        self.refuse_unknown()?;
        let used = self.entries.iter().filter(|entry| entry.verdict == Verdict::Used);
        used.map(|entry| self.param(entry)).collect()
    }

    /// The provenance of the weights that were loaded.
    pub(super) fn provenance(&self, file: &str, bytes: &[u8]) -> Provenance {
        let mut dtypes = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.verdict == Verdict::Used) {
            *dtypes.entry(entry.raw.number.name().to_owned()).or_default() += 1;
        }
        let left_out =
            |verdict: &Verdict| matches!(verdict, Verdict::Ignored | Verdict::Same { .. });
        let ignored = self.entries.iter().filter(|entry| left_out(&entry.verdict));
        Provenance {
            source: file.to_owned(),
            format: Some(self.format),
            sha256: Some(files::sha256(bytes)),
            naming: Some(self.naming),
            section: self.checkpoint.section.clone(),
            passed_over: self.checkpoint.others.clone(),
            dtypes,
            ignored: ignored.count(),
        }
    }

    fn param(&self, entry: &Entry<'a>) -> Result<(String, Arc<Param>), Failure> {
        let param = Param::of(entry.raw.canonical_shape(), self.checkpoint.values(&entry.raw)?);
        match usable(&param.data, entry.canonical.as_deref()) {
            Verdict::Used => {}
            verdict => return Err(failure(&entry.raw, &verdict, 0)),
        }
        let name = entry.canonical.clone().unwrap_or_default();
        Ok((name, Arc::new(param)))
    }

    fn incomplete(&self, first: &ParamSpec, others: usize) -> Failure {
        let more = match others {
            0 => String::new(),
            n => format!(", and so are {n} more of the {} that the model has", self.needed),
        };
        let statistics = |spec: &&ParamSpec| spec.name.contains(".running_");
        let advice = match self.missing.iter().all(statistics) {
            true => {
                "batch normalisation needs its statistics: save the whole state dict with its buffers"
            }
            false => {
                "check --depth, --width, --frames and --pos-dim against the checkpoint, or save it again"
            }
        };
        let shape = &first.shape;
        Failure::new(format!("of shape {shape:?} is missing{more}{}", self.unknown_hint()), advice)
            .in_tensor(&first.name)
    }

    /// A hint for missing tensors: the names of unknown tensors, which may be the same under other names.
    fn unknown_hint(&self) -> String {
        let unknown = self.unknown();
        match unknown.len() {
            0 => String::new(),
            n => format!(
                " (the file has {} that the model does not know: {})",
                counted(n, "tensor"),
                first_three(unknown)
            ),
        }
    }

    fn refuse_unknown(&self) -> Result<(), Failure> {
        let unknown = self.unknown();
        match unknown.len() {
            0 => Ok(()),
            n => Err(Failure::new(
                format!(
                    "the file has {} that the model does not know: {}",
                    counted(n, "tensor"),
                    first_three(unknown)
                ),
                "check --depth and the other model flags against the checkpoint, or remove them",
            )),
        }
    }

    fn no_match(&self) -> Failure {
        let names = self.entries.iter().map(|entry| entry.raw.name.as_str());
        let count = counted(self.entries.len(), "tensor");
        Failure::new(
            format!("none of its {count} ({}) fits this model", first_three(names)),
            "check that this is a checkpoint of SqueezeTime and that the model flags are right",
        )
    }

    fn unknown(&self) -> Vec<&str> {
        let unknown = self.entries.iter().filter(|entry| entry.verdict == Verdict::Unknown);
        unknown.map(|entry| entry.raw.name.as_str()).collect()
    }
}

impl<'a> Entry<'a> {
    fn new(
        raw: RawTensor<'a>,
        specs: &HashMap<&str, &ParamSpec>,
        found: &mut HashMap<String, String>,
    ) -> Self {
        let canonical = raw.canonical();
        let verdict = match &canonical {
            None => Verdict::Ignored,
            Some(name) => match specs.get(name.as_str()) {
                None if is_counter(&raw) => Verdict::Ignored,
                None => unclaimed(name),
                Some(spec) => known(&raw, spec, found),
            },
        };
        Entry { raw, canonical, verdict }
    }
}

/// The error for a verdict; `others` is the number of other tensors that are wrong too.
fn failure(raw: &RawTensor<'_>, verdict: &Verdict, others: usize) -> Failure {
    let more = match others {
        0 => String::new(),
        1 => " (1 more is wrong too; `harness weights inspect` lists it)".to_owned(),
        n => format!(" ({n} more are wrong too; `harness weights inspect` lists them)"),
    };
    let advice = match verdict {
        Verdict::WrongShape { .. } => {
            "use the model flags with which the checkpoint was trained \
             (--depth, --width, --frames, --classes, --pos-dim)"
        }
        Verdict::NotFloat { dtype } => not_weights(dtype).1,
        Verdict::Duplicate { .. } => "save one of the two",
        Verdict::NotFinite { .. } => "use a checkpoint from before the training diverged",
        Verdict::NegativeVariance { .. } => {
            "its square root is NaN: another tensor may have been saved under this name"
        }
        _ => "get the file again",
    };
    let what = match verdict {
        Verdict::WrongShape { expected } => {
            format!("has the shape {:?}, expected {expected:?}", raw.canonical_shape())
        }
        other => other.to_string(),
    };
    Failure::new(format!("{what}{more}"), advice).in_tensor(&raw.name)
}

/// The verdict for a tensor that the model does not have.
fn unclaimed(name: &str) -> Verdict {
    let trainer_state = TRAINER_STATE.iter().any(|start| name.starts_with(start));
    match trainer_state || HEAD.contains(&name) {
        true => Verdict::Ignored,
        false => Verdict::Unknown,
    }
}

/// The verdict for a tensor that the model has.
fn known(raw: &RawTensor<'_>, spec: &ParamSpec, found: &mut HashMap<String, String>) -> Verdict {
    if let Some(of) = found.get(&spec.name) {
        return Verdict::Duplicate { of: of.clone() };
    }
    found.insert(spec.name.clone(), raw.name.clone());
    if raw.float().is_err() {
        return Verdict::NotFloat { dtype: quoted(raw.number.name()) };
    }
    match raw.canonical_shape() == spec.shape {
        true => Verdict::Used,
        false => Verdict::WrongShape { expected: spec.shape.clone() },
    }
}

/// Whether a tensor is a counter (`n_averaged`, `steps`) or a note (`best_acc1`) that programs store in
/// addition to the weights: a single integer, or a scalar whose name has no dots. The network has no
/// such tensor.
fn is_counter(raw: &RawTensor<'_>) -> bool {
    let one = raw.view.shape.iter().all(|&extent| extent == 1);
    let scalar = raw.view.shape.is_empty() && !raw.name.contains(['.', '/']);
    match &raw.number {
        Number::Known(dtype, _) => one && dtype.is_whole() || scalar && dtype.is_float(),
        Number::Other(_) => false,
    }
}

/// Accepts two names for one tensor of the model if their values are the same. At most `most` pairs are
/// compared, because a small file may refer to one large tensor many times.
fn settle_duplicates<'a>(checkpoint: &Checkpoint<'a>, entries: &mut [Entry<'a>], most: usize) {
    let mut looked_at = 0;
    for at in 0..entries.len() {
        let Verdict::Duplicate { of } = &entries[at].verdict else { continue };
        looked_at += 1;
        if looked_at > most {
            return;
        }
        let Some(first) = entries[..at].iter().find(|entry| entry.raw.name == *of) else {
            continue;
        };
        if first.verdict != Verdict::Used {
            continue;
        }
        let (first, second) = (&first.raw, &entries[at].raw);
        let bits = |raw: &RawTensor<'a>| {
            let values = checkpoint.values(raw).ok()?.to_f64();
            Some(values.into_iter().map(f64::to_bits).collect::<Vec<_>>())
        };
        let same = first.canonical_shape() == second.canonical_shape()
            && bits(first).is_some_and(|first| Some(first) == bits(second));
        if same {
            entries[at].verdict = Verdict::Same { of: of.clone() };
        }
    }
}

/// The eps of a batch normalisation, which is added to a variance before its square root.
const EPS: f32 = 1e-5;

/// Whether a network can compute with the values of a tensor that has this name in the model.
fn usable(values: &[f32], name: Option<&str>) -> Verdict {
    let negative = |x: &f32| *x <= -EPS;
    if name.is_some_and(|name| name.ends_with(".running_var"))
        && let Some(index) = values.iter().position(|x| negative(x) && x.is_finite())
    {
        let count = values.iter().filter(|x| negative(x)).count();
        return Verdict::NegativeVariance { index, value: values[index].to_string(), count };
    }
    finite(values)
}

fn finite(values: &[f32]) -> Verdict {
    let Some(index) = values.iter().position(|x| !x.is_finite()) else {
        return Verdict::Used;
    };
    let count = values.iter().filter(|x| !x.is_finite()).count();
    Verdict::NotFinite { index, value: values[index].to_string(), count }
}
