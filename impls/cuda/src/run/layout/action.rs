//! What a batch runs at a time.

use super::Way;
use crate::kernels::bands::Division;
use crate::kernels::{hopper_pair, hopper_stem};
use crate::plan::{CtlBlock, Plan};

/// What a batch runs at a time.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// One step, by its index in the plan; a convolution has a way to run.
    Step(usize, Option<Way>),
    /// The end of a channel-time learning block in one kernel.
    Fused(CtlBlock, Way),
    /// A convolution in bands and the depthwise convolution that halves its result, in one kernel; by their
    /// indices in the plan.
    Halved(usize, Division, usize),
    /// The import of the clip and the convolution that reads it, in one kernel; by their indices in the plan.
    Imported(usize, hopper_stem::Division, usize),
    /// An average pool over sums of tiles and the dense layer that reads it, in one kernel; by
    /// their indices in the plan.
    Pooled(usize, usize),
    /// A dense layer whose result is a gate, and the product of a map and this gate, in one kernel; by their indices
    /// in the plan.
    Scaled(usize, usize),
    /// A 1x1 convolution and the next one, which reads its result, in one kernel that stores both; by their indices in
    /// the plan.
    Paired(usize, hopper_pair::Division, usize),
}

impl Action {
    /// The step whose result it stores, by its index in the plan.
    pub fn last(&self) -> usize {
        match self {
            Action::Step(index, _)
            | Action::Pooled(_, index)
            | Action::Scaled(_, index)
            | Action::Halved(.., index)
            | Action::Imported(.., index)
            | Action::Paired(.., index) => *index,
            Action::Fused(block, _) => block.temporal,
        }
    }

    /// The step after which a profile names it, by its index in the plan: the one with the most work.
    pub fn main(&self) -> usize {
        match self {
            Action::Halved(first, ..) | Action::Scaled(first, _) | Action::Paired(first, ..) => {
                *first
            }
            other => other.last(),
        }
    }

    /// The kind of work, by which a profile groups actions.
    pub fn kind(&self, plan: &Plan) -> &'static str {
        match self {
            Action::Paired(..) => "expand + reduce 1x1",
            other => plan.steps[other.main()].kind,
        }
    }

    /// How its convolutions run, if it has any for which there is a choice.
    pub fn way(&self) -> Option<Way> {
        match self {
            Action::Step(_, way) => *way,
            Action::Fused(_, way) => Some(*way),
            Action::Halved(_, division, _) => Some(Way::Bands(*division)),
            Action::Pooled(..) | Action::Scaled(..) | Action::Imported(..) | Action::Paired(..) => {
                None
            }
        }
    }

    /// The steps before the last.
    fn earlier(&self) -> impl Iterator<Item = usize> + use<> {
        let earlier = match self {
            Action::Step(..) => [None, None],
            Action::Fused(block, _) => [Some(block.short), Some(block.glo_out)],
            Action::Pooled(first, _)
            | Action::Scaled(first, _)
            | Action::Halved(first, ..)
            | Action::Imported(first, ..)
            | Action::Paired(first, ..) => [Some(*first), None],
        };
        earlier.into_iter().flatten()
    }

    /// The steps whose results are not stored.
    pub(super) fn inner(&self) -> impl Iterator<Item = usize> + use<> {
        let stored = matches!(self, Action::Paired(..));
        self.earlier().filter(move |_| !stored)
    }

    /// All steps that it runs.
    pub fn steps(&self) -> impl Iterator<Item = usize> + use<> {
        self.earlier().chain([self.last()])
    }
}
