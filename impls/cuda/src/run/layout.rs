//! What depends on the batch size: which steps become one kernel, the tiling of every convolution,
//! and the offset of every map in the arena.

mod action;
mod pairs;

use lower::arena::{Buffer, place};
use spec::{EngineError, Precision};

use crate::device::failed;
use crate::kernels::bands::{self, Division};
use crate::kernels::tile::{BandSupport, Machine, Product, STEP_BYTES, Tiling};
use crate::kernels::windows::Shape;
use crate::kernels::{
    ctl, ctl_cluster, hopper_stem, is_half, measured, split_k_reduce, tile_sums, vector,
};
use crate::plan::{Conv, CtlBlock, Input, Map, Op, Plan};

pub use action::Action;
use pairs::paired;

/// Alignment of every buffer, in bytes.
const ALIGN: usize = 256;

/// Values in a step of K.
pub(crate) fn values_per_step(precision: Precision) -> usize {
    STEP_BYTES / 16 * vector(precision)
}

/// How a convolution is divided among blocks.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// In tiles of pixels and outputs (`mainloop.cuh`).
    Tiles(Tiling),
    /// In bands of pixels (`bands.cuh`).
    Bands(Division),
}

impl Way {
    /// Pixels of the tiles whose sums an average pool over a map with this pitch can add up; None
    /// where the convolution does not make them.
    fn sum_pixels(&self, pitch: usize, options: LayoutOptions) -> Option<usize> {
        let LayoutOptions { precision, machine, .. } = options;
        match self {
            Way::Tiles(Tiling { tile, splits: 1 }) => Some(tile.pixels),
            Way::Tiles(Tiling { tile, splits }) if machine.in_cluster(*splits) => {
                Some(tile.pixels / splits)
            }
            Way::Tiles(_) => split_k_reduce::tile_pixels(pitch, precision),
            Way::Bands(division) => division.flat.then_some(bands::SUM_PIXELS),
        }
    }
}

/// The tiles whose sums an average pool adds up. The convolution right before the pool, or the
/// reduction of its split K, sums its own tiles; where its result may be observed, and replaced, the
/// tiles are summed from memory in the same order.
#[derive(Debug, Clone, Copy)]
pub struct PoolTiles {
    /// Pixels of a tile.
    pub tile_pixels: usize,
    /// The most images that a tile touches.
    pub segments: usize,
}

/// A gated map that is not stored: the kernels that read it multiply `from` by `gate` themselves.
#[derive(Debug, Clone, Copy)]
pub struct InPlace {
    /// The map that is not stored.
    pub out: Map,
    /// The map without the gate.
    pub from: Map,
    /// A wide vector for each image.
    pub gate: Map,
}

/// Everything that is decided for a number of clips.
pub struct Layout {
    /// Number of clips in the batch.
    pub clips: usize,
    /// The actions, in the order in which they run.
    pub actions: Vec<Action>,
    /// For each action: if it is an average pool over sums of tiles, those tiles. None for a pool
    /// that reads the map itself, and for all other actions.
    pub pool_tiles: Vec<Option<PoolTiles>>,
    /// Gated maps that are not stored.
    pub in_place: Vec<InPlace>,
    /// Whether every step is launched by itself.
    pub unfused: bool,
    /// The properties of the GPU.
    machine: Machine,
    /// Size of the arena in bytes.
    pub bytes: usize,
    /// Offset of each map, then of the clip, then of the scratch buffer of each action.
    offsets: Vec<usize>,
    maps: usize,
}

/// What a layout depends on, apart from the plan and the number of clips.
#[derive(Debug, Clone, Copy)]
pub struct LayoutOptions {
    /// The precision, which determines the storage format.
    pub precision: Precision,
    /// The properties of the GPU.
    pub machine: Machine,
    /// Whether every step is launched by itself, so that it can be observed. The bits of the
    /// results do not depend on it.
    pub unfused: bool,
}

impl Layout {
    /// Decides everything for a batch. Fails if a size overflows the kernels' 32-bit integers.
    pub fn new(plan: &Plan, clips: usize, options: LayoutOptions) -> Result<Self, EngineError> {
        check(plan, clips, options.precision)?;
        let actions = imported(plan, actions(plan, clips, options), clips, options);
        let actions = halved(plan, actions, clips, options);
        let mut actions = paired(plan, actions, clips, options);
        let in_place = take_in_place(plan, &mut actions);
        let (actions, pool_tiles) = pooled(plan, scaled(plan, actions, options), options);
        let mut buffers = vec![Buffer::default(); plan.buffers + 1];
        for (at, action) in actions.iter().enumerate() {
            let (reads, out) = maps_of(plan, &in_place, action);
            for map in reads.iter().chain([&out]) {
                buffers[map.buffer].touch(at, bytes(map, clips, options.precision));
            }
            let first = action.steps().next().expect("an action has a step");
            if let Op::Import { out } = &plan.steps[first].op {
                let bytes = clips * out.channels * out.pixels() * size_of::<f32>();
                buffers[plan.buffers].touch(at, bytes);
            }
        }
        // The clip and the output are live to the end: a batch can run again, and the output is
        // read after the last action.
        buffers[plan.buffers].touch(actions.len(), 0);
        buffers[plan.output.buffer].touch(actions.len(), 0);
        // The action before a pool writes the sums of its tiles.
        buffers.extend(actions.iter().enumerate().map(|(at, action)| match &pool_tiles[at] {
            Some(tiles) => {
                Buffer { bytes: tile_sums_bytes(plan, action, tiles, clips), live: at - 1..at + 1 }
            }
            None => {
                let bytes = partial_bytes(plan, action, clips, options);
                Buffer { bytes, live: at..at + 1 }
            }
        }));
        let (offsets, bytes) = place(&buffers, ALIGN);
        let LayoutOptions { unfused, machine, .. } = options;
        let maps = plan.buffers;
        Ok(Layout { clips, actions, pool_tiles, in_place, unfused, machine, bytes, offsets, maps })
    }

    /// Bytes of the sums of tiles that an action reads, and of those that it stores for the next one, a pool.
    pub fn sums_bytes(&self, plan: &Plan, at: usize) -> usize {
        let sums = |at: usize| match self.pool_tiles.get(at) {
            Some(Some(tiles)) => tile_sums_bytes(plan, &self.actions[at], tiles, self.clips),
            _ => 0,
        };
        sums(at) + sums(at + 1)
    }

    /// Whether the partial sums of a split K are stored, and added by another launch.
    pub fn is_reduced(&self, splits: usize) -> bool {
        is_reduced(self.machine, splits)
    }

    /// How many kernels an action launches where nothing is observed.
    pub fn launches(&self, action: &Action) -> usize {
        match action.way() {
            Some(Way::Tiles(tiling)) if self.is_reduced(tiling.splits) => 2,
            _ => 1,
        }
    }

    /// Offset of a map in the arena, in bytes.
    pub fn map(&self, map: &Map) -> usize {
        self.offsets[map.buffer]
    }

    /// Offset of the clip in the arena: f32 [clips, 3 * frames, height, width].
    pub fn clip(&self) -> usize {
        self.offsets[self.maps]
    }

    /// Side of the groups of pixels in which a map is stored: that of the stride of the convolution in
    /// bands that reads it.
    pub fn group(&self, plan: &Plan, map: &Map) -> usize {
        let reads = |action: &Action| match action {
            Action::Step(index, Some(Way::Bands(_))) => {
                let inputs = &plan.conv(*index).inputs;
                inputs.iter().find(|input| input.from.buffer == map.buffer).map(|i| i.stride)
            }
            _ => None,
        };
        self.actions.iter().find_map(reads).unwrap_or(1)
    }

    /// Offset of the scratch buffer of an action: the partial sums of a split convolution, or the
    /// sums over tiles that an average pool reads.
    pub fn scratch(&self, action: usize) -> usize {
        self.offsets[self.maps + 1 + action]
    }
}

/// Bytes of a map for a number of clips.
pub fn bytes(map: &Map, clips: usize, precision: Precision) -> usize {
    clips * map.image() * if map.wide || !is_half(precision) { 4 } else { 2 }
}

/// Checks that the number of vectors of every map fits the 32-bit integers of the kernels, with a
/// factor of 2 to spare.
fn check(plan: &Plan, clips: usize, precision: Precision) -> Result<(), EngineError> {
    let limit = i32::MAX as usize / 2;
    let vectors = |map: Map| clips.saturating_mul(map.image() / vector(precision));
    let most = plan.steps.iter().map(|step| vectors(step.op.out())).max().unwrap_or(0);
    if most > limit {
        let most = (limit / (most / clips)).max(1);
        return Err(failed(format!(
            "a batch of {clips} clips overflows the 32-bit sizes of the kernels; use --batch-size \
             {most} or less"
        )));
    }
    Ok(())
}

/// Fuses the CTL blocks for which a tile is worth it, unless every step must run by itself.
fn actions(plan: &Plan, clips: usize, options: LayoutOptions) -> Vec<Action> {
    let blocks: Vec<(CtlBlock, Way)> = plan
        .ctl_blocks
        .iter()
        .filter_map(|block| Some((*block, fused_way(plan, block, clips, options)?)))
        .collect();
    let block_of = |index: usize| {
        let contains =
            |block: &CtlBlock| [block.short, block.glo_out, block.temporal].contains(&index);
        blocks.iter().find(|(block, _)| contains(block))
    };
    let mut actions = vec![];
    for (index, step) in plan.steps.iter().enumerate() {
        match block_of(index) {
            Some((block, way)) if !options.unfused => {
                if index == block.temporal {
                    actions.push(Action::Fused(*block, *way));
                }
            }
            // The steps of a fused kernel must give the same bits alone: K must be split as there, or not at all.
            Some((_, way @ (Way::Bands(_) | Way::Tiles(Tiling { splits: 2.., .. })))) => {
                actions.push(Action::Step(index, Some(*way)));
            }
            Some((_, Way::Tiles(_))) => {
                let way = tiling(&step.op, clips, options, false).map(Way::Tiles);
                actions.push(Action::Step(index, way));
            }
            None => actions.push(Action::Step(index, way(&step.op, clips, options))),
        }
    }
    actions
}

/// How a CTL block runs as one kernel; None where three are expected to be faster.
fn fused_way(plan: &Plan, block: &CtlBlock, clips: usize, options: LayoutOptions) -> Option<Way> {
    let convs = [block.short, block.glo_out, block.temporal].map(|index| plan.conv(index));
    let map = convs[2].epilogue.out;
    let (pixels, machine) = (clips * map.pixels(), options.machine);
    let whole = || {
        let tile = ctl::tile(pixels, map.channels, machine)?;
        Some(Tiling { tile, splits: 1 })
    };
    let shared = || {
        let steps = convs.map(|conv| steps(conv, options.precision));
        ctl_cluster::tiling((pixels, map.channels), steps, machine)
    };
    let in_tiles = || whole().or_else(shared).map(Way::Tiles);
    division(&convs, clips, options).map(Way::Bands).or_else(in_tiles)
}

/// How a convolution runs; None for other operations.
fn way(op: &Op, clips: usize, options: LayoutOptions) -> Option<Way> {
    let Op::Conv(conv) = op else { return None };
    // A kernel in bands that applies its epilogue itself has no initial values and no factor, and
    // stores no wide map. Only steps of a CTL block that is not fused have these.
    let plain = conv.init.is_none() && conv.epilogue.factor.is_none() && !conv.epilogue.out.wide;
    let in_bands = || division(&[conv], clips, options).map(Way::Bands);
    plain.then(in_bands).flatten().or_else(|| tiling(op, clips, options, true).map(Way::Tiles))
}

/// The division of convolutions that share their tiles into bands. None where they cannot run in
/// bands, or where the tiles are so few that split K is expected to be faster.
fn division(convs: &[&Conv], clips: usize, options: LayoutOptions) -> Option<Division> {
    let LayoutOptions { precision, machine, .. } = options;
    if machine.bands == BandSupport::Off || !is_half(precision) {
        return None;
    }
    if convs.iter().flat_map(|conv| &conv.inputs).any(|input| input.band_weights.is_none()) {
        return None;
    }
    let alone = product(convs, clips);
    let product = if convs.len() > 1 { alone.fused() } else { alone };
    if machine.bands == BandSupport::Flat && product.halo > 0 {
        return None;
    }
    product.division(machine).filter(|division| fills(division.bands.tiles as usize, machine))
}

/// Convolutions that share their tiles, as a product in bands.
fn product(convs: &[&Conv], clips: usize) -> bands::Product {
    let out = convs[convs.len() - 1].epilogue.out;
    let inputs = convs.iter().flat_map(|conv| &conv.inputs);
    let shapes: Vec<Shape> = inputs.map(Input::band_shape).collect();
    bands::Product::new(clips, out.size, out.channels, &shapes)
}

/// Whether there are tiles for at least half of the GPU.
fn fills(tiles: usize, machine: Machine) -> bool {
    2 * tiles >= machine.multiprocessors
}

/// How many inputs of steps a map is.
fn readers(plan: &Plan, map: Map) -> usize {
    let reads = plan.steps.iter().flat_map(|step| step.op.reads());
    reads.filter(|read| read.buffer == map.buffer).count()
}

/// Makes the import and the convolution that alone reads it one action where the kernel for both can run, so
/// that the clip is never stored as a map. It does so also where every step must be launched by itself: the
/// import cannot be observed.
fn imported(
    plan: &Plan,
    actions: Vec<Action>,
    clips: usize,
    options: LayoutOptions,
) -> Vec<Action> {
    let both = |last: &Action, next: &Action| -> Option<Action> {
        let (Action::Step(import, _), Action::Step(index, Some(_))) = (last, next) else {
            return None;
        };
        let (Op::Import { out: map }, conv) = (&plan.steps[*import].op, plan.conv(*index)) else {
            return None;
        };
        conv.inputs[0].plane_weights?;
        let size = conv.epilogue.out.size;
        let division = hopper_stem::Division::new(clips, size, map.channels);
        let able = options.machine.bands == BandSupport::Planes && is_half(options.precision);
        let runs = able && readers(plan, *map) == 1 && fills(division.tiles, options.machine);
        runs.then_some(Action::Imported(*import, division, *index))
    };
    in_pairs(actions, both)
}

/// Replaces each two actions that follow each other and become one.
fn in_pairs(
    actions: Vec<Action>,
    both: impl Fn(&Action, &Action) -> Option<Action>,
) -> Vec<Action> {
    let mut out: Vec<Action> = vec![];
    for action in actions {
        match out.last().and_then(|last| both(last, &action)) {
            Some(one) => *out.last_mut().expect("there is a last action") = one,
            None => out.push(action),
        }
    }
    out
}

/// Makes a convolution in bands and the depthwise convolution that halves its result one action, unless
/// every step must run by itself, so that the result is never stored.
fn halved(plan: &Plan, actions: Vec<Action>, clips: usize, options: LayoutOptions) -> Vec<Action> {
    let halves = |last: &Action, next: &Action| -> Option<Action> {
        let (Action::Step(index, Some(Way::Bands(_))), Action::Step(next, _)) = (last, next) else {
            return None;
        };
        let (conv, Op::Depthwise { from, .. }) = (plan.conv(*index), &plan.steps[*next].op) else {
            return None;
        };
        let out = conv.epilogue.out;
        let other = out.buffer != from.buffer || conv.epilogue.addend.is_some();
        if options.unfused || other || readers(plan, out) > 1 {
            return None;
        }
        let division = product(&[conv], clips).halved()?.division(options.machine)?;
        let tiles = division.bands.tiles as usize;
        fills(tiles, options.machine).then_some(Action::Halved(*index, division, *next))
    };
    in_pairs(actions, halves)
}

/// Makes a dense layer and the product of a map with its result, the gate, one action, unless every step must run
/// by itself.
fn scaled(plan: &Plan, actions: Vec<Action>, options: LayoutOptions) -> Vec<Action> {
    let both = |last: &Action, next: &Action| -> Option<Action> {
        let (Action::Step(dense, _), Action::Step(product, _)) = (last, next) else {
            return None;
        };
        let op = |index: usize| &plan.steps[index].op;
        let (Op::Dense { epilogue, .. }, Op::Scale { gate, .. }) = (op(*dense), op(*product))
        else {
            return None;
        };
        let own = gate.buffer == epilogue.out.buffer && readers(plan, *gate) == 1;
        (own && !options.unfused).then_some(Action::Scaled(*dense, *product))
    };
    in_pairs(actions, both)
}

/// Finds the tiles that each average pool adds up, and makes such a pool one action with the dense
/// layer after it, unless every step must run by itself. Returns the tiles of each action.
fn pooled(
    plan: &Plan,
    actions: Vec<Action>,
    options: LayoutOptions,
) -> (Vec<Action>, Vec<Option<PoolTiles>>) {
    let mut out: Vec<(Action, Option<PoolTiles>)> = vec![];
    for (at, action) in actions.iter().enumerate() {
        let tiles = pool_tiles(plan, &actions, at, options);
        match (out.last_mut(), action) {
            (Some((last @ Action::Step(..), Some(_))), Action::Step(index, _))
                if !options.unfused && matches!(plan.steps[*index].op, Op::Dense { .. }) =>
            {
                *last = Action::Pooled(last.last(), *index);
            }
            _ => out.push((*action, tiles)),
        }
    }
    out.into_iter().unzip()
}

/// Steps of K in a convolution.
fn steps(conv: &Conv, precision: Precision) -> usize {
    conv.inputs.iter().map(|input| input.k().div_ceil(values_per_step(precision))).sum()
}

/// The tiling of a convolution; None for other operations.
fn tiling(op: &Op, clips: usize, options: LayoutOptions, may_split: bool) -> Option<Tiling> {
    let Op::Conv(conv) = op else { return None };
    let out = conv.epilogue.out;
    let steps = steps(conv, options.precision);
    let product = Product { pixels: clips * out.pixels(), outputs: out.channels, steps };
    Some(measured::tiling(product, options.machine, options.precision, may_split))
}

/// The maps that an action reads, and the one that it writes. The maps between its steps are not
/// stored, nor are those in `in_place`.
pub fn maps_of(plan: &Plan, in_place: &[InPlace], action: &Action) -> (Vec<Map>, Map) {
    let op = |index: usize| &plan.steps[index].op;
    let reads = action.steps().flat_map(|index| op(index).reads());
    let stored = |map: &Map| action.inner().all(|index| op(index).out().buffer != map.buffer);
    let sources = |map: Map| match in_place.iter().find(|gated| gated.out.buffer == map.buffer) {
        Some(gated) => vec![gated.from, gated.gate],
        None => vec![map],
    };
    (reads.filter(stored).flat_map(sources).collect(), op(action.last()).out())
}

/// Removes the products of maps and gates that need not be stored, because only kernels in bands read
/// them, which multiply by gates themselves. Returns them.
fn take_in_place(plan: &Plan, actions: &mut Vec<Action>) -> Vec<InPlace> {
    let product = |action: &Action| match &plan.steps[action.last()].op {
        Op::Scale { from, gate, out } => Some(InPlace { out: *out, from: *from, gate: *gate }),
        _ => None,
    };
    let gates =
        |action: &Action| matches!(action.way(), Some(Way::Bands(division)) if !division.flat);
    let reads = |action: &Action, gated: &InPlace| {
        maps_of(plan, &[], action).0.iter().any(|map| map.buffer == gated.out.buffer)
    };
    let all = |gated: &InPlace| actions.iter().all(|a| gates(a) || !reads(a, gated));
    let in_place: Vec<InPlace> = actions.iter().filter_map(product).filter(all).collect();
    let taken = |action: &Action| {
        product(action)
            .is_some_and(|p| in_place.iter().any(|gated| gated.out.buffer == p.out.buffer))
    };
    actions.retain(|action| !taken(action));
    in_place
}

/// The tiles that the action `at` pools, if it is an average pool and the action before it is a
/// convolution that can sum its tiles: not the end of a CTL block, which may be fused into a kernel
/// that does not sum.
fn pool_tiles(
    plan: &Plan,
    actions: &[Action],
    at: usize,
    options: LayoutOptions,
) -> Option<PoolTiles> {
    let [before, Action::Step(index, _)] = actions.get(at.checked_sub(1)?..=at)? else {
        return None;
    };
    let Op::AveragePool { from, .. } = &plan.steps[*index].op else { return None };
    let tile_pixels = match before {
        Action::Step(_, Some(way)) => way.sum_pixels(from.pitch, options)?,
        Action::Paired(..) => bands::SUM_PIXELS,
        _ => return None,
    };
    let before = before.last();
    let ends_block = plan.ctl_blocks.iter().any(|block| block.temporal == before);
    let makes = plan.steps[before].op.out().buffer == from.buffer;
    let segments = tile_sums::segments(tile_pixels, from.pixels());
    (makes && !ends_block).then_some(PoolTiles { tile_pixels, segments })
}

/// Bytes of the sums f32 [tiles, segments, pitch] that an average pool reads.
fn tile_sums_bytes(plan: &Plan, action: &Action, tiles: &PoolTiles, clips: usize) -> usize {
    let (Action::Step(pool, _) | Action::Pooled(pool, _)) = action else { return 0 };
    let Op::AveragePool { from, .. } = &plan.steps[*pool].op else { return 0 };
    let count = (clips * from.pixels()).div_ceil(tiles.tile_pixels);
    count * tiles.segments * from.pitch * size_of::<f32>()
}

/// Whether partial sums are stored, and added by another launch: where K is split, but not in a cluster.
fn is_reduced(machine: Machine, splits: usize) -> bool {
    splits > 1 && !machine.in_cluster(splits)
}

/// Bytes of the partial sums f32 [splits, pixels, pitch] of a convolution; 0 where it applies its
/// epilogue itself. In bands it does so unless an observer may want to see the stages.
fn partial_bytes(plan: &Plan, action: &Action, clips: usize, options: LayoutOptions) -> usize {
    let (Action::Step(index, _) | Action::Imported(.., index)) = action else { return 0 };
    let copies = match action {
        Action::Step(_, Some(Way::Tiles(tiling))) if is_reduced(options.machine, tiling.splits) => {
            tiling.splits
        }
        Action::Step(_, Some(Way::Bands(_))) | Action::Imported(..) if options.unfused => 1,
        _ => 0,
    };
    copies * clips * plan.steps[*index].op.out().image() * size_of::<f32>()
}
