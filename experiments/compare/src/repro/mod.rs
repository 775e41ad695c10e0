//! The smallest reproduction of a divergence: one layer with its inputs, weights and outputs, and a
//! program in plain numpy that computes the layer and shows the difference.
//!
//! If modules before the culprit were not compared, the program computes them as well, so that its
//! inputs are values that the candidate has.

mod numpy;

use std::collections::HashMap;

use anyhow::{Result, bail};
use checkpoint::Weights;
use spec::{ModuleId, Tensor};

use crate::explain::walk;
use crate::faults::{Map, ModelGraph};
use crate::measure::{BOUND, Budget};
use crate::{Comparison, Measurements};
use numpy::{Python, output};

/// A reproduction: the files of its folder.
#[derive(Debug)]
pub struct Reproduction {
    /// Arrays by their paths in the folder, such as `inputs/conv1.npy`.
    pub arrays: Vec<(String, Tensor)>,
    /// The program `check.py`.
    pub check: String,
}

/// Makes the reproduction of the divergence at the module `at`.
///
/// # Errors
///
/// If the module's own error was not measured, or if an engine fails.
pub fn reproduce(
    comparison: &mut Comparison,
    weights: &Weights,
    measured: &Measurements,
    at: ModuleId,
) -> Result<Reproduction> {
    let model = comparison.model.clone();
    let name = &model.module(at).name;
    let Some(budget) = measured.layers[at.0].budget else {
        bail!("--repro: the own error of {name} was not measured, so there is nothing to show");
    };
    let graph = ModelGraph::new(&model);
    let shows = comparison.shown(measured);
    let (inputs, inner) = span(&graph, at, &shows);
    let until: HashMap<ModuleId, ModuleId> = inputs.iter().map(|id| (*id, at)).collect();
    let shown = |id: ModuleId| shows[id.0];
    let (mut arrays, mut after_relu) = (vec![], false);
    walk(comparison, &mut [], false, at, &shown, &until, |id, seen, kept| {
        let (true, Some(candidate)) = (id == at, seen.candidate) else { return };
        after_relu = seen.after_relu;
        arrays.push(("candidate.npy".to_owned(), candidate.clone()));
        arrays.push(("expected.npy".to_owned(), seen.truth.clone()));
        let input = |id: &ModuleId| {
            let map: &Map = kept.get(id)?;
            let path = format!("inputs/{}.npy", model.module(*id).name);
            Some((path, Tensor::f64(map.shape.to_vec(), map.data.clone())))
        };
        arrays.extend(inputs.iter().filter_map(input));
    })?;
    if arrays.len() != inputs.len() + 2 {
        bail!(
            "--repro: {name} or one of its inputs has no value in this run; compare its inputs, too"
        );
    }
    let mut python = Python::default();
    let mut lines = vec![];
    for id in inner.iter().chain([&at]) {
        let Some(text) = python.expression(&model, graph.network.expr(*id)) else {
            bail!("--repro: {} has no formula in numpy", model.module(*id).name);
        };
        lines.push(format!("{} = {text}", output(&model, *id)));
    }
    let own = output(&model, at);
    if after_relu {
        // The array was recorded after the ReLU that follows.
        let rectified = python.call("relu", std::slice::from_ref(&own));
        lines.push(format!("{own} = {rectified}"));
    }
    for tensor in &python.weights {
        let Some(param) = weights.get(tensor) else { continue };
        let values = Tensor::f64(param.shape.clone(), param.to_f64());
        arrays.push((format!("weights/{tensor}.npy"), values));
    }
    let check = program(name, &own, &python, &lines, &budget);
    Ok(Reproduction { arrays, check })
}

/// The modules from whose values a module is computed: those that the candidate shows, and between them
/// and the module those that it does not.
fn span(graph: &ModelGraph, at: ModuleId, shows: &[bool]) -> (Vec<ModuleId>, Vec<ModuleId>) {
    let (mut inputs, mut inner) = (vec![], vec![]);
    let mut queue = graph.reads(at).to_vec();
    while let Some(id) = queue.pop() {
        // The clip is computed from nothing, so it is an input whether it is shown or not.
        let given = shows[id.0] || id == graph.model.input;
        let list = if given { &mut inputs } else { &mut inner };
        if !list.contains(&id) {
            list.push(id);
            if !given {
                queue.extend(graph.reads(id));
            }
        }
    }
    inputs.sort();
    inner.sort();
    (inputs, inner)
}

/// The program `check.py`.
fn program(name: &str, own: &str, python: &Python, lines: &[String], budget: &Budget) -> String {
    let [rms, largest] = budget.granted().map(|granted| granted * BOUND);
    format!(
        r#""""The smallest reproduction of a divergence at {name}, written by harness diff --repro.

Computes the layer in float64 from inputs/ and weights/ and compares candidate.npy with it. To mend: let your
layer run on inputs/*.npy [N, C, H, W], save its output as candidate.npy, and run this program again.
Exit code 0: the difference is that of rounding. 1: it is larger. 2: the float64 output is not reproduced.
"""

import sys
from pathlib import Path

try:
    import numpy as np
except ImportError:
    sys.exit(print("check.py needs numpy: python3 -m pip install numpy", file=sys.stderr) or 2)

HERE = Path(__file__).resolve().parent
RMS, LARGEST = {rms:.6e}, {largest:.6e}  # the errors that rounding explains, times {BOUND}


def load(path):
    return np.load(HERE / path).astype(np.float64)


def weight(name):
    return load(f"weights/{{name}}.npy")
{definitions}

of = {{path.name[:-4]: load(path) for path in (HERE / "inputs").glob("*.npy")}}
{lines}
expected, candidate = load("expected.npy"), load("candidate.npy")
value = {own}.reshape(expected.shape)
if not np.linalg.norm(value - expected) <= 1e-12 * np.linalg.norm(expected):
    sys.exit(print("the float64 output is not reproduced") or 2)
error = candidate.reshape(expected.shape) - value
rms, largest = np.sqrt(np.mean(error**2)), np.max(np.abs(error))
passed = bool(rms <= RMS and largest <= LARGEST)  # NaN is not
print(f"{name}: rms error {{rms:.2e}} (up to {{RMS:.2e}}), largest {{largest:.2e}} (up to {{LARGEST:.2e}})")
print("passed" if passed else "DIVERGED")
sys.exit(0 if passed else 1)
"#,
        definitions = python.definitions(),
        lines = lines.join("\n"),
    )
}
