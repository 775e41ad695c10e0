//! Values for a tap, and what it puts in their place.

#![allow(unsafe_code, reason = "reads and writes device memory")]

use spec::{EngineError, Flow, Model, ModuleId, Tap, Tensor};

use super::bind::{Bound, Seen, UNSEEN};
use crate::device::{Device, Memory};
use crate::kernels::args::stage;
use crate::plan::{Finish, Map, Op};

/// [N, H, W, pitch] as [N, C, H, W].
fn to_planes(values: &[f32], map: &Map) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len() / map.pitch * map.channels);
    for image in values.chunks(map.image()) {
        for channel in 0..map.channels {
            out.extend(image.iter().skip(channel).step_by(map.pitch));
        }
    }
    out
}

/// [N, C, H, W] as [N, H, W, pitch], zeros in padded channels.
fn from_planes(values: &[f32], map: &Map) -> Vec<f32> {
    let mut out = vec![0.0; values.len() / map.channels * map.pitch];
    let images = out.chunks_mut(map.image()).zip(values.chunks(map.channels * map.pixels()));
    for (image, planes) in images {
        for (channel, plane) in planes.chunks(map.pixels()).enumerate() {
            for (value, slot) in plane.iter().zip(image[channel..].iter_mut().step_by(map.pitch)) {
                *slot = *value;
            }
        }
    }
    out
}

/// Float32 values of the device.
fn read(device: &mut dyn Device, from: u64, count: usize) -> Result<Vec<f32>, EngineError> {
    let mut values = vec![0f32; count];
    // SAFETY: every caller names a place that holds so many.
    unsafe { device.read(from, bytemuck::cast_slice_mut(&mut values))? };
    Ok(values)
}

fn write(device: &mut dyn Device, to: u64, values: &[f32]) -> Result<(), EngineError> {
    // SAFETY: every caller names a place that holds as many.
    unsafe { device.write(to, bytemuck::cast_slice(values)) }
}

/// A wide map as [N, C, H, W].
pub fn read_wide(
    device: &mut dyn Device,
    from: u64,
    map: &Map,
    clips: usize,
) -> Result<Vec<f32>, EngineError> {
    Ok(to_planes(&read(device, from, clips * map.image())?, map))
}

/// Shows a value; Some is what the observer put in its place.
pub fn show(
    model: &Model,
    tap: &mut dyn Tap,
    id: ModuleId,
    clips: usize,
    value: Vec<f32>,
) -> Result<Option<Vec<f32>>, EngineError> {
    let module = model.module(id);
    let shape = module.batch_shape(clips);
    match tap.observe(id, Tensor::f32(shape.clone(), value)) {
        Flow::Continue => Ok(None),
        Flow::Stop => Err(EngineError::Stopped),
        Flow::Replace(other) if other.shape == shape => Ok(Some(other.to_f32())),
        Flow::Replace(other) => Err(EngineError::Shape {
            what: format!("the value that replaces {}", module.name),
            expected: shape,
            got: other.shape,
        }),
    }
}

/// Runs an action of one step, shows what the tap wants to see of it, and goes on from what it puts
/// in its place.
pub fn step(
    bound: &Bound<'_>,
    device: &mut dyn Device,
    (model, tap): (&Model, &mut dyn Tap),
    at: usize,
    op: &Op,
) -> Result<(), EngineError> {
    match op {
        Op::Mean { out, show: id, .. } => {
            run(bound, device, at, UNSEEN)?;
            if tap.wants(*id) {
                let value = read_wide(device, bound.at(out), out, bound.layout.clips)?;
                if let Some(other) = show(model, tap, *id, bound.layout.clips, value)? {
                    write(device, bound.at(out), &from_planes(&other, out))?;
                }
            }
            Ok(())
        }
        other => match other.finish() {
            Some(finish) => Showing::new(bound, device, finish, tap)?.run(device, (model, tap), at),
            None => run(bound, device, at, UNSEEN),
        },
    }
}

/// Launches an action.
pub fn run(
    bound: &Bound<'_>,
    device: &mut dyn Device,
    at: usize,
    seen: Seen,
) -> Result<(), EngineError> {
    for launch in bound.launches(device, at, seen)? {
        // SAFETY: `Bound` has made it from a layout, whose arena and constants are there.
        unsafe { device.launch(&launch)? };
    }
    Ok(())
}

/// An epilogue whose stages are watched.
struct Showing<'a> {
    bound: &'a Bound<'a>,
    finish: &'a Finish,
    memory: Vec<Memory>,
    seen: Seen,
}

impl<'a> Showing<'a> {
    fn new(
        bound: &'a Bound<'a>,
        device: &mut dyn Device,
        finish: &'a Finish,
        tap: &dyn Tap,
    ) -> Result<Self, EngineError> {
        let (mut memory, mut seen) = (vec![], UNSEEN);
        let bytes = bound.layout.clips * finish.out.image() * size_of::<f32>();
        let mut watch = |stage: usize| -> Result<(), EngineError> {
            let copy = device.alloc(bytes)?;
            seen[stage - 1] = copy.address;
            memory.push(copy);
            Ok(())
        };
        for (stage, id) in &finish.shows {
            if tap.wants(*id) {
                watch(*stage)?;
            }
        }
        if finish.post.as_ref().is_some_and(|(_, id)| tap.wants(*id)) {
            watch(stage::PRODUCT)?;
        }
        Ok(Showing { bound, finish, memory, seen })
    }

    fn run(
        &self,
        device: &mut dyn Device,
        (model, tap): (&Model, &mut dyn Tap),
        at: usize,
    ) -> Result<(), EngineError> {
        run(self.bound, device, at, self.seen)?;
        if self.memory.is_empty() {
            return Ok(());
        }
        let (out, clips) = (&self.finish.out, self.bound.layout.clips);
        for (stage, id) in &self.finish.shows {
            if tap.wants(*id) {
                let from = self.seen[stage - 1];
                let value = read_wide(device, from, out, clips)?;
                if let Some(other) = show(model, tap, *id, clips, value)? {
                    write(device, from, &from_planes(&other, out))?;
                    self.resume(self.bound, device, *stage)?;
                }
            }
        }
        self.embedding(device, (model, tap))
    }

    /// Runs the stages after one whose value lies where it is seen.
    fn resume(
        &self,
        bound: &Bound<'_>,
        device: &mut dyn Device,
        stage: usize,
    ) -> Result<(), EngineError> {
        let mut seen = self.seen;
        seen[..stage].fill(0);
        let launch = bound.resume(device, self.finish, (stage, self.seen[stage - 1]), seen)?;
        // SAFETY: as in `run`; the value lies in memory of its own.
        unsafe { device.launch(&launch) }
    }

    fn embedding(
        &self,
        device: &mut dyn Device,
        (model, tap): (&Model, &mut dyn Tap),
    ) -> Result<(), EngineError> {
        let Some((post, id)) = &self.finish.post else { return Ok(()) };
        if !tap.wants(*id) {
            return Ok(());
        }
        let out = &self.finish.out;
        let value = to_planes(&post.values, out);
        let Some(other) = show(model, tap, *id, 1, value)? else { return Ok(()) };
        let other = from_planes(&other, out);
        let memory = device.alloc(other.len() * size_of::<f32>())?;
        write(device, memory.address, &other)?;
        self.resume(&Bound { post: memory.address, ..*self.bound }, device, stage::PRODUCT)?;
        // The kernel still reads the embedding.
        device.synchronize()
    }
}

/// Shows all modules of an empty batch.
pub fn nothing(model: &Model, tap: &mut dyn Tap) -> Result<(), EngineError> {
    let others = model.modules().iter().filter(|m| m.id != model.input && m.batched);
    for module in others {
        if tap.wants(module.id) {
            show(model, tap, module.id, 0, vec![])?;
        }
    }
    Ok(())
}
