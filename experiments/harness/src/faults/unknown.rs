//! Mistakes that are in no catalogue: they have to be located, and must not be given a name.

use spec::{Kind, Model};

use super::edit::{Change, Edit};
use super::expr::{Expr, Function};
use super::ground::change;

/// A change of one layer's output that no known mistake makes.
#[derive(Debug, Clone, Copy)]
pub struct Unknown {
    /// A word for the record.
    pub word: &'static str,
    /// What is wrong.
    pub what: &'static str,
    function: Function,
}

impl Unknown {
    /// All of them.
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

    /// Every layer with weights.
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
