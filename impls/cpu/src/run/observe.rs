//! Results as tensors, and back.

#![allow(unsafe_code, reason = "reads and writes buffers while no task runs")]

use spec::{EngineError, Flow, Model, ModuleId, Tap, Tensor};

use crate::isa::Tabled;
use crate::plan::{Finish, Map};
use crate::run::exec::Frame;

/// A map [N, H, W, stride] as f32 [N, C, H, W].
fn read<E: Tabled>(frame: &Frame<'_, E>, map: &Map) -> Vec<f32> {
    let mut out = Vec::with_capacity(frame.layout.clips * map.channels * map.pixels());
    append(frame, map, &mut out);
    out
}

/// Appends a map [N, H, W, stride] as f32 [N, C, H, W].
pub fn append<E: Tabled>(frame: &Frame<'_, E>, map: &Map, out: &mut Vec<f32>) {
    let data = frame.at(map.buffer);
    for image in 0..frame.layout.clips {
        for channel in 0..map.channels {
            for pixel in 0..map.pixels() {
                let at = image * map.image() + pixel * map.stride + channel;
                // SAFETY: the buffer holds the map, and no task runs.
                out.push(unsafe { data.add(at).read() }.to_f32());
            }
        }
    }
}

/// Puts values [N, C, H, W] into a map.
fn write<E: Tabled>(frame: &Frame<'_, E>, map: &Map, values: &Tensor) {
    let data = frame.at(map.buffer);
    let mut values = values.iter();
    for image in 0..frame.layout.clips {
        for channel in 0..map.channels {
            for pixel in 0..map.pixels() {
                let at = image * map.image() + pixel * map.stride + channel;
                let value = values.next().unwrap_or(f64::NAN);
                // SAFETY: the buffer holds the map, and no task runs.
                unsafe { data.add(at).write(E::from_f32(value as f32)) };
            }
        }
    }
}

/// Shows a value; Some is what the observer put in its place.
pub fn show(
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

/// Shows a map, and takes over what the observer put in its place.
pub fn show_map<E: Tabled>(
    model: &Model,
    tap: &mut dyn Tap,
    id: ModuleId,
    frame: &Frame<'_, E>,
    map: &Map,
) -> Result<(), EngineError> {
    let value = read(frame, map);
    if let Some(other) = show(model, tap, id, frame.layout.clips, value)? {
        write(frame, map, &other);
    }
    Ok(())
}

/// Shows the embedding [1, 16, H, W] that a step adds; Some is what the observer put in its place,
/// in the order of the step: [H * W, stride].
pub fn show_embedding(
    model: &Model,
    tap: &mut dyn Tap,
    finish: &Finish,
) -> Result<Option<Vec<f32>>, EngineError> {
    let Some((values, id)) = &finish.post else { return Ok(None) };
    if !tap.wants(*id) {
        return Ok(None);
    }
    let map = &finish.out;
    let places = || (0..map.channels).flat_map(|c| (0..map.pixels()).map(move |p| (c, p)));
    let shown = places().map(|(c, p)| values[p * map.stride + c]).collect();
    let other = show(model, tap, *id, 1, shown)?;
    Ok(other.map(|other| {
        let mut replaced = values.clone();
        for ((c, p), value) in places().zip(other.iter()) {
            replaced[p * map.stride + c] = value as f32;
        }
        replaced
    }))
}
