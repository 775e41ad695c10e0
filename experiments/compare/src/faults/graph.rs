//! The graph of a model: the expression of each module, and which module reads which.

use std::collections::HashMap;

use checkpoint::Weights;
use spec::{Kind, Model, Module, ModuleId};

use super::edit::{Change, Edit};
use super::expr::{Expr, Statistics};
use super::network::Network;

/// A model with everything that the catalogue needs to know about it.
pub struct ModelGraph<'a> {
    /// The description of the network.
    pub model: &'a Model,
    /// The expression of each module.
    pub network: Network,
    /// For each module, the modules that it reads.
    reads: Vec<Vec<ModuleId>>,
    /// For each module, the modules that read it.
    readers: Vec<Vec<ModuleId>>,
    /// For each module, the shape of its weight; empty if it has none.
    weights: Vec<&'a [usize]>,
}

impl<'a> ModelGraph<'a> {
    /// Builds the graph of a model.
    pub fn new(model: &'a Model) -> Self {
        let network = Network::new(model);
        let reads: Vec<Vec<ModuleId>> = network.exprs().map(|(_, expr)| expr.reads()).collect();
        let mut readers = vec![vec![]; reads.len()];
        for (reader, read) in reads.iter().enumerate() {
            for id in read {
                readers[id.0].push(ModuleId(reader));
            }
        }
        let shapes: HashMap<&str, &[usize]> =
            model.parameters().iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
        let weight = |m: &Module| shapes.get(weight_name(m).as_str()).copied().unwrap_or(&[]);
        let weights = model.modules().iter().map(weight).collect();
        ModelGraph { model, network, reads, readers, weights }
    }

    /// The modules that a module reads.
    pub fn reads(&self, id: ModuleId) -> &[ModuleId] {
        &self.reads[id.0]
    }

    /// The modules that read a module.
    pub fn readers(&self, id: ModuleId) -> &[ModuleId] {
        &self.readers[id.0]
    }

    /// The name of a module, such as `layer1.0.conv1`.
    pub fn name(&self, id: ModuleId) -> &str {
        &self.model.module(id).name
    }

    /// All modules of a kind, in order of execution.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'a Module> {
        self.model.modules().iter().filter(move |m| m.kind == kind)
    }

    /// The shape of a module's weight; empty if it has none.
    pub fn weight_shape(&self, module: &Module) -> &'a [usize] {
        self.weights[module.id.0]
    }

    /// The number of pixels of a module's map.
    pub fn area(&self, id: ModuleId) -> usize {
        self.model.module(id).shape.iter().skip(1).product()
    }

    /// The scale of each channel of the batch normalisation behind a module; None if something else reads the module.
    pub fn scale_behind(&self, id: ModuleId, weights: &Weights) -> Option<Vec<f64>> {
        let [reader] = self.readers(id)[..] else { return None };
        let Expr::Norm(x, name, Statistics::Running(eps)) = self.network.expr(reader) else {
            return None;
        };
        if x.reads() != [id] {
            return None;
        }
        let [weight, variance] =
            ["weight", "running_var"].map(|leaf| weights.get(&format!("{name}.{leaf}")));
        let scale = |(w, v): (&f32, &f32)| f64::from(*w) / (f64::from(*v) + eps).sqrt();
        Some(weight?.data.iter().zip(&variance?.data).map(scale).collect())
    }

    /// One edit for every module whose expression contains `from`: it computes `to` instead.
    pub fn exchange(&self, from: &Expr, to: &Expr) -> Vec<Edit> {
        let Some(read) = from.reads().first().copied() else { return vec![] };
        let exchanged =
            |id: &ModuleId| Some(Edit::Compute(*id, self.network.expr(*id).exchanged(from, to)?));
        self.readers[read.0].iter().filter_map(exchanged).collect()
    }

    /// The edit of one module that replaces `from` by `to`; None if its expression has no such part.
    pub fn exchange_in(&self, id: ModuleId, from: &Expr, to: &Expr) -> Option<Edit> {
        Some(Edit::Compute(id, self.network.expr(id).exchanged(from, to)?))
    }

    /// The operand of the outermost operation of a module; None if it does not have exactly one.
    pub fn operand(&self, id: ModuleId) -> Option<Expr> {
        match self.network.expr(id) {
            Expr::Conv(x, _)
            | Expr::Norm(x, ..)
            | Expr::Each(x, _)
            | Expr::MaxPool(x, _)
            | Expr::GlobalPool(x, _)
            | Expr::Dense(x, _) => Some((**x).clone()),
            _ => None,
        }
    }
}

/// The name of a module's weight tensor.
pub fn weight_name(module: &Module) -> String {
    format!("{}.weight", module.name)
}

/// A mistake at a place. The catalogue adds its name, which is empty here.
pub fn change(
    variant: &'static str,
    what: impl Into<String>,
    site: ModuleId,
    edits: Vec<Edit>,
) -> Change {
    Change { word: "", variant, what: what.into(), site, edits }
}
