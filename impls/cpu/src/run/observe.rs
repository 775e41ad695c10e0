//! Hands results to a tap as tensors, and writes back what the tap puts in their place.

#![allow(unsafe_code, reason = "reads and writes buffers while no task runs")]

use lower::tap;
use spec::{EngineError, Model, ModuleId, Tap};

use crate::isa::HasKernels;
use crate::plan::{EpilogueSpec, Map};
use crate::run::exec::TaskContext;

/// Where the values [N, C, H, W] of a map lie in its buffer.
fn positions(map: &Map, clips: usize) -> impl Iterator<Item = usize> {
    tap::positions(clips, map.channels, map.pixels(), map.pitch)
}

/// Appends a map [N, H, W, pitch] to `out` as f32 [N, C, H, W].
pub fn append<E: HasKernels>(context: &TaskContext<'_, E>, map: &Map, out: &mut Vec<f32>) {
    let data = context.at(map.buffer);
    for at in positions(map, context.layout.clips) {
        // SAFETY: `at` lies in the map, which the layout gave this buffer; no task is running.
        out.push(unsafe { data.add(at).read() }.to_f32());
    }
}

/// Writes values [N, C, H, W] to a map [N, H, W, pitch], rounded to its format.
fn write<E: HasKernels>(context: &TaskContext<'_, E>, map: &Map, values: &[f32]) {
    let data = context.at(map.buffer);
    for (at, value) in positions(map, context.layout.clips).zip(values) {
        // SAFETY: `at` lies in the map, which the layout gave this buffer; no task is running.
        unsafe { data.add(at).write(E::from_f32(*value)) };
    }
}

/// Hands a map to the tap, and writes back what the tap puts in its place.
pub fn observe_map<E: HasKernels>(
    model: &Model,
    tap: &mut dyn Tap,
    id: ModuleId,
    context: &TaskContext<'_, E>,
    map: &Map,
) -> Result<(), EngineError> {
    let clips = context.layout.clips;
    let mut value = Vec::with_capacity(clips * map.channels * map.pixels());
    append(context, map, &mut value);
    if let Some(replacement) = tap::observe(model, tap, id, clips, value)? {
        write(context, map, &replacement);
    }
    Ok(())
}

/// Hands the embedding that a step adds to the tap, as [1, C, H, W], and returns what the tap puts
/// in its place, if anything, in the layout of the step: [H * W, pitch].
pub fn observe_embedding(
    model: &Model,
    tap: &mut dyn Tap,
    spec: &EpilogueSpec,
) -> Result<Option<Vec<f32>>, EngineError> {
    let Some((values, id)) = &spec.embedding else { return Ok(None) };
    if !tap.wants(*id) {
        return Ok(None);
    }
    let positions = || positions(&spec.out, 1);
    let observed = positions().map(|at| values[at]).collect();
    let other = tap::observe(model, tap, *id, 1, observed)?;
    Ok(other.map(|other| {
        let mut replaced = values.clone();
        positions().zip(other).for_each(|(at, value)| replaced[at] = value);
        replaced
    }))
}
