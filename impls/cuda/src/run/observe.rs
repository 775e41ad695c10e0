//! Hands activations to a tap, and continues from the values that the tap replaces them with.

#![allow(unsafe_code, reason = "reads and writes device memory")]

use lower::Stage;
use lower::tap::{self, TapPoint, observe};
use spec::{EngineError, Model, Tap};

use super::bind::{Bound, Observed, UNOBSERVED, slot};
use crate::device::{Device, Memory};
use crate::plan::{Epilogue, Map, Op};

/// Where the values [images, channels, height, width] of a map lie in memory.
fn positions(map: &Map, images: usize) -> impl Iterator<Item = usize> {
    tap::positions(images, map.channels, map.pixels(), map.pitch)
}

/// Converts [images, height, width, pitch] to [images, channels, height, width].
fn to_planes(values: &[f32], map: &Map) -> Vec<f32> {
    positions(map, values.len() / map.image()).map(|at| values[at]).collect()
}

/// Converts [images, channels, height, width] to [images, height, width, pitch], with zeros in
/// padded channels.
fn from_planes(values: &[f32], map: &Map) -> Vec<f32> {
    let images = values.len() / (map.channels * map.pixels());
    let mut out = vec![0.0; images * map.image()];
    positions(map, images).zip(values).for_each(|(at, value)| out[at] = *value);
    out
}

/// Reads `count` float32 values of the device.
fn read(device: &mut dyn Device, from: u64, count: usize) -> Result<Vec<f32>, EngineError> {
    let mut values = vec![0f32; count];
    // SAFETY: every caller passes the address and the length of a buffer, either a map of the
    // layout or a copy that was allocated with these bytes, and `device.read` fills exactly the
    // bytes of `values`.
    unsafe { device.read(from, bytemuck::cast_slice_mut(&mut values))? };
    Ok(values)
}

/// Writes float32 values to the device.
fn write(device: &mut dyn Device, to: u64, values: &[f32]) -> Result<(), EngineError> {
    // SAFETY: `values` has the size of the buffer at `to`. For a map of the layout and for a copy
    // of it, `observe` has checked the shape of the replacement; the memory of an embedding is
    // allocated with this length.
    unsafe { device.write(to, bytemuck::cast_slice(values)) }
}

/// Reads a wide map at the address `from` as [images, channels, height, width].
pub fn read_wide(
    device: &mut dyn Device,
    from: u64,
    map: &Map,
    clips: usize,
) -> Result<Vec<f32>, EngineError> {
    Ok(to_planes(&read(device, from, clips * map.image())?, map))
}

/// Runs an action of one step, hands the tap the activations that it wants, and continues from
/// those that the tap replaces.
pub fn step(
    bound: &Bound<'_>,
    device: &mut dyn Device,
    (model, tap): (&Model, &mut dyn Tap),
    at: usize,
    op: &Op,
) -> Result<(), EngineError> {
    match op {
        Op::AveragePool { out, module: id, .. } => {
            run(bound, device, at, UNOBSERVED)?;
            if tap.wants(*id) {
                let value = read_wide(device, bound.at(out), out, bound.layout.clips)?;
                if let Some(other) = observe(model, tap, *id, bound.layout.clips, value)? {
                    write(device, bound.at(out), &from_planes(&other, out))?;
                }
            }
            Ok(())
        }
        other => match other.epilogue() {
            Some(epilogue) => {
                ObservedEpilogue::new(bound, device, (at, epilogue), tap)?.run(device, (model, tap))
            }
            None => run(bound, device, at, UNOBSERVED),
        },
    }
}

/// Launches an action, which copies the `observed` stages of its epilogue.
pub fn run(
    bound: &Bound<'_>,
    device: &mut dyn Device,
    at: usize,
    observed: Observed,
) -> Result<(), EngineError> {
    for launch in bound.launches(device, at, observed)? {
        // SAFETY: `Bound::launches` took every address from the arena and the constants, which are
        // allocated with the sizes of the layout and the plan and live as long as the engine.
        unsafe { device.launch(&launch)? };
    }
    Ok(())
}

/// An epilogue whose stages are copied for a tap.
struct ObservedEpilogue<'a> {
    bound: &'a Bound<'a>,
    epilogue: &'a Epilogue,
    /// The action that it belongs to.
    at: usize,
    /// Owns the copies.
    memory: Vec<Memory>,
    /// Addresses of the copies.
    observed: Observed,
}

impl<'a> ObservedEpilogue<'a> {
    fn new(
        bound: &'a Bound<'a>,
        device: &mut dyn Device,
        (at, epilogue): (usize, &'a Epilogue),
        tap: &dyn Tap,
    ) -> Result<Self, EngineError> {
        let (mut memory, mut observed) = (vec![], UNOBSERVED);
        let bytes = bound.layout.clips * epilogue.out.image() * size_of::<f32>();
        let mut copy_after = |stage: Stage| -> Result<(), EngineError> {
            let copy = device.alloc(bytes)?;
            observed[slot(stage)] = copy.address;
            memory.push(copy);
            Ok(())
        };
        for TapPoint { stage, module } in &epilogue.tap_points {
            if tap.wants(*module) {
                copy_after(*stage)?;
            }
        }
        if epilogue.addend.as_ref().is_some_and(|(_, id)| tap.wants(*id)) {
            copy_after(Stage::Product)?;
        }
        Ok(ObservedEpilogue { bound, epilogue, at, memory, observed })
    }

    fn run(
        &self,
        device: &mut dyn Device,
        (model, tap): (&Model, &mut dyn Tap),
    ) -> Result<(), EngineError> {
        run(self.bound, device, self.at, self.observed)?;
        if self.memory.is_empty() {
            return Ok(());
        }
        let (out, clips) = (&self.epilogue.out, self.bound.layout.clips);
        for TapPoint { stage, module } in &self.epilogue.tap_points {
            if tap.wants(*module) {
                let from = self.observed[slot(*stage)];
                let value = read_wide(device, from, out, clips)?;
                if let Some(other) = observe(model, tap, *module, clips, value)? {
                    write(device, from, &from_planes(&other, out))?;
                    self.resume(self.bound, device, *stage)?;
                }
            }
        }
        self.embedding(device, (model, tap))
    }

    /// Runs the epilogue stages after `stage`, from the copy of the value after it.
    fn resume(
        &self,
        bound: &Bound<'_>,
        device: &mut dyn Device,
        stage: Stage,
    ) -> Result<(), EngineError> {
        let mut observed = self.observed;
        observed[..=slot(stage)].fill(0);
        let launch = bound.resume(
            device,
            (self.at, self.epilogue),
            (stage, self.observed[slot(stage)]),
            observed,
        )?;
        // SAFETY: the addresses of the arena and the constants are valid as in `run`. The copies
        // are allocated in `new` with the size of the map, and `self.memory` keeps them.
        unsafe { device.launch(&launch) }
    }

    /// Hands the positional embedding to the tap. If it is replaced, repeats the last epilogue
    /// stage with the replacement.
    fn embedding(
        &self,
        device: &mut dyn Device,
        (model, tap): (&Model, &mut dyn Tap),
    ) -> Result<(), EngineError> {
        let Some((embedding, id)) = &self.epilogue.addend else { return Ok(()) };
        if !tap.wants(*id) {
            return Ok(());
        }
        let out = &self.epilogue.out;
        let value = to_planes(&embedding.values, out);
        let Some(other) = observe(model, tap, *id, 1, value)? else { return Ok(()) };
        let other = from_planes(&other, out);
        let memory = device.alloc(other.len() * size_of::<f32>())?;
        write(device, memory.address, &other)?;
        self.resume(&Bound { addend: memory.address, ..*self.bound }, device, Stage::Product)?;
        // The kernel reads the replacement, which is freed when this returns.
        device.synchronize()
    }
}

/// Hands the tap an empty activation of every module, for a batch of 0 clips.
pub fn empty_batch(model: &Model, tap: &mut dyn Tap) -> Result<(), EngineError> {
    let others = model.modules().iter().filter(|m| m.id != model.input && m.batched);
    for module in others {
        if tap.wants(module.id) {
            observe(model, tap, module.id, 0, vec![])?;
        }
    }
    Ok(())
}
