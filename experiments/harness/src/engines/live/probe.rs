//! What a live model shows: which module of the port is which of ours, in which order of dimensions, and
//! whether it gives the same bits every time.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use compare::dump::{MapOrder, Meaning, Order, map_order, meaning};
use serde::Deserialize;
use serde_json::json;
use spec::{Model, ModuleId, Precision, Tensor};

use super::Recipe;
use crate::engines::worker::{Worker, printable};

/// Kernels that add in another order each time change the logits by less.
const DRIFT: f64 = 0.01;

/// A module of the port that is one of ours.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Ours.
    pub id: ModuleId,
    /// Its name in the port.
    pub name: String,
}

/// What was found.
pub struct Probed {
    /// The modules that can be compared, in the order of the model.
    pub shown: Vec<Shown>,
    /// Whether maps that could be read in two ways are [N, H, W, C].
    pub channels_last: bool,
    /// The coarsest number format that the port computes in.
    pub precision: Precision,
    /// The first module whose output has another shape than the model's, and that shape.
    pub misshapen: Option<(ModuleId, Vec<usize>)>,
    /// What a reader must know, one sentence each.
    pub notes: Vec<String>,
    /// Why what is compared here does not tell what the model computes elsewhere.
    pub contradiction: Option<String>,
}

/// A module of the port in the answer of Python. There is no shape if the output is not one array.
#[derive(Deserialize)]
struct Seen {
    name: String,
    shape: Option<Vec<usize>>,
    dtype: Option<String>,
    calls: usize,
}

#[derive(Deserialize)]
struct Answer {
    modules: Vec<Seen>,
    shape: Vec<usize>,
    dtype: String,
    layout: String,
    assumed: bool,
    differs: Vec<String>,
    /// Relative L2 distance between the outputs for one clip, between which another one was run.
    drift: f64,
    /// Whether the output is that of a module, so that nothing follows the last one.
    follows: bool,
    unobserved: bool,
}

/// Lets Python run the model and matches its modules with ours.
pub fn probe(
    recipe: &Recipe<'_>,
    worker: &mut Worker,
    clip: &Tensor,
    weights_precision: &str,
) -> Result<Probed> {
    let model = recipe.model;
    let ask = json!({"kind": "probe", "layout": recipe.args.layout});
    let mut answer = Answer::deserialize(worker.ask(&ask, &[clip])?.head)?;
    // The names are printed.
    answer.modules.iter_mut().for_each(|seen| seen.name = printable(&seen.name));
    let batch = clip.shape[0];
    let meanings = meanings(recipe, &answer.modules)?;
    let mut found = matched(model, &answer.modules, &meanings);
    let arrays = found
        .iter()
        .filter_map(|(id, seen)| Some((*id, seen.shape.as_deref()?, seen.name.as_str())));
    let channels_last = map_order(model, batch, arrays) == MapOrder::Nhwc;
    let mut notes = told(&answer);
    let misfits = misfits(model, batch, channels_last, &mut found);
    check(recipe, batch, (&answer, &meanings), &found, &misfits)?;
    notes.extend(misfits.first().map(|first| match misfits.len() - 1 {
        0 => format!("{}: it is checked through the next module", first.what),
        more => format!(
            "{}, and {more} more have other shapes: they are checked through the next module",
            first.what
        ),
    }));
    let misshapen = misfits.into_iter().next().map(|first| (first.id, first.shape));
    notes.extend(unseen(&answer.modules, &meanings));
    let formats = found
        .values()
        .filter_map(|seen| Some((seen.name.as_str(), precision_of(seen.dtype.as_deref()?))));
    let of_weights = weights_precision.parse().unwrap_or(Precision::F32);
    let (precision, note) = judged(of_weights, &formats.collect::<Vec<_>>());
    notes.extend(note);
    let precision = match (precision, precision_of(&answer.dtype)) {
        (Precision::F64, Precision::F32) => {
            notes.push("the output is float32, so the float64 model is judged in f32".to_owned());
            Precision::F32
        }
        (precision, _) => precision,
    };
    let shown = found.into_iter().map(|(id, seen)| Shown { id, name: seen.name.clone() });
    let contradiction = (answer.drift > DRIFT).then(|| {
        format!(
            "after another clip, the same clip has other logits (relative L2 {:.1e}), so the model keeps something \
             from one clip to the next, or draws random numbers",
            answer.drift
        )
    });
    let shown = shown.collect();
    Ok(Probed { shown, channels_last, precision, misshapen, notes, contradiction })
}

/// What each module of the port means: what the user's map says, or else its name. A module that shows several
/// of ours is taken for the last one, since a live module is fed only once.
fn meanings(recipe: &Recipe<'_>, modules: &[Seen]) -> Result<Vec<Meaning>> {
    let meaning = |seen: &Seen| {
        let mapped = recipe.names.meanings(recipe.model, &seen.name)?;
        let last = mapped.and_then(|all| all.into_iter().max_by_key(|meaning| meaning.module()));
        Ok(last.unwrap_or_else(|| meaning(recipe.model, &seen.name)))
    };
    modules.iter().map(meaning).collect()
}

/// The port's modules by ours. The output of a container is that of its last member, where the port has no
/// module for that member itself.
fn matched<'a>(
    model: &Model,
    modules: &'a [Seen],
    meanings: &[Meaning],
) -> BTreeMap<ModuleId, &'a Seen> {
    let mut found: BTreeMap<ModuleId, &Seen> = BTreeMap::new();
    for exact in [true, false] {
        let once = |seen: &Seen| seen.calls == 1 && seen.shape.is_some();
        for (seen, meaning) in modules.iter().zip(meanings).filter(|(seen, _)| once(seen)) {
            let id = match (meaning, exact) {
                (Meaning::Module(id), true) | (Meaning::Container(id), false) => *id,
                _ => continue,
            };
            // The output is shown as the model returns it, with all that follows its last module.
            if id != model.input && id != model.output() {
                found.entry(id).or_insert(seen);
            }
        }
    }
    found
}

/// A module whose output has another shape than ours.
struct Misfit {
    id: ModuleId,
    shape: Vec<usize>,
    what: String,
}

/// Removes the modules whose outputs have another shape than ours, and says so of each.
fn misfits(
    model: &Model,
    batch: usize,
    channels_last: bool,
    found: &mut BTreeMap<ModuleId, &Seen>,
) -> Vec<Misfit> {
    let mut misfits = vec![];
    found.retain(|id, seen| {
        let expected = model.module(*id).batch_shape(batch);
        let shape = seen.shape.as_deref().unwrap_or_default();
        let fits = Order::detect(shape, &expected, channels_last).is_some();
        if !fits {
            let what = format!("{} gives the shape {shape:?}, expected {expected:?}", seen.name);
            misfits.push(Misfit { id: *id, shape: shape.to_vec(), what });
        }
        fits
    });
    misfits
}

/// Fails if the port is another model, or shows no module.
fn check(
    recipe: &Recipe<'_>,
    batch: usize,
    (answer, meanings): (&Answer, &[Meaning]),
    found: &BTreeMap<ModuleId, &Seen>,
    misfits: &[Misfit],
) -> Result<()> {
    let (name, model) = (recipe.name, recipe.model);
    let expected = model.module(model.output()).batch_shape(batch);
    let fits = Order::detect(&answer.shape, &expected, false).is_some();
    if !fits || misfits.len() > found.len() {
        let output = format!("the output has the shape {:?}, expected {expected:?}", answer.shape);
        let first = misfits.first().filter(|_| fits || misfits.len() > 1);
        let first = first.map_or(&output, |first| &first.what);
        bail!(
            "{name}: {first} (modules with shapes of another model: {}): check --depth, --width, --frames, \
             --size, --classes and --kwargs",
            misfits.len()
        );
    }
    if !found.is_empty() {
        return Ok(());
    }
    let Some(first) = answer.modules.first() else {
        bail!(
            "{name}: the model returned an output, but ran none of its modules, so no layer can be observed; give a \
             model that is not traced, and make sure that it does not return a stored output"
        );
    };
    if first.name.starts_with("_orig_mod") {
        bail!(
            "{name}: the model is compiled (torch.compile), so its modules cannot be observed; give the model before it \
             is compiled"
        );
    }
    let known = answer.modules.iter().zip(meanings);
    let known = known.filter(|(_, meaning)| matches!(meaning, Meaning::Module(_)));
    if let Some((seen, _)) = known.into_iter().find(|(seen, _)| seen.calls > 1) {
        bail!(
            "{name}: {} and the other modules run {} times for one clip, so that none of them has a single output; \
             give a function that makes a model which runs once (without flips or several crops)",
            seen.name,
            seen.calls
        );
    }
    bail!(
        "{name}: none of the {} modules that the model ran has a name that is known (first: {}); \
         --suggest-map matches them by their values, or name them as `harness info` does",
        answer.modules.len(),
        first.name
    );
}

/// What the runs of the probe showed.
fn told(answer: &Answer) -> Vec<String> {
    let mut notes = vec![];
    if !answer.follows {
        notes.push(
            "the model returns another array than any of its modules: what follows the last one is compared as a part \
             of it"
                .to_owned(),
        );
    }
    if answer.assumed {
        notes.push(format!(
            "the clip was given as {} (--layout names another layout)",
            answer.layout
        ));
    }
    match answer.differs.first() {
        Some(name) => notes.push(format!(
            "not deterministic: two runs on the same clip, with another one in between, gave other bits, first in {}",
            printable(name)
        )),
        None if !answer.unobserved => notes.push(
            "observed and not observed, the model gave other bits; what is compared is the observed run"
                .to_owned(),
        ),
        None => notes.push("two runs of the candidate gave the same bits".to_owned()),
    }
    notes
}

/// What is said of the modules of ours that have no single output: because they run several times, or because
/// what they return is not one array, as within `jit` or `remat`.
fn unseen(modules: &[Seen], meanings: &[Meaning]) -> Vec<String> {
    let known = modules.iter().zip(meanings).filter(|(_, m)| matches!(m, Meaning::Module(_)));
    let known: Vec<&Seen> = known.map(|(seen, _)| seen).collect();
    type Test = fn(&Seen) -> bool;
    let kinds: [(&str, Test); 2] = [
        ("run several times", |seen| seen.calls > 1),
        ("do not return one array that can be read", |seen| {
            seen.calls == 1 && seen.shape.is_none()
        }),
    ];
    let said = kinds.into_iter().filter_map(|(what, is)| {
        let found: Vec<&&Seen> = known.iter().filter(|seen| is(seen)).collect();
        let first = &found.first()?.name;
        let count = found.len();
        Some(format!(
            "{count} known modules {what} (first: {first}): they are checked through the next one"
        ))
    });
    said.collect()
}

fn precision_of(dtype: &str) -> Precision {
    match dtype {
        "float64" => Precision::F64,
        "bfloat16" => Precision::Bf16,
        "float16" => Precision::F16,
        _ => Precision::F32,
    }
}

/// The precision in which a model is judged, from the format of its weights and from those that its modules give,
/// and what has to be said of the others. A half format counts if at least half of the modules have it: one module
/// that rounds to it must not widen what all others are allowed.
fn judged(of_weights: Precision, modules: &[(&str, Precision)]) -> (Precision, Option<String>) {
    let is_half = |p: &Precision| matches!(p, Precision::Bf16 | Precision::F16);
    let halves: Vec<_> = modules.iter().filter(|(_, format)| is_half(format)).collect();
    let coarsest = |all: &mut dyn Iterator<Item = Precision>| {
        all.max_by(|a, b| a.epsilon().total_cmp(&b.epsilon()))
    };
    if modules.is_empty() {
        return (of_weights, None);
    }
    if 2 * halves.len() >= modules.len() {
        let precision = coarsest(&mut halves.iter().map(|(_, format)| *format));
        return (precision.unwrap_or(of_weights), None);
    }
    let own = (!is_half(&of_weights)).then_some(of_weights);
    let others = modules.iter().map(|(_, format)| *format).filter(|format| !is_half(format));
    let precision = coarsest(&mut others.chain(own)).unwrap_or(Precision::F32);
    let note = match (halves.first(), is_half(&of_weights)) {
        (Some((name, format)), _) => Some(format!(
            "{} of {} modules give {format}, the first is {name}; the model is judged in {precision}, as the \
             others compute (--precision {format} judges all in {format})",
            halves.len(),
            modules.len()
        )),
        (None, true) => Some(format!(
            "the weights are kept in {of_weights}, but the modules give {precision}, in which they are judged \
             (--precision {of_weights} allows the rounding of the weights, too)"
        )),
        (None, false) => None,
    };
    (precision, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_module_in_half_precision_does_not_decide_how_the_others_are_judged() {
        use Precision::{Bf16, F16, F32, F64, Tf32};
        let of = |weights, formats: &[Precision]| {
            let modules: Vec<_> = formats.iter().map(|format| ("m", *format)).collect();
            let (precision, note) = judged(weights, &modules);
            (precision, note.is_some())
        };
        assert_eq!(of(F32, &[F32, F32, Bf16]), (F32, true));
        assert_eq!(of(F32, &[F32, Bf16, Bf16]), (Bf16, false), "mixed precision");
        assert_eq!(of(F16, &[F16, F16, F32]), (F16, false));
        assert_eq!(of(F16, &[F32, F32]), (F32, true));
        assert_eq!(of(Tf32, &[F32, F32]), (Tf32, false));
        assert_eq!(of(F64, &[F64, F64]), (F64, false));
        assert_eq!(of(F64, &[F64, F32]), (F32, false));
        assert_eq!(of(Bf16, &[]), (Bf16, false), "nothing is known but the weights");
    }
}
