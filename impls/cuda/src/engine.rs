//! The engine: runs a plan on a device, and owns the memory there.

#![allow(unsafe_code, reason = "launches kernels on memory that it allocated")]

use std::sync::Arc;
use std::time::Instant;

use checkpoint::Weights;
use lower::tap;
use spec::{
    Engine, EngineError, Frames, Ignore, Model, Module, Precision, Profile, StepTime, Tap, Tensor,
};

use crate::device::{Device, Gpu, Launch, Memory, Recording, failed};
use crate::kernels::tile::BandSupport;
use crate::kernels::{File, Tile, Variant, is_half, normalize};
use crate::plan::Plan;
use crate::plan::build::plan;
use crate::run::bind::{Bound, UNOBSERVED};
use crate::run::check::right_bands;
use crate::run::cluster_check::clusters_are_right;
use crate::run::layout::{Action, Layout, LayoutOptions, Way};
use crate::run::observe;
use crate::run::pair_check::pairs_are_right;
use crate::run::predict::{self, Prediction};

/// How many layouts are kept: a data set needs one for full batches and one for the rest, and an
/// observed batch needs its own.
const MAX_LAYOUTS: usize = 3;

/// The engine `cuda`.
pub struct Cuda {
    model: Arc<Model>,
    precision: Precision,
    plan: Plan,
    // Fields are dropped in order: recordings hold addresses of the memory, and memory belongs to
    // the device.
    prepared: Vec<Prepared>,
    arena: Option<Memory>,
    /// The clips that [`Profile::timed`] has left in the arena, if nothing was written there since.
    timed_clips: Option<Vec<f32>>,
    frames: Option<Memory>,
    constants: Memory,
    device: Box<dyn Device>,
    /// Whether the arena is filled with NaN before each clip, so that a test notices a value that
    /// is read before it is written.
    pub poison: bool,
}

/// What is ready for one batch size.
struct Prepared {
    layout: Layout,
    unfused: bool,
    /// All launches of a batch, recorded when it first runs without an observer.
    recording: Option<Recording>,
}

/// Loads the engine on the GPU with the number `ordinal`. A GPU that computes convolutions in bands
/// wrongly, all or those of a window, runs them in tiles. Fails as [`Gpu::open`] and [`Cuda::new`] do.
pub fn load(
    model: Arc<Model>,
    weights: &Weights,
    precision: Precision,
    ordinal: usize,
) -> Result<Cuda, EngineError> {
    let mut gpu = Gpu::open(ordinal)?;
    let right = right_bands(&mut gpu, precision)?;
    if right != gpu.machine().bands {
        gpu.limit_bands(right);
    }
    if gpu.machine().clusters && !clusters_are_right(&mut gpu, precision)? {
        gpu.leave_clusters();
    }
    if !pairs_are_right(&mut gpu, precision)? {
        gpu.leave_pairs();
    }
    Cuda::new(model, weights, precision, Box::new(gpu))
}

impl Cuda {
    /// Plans the network and copies its weights to the device. A missing tensor is
    /// [`EngineError::MissingWeight`], one of another shape is [`EngineError::Shape`], a precision
    /// that the device does not support is [`EngineError::Device`] or [`EngineError::Backend`].
    pub fn new(
        model: Arc<Model>,
        weights: &Weights,
        precision: Precision,
        mut device: Box<dyn Device>,
    ) -> Result<Self, EngineError> {
        check(precision, device.capability())?;
        let in_bands = is_half(precision) && device.machine().bands != BandSupport::Off;
        let mut plan = plan(&model, weights.clone(), precision, in_bands)?;
        let bytes = std::mem::take(&mut plan.constants);
        let constants = device.alloc(bytes.len())?;
        // SAFETY: `constants` was allocated with the length of `bytes`.
        unsafe { device.write(constants.address, &bytes)? };
        device.freeze(&constants)?;
        let (prepared, arena, timed_clips, frames) = (vec![], None, None, None);
        Ok(Cuda {
            model,
            precision,
            plan,
            prepared,
            arena,
            timed_clips,
            frames,
            constants,
            device,
            poison: false,
        })
    }

    /// The device that the engine runs on.
    pub fn device(&mut self) -> &mut dyn Device {
        self.device.as_mut()
    }

    /// Compiles every kernel that the engine may need, so that no later run has to.
    pub fn compile_all(&mut self) -> Result<(), EngineError> {
        let all = Variant::all(self.precision, self.device.machine().shared_bytes);
        all.iter().try_for_each(|v| self.device.kernel(v).map(drop))
    }

    fn options(&self, unfused: bool) -> LayoutOptions {
        LayoutOptions { precision: self.precision, machine: self.device.machine(), unfused }
    }

    /// Index in `prepared` of a batch size. Makes the layout, and grows the arena, if that is
    /// needed.
    fn prepare(&mut self, clips: usize, unfused: bool) -> Result<usize, EngineError> {
        let known = |p: &Prepared| p.layout.clips == clips && p.unfused == unfused;
        if let Some(found) = self.prepared.iter().position(known) {
            return Ok(found);
        }
        let layout = Layout::new(&self.plan, clips, self.options(unfused))?;
        if self.arena.as_ref().is_none_or(|arena| arena.bytes < layout.bytes) {
            // Recordings hold addresses of the old arena. It is freed before the new one is
            // allocated, because the GPU may not have enough memory for both.
            self.prepared.clear();
            self.timed_clips = None;
            self.arena = None;
            self.check_memory(&layout, unfused)?;
            self.arena = Some(self.device.alloc(layout.bytes)?);
        }
        if self.prepared.len() == MAX_LAYOUTS {
            self.prepared.clear();
        }
        self.prepared.push(Prepared { layout, unfused, recording: None });
        Ok(self.prepared.len() - 1)
    }

    /// Fails with [`EngineError::OutOfMemory`] if the arena does not fit into free memory. The
    /// error holds the largest number of clips that fits, found by bisection.
    fn check_memory(&self, layout: &Layout, unfused: bool) -> Result<(), EngineError> {
        let free = self.device.free()?;
        // A sixteenth is left for the driver and the compiled kernels.
        let usable = free - free / 16;
        if layout.bytes <= usable {
            return Ok(());
        }
        let bytes = |clips| Layout::new(&self.plan, clips, self.options(unfused)).map(|l| l.bytes);
        let (mut fits, mut too_many) = (0, layout.clips);
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            if bytes(middle)? <= usable { fits = middle } else { too_many = middle }
        }
        Err(EngineError::OutOfMemory {
            device: self.device.describe(),
            clips: layout.clips,
            needed: layout.bytes >> 20,
            free: free >> 20,
            fits,
        })
    }

    /// Copies the clips, f32 [clips, 3, frames, height, width], into the arena.
    fn upload_clip(&mut self, at: usize, clip: &[f32]) -> Result<(), EngineError> {
        self.timed_clips = None;
        let (arena, layout) = (self.arena()?, &self.prepared[at].layout);
        let device = self.device.as_mut();
        // SAFETY: `prepare` has made the arena at least `layout.bytes` long, and the layout holds a
        // buffer of the size of the clip, whose shape the callers have checked.
        unsafe {
            if self.poison {
                device.fill(arena, layout.bytes, 0xff)?;
            }
            device.write(arena + layout.clip() as u64, bytemuck::cast_slice(clip))
        }
    }

    fn arena(&self) -> Result<u64, EngineError> {
        self.arena
            .as_ref()
            .map(|arena| arena.address)
            .ok_or_else(|| failed("internal error: no batch was prepared"))
    }

    /// Copies decoded frames to the device and normalises them into the arena.
    fn upload_frames(&mut self, at: usize, frames: &Frames<'_>) -> Result<(), EngineError> {
        self.timed_clips = None;
        if self.frames.as_ref().is_none_or(|memory| memory.bytes < frames.rgb.len()) {
            self.frames = None;
            self.frames = Some(self.device.alloc(frames.rgb.len())?);
        }
        let rgb = self.frames.as_ref().map_or(0, |memory| memory.address);
        let (arena, layout) = (self.arena()?, &self.prepared[at].layout);
        let [images, frame_count, height, width] = frames.shape.map(|extent| extent as i32);
        let args = normalize::Args {
            rgb,
            clip: arena + layout.clip() as u64,
            mean: frames.mean,
            std: frames.std,
            images,
            frames: frame_count,
            pixels: height * width,
            unused: 0,
        };
        let kernel = self.device.kernel(&Variant::new(File::Normalize, self.precision))?;
        let (grid, args) = (normalize::grid(&args), bytemuck::bytes_of(&args).to_vec());
        // SAFETY: `self.frames` is at least as long as `frames.rgb`, as checked above. The kernel
        // reads that many bytes and writes as many floats to the clip buffer of the layout:
        // `run_frames` has compared both sizes with the shape of the frames.
        unsafe {
            self.device.write(rgb, frames.rgb)?;
            self.device.launch(&Launch { kernel, grid, cluster: 1, args })
        }
    }

    /// See [`Engine::forward_frames`].
    fn run_frames(&mut self, frames: &Frames<'_>) -> Result<Tensor, EngineError> {
        let [clips, count, height, width] = frames.shape;
        let expected = self.model.input_shape(clips);
        let got = vec![clips, 3, count, height, width];
        if got != expected || frames.rgb.len() != got.iter().product::<usize>() {
            return Err(EngineError::Shape { what: "input".to_owned(), expected, got });
        }
        if clips == 0 {
            return self.forward(&Tensor::f32(got, vec![]), &mut Ignore);
        }
        let at = self.prepare(clips, false)?;
        self.upload_frames(at, frames)?;
        self.replay(at)?;
        self.output(clips, at)
    }

    /// The device, and the layout `at` with addresses.
    fn parts(&mut self, at: usize) -> Result<(&mut dyn Device, Bound<'_>), EngineError> {
        let bound = Bound {
            arena: self.arena()?,
            plan: &self.plan,
            layout: &self.prepared[at].layout,
            precision: self.precision,
            constants: self.constants.address,
            addend: 0,
        };
        Ok((self.device.as_mut(), bound))
    }

    /// Records the launches of a batch without an observer, unless they are recorded already.
    fn record(&mut self, at: usize) -> Result<(), EngineError> {
        if self.prepared[at].recording.is_none() {
            let (device, bound) = self.parts(at)?;
            let mut launches = vec![];
            for action in 0..bound.layout.actions.len() {
                launches.extend(bound.launches(device, action, UNOBSERVED)?);
            }
            // SAFETY: `Bound` took all addresses from the arena and the constants. `prepare` clears
            // recordings before it frees the arena, and the fields of `Cuda` are dropped in that
            // order.
            self.prepared[at].recording = Some(unsafe { device.record(&launches)? });
        }
        Ok(())
    }

    /// Runs a batch without an observer.
    fn replay(&mut self, at: usize) -> Result<(), EngineError> {
        self.record(at)?;
        let recording = self.prepared[at].recording.as_ref();
        recording.map_or(Ok(()), |recording| self.device.replay(recording))
    }

    /// Runs a batch action by action, and calls `after` after each of them.
    fn for_each_action(
        &mut self,
        at: usize,
        tap: &mut dyn Tap,
        mut after: impl FnMut(&mut dyn Device) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let model = self.model.clone();
        let (device, bound) = self.parts(at)?;
        for (action, what) in bound.layout.actions.iter().enumerate() {
            match what {
                Action::Step(index, _) | Action::Imported(.., index) => {
                    let op = &bound.plan.steps[*index].op;
                    observe::step(&bound, device, (&model, tap), action, op)?;
                }
                Action::Fused(..)
                | Action::Pooled(..)
                | Action::Scaled(..)
                | Action::Halved(..)
                | Action::Paired(..) => observe::run(&bound, device, action, UNOBSERVED)?,
            }
            after(device)?;
        }
        Ok(())
    }

    /// The output of the last run of a batch.
    fn output(&mut self, clips: usize, at: usize) -> Result<Tensor, EngineError> {
        let shape = self.model.module(self.model.output()).batch_shape(clips);
        let (device, bound) = self.parts(at)?;
        let output = bound.plan.output;
        let values = observe::read_wide(device, bound.at(&output), &output, clips)?;
        Ok(Tensor::f32(shape, values))
    }

    /// For each action of a batch of `clips` clips on a GPU like this one: its kind, in words whether
    /// it runs in bands, in tiles or otherwise, and the predicted time on an H100.
    pub fn predict(
        &self,
        clips: usize,
    ) -> Result<Vec<(&'static str, &'static str, Prediction)>, EngineError> {
        let layout = Layout::new(&self.plan, clips, self.options(false))?;
        let predicted = layout.actions.iter().enumerate().map(|(at, action)| {
            let way = match (action, action.way()) {
                (Action::Imported(..) | Action::Paired(..), _) | (_, Some(Way::Bands(_))) => {
                    "bands"
                }
                (_, Some(Way::Tiles(_))) => "tiles",
                (_, None) => "",
            };
            (
                action.kind(&self.plan),
                way,
                predict::predict(&self.plan, &layout, at, self.precision),
            )
        });
        Ok(predicted.collect())
    }

    /// For each action of a batch of `clips` clips: its name, its kind, and in words whether it is
    /// a fused block, or which tile it has and how often its K is split.
    pub fn explain(
        &mut self,
        clips: usize,
    ) -> Result<Vec<(String, &'static str, String)>, EngineError> {
        let at = self.prepare(clips, false)?;
        let (steps, layout) = (&self.plan.steps, &self.prepared[at].layout);
        let actions = layout.actions.iter().map(|action| {
            let fused = match action {
                Action::Pooled(..) => "average pool and dense layer in one, ",
                Action::Scaled(..) => "with the product of its map, ",
                Action::Halved(..) => "with the downsampling after it, ",
                Action::Imported(..) => "with the import, ",
                Action::Paired(..) => "with the next 1x1 convolution, ",
                Action::Fused(..) => "fused block, ",
                Action::Step(..) => "",
            };
            let how = match (action, action.way()) {
                (Action::Imported(_, division, _), _) => {
                    format!("bands of planes, {} tiles", division.tiles)
                }
                (Action::Paired(_, division, _), _) => {
                    let weights = if division.resident { "kept" } else { "loaded for each tile" };
                    format!("bands, {} tiles, weights {weights}", division.tiles)
                }
                (_, None) => "no tile".to_owned(),
                (_, Some(Way::Tiles(tiling))) => {
                    let Tile { pixels, outputs, .. } = tiling.tile;
                    let reduced = layout.is_reduced(tiling.splits);
                    let by = if reduced { " with another launch" } else { "" };
                    format!("tile {pixels}x{outputs}, K split by {}{by}", tiling.splits)
                }
                (_, Some(Way::Bands(division))) => {
                    let (columns, outputs) = (division.tile.columns, division.tile.outputs());
                    format!("bands, {columns} columns x {outputs}, {} tiles", division.bands.tiles)
                }
            };
            let how = format!("{fused}{how}");
            let step = &steps[action.main()];
            (step.name.clone(), action.kind(&self.plan), how)
        });
        Ok(actions.collect())
    }
}

/// Fails for a precision that the GPU does not support.
fn check(precision: Precision, (major, minor): (i32, i32)) -> Result<(), EngineError> {
    match precision {
        Precision::F64 => Err(failed(
            "the engine cuda computes in f32, tf32, bf16 or f16, not in f64; use the engine \
             scalar or torch",
        )),
        Precision::Bf16 | Precision::Tf32 if major < 8 => Err(EngineError::Device(format!(
            "{precision} needs a GPU of compute capability 8.0 or newer, and this one has \
             {major}.{minor}; use f32 or f16"
        ))),
        _ => Ok(()),
    }
}

impl Engine for Cuda {
    fn describe(&self) -> String {
        format!("cuda {} on {}", self.precision, self.device.describe())
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        let model = self.model.clone();
        let (clips, clip) = tap::input(&model, tap, input)?;
        let wanted = |module: &Module| module.id != model.input && tap.wants(module.id);
        let observed = model.modules().iter().any(wanted);
        if clips == 0 {
            observe::empty_batch(&model, tap)?;
            let shape = model.module(model.output()).batch_shape(0);
            return Ok(Tensor::f32(shape, vec![]));
        }
        let at = self.prepare(clips, observed)?;
        self.upload_clip(at, &clip)?;
        match observed {
            true => self.for_each_action(at, tap, |_| Ok(()))?,
            false => self.replay(at)?,
        }
        self.output(clips, at)
    }

    fn forward_frames(&mut self, frames: &Frames<'_>) -> Option<Result<Tensor, EngineError>> {
        Some(self.run_frames(frames))
    }

    /// Leaves the clips on the device, so that the next call with the same clips copies nothing.
    /// Kernels are compiled before the time is taken.
    fn timed(&mut self, input: &Tensor) -> Result<(Tensor, f64), EngineError> {
        let (clips, clip) = tap::input(&self.model, &mut Ignore, input)?;
        if clips == 0 {
            return Ok((self.forward(input, &mut Ignore)?, 0.0));
        }
        let at = self.prepare(clips, false)?;
        let bits = bytemuck::cast_slice::<f32, u8>;
        if self.timed_clips.as_deref().map(bits) != Some(bits(&clip)) {
            self.upload_clip(at, &clip)?;
            self.timed_clips = Some(clip.into_owned());
        }
        self.record(at)?;
        self.device.synchronize()?;
        let start = Instant::now();
        self.replay(at)?;
        self.device.synchronize()?;
        let seconds = start.elapsed().as_secs_f64();
        Ok((self.output(clips, at)?, seconds))
    }

    fn as_profile(&mut self) -> Option<&mut dyn Profile> {
        Some(self)
    }
}

impl Profile for Cuda {
    /// Waits for the device after each step, so the sum is larger than the time of a run.
    fn profile(&mut self, input: &Tensor) -> Result<Vec<StepTime>, EngineError> {
        let clips = tap::clips(&self.model, input)?;
        let at = self.prepare(clips, false)?;
        self.upload_clip(at, &input.to_f32())?;
        self.device.synchronize()?;
        let (mut start, mut seconds) = (Instant::now(), vec![]);
        self.for_each_action(at, &mut Ignore, |device| {
            device.synchronize()?;
            seconds.push(start.elapsed().as_secs_f64());
            start = Instant::now();
            Ok(())
        })?;
        let layout = &self.prepared[at].layout;
        let modelled = predict::holds_for(self.device.as_ref(), self.precision);
        let time = |(at, seconds): (usize, f64)| {
            let action = &layout.actions[at];
            let steps = action.steps().map(|index| &self.plan.steps[index]);
            let main = &self.plan.steps[action.main()];
            StepTime {
                name: main.name.clone(),
                kind: action.kind(&self.plan),
                macs: steps.map(|step| step.macs).sum::<u64>() * clips as u64,
                bytes: predict::bytes(&self.plan, layout, at, self.precision),
                seconds,
                predicted: modelled
                    .then(|| predict::predict(&self.plan, layout, at, self.precision).seconds),
            }
        };
        Ok(seconds.into_iter().enumerate().map(time).collect())
    }
}
