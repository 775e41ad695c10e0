//! The flat list of everything in a network that can be observed and compared.

use std::collections::BTreeSet;

use thiserror::Error;

/// Index of a module in [`crate::Model::modules`], which is in order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub usize);

/// What a module computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The clip as the network gets it.
    Input,
    /// Convolution, with or without bias.
    Conv,
    /// Batch normalisation with running statistics.
    BatchNorm,
    /// max(x, 0).
    Relu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// Max-pool or mean over the map.
    Pool,
    /// The positional embedding, resized to the map.
    PosEmbed,
    /// Inter-temporal object interaction: short convolution times the global gate.
    SpatialConv,
    /// A channel-time learning block, TFC + IOI.
    Ctl,
    /// A residual block, after its ReLU.
    Block,
    /// The classifier.
    Linear,
}

impl Kind {
    /// The word used in tables and records.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Conv => "conv",
            Kind::BatchNorm => "bn",
            Kind::Relu => "relu",
            Kind::Sigmoid => "sigmoid",
            Kind::Pool => "pool",
            Kind::PosEmbed => "pos_embed",
            Kind::SpatialConv => "spatial_conv",
            Kind::Ctl => "ctl",
            Kind::Block => "block",
            Kind::Linear => "linear",
        }
    }

    /// Whether the module holds parameters of its own that can be wrong (a resized embedding
    /// counts with the convolution that reads it).
    pub fn has_weights(self) -> bool {
        matches!(self, Kind::Conv | Kind::BatchNorm | Kind::Linear)
    }
}

/// One module: a place where implementations are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// Its place in the order of execution.
    pub id: ModuleId,
    /// The PyTorch module path without `backbone.net.`; the head is `fc`.
    pub name: String,
    /// `ctl3` for the third channel-time learning block.
    pub alias: Option<String>,
    /// What it computes.
    pub kind: Kind,
    /// `stem`, `layer1.0` or `head`.
    pub block: String,
    /// Output shape without the batch: [C, H, W], or [C].
    pub shape: Vec<usize>,
    /// Whether the output has a batch dimension (the positional embedding has one of 1).
    pub batched: bool,
    /// Learned values in this module itself (BN: weight and bias; its running statistics are not
    /// learned).
    pub params: u64,
    /// Multiply-accumulates per clip in this module itself.
    pub macs: u64,
    /// Length of the sums that make one output value, 1 for element-wise modules.
    pub reduction: usize,
}

impl Module {
    /// The output shape for a batch of n clips.
    pub fn batch_shape(&self, n: usize) -> Vec<usize> {
        let batch = if self.batched { n } else { 1 };
        std::iter::once(batch).chain(self.shape.iter().copied()).collect()
    }
}

/// A set of modules chosen by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection(BTreeSet<ModuleId>);

/// A name that no module has.
#[derive(Debug, Error, PartialEq)]
#[error("no layer is called `{name}`; {}", suggest(.nearest))]
pub struct SelectionError {
    /// The name.
    pub name: String,
    /// The names most like it.
    pub nearest: Vec<String>,
}

fn suggest(nearest: &[String]) -> String {
    match nearest {
        [] => "`harness info` lists them all".to_owned(),
        names => format!("did you mean {}? (`harness info` lists them all)", names.join(", ")),
    }
}

impl Selection {
    /// Every module.
    pub fn all(modules: &[Module]) -> Self {
        Selection(modules.iter().map(|m| m.id).collect())
    }

    /// Modules by name, prefix (`layer1` is everything below it) or alias (`ctl3`).
    pub fn by_names<'a>(
        modules: &[Module],
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, SelectionError> {
        let mut chosen = BTreeSet::new();
        for name in names {
            let name = name.trim();
            let found = matching(modules, name);
            if found.is_empty() {
                return Err(SelectionError {
                    name: name.to_owned(),
                    nearest: nearest(modules, name),
                });
            }
            chosen.extend(found);
        }
        Ok(Selection(chosen))
    }

    /// Whether a module is in the set.
    pub fn contains(&self, id: ModuleId) -> bool {
        self.0.contains(&id)
    }

    /// The last module of the set in order of execution.
    pub fn last(&self) -> Option<ModuleId> {
        self.0.last().copied()
    }

    /// How many modules are in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn matching(modules: &[Module], name: &str) -> Vec<ModuleId> {
    let bare = crate::weights::names::canonical_module(name);
    let aliased = modules.iter().find(|m| m.alias.as_deref() == Some(name));
    let root = aliased.map_or(bare.as_str(), |m| m.name.as_str());
    // `logits` is what dumps call the output of the head, `stem` and `head` are blocks.
    let root = if root == "logits" { "fc" } else { root };
    let below = format!("{root}.");
    let hit = |m: &&Module| m.name == root || m.name.starts_with(&below) || m.block == root;
    modules.iter().filter(hit).map(|m| m.id).collect()
}

fn nearest(modules: &[Module], name: &str) -> Vec<String> {
    let prefixes = modules.iter().flat_map(|m| {
        let cuts = m.name.match_indices('.').map(|(at, _)| m.name[..at].to_owned());
        cuts.chain([m.name.clone()]).chain(m.alias.clone())
    });
    let unique: BTreeSet<String> = prefixes.collect();
    let mut scored: Vec<(usize, String)> =
        unique.into_iter().map(|n| (strsim::damerau_levenshtein(&n, name), n)).collect();
    scored.sort();
    let limit = 2 + name.len() / 3;
    scored.into_iter().take_while(|(d, _)| *d <= limit).take(3).map(|(_, n)| n).collect()
}
