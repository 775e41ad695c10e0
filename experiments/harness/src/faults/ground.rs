//! Where mistakes are looked for: a model, its table of expressions, and who reads what.

use std::collections::HashMap;

use spec::{Kind, Model, Module, ModuleId};

use super::edit::{Change, Edit};
use super::expr::Expr;
use super::network::Network;

/// A model with what the catalogue needs to know of it.
pub struct Ground<'a> {
    /// The model.
    pub model: &'a Model,
    /// What its modules compute.
    pub network: Network,
    /// For each module, what it reads.
    reads: Vec<Vec<ModuleId>>,
    /// For each module, who reads it.
    readers: Vec<Vec<ModuleId>>,
    /// For each module, the shape of its weight.
    weights: Vec<&'a [usize]>,
}

impl<'a> Ground<'a> {
    /// Looks at a model.
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
        Ground { model, network, reads, readers, weights }
    }

    /// What a module reads.
    pub fn reads(&self, id: ModuleId) -> &[ModuleId] {
        &self.reads[id.0]
    }

    /// Name of a module.
    pub fn name(&self, id: ModuleId) -> &str {
        &self.model.module(id).name
    }

    /// The modules of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'a Module> {
        self.model.modules().iter().filter(move |m| m.kind == kind)
    }

    /// Shape of a module's weight, empty where it has none.
    pub fn weight_shape(&self, module: &Module) -> &'a [usize] {
        self.weights[module.id.0]
    }

    /// Pixels of a module's map.
    pub fn area(&self, id: ModuleId) -> usize {
        self.model.module(id).shape.iter().skip(1).product()
    }

    /// Every module that has `from` in its expression, with `to` instead.
    pub fn exchange(&self, from: &Expr, to: &Expr) -> Vec<Edit> {
        let Some(read) = from.reads().first().copied() else { return vec![] };
        let exchanged =
            |id: &ModuleId| Some(Edit::Compute(*id, self.network.expr(*id).exchanged(from, to)?));
        self.readers[read.0].iter().filter_map(exchanged).collect()
    }

    /// One module with `from` exchanged for `to`.
    pub fn exchange_in(&self, id: ModuleId, from: &Expr, to: &Expr) -> Option<Edit> {
        Some(Edit::Compute(id, self.network.expr(id).exchanged(from, to)?))
    }

    /// What the outermost step of a module is made on.
    pub fn operand(&self, id: ModuleId) -> Option<Expr> {
        match self.network.expr(id) {
            Expr::Conv(x, _)
            | Expr::Norm(x, ..)
            | Expr::Each(x, _)
            | Expr::MaxPool(x, _)
            | Expr::Whole(x, _)
            | Expr::Dense(x, _) => Some((**x).clone()),
            _ => None,
        }
    }
}

/// Name of a module's weight.
pub fn weight_name(module: &Module) -> String {
    format!("{}.weight", module.name)
}

/// A mistake at a place; the catalogue adds its word.
pub fn change(
    variant: &'static str,
    what: impl Into<String>,
    site: ModuleId,
    edits: Vec<Edit>,
) -> Change {
    Change { word: "", variant, what: what.into(), site, edits }
}
