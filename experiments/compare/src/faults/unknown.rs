//! Faults for `selftest` that are not in the catalogue. They have to be located and must not be named.

use spec::{Kind, Model};

use super::edit::{Change, Edit};
use super::expr::{Expr, Function};
use super::graph::change;

/// A change of the output of one layer that no known mistake makes.
#[derive(Debug, Clone, Copy)]
pub struct Unknown {
    /// Its name in records.
    pub word: &'static str,
    /// The change in words.
    pub what: &'static str,
    function: Function,
}

impl Unknown {
    /// All faults of this kind.
    pub const ALL: [Unknown; 2] = [
        Unknown {
            word: "scaled",
            what: "one layer scaled by 1.01",
            function: Function::Scale(1.01),
        },
        Unknown {
            word: "noise",
            what: "noise of 1e-3 in one layer",
            function: Function::Noise(1e-3),
        },
    ];

    /// The change at every convolution, normalisation and linear layer.
    pub fn places(&self, model: &Model) -> Vec<Change> {
        let layers =
            |m: &&spec::Module| matches!(m.kind, Kind::Conv | Kind::BatchNorm | Kind::Linear);
        let edit = |id| Edit::Compute(id, Expr::Own.each(self.function));
        let place = |m: &spec::Module| Change {
            word: self.word,
            ..change(self.what, self.what, m.id, vec![edit(m.id)])
        };
        model.modules().iter().filter(layers).map(place).collect()
    }
}
