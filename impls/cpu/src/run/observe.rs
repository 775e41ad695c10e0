//! Hands results to a tap as tensors, and writes back what the tap puts in their place.

#![allow(unsafe_code, reason = "reads and writes buffers while no task runs")]

use spec::{EngineError, Flow, Model, ModuleId, Tap, Tensor};

use crate::isa::HasKernels;
use crate::plan::{EpilogueSpec, Map};
use crate::run::exec::TaskContext;

/// Converts a map [N, H, W, pitch] to f32 [N, C, H, W].
fn read<E: HasKernels>(context: &TaskContext<'_, E>, map: &Map) -> Vec<f32> {
    let mut out = Vec::with_capacity(context.layout.clips * map.channels * map.pixels());
    append(context, map, &mut out);
    out
}

/// Appends a map [N, H, W, pitch] to `out` as f32 [N, C, H, W].
pub fn append<E: HasKernels>(context: &TaskContext<'_, E>, map: &Map, out: &mut Vec<f32>) {
    let data = context.at(map.buffer);
    for image in 0..context.layout.clips {
        for channel in 0..map.channels {
            for pixel in 0..map.pixels() {
                let at = image * map.image() + pixel * map.pitch + channel;
                // SAFETY: `at` lies in the map, which the layout gave this buffer; no task is
                // running.
                out.push(unsafe { data.add(at).read() }.to_f32());
            }
        }
    }
}

/// Writes values [N, C, H, W] to a map [N, H, W, pitch], rounded to its format.
fn write<E: HasKernels>(context: &TaskContext<'_, E>, map: &Map, values: &Tensor) {
    let data = context.at(map.buffer);
    let mut values = values.iter();
    for image in 0..context.layout.clips {
        for channel in 0..map.channels {
            for pixel in 0..map.pixels() {
                let at = image * map.image() + pixel * map.pitch + channel;
                let value = values.next().unwrap_or(f64::NAN);
                // SAFETY: `at` lies in the map, which the layout gave this buffer; no task is
                // running.
                unsafe { data.add(at).write(E::from_f32(value as f32)) };
            }
        }
    }
}

/// Hands a value to the tap, and returns what the tap puts in its place, if anything. Fails with
/// [`EngineError::Stopped`] if the tap stops the run, and with [`EngineError::Shape`] if the
/// replacement has another shape.
pub fn observe_value(
    model: &Model,
    tap: &mut dyn Tap,
    id: ModuleId,
    clips: usize,
    value: Vec<f32>,
) -> Result<Option<Tensor>, EngineError> {
    let module = model.module(id);
    let shape = module.batch_shape(clips);
    match tap.observe(id, Tensor::f32(shape.clone(), value)) {
        Flow::Continue => Ok(None),
        Flow::Stop => Err(EngineError::Stopped),
        Flow::Replace(other) if other.shape == shape => Ok(Some(other)),
        Flow::Replace(other) => Err(EngineError::Shape {
            what: format!("the value that replaces {}", module.name),
            expected: shape,
            got: other.shape,
        }),
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
    let value = read(context, map);
    if let Some(replacement) = observe_value(model, tap, id, context.layout.clips, value)? {
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
    let map = &spec.out;
    let positions = || (0..map.channels).flat_map(|c| (0..map.pixels()).map(move |p| (c, p)));
    let observed = positions().map(|(c, p)| values[p * map.pitch + c]).collect();
    let other = observe_value(model, tap, *id, 1, observed)?;
    Ok(other.map(|other| {
        let mut replaced = values.clone();
        for ((c, p), value) in positions().zip(other.iter()) {
            replaced[p * map.pitch + c] = value as f32;
        }
        replaced
    }))
}
