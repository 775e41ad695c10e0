//! The flat list of everything in a network that can be observed and compared.

use std::collections::BTreeSet;

use thiserror::Error;

/// Index of a module in [`crate::Model::modules`], which is in order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub usize);

/// What a module computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The clips, as the network gets them.
    Input,
    /// A convolution, with or without bias.
    Conv,
    /// A batch normalisation with running statistics.
    BatchNorm,
    /// A ReLU, max(x, 0).
    Relu,
    /// A sigmoid, 1 / (1 + exp(-x)).
    Sigmoid,
    /// A max-pool, or a mean over the map.
    Pool,
    /// A positional embedding, resized to the map.
    PosEmbed,
    /// Inter-temporal object interaction: the short branch times the global branch.
    SpatialConv,
    /// A channel-time learning block, TFC + IOI.
    Ctl,
    /// A residual block, after its ReLU.
    Block,
    /// The classifier, a linear layer.
    Linear,
}

impl Kind {
    /// The word for this kind in tables and records.
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

    /// Whether modules of this kind have parameters of their own that can be wrong. An embedding does
    /// not: its values count with the convolution that reads them.
    pub fn has_weights(self) -> bool {
        matches!(self, Kind::Conv | Kind::BatchNorm | Kind::Linear)
    }
}

/// One module, whose output can be observed and compared between engines.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// The index in the order of execution.
    pub id: ModuleId,
    /// The PyTorch module path without `backbone.net.`; the head is `fc`.
    pub name: String,
    /// A short name, such as `ctl3` for the third channel-time learning block.
    pub alias: Option<String>,
    /// What the module computes.
    pub kind: Kind,
    /// The part of the network that it belongs to: `stem`, `head`, or a block such as `layer1.0`.
    pub block: String,
    /// The output shape without the batch dimension: [C, H, W] or `[C]`, and [3, T, H, W] for the input.
    pub shape: Vec<usize>,
    /// Whether the output has one entry for each clip; a positional embedding has one for all clips.
    pub batched: bool,
    /// Number of learned values in this module itself. For a batch normalisation they are weight and
    /// bias; the running statistics are not learned.
    pub params: u64,
    /// Number of multiply-accumulates for one clip in this module itself.
    pub macs: u64,
    /// Number of terms in the sum that gives one output value; 1 for element-wise modules.
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

/// The error for a name that matches no module.
#[derive(Debug, Error, PartialEq)]
#[error("no module is named `{name}`; {}", suggest(.nearest))]
pub struct SelectionError {
    /// The name that was given.
    pub name: String,
    /// The most similar names, at most three.
    pub nearest: Vec<String>,
}

fn suggest(nearest: &[String]) -> String {
    match nearest {
        [] => "`harness info` lists all modules".to_owned(),
        names => format!("did you mean {}? (`harness info` lists all modules)", names.join(", ")),
    }
}

impl Selection {
    /// Selects every module.
    pub fn all(modules: &[Module]) -> Self {
        Selection(modules.iter().map(|m| m.id).collect())
    }

    /// Selects modules by name, prefix (`layer1` selects everything below it), alias (`ctl3`) or block
    /// (`stem`). Fails if a name matches no module.
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

    /// Number of modules in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn matching(modules: &[Module], name: &str) -> Vec<ModuleId> {
    let bare = crate::names::canonical_module(name);
    let aliased = modules.iter().find(|m| m.alias.as_deref() == Some(name));
    let root = aliased.map_or(bare.as_str(), |m| m.name.as_str());
    // Dumps call the output of the head `logits`. `stem` and `head` are names of blocks.
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
