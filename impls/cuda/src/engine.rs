//! The engine: a plan, a device and its memory.

#![allow(unsafe_code, reason = "launches kernels over its own memory")]

use std::sync::Arc;
use std::time::Instant;

use checkpoint::Weights;
use spec::{Engine, EngineError, Frames, Ignore, Model, Precision, Tap, Tensor};

use crate::device::{Device, Gpu, Launch, Memory, Recording, failed};
use crate::kernels::{File, Tile, Variant, is_half, normalize};
use crate::plan::build::plan;
use crate::plan::{Input, Op, Plan};
use crate::run::bind::{Bound, UNSEEN};
use crate::run::layout::{self, Action, Layout, Terms};
use crate::run::observe;

/// Layouts that are kept: full batches and the rest of a data set.
const LAYOUTS: usize = 3;

/// The implementation for GPUs.
pub struct Cuda {
    model: Arc<Model>,
    precision: Precision,
    plan: Plan,
    // Dropped in this order: what was recorded, then memory, then the device.
    prepared: Vec<Prepared>,
    arena: Option<Memory>,
    frames: Option<Memory>,
    constants: Memory,
    device: Box<dyn Device>,
    /// Fills the arena with NaN before each run: a value that is read before it is written shows.
    pub poison: bool,
}

/// A batch size for which everything is ready.
struct Prepared {
    layout: Layout,
    apart: bool,
    recording: Option<Recording>,
}

/// Clips on the device.
#[derive(Debug, Clone, Copy)]
pub struct Staged {
    clips: usize,
}

/// A step and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// The module that it computes or ends with.
    pub name: String,
    /// The kind of work.
    pub kind: &'static str,
    /// Multiply-accumulates of the convolutions that it stands for, in this batch.
    pub macs: u64,
    /// Bytes of weights, inputs and outputs that it touches.
    pub bytes: u64,
    /// Its time, with the launch.
    pub seconds: f64,
}

/// Loads the engine on a GPU by number.
pub fn load(
    model: Arc<Model>,
    weights: &Weights,
    precision: Precision,
    ordinal: usize,
) -> Result<Cuda, EngineError> {
    Cuda::new(model, weights, precision, Box::new(Gpu::open(ordinal)?))
}

impl Cuda {
    /// Plans the network, and brings its weights to the device. A missing tensor is
    /// [`EngineError::MissingWeight`], one of another shape [`EngineError::Shape`].
    pub fn new(
        model: Arc<Model>,
        weights: &Weights,
        precision: Precision,
        mut device: Box<dyn Device>,
    ) -> Result<Self, EngineError> {
        check(precision, device.capability())?;
        let mut plan = plan(&model, weights, precision)?;
        let bytes = std::mem::take(&mut plan.constants);
        let constants = device.alloc(bytes.len())?;
        // SAFETY: it was just made for them.
        unsafe { device.write(constants.address, &bytes)? };
        let (prepared, arena, frames) = (vec![], None, None);
        Ok(Cuda {
            model,
            precision,
            plan,
            prepared,
            arena,
            frames,
            constants,
            device,
            poison: false,
        })
    }

    /// The device.
    pub fn device(&mut self) -> &mut dyn Device {
        self.device.as_mut()
    }

    /// Compiles all that the engine may ever ask for: what a first run would else do.
    pub fn compile_all(&mut self) -> Result<(), EngineError> {
        Variant::all(self.precision).iter().try_for_each(|v| self.device.kernel(v).map(drop))
    }

    fn terms(&self, apart: bool) -> Terms {
        Terms { precision: self.precision, machine: self.device.machine(), apart }
    }

    /// The place in `prepared` of a batch, with memory for it.
    fn prepare(&mut self, clips: usize, apart: bool) -> Result<usize, EngineError> {
        let known = |p: &Prepared| p.layout.clips == clips && p.apart == apart;
        if let Some(found) = self.prepared.iter().position(known) {
            return Ok(found);
        }
        let layout = Layout::new(&self.plan, clips, self.terms(apart))?;
        if self.arena.as_ref().is_none_or(|arena| arena.bytes < layout.bytes) {
            // What was recorded has addresses in it. The old arena goes first: both may be too much.
            self.prepared.clear();
            self.arena = None;
            self.check_memory(&layout, apart)?;
            self.arena = Some(self.device.alloc(layout.bytes)?);
        }
        if self.prepared.len() == LAYOUTS {
            self.prepared.clear();
        }
        self.prepared.push(Prepared { layout, apart, recording: None });
        Ok(self.prepared.len() - 1)
    }

    /// Refuses a batch that does not fit, and says which one would.
    fn check_memory(&self, layout: &Layout, apart: bool) -> Result<(), EngineError> {
        let free = self.device.free()?;
        // The driver keeps some for itself.
        let usable = free - free / 16;
        if layout.bytes <= usable {
            return Ok(());
        }
        let bytes = |clips| Layout::new(&self.plan, clips, self.terms(apart)).map(|l| l.bytes);
        let (mut fits, mut not) = (0, layout.clips);
        while not - fits > 1 {
            let middle = fits.midpoint(not);
            if bytes(middle)? <= usable { fits = middle } else { not = middle }
        }
        Err(EngineError::OutOfMemory {
            device: self.device.describe(),
            clips: layout.clips,
            needed: layout.bytes >> 20,
            free: free >> 20,
            fits,
        })
    }

    /// Puts the clip into the arena.
    fn begin(&mut self, at: usize, clip: &[f32]) -> Result<(), EngineError> {
        let (arena, layout) = (self.arena()?, &self.prepared[at].layout);
        let device = self.device.as_mut();
        // SAFETY: the arena has room for the layout, and the layout for the clip.
        unsafe {
            if self.poison {
                device.fill(arena, layout.bytes, 0xff)?;
            }
            device.write(arena + layout.clip() as u64, bytemuck::cast_slice(clip))
        }
    }

    fn arena(&self) -> Result<u64, EngineError> {
        self.arena.as_ref().map(|arena| arena.address).ok_or_else(|| failed("there is no arena"))
    }

    /// Brings frames to the device and normalises them into the arena.
    fn begin_frames(&mut self, at: usize, frames: &Frames<'_>) -> Result<(), EngineError> {
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
        // SAFETY: the frames fit their memory, and the clip has its place in the arena.
        unsafe {
            self.device.write(rgb, frames.rgb)?;
            self.device.launch(&Launch { kernel, grid, args })
        }
    }

    /// As [`Engine::forward_frames`].
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
        self.begin_frames(at, frames)?;
        self.replay(at)?;
        self.output(clips, at)
    }

    /// The device, and a layout with its addresses.
    fn parts(&mut self, at: usize) -> Result<(&mut dyn Device, Bound<'_>), EngineError> {
        let bound = Bound {
            arena: self.arena()?,
            plan: &self.plan,
            layout: &self.prepared[at].layout,
            precision: self.precision,
            constants: self.constants.address,
            post: 0,
        };
        Ok((self.device.as_mut(), bound))
    }

    /// Runs a batch that nobody observes.
    fn replay(&mut self, at: usize) -> Result<(), EngineError> {
        if self.prepared[at].recording.is_none() {
            let (device, bound) = self.parts(at)?;
            let mut launches = vec![];
            for action in 0..bound.layout.actions.len() {
                launches.extend(bound.launches(device, action, UNSEEN)?);
            }
            // SAFETY: all addresses are of the arena and the constants, which outlive the recording.
            self.prepared[at].recording = Some(unsafe { device.record(&launches)? });
        }
        let recording = self.prepared[at].recording.as_ref();
        recording.map_or(Ok(()), |recording| self.device.replay(recording))
    }

    /// Runs a batch action by action, each followed by `after`.
    fn each(
        &mut self,
        at: usize,
        tap: &mut dyn Tap,
        mut after: impl FnMut(&mut dyn Device, usize) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let model = self.model.clone();
        let (device, bound) = self.parts(at)?;
        for (action, what) in bound.layout.actions.iter().enumerate() {
            let index = match what {
                Action::Step(index, _) => {
                    let op = &bound.plan.steps[*index].op;
                    observe::step(&bound, device, (&model, tap), action, op)?;
                    *index
                }
                Action::Fused(block, _) => {
                    observe::run(&bound, device, action, UNSEEN)?;
                    block.temporal
                }
            };
            after(device, index)?;
        }
        Ok(())
    }

    fn output(&mut self, clips: usize, at: usize) -> Result<Tensor, EngineError> {
        let shape = self.model.module(self.model.output()).batch_shape(clips);
        let (device, bound) = self.parts(at)?;
        let output = bound.plan.output;
        let values = observe::read_wide(device, bound.at(&output), &output, clips)?;
        Ok(Tensor::f32(shape, values))
    }

    /// Brings clips to the device, where [`Cuda::run_staged`] finds them.
    pub fn stage(&mut self, input: &Tensor) -> Result<Staged, EngineError> {
        let clips = self.clips(input)?;
        let at = self.prepare(clips, false)?;
        self.begin(at, &input.to_f32())?;
        Ok(Staged { clips })
    }

    /// Runs the network over clips that are on the device, and waits for it: what a benchmark times.
    pub fn run_staged(&mut self, staged: Staged) -> Result<(), EngineError> {
        let at = self.prepare(staged.clips, false)?;
        self.replay(at)?;
        self.device.synchronize()
    }

    /// The output of the last run of staged clips.
    pub fn staged_output(&mut self, staged: Staged) -> Result<Tensor, EngineError> {
        let at = self.prepare(staged.clips, false)?;
        self.output(staged.clips, at)
    }

    /// How many clips the input holds.
    fn clips(&self, input: &Tensor) -> Result<usize, EngineError> {
        let clips = input.shape.first().copied().unwrap_or(0);
        let expected = self.model.input_shape(clips);
        match input.shape == expected {
            true => Ok(clips),
            false => {
                let (what, got) = ("input".to_owned(), input.shape.clone());
                Err(EngineError::Shape { what, expected, got })
            }
        }
    }

    /// Runs a clip and returns what each action took, launches included.
    pub fn profile(&mut self, input: &Tensor) -> Result<Vec<Timed>, EngineError> {
        let clips = self.clips(input)?;
        let at = self.prepare(clips, false)?;
        self.begin(at, &input.to_f32())?;
        let (mut start, mut taken) = (Instant::now(), vec![]);
        self.device.synchronize()?;
        self.each(at, &mut Ignore, |device, index| {
            device.synchronize()?;
            taken.push((index, start.elapsed().as_secs_f64()));
            start = Instant::now();
            Ok(())
        })?;
        let steps = &self.plan.steps;
        let timed = taken.into_iter().map(|(index, seconds)| Timed {
            name: steps[index].name.clone(),
            kind: steps[index].kind,
            macs: steps[index].macs * clips as u64,
            bytes: bytes(&steps[index].op, clips, self.precision),
            seconds,
        });
        Ok(timed.collect())
    }

    /// Which steps a batch of so many clips runs as one kernel, and how convolutions are cut: name,
    /// kind, in words.
    pub fn explain(
        &mut self,
        clips: usize,
    ) -> Result<Vec<(String, &'static str, String)>, EngineError> {
        let at = self.prepare(clips, false)?;
        let steps = &self.plan.steps;
        let actions = self.prepared[at].layout.actions.iter().map(|action| {
            let (index, how) = match action {
                Action::Step(index, Some(cut)) => {
                    let Tile { pixels, outputs, .. } = cut.tile;
                    (*index, format!("{pixels}x{outputs} in {}", cut.splits))
                }
                Action::Step(index, None) => (*index, "direct".to_owned()),
                Action::Fused(block, tile) => {
                    (block.temporal, format!("fused block {}x{}", tile.pixels, tile.outputs))
                }
            };
            (steps[index].name.clone(), steps[index].kind, how)
        });
        Ok(actions.collect())
    }
}

/// Bytes of weights, inputs and output of a step by itself.
fn bytes(op: &Op, clips: usize, precision: Precision) -> u64 {
    let weights: usize = match op {
        Op::Conv(conv) => {
            let each = conv.inputs.iter().map(Input::depth);
            each.map(|depth| depth * conv.finish.out.channels).sum()
        }
        Op::Dense { from, finish, .. } => from.channels * finish.out.channels,
        _ => 0,
    };
    let maps = op.reads().into_iter().chain([op.out()]);
    let maps: usize = maps.map(|map| layout::bytes(&map, clips, precision)).sum();
    (weights * if is_half(precision) { 2 } else { 4 } + maps) as u64
}

/// Refuses a number format that the GPU does not have.
fn check(precision: Precision, (major, minor): (i32, i32)) -> Result<(), EngineError> {
    match precision {
        Precision::F64 => Err(failed(
            "the engine cuda computes in f32, tf32, bf16 or f16, not in f64; use scalar or torch",
        )),
        Precision::Bf16 | Precision::Tf32 if major < 8 => Err(EngineError::Device(format!(
            "{precision} needs a GPU of sm_80 or newer and this one is sm_{major}{minor}; use f32 or f16"
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
        let clips = self.clips(input)?;
        let (model, id) = (self.model.clone(), self.model.input);
        let replaced = match tap.wants(id) {
            true => observe::show(&model, tap, id, clips, input.to_f32())?,
            false => None,
        };
        let clip = replaced.unwrap_or_else(|| input.to_f32());
        let observed = model.modules().iter().any(|module| module.id != id && tap.wants(module.id));
        if clips == 0 {
            observe::nothing(&model, tap)?;
            let shape = model.module(model.output()).batch_shape(0);
            return Ok(Tensor::f32(shape, vec![]));
        }
        let at = self.prepare(clips, observed)?;
        self.begin(at, &clip)?;
        match observed {
            true => self.each(at, tap, |_, _| Ok(()))?,
            false => self.replay(at)?,
        }
        self.output(clips, at)
    }

    fn forward_frames(&mut self, frames: &Frames<'_>) -> Option<Result<Tensor, EngineError>> {
        Some(self.run_frames(frames))
    }
}
