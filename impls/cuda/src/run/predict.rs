//! Times of actions on an H100 as a model predicts them, without a GPU: the largest of what tensor
//! cores and shared memory, the L2 cache and the memory allow, and a constant for each launch.
//!
//! The constants are those of `bench` and a profile on an H100 SXM, except where they say that they
//! are assumptions. No GPU has confirmed what the model says of the kernels in bands.

use spec::Precision;

use super::layout::{self, Action, InPlace, Layout, Way};
use crate::device::Device;
use crate::kernels::is_half;
use crate::plan::{Input, Map, Op, Plan};

/// Products of tensor cores in half precision, FLOP/s: a product of large matrices.
const TENSOR: f64 = 784e12;

/// FLOP in a cycle of a multiprocessor, from NVIDIA's data sheet.
const PER_CYCLE: f64 = 4096.0;

/// Multiprocessors.
const MULTIPROCESSORS: f64 = 132.0;

/// The part of [`TENSOR`] that `mma.sync` reaches at most; an assumption.
const MMA_SYNC: f64 = 0.6;

/// Bytes in a second from the L2 cache; an assumption.
const L2: f64 = 6.5e12;

/// Bytes in a second from memory: what cuDNN reaches in 1x1 convolutions.
const MEMORY: f64 = 2.85e12;

/// Seconds of a launch in a graph where kernels start before earlier ones have ended; an assumption.
const LAUNCH: f64 = 1e-6;

/// Whether the model is of this GPU: it knows half precision on an H100, or on another GPU with its
/// multiprocessors.
pub fn holds_for(device: &dyn Device, precision: Precision) -> bool {
    let same = device.machine().multiprocessors as f64 == MULTIPROCESSORS;
    same && device.capability() == (9, 0) && is_half(precision)
}

/// The predicted time of an action, and what limits it, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prediction {
    /// Tensor cores and shared memory; for kernels in bands with the end of each tile and with full
    /// rounds of tiles.
    pub compute: f64,
    /// The L2 cache, for kernels in bands.
    pub l2: f64,
    /// Weights and maps, once each.
    pub memory: f64,
    /// Kernels that it launches.
    pub launches: usize,
    /// The largest of these times, and the launches.
    pub seconds: f64,
}

/// Bytes of the weights, inputs and output of an action of a layout, and of sums of tiles.
pub fn bytes(plan: &Plan, layout: &Layout, at: usize, precision: Precision) -> u64 {
    let action = &layout.actions[at];
    let maps = bytes_of_maps(plan, &layout.in_place, action, layout.clips, precision);
    maps + layout.sums_bytes(plan, at) as u64
}

/// Bytes of the weights, inputs and output of an action.
pub(super) fn bytes_of_maps(
    plan: &Plan,
    in_place: &[InPlace],
    action: &Action,
    clips: usize,
    precision: Precision,
) -> u64 {
    let weights = |index: usize| match &plan.steps[index].op {
        Op::Conv(conv) => {
            conv.inputs.iter().map(Input::k).sum::<usize>() * conv.epilogue.out.channels
        }
        Op::Dense { from, epilogue, .. } => from.channels * epilogue.out.channels,
        _ => 0,
    };
    let weights: usize = action.steps().map(weights).sum();
    let (mut maps, out) = layout::maps_of(plan, in_place, action);
    // A pool over sums of tiles does not read the map itself.
    maps.retain(|map| pooled_map(plan, action).is_none_or(|pooled| pooled.buffer != map.buffer));
    maps.push(out);
    // The convolutions of a fused block share their input.
    maps.sort_by_key(|map| map.buffer);
    maps.dedup_by_key(|map| map.buffer);
    let maps: usize = maps.iter().map(|map| layout::bytes(map, clips, precision)).sum();
    let clip: usize = action.steps().map(|index| clip_bytes(&plan.steps[index].op, clips)).sum();
    (weights * if is_half(precision) { 2 } else { 4 } + maps + clip) as u64
}

/// The map that an action pools by the sums of its tiles.
fn pooled_map(plan: &Plan, action: &Action) -> Option<Map> {
    let Action::Pooled(pool, _) = action else { return None };
    plan.steps[*pool].op.reads().into_iter().next()
}

/// Bytes of the clips that an operation reads, f32.
fn clip_bytes(op: &Op, clips: usize) -> usize {
    match op {
        Op::Import { out } => clips * out.channels * out.pixels() * size_of::<f32>(),
        _ => 0,
    }
}

/// Seconds of all tiles, of which each multiprocessor has one at a time.
fn in_rounds(tiles: f64, cycles: usize) -> f64 {
    let cycle = MULTIPROCESSORS * PER_CYCLE / TENSOR;
    (tiles / MULTIPROCESSORS).ceil() * cycles as f64 * cycle
}

/// The prediction for an action of a layout.
pub fn predict(plan: &Plan, layout: &Layout, at: usize, precision: Precision) -> Prediction {
    let action = &layout.actions[at];
    let bytes = bytes(plan, layout, at, precision);
    prediction(plan, (action, layout.launches(action)), layout.clips, bytes)
}

/// The prediction for an action that launches `launches` kernels, and reads and stores `bytes` bytes.
pub(super) fn prediction(
    plan: &Plan,
    (action, launches): (&Action, usize),
    clips: usize,
    bytes: u64,
) -> Prediction {
    let macs: u64 = action.steps().map(|index| plan.steps[index].macs).sum();
    let flops = 2.0 * macs as f64 * clips as f64;
    let of_tiles = |tiles: usize, cycles: usize, bytes: usize| {
        let tiles = tiles as f64;
        (in_rounds(tiles, cycles), tiles * bytes as f64 / L2)
    };
    let (compute, l2) = match (action, action.way()) {
        (Action::Imported(_, division, _), _) => {
            of_tiles(division.tiles, division.work().cycles(), division.clip_bytes())
        }
        (Action::Paired(_, division, _), _) => {
            of_tiles(division.tiles, division.cycles(), division.loaded() * 128)
        }
        (_, Some(Way::Bands(division))) => {
            let work = division.work();
            of_tiles(division.bands.tiles as usize, work.cycles(), work.loaded * 128)
        }
        (_, Some(Way::Tiles(_))) => (flops / (TENSOR * MMA_SYNC), 0.0),
        (_, None) => (0.0, 0.0),
    };
    let memory = bytes as f64 / MEMORY;
    let seconds = compute.max(l2).max(memory) + launches as f64 * LAUNCH;
    Prediction { compute, l2, memory, launches, seconds }
}
