//! What depends on the batch: which steps become one kernel, how convolutions are cut, and where every
//! map lies.

use spec::{EngineError, Precision};

use super::arena::{Need, arrange};
use crate::device::failed;
use crate::kernels::tile::{Cut, Machine, Product, Tile};
use crate::kernels::{ctl, is_half, pool, vector};
use crate::plan::{Block, Map, Op, Plan};

/// Values in 64 bytes, a step of a product.
fn step(precision: Precision) -> usize {
    4 * vector(precision)
}

/// What is launched.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// A step by itself, by its index; convolutions with a cut.
    Step(usize, Option<Cut>),
    /// The end of a channel-time learning block.
    Fused(Block, Tile),
}

/// Tiles over which a convolution adds up its result for the mean that comes right after it. Where it
/// could be observed, and replaced, the sums are made from memory, in the same order.
#[derive(Debug, Clone, Copy)]
pub struct Tiles {
    /// Pixels of a tile.
    pub rows: usize,
    /// Images that a tile touches at most.
    pub segments: usize,
}

/// A batch of some clips.
pub struct Layout {
    /// Clips.
    pub clips: usize,
    /// In order.
    pub actions: Vec<Action>,
    /// For each action that is a mean: the tiles of the convolution before it, if that can add up.
    pub tiles: Vec<Option<Tiles>>,
    /// Whether every step is launched by itself.
    pub apart: bool,
    /// Bytes of the arena.
    pub bytes: usize,
    /// Offset of each map, then of the clip, then of each action's partial sums.
    offsets: Vec<usize>,
    maps: usize,
}

/// On what a layout depends beside the plan.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Number format.
    pub precision: Precision,
    /// What the GPU has.
    pub machine: Machine,
    /// Whether every step is launched by itself, so that it can be observed. The bits are the same.
    pub apart: bool,
}

impl Layout {
    /// Lays a batch out. A batch whose sizes overflow the kernels' integers is refused.
    pub fn new(plan: &Plan, clips: usize, terms: Terms) -> Result<Self, EngineError> {
        check(plan, clips, terms.precision)?;
        let actions = actions(plan, clips, terms);
        let tiles: Vec<_> = (0..actions.len()).map(|at| tiles(plan, &actions, at)).collect();
        let mut needs = vec![Need { bytes: 0, life: 0..0 }; plan.buffers + 1];
        let mut touch = |index: usize, bytes: usize, at: usize| {
            let need: &mut Need = &mut needs[index];
            need.bytes = need.bytes.max(bytes);
            let first = if need.life.is_empty() { at } else { need.life.start };
            need.life = first..need.life.end.max(at + 1);
        };
        for (at, action) in actions.iter().enumerate() {
            let (reads, out) = touched(plan, action);
            for map in reads.iter().chain([&out]) {
                touch(map.buffer, bytes(map, clips, terms.precision), at);
            }
            if let Action::Step(index, _) = action
                && let Op::Import { out } = &plan.steps[*index].op
            {
                touch(plan.buffers, clips * out.channels * out.pixels() * size_of::<f32>(), at);
            }
        }
        // The clip stays, so that a batch can be run again; the output outlives the actions.
        touch(plan.buffers, 0, actions.len());
        touch(plan.output.buffer, 0, actions.len());
        needs.extend(actions.iter().enumerate().map(|(at, action)| match &tiles[at] {
            Some(tiles) => {
                Need { bytes: tiles_bytes(plan, action, tiles, clips), life: at - 1..at + 1 }
            }
            None => Need { bytes: partial_bytes(plan, action, clips), life: at..at + 1 },
        }));
        let (offsets, bytes) = arrange(&needs);
        Ok(Layout { clips, actions, tiles, apart: terms.apart, bytes, offsets, maps: plan.buffers })
    }

    /// Offset of a map.
    pub fn map(&self, map: &Map) -> usize {
        self.offsets[map.buffer]
    }

    /// Offset of the clip.
    pub fn clip(&self) -> usize {
        self.offsets[self.maps]
    }

    /// Offset of the partial sums of an action, or of the sums over tiles that it reads.
    pub fn partial(&self, action: usize) -> usize {
        self.offsets[self.maps + 1 + action]
    }
}

/// Bytes of a map of some clips.
pub fn bytes(map: &Map, clips: usize, precision: Precision) -> usize {
    clips * map.image() * if map.wide || !is_half(precision) { 4 } else { 2 }
}

fn check(plan: &Plan, clips: usize, precision: Precision) -> Result<(), EngineError> {
    let limit = i32::MAX as usize / 2;
    let vectors = |map: Map| clips.saturating_mul(map.image() / vector(precision));
    let most = plan.steps.iter().map(|step| vectors(step.op.out())).max().unwrap_or(0);
    if most > limit {
        let most = (limit / (most / clips)).max(1);
        return Err(failed(format!(
            "a batch of {clips} clips is too large for the kernels' 32-bit sizes; use \
             --batch-size {most} or less"
        )));
    }
    Ok(())
}

fn actions(plan: &Plan, clips: usize, terms: Terms) -> Vec<Action> {
    let out = |index: usize| plan.steps[index].op.out();
    let tiles: Vec<(Block, Option<Tile>)> = plan
        .blocks
        .iter()
        .map(|block| {
            let map = out(block.temporal);
            (*block, ctl::tile(clips * map.pixels(), map.channels, terms.machine))
        })
        .collect();
    let of = |index: usize| {
        let whole = |block: &Block| [block.short, block.glo_out, block.temporal].contains(&index);
        tiles.iter().find(|(block, tile)| tile.is_some() && whole(block))
    };
    let mut actions = vec![];
    for (index, step) in plan.steps.iter().enumerate() {
        match of(index) {
            Some((block, Some(tile))) if !terms.apart => {
                if index == block.temporal {
                    actions.push(Action::Fused(*block, *tile));
                }
            }
            fused => {
                // Split sums would have other bits than the fused block.
                let may_split = fused.is_none();
                actions.push(Action::Step(index, cut(&step.op, clips, terms, may_split)));
            }
        }
    }
    actions
}

fn cut(op: &Op, clips: usize, terms: Terms, may_split: bool) -> Option<Cut> {
    let Op::Conv(conv) = op else { return None };
    let out = conv.finish.out;
    let steps = conv.inputs.iter().map(|i| i.depth().div_ceil(step(terms.precision))).sum();
    let product = Product { pixels: clips * out.pixels(), outputs: out.channels, steps };
    Some(product.cut(terms.machine, may_split))
}

fn touched(plan: &Plan, action: &Action) -> (Vec<Map>, Map) {
    match action {
        Action::Step(index, _) => {
            let op = &plan.steps[*index].op;
            (op.reads(), op.out())
        }
        Action::Fused(block, _) => {
            let inner = [block.short, block.glo_out].map(|index| plan.steps[index].op.out().buffer);
            let all = [block.short, block.glo_out, block.temporal];
            let reads = all.iter().flat_map(|&index| plan.steps[index].op.reads());
            let reads = reads.filter(|map| !inner.contains(&map.buffer)).collect();
            (reads, plan.steps[block.temporal].op.out())
        }
    }
}

/// The tiles of the convolution before a mean. The end of a block may be a kernel of its own, which does
/// not add up.
fn tiles(plan: &Plan, actions: &[Action], at: usize) -> Option<Tiles> {
    let [Action::Step(before, Some(cut)), Action::Step(index, _)] =
        actions.get(at.checked_sub(1)?..=at)?
    else {
        return None;
    };
    let Op::Mean { from, .. } = &plan.steps[*index].op else { return None };
    let ends_block = plan.blocks.iter().any(|block| block.temporal == *before);
    let makes = plan.steps[*before].op.out().buffer == from.buffer;
    let rows = cut.tile.pixels;
    let tiles = Tiles { rows, segments: pool::segments(rows, from.pixels()) };
    (makes && cut.splits == 1 && !ends_block).then_some(tiles)
}

fn tiles_bytes(plan: &Plan, action: &Action, tiles: &Tiles, clips: usize) -> usize {
    let Action::Step(index, _) = action else { return 0 };
    let Op::Mean { from, .. } = &plan.steps[*index].op else { return 0 };
    let count = (clips * from.pixels()).div_ceil(tiles.rows);
    count * tiles.segments * from.pitch * size_of::<f32>()
}

fn partial_bytes(plan: &Plan, action: &Action, clips: usize) -> usize {
    match action {
        Action::Step(index, Some(cut)) if cut.splits > 1 => {
            cut.splits * clips * plan.steps[*index].op.out().image() * size_of::<f32>()
        }
        _ => 0,
    }
}
