//! The engine: a plan, its workspace and its threads.

#![allow(unsafe_code, reason = "hands memory to the tasks")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use checkpoint::Weights;
use lower::{Stage, tap};
use spec::{Engine, EngineError, Model, Precision, Profile, StepTime, Tap, Tensor};

use crate::element::Bf16;
use crate::isa::{DetectedIsa, HasKernels, Isa, Kernels};
use crate::memory::Memory;
use crate::plan::build::{Target, plan};
use crate::plan::choose::Convolution;
use crate::plan::{EpilogueSpec, Map, Op, Plan};
use crate::pool::Pool;
use crate::run::exec::{StopStages, TaskContext};
use crate::run::layout::Layout;
use crate::run::observe;
use crate::simd::traffic::{self, Traffic};

/// Options of the engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The instruction set; None selects the best one of this machine.
    pub isa: Option<Isa>,
    /// Number of threads; 0 uses one for each core.
    pub threads: usize,
    /// How 3x3 convolutions are computed.
    pub convolution: Convolution,
    /// Fills the workspace with NaN before each run, so that a value which is read before it is
    /// written makes the output NaN. For tests.
    pub poison: bool,
}

/// The fast engine on the CPU, with activations and weights stored in f32 or [`Bf16`].
pub struct Cpu<E> {
    model: Arc<Model>,
    detected: DetectedIsa,
    kernels: Kernels<E>,
    plan: Plan<E>,
    pool: Pool,
    poison: bool,
    /// The workspace for a group of clips on which all threads work together.
    workspace: Workspace,
    /// A workspace for each thread, for one clip of its own.
    thread_workspaces: Vec<Mutex<Workspace>>,
    /// The tasks of each thread, where all threads work together.
    shares: Vec<NextTask>,
}

/// Memory for forward passes, and its layouts for some numbers of clips.
#[derive(Default)]
struct Workspace {
    layouts: Vec<Layout>,
    memory: Option<Memory>,
    scratch: Vec<Memory>,
    zeros: Option<Memory>,
}

/// Number of layouts to keep: one for a full group of clips, one for a smaller group, and one for
/// an observed batch.
const LAYOUTS: usize = 3;

impl Workspace {
    /// Reserves memory for `clips` clips, and returns the index of their layout.
    fn reserve<E: HasKernels>(
        &mut self,
        plan: &Plan<E>,
        clips: usize,
        threads: usize,
        tile_rows: usize,
    ) -> usize {
        if let Some(found) = self.layouts.iter().position(|layout| layout.clips == clips) {
            return found;
        }
        if self.layouts.len() == LAYOUTS {
            *self = Workspace::default();
        }
        let layout = Layout::new(plan, clips, threads, tile_rows);
        let grow = |memory: &mut Option<Memory>, bytes: usize| {
            if memory.as_ref().is_none_or(|memory| memory.len() < bytes) {
                // Free the old block first: both together may not fit.
                *memory = None;
                *memory = Some(Memory::new(bytes));
            }
        };
        grow(&mut self.memory, layout.bytes);
        grow(&mut self.zeros, layout.widest_pixel * size_of::<E>());
        if self.scratch.first().is_none_or(|memory| memory.len() < layout.scratch) {
            self.scratch = (0..threads).map(|_| Memory::new(layout.scratch)).collect();
        }
        self.layouts.push(layout);
        self.layouts.len() - 1
    }

    /// The context of the tasks for one run of these clips.
    fn context<'a, E: HasKernels>(
        &'a mut self,
        kernels: &'a Kernels<E>,
        layout: usize,
        clip: &[f32],
    ) -> TaskContext<'a, E> {
        let start = |memory: &mut Option<Memory>| {
            memory.as_mut().map_or(std::ptr::null_mut(), Memory::start)
        };
        TaskContext {
            kernels,
            layout: &self.layouts[layout],
            base: start(&mut self.memory),
            clip: clip.as_ptr(),
            zeros: start(&mut self.zeros).cast::<E>().cast_const(),
            scratch: self.scratch.iter_mut().map(Memory::start).collect(),
            embedding: std::ptr::null(),
        }
    }

    fn poison(&mut self) {
        let all = self.memory.iter_mut().chain(&mut self.scratch);
        all.for_each(|memory| memory.fill(0xff));
    }
}

/// Number of clips that go through the network together. The maps of one clip just fit the
/// last-level cache. With more clips, every step would read its maps from memory, which costs more
/// than reading the weights again (measured with 8 clips on 2 cores: 10 % in f32, 25 % in bf16).
/// With many threads, one clip is not enough work for a step.
fn clips_per_group(threads: usize) -> usize {
    threads.div_ceil(4)
}

/// Loads the engine in f32 or bf16. Any other precision is [`EngineError::Backend`]; see
/// [`Cpu::new`] for the other errors.
pub fn load(
    model: Arc<Model>,
    weights: Weights,
    precision: Precision,
    options: Options,
) -> Result<Box<dyn Engine>, EngineError> {
    match precision {
        Precision::F32 => Ok(Box::new(Cpu::<f32>::new(model, weights, options)?)),
        Precision::Bf16 => Ok(Box::new(Cpu::<Bf16>::new(model, weights, options)?)),
        other => Err(EngineError::Backend {
            engine: "cpu",
            message: format!("computes in f32 or bf16, not in {other}; use torch or cuda"),
        }),
    }
}

/// A storage format in which the engine can be loaded.
pub trait Format: HasKernels {
    /// The precision of the engine with this storage format.
    const PRECISION: Precision;
}

impl Format for f32 {
    const PRECISION: Precision = Precision::F32;
}

impl Format for Bf16 {
    const PRECISION: Precision = Precision::Bf16;
}

impl<E: Format> Cpu<E> {
    /// Plans the network and packs the weights. Each tensor is dropped as soon as it is packed, so
    /// that the model is not held twice, unless a clone of `weights` shares the values.
    ///
    /// # Errors
    /// [`EngineError::MissingWeight`] for a missing tensor, [`EngineError::Shape`] for a tensor of
    /// another shape, and [`EngineError::Device`] for an instruction set that the machine lacks.
    pub fn new(model: Arc<Model>, weights: Weights, options: Options) -> Result<Self, EngineError> {
        let detected = match options.isa {
            None => DetectedIsa::best(),
            Some(isa) => isa.detect().ok_or_else(|| {
                let best = DetectedIsa::best().isa();
                EngineError::Device(format!(
                    "this processor has no {isa}; its best instruction set is {best}"
                ))
            })?,
        };
        let kernels = E::kernels(detected);
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let pool = Pool::new(if options.threads == 0 { cores } else { options.threads });
        let target = Target { convolution: options.convolution };
        let thread_workspaces = (0..pool.threads()).map(|_| Mutex::default()).collect();
        let shares = (0..pool.threads()).map(|_| NextTask::default()).collect();
        let plan = plan(&model, weights, &kernels, target)?;
        let poison = options.poison;
        Ok(Cpu {
            model,
            detected,
            kernels,
            plan,
            pool,
            poison,
            workspace: Workspace::default(),
            thread_workspaces,
            shares,
        })
    }

    /// The steps of the plan: name of the module, kind of work, algorithm.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &'static str, &'static str)> {
        self.plan.steps.iter().map(|step| (step.name.as_str(), step.kind, algorithm(&step.op)))
    }

    /// For each step its kind of work, its multiply-adds for one clip, and what it reads and writes by
    /// the model of [`crate::simd::traffic`], with empty caches at first. It counts only on one thread
    /// and with [`crate::Isa::AmxEmulated`].
    pub fn traffic(
        &mut self,
        input: &Tensor,
    ) -> Result<Vec<(&'static str, u64, Traffic)>, EngineError> {
        let mut counted = vec![Traffic::default(); self.plan.steps.len()];
        traffic::start();
        let mut after = |step: Option<usize>| {
            if let Some(step) = step {
                counted[step] += traffic::take();
            }
        };
        let result = self.run(input, &mut spec::Ignore, Some(&mut after));
        traffic::stop();
        result?;
        let steps = self.plan.steps.iter().zip(counted);
        Ok(steps.map(|(step, traffic)| (step.kind, step.macs, traffic)).collect())
    }

    fn run(
        &mut self,
        input: &Tensor,
        tap: &mut dyn Tap,
        mut after: Option<&mut AfterStep<'_>>,
    ) -> Result<Tensor, EngineError> {
        let (clips, clip) = tap::input(&self.model, tap, input)?;
        let model = self.model.clone();
        let shape = model.module(model.output()).batch_shape(clips);
        // A tap observes whole batches. Neither grouping changes the bits.
        let observed = model.modules().iter().any(|module| tap.wants(module.id));
        let threads = self.pool.threads();
        if !observed && after.is_none() && threads > 1 && clips >= 2 * threads {
            return Ok(Tensor::f32(shape, self.run_clip_per_thread(clips, &clip)));
        }
        let group = if observed { clips } else { clips_per_group(threads) };
        let groups = clips.div_ceil(group.max(1));
        let each = clip.len() / clips.max(1);
        let mut output = Vec::with_capacity(shape.iter().product());
        for at in 0..groups.max(usize::from(observed)) {
            // Groups are as equal as possible.
            let (first, last) = (at * clips / groups.max(1), (at + 1) * clips / groups.max(1));
            let part = &clip[first * each..last * each];
            self.run_group(last - first, part, tap, after.as_deref_mut(), &mut output)?;
        }
        Ok(Tensor::f32(shape, output))
    }

    /// Runs a batch with one clip per thread: each thread takes the next clip and runs the whole
    /// network. No thread waits for another one, but each needs a workspace. The bits are the same.
    fn run_clip_per_thread(&mut self, clips: usize, clip: &[f32]) -> Vec<f32> {
        let (each, next) = (clip.len() / clips, AtomicUsize::new(0));
        let outputs: Vec<Mutex<Vec<f32>>> = (0..clips).map(|_| Mutex::default()).collect();
        let (plan, kernels, thread_workspaces, poison) =
            (&self.plan, &self.kernels, &self.thread_workspaces, self.poison);
        self.pool.run(&|thread| {
            // A panic in an earlier run leaves a valid workspace: every run overwrites its
            // contents.
            let mut workspace =
                thread_workspaces[thread].lock().unwrap_or_else(PoisonError::into_inner);
            // Threads that find no clip left also reserve, so that the next run allocates nothing.
            let layout = workspace.reserve(plan, 1, 1, kernels.tile_rows);
            let shares = [NextTask::default()];
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= clips {
                    return;
                }
                if poison {
                    workspace.poison();
                }
                let context = workspace.context(kernels, layout, &clip[at * each..(at + 1) * each]);
                for step in &plan.steps {
                    let stops = [Stage::End; 2];
                    run_tasks(&context, &step.op, stops, &shares, &mut |work| work(0));
                }
                let mut output = outputs[at].lock().unwrap_or_else(PoisonError::into_inner);
                observe::append(&context, &plan.output, &mut output);
            }
        });
        let values = outputs.into_iter();
        values.flat_map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    /// Runs a group of clips on all threads and appends their outputs.
    fn run_group(
        &mut self,
        clips: usize,
        clip: &[f32],
        tap: &mut dyn Tap,
        mut after: Option<&mut AfterStep<'_>>,
        output: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let threads = self.pool.threads();
        let layout = self.workspace.reserve(&self.plan, clips, threads, self.kernels.tile_rows);
        if self.poison {
            self.workspace.poison();
        }
        let mut context = self.workspace.context(&self.kernels, layout, clip);
        let mut report = |step: Option<usize>| {
            if let Some(after) = after.as_deref_mut() {
                after(step);
            }
        };
        report(None);
        for (at, step) in self.plan.steps.iter().enumerate() {
            let stops = step.op.epilogues().map(|spec| first_observed_stage(spec, tap));
            run_tasks(&context, &step.op, stops, &self.shares, &mut |work| self.pool.run(work));
            for (spec, end) in step.op.epilogues().into_iter().zip(stops) {
                if let Some(spec) = spec {
                    observe_result(&self.model, &mut context, spec, end, tap)?;
                }
            }
            report(Some(at));
        }
        observe::append(&context, &self.plan.output, output);
        Ok(())
    }
}

/// A function that is called with None at the beginning of a group of clips, and with the index of each
/// step after it.
type AfterStep<'a> = dyn FnMut(Option<usize>) + 'a;

/// The work of a phase; every thread calls it with its own number.
type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// The next task of a thread's own share, in a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct NextTask(AtomicUsize);

/// Runs all tasks of a step. `parallel` calls the work in every thread that takes part, and returns when all
/// are done. Each thread has a share of tasks that follow each other, and helps the others when it is done
/// with its own. So it mostly computes the same part of an image in every step, and finds what it wrote in its
/// own cache.
fn run_tasks<E: HasKernels>(
    context: &TaskContext<'_, E>,
    op: &Op<E>,
    stops: StopStages,
    shares: &[NextTask],
    parallel: &mut dyn FnMut(&Work<'_>),
) {
    let threads = shares.len();
    for phase in 0..context.phases(op) {
        let tasks = context.tasks(op, phase);
        let first = |share: usize| share * tasks / threads;
        for (share, next) in shares.iter().enumerate() {
            next.0.store(first(share), Ordering::Relaxed);
        }
        let work = |thread: usize| {
            for share in (thread..threads).chain(0..thread) {
                loop {
                    let index = shares[share].0.fetch_add(1, Ordering::Relaxed);
                    if index >= first(share + 1) {
                        break;
                    }
                    // SAFETY: `Workspace::reserve` allocated the memory that the layout requires.
                    // `parallel` returns when all threads are done, so each phase ends before the next
                    // begins, and thread numbers are below the number of threads of the layout.
                    unsafe { context.task(op, phase, index, thread, stops) };
                }
            }
        };
        match tasks {
            0 => {}
            1 => work(0),
            _ => parallel(&work),
        }
    }
}

/// The stage at which the epilogue must stop first, because the tap wants the value there;
/// [`Stage::End`] if it wants none.
fn first_observed_stage(spec: Option<&EpilogueSpec>, tap: &dyn Tap) -> Stage {
    let Some(spec) = spec else { return Stage::End };
    let point = spec.tap_points.iter().find(|point| tap.wants(point.module));
    let embedding = spec.embedding.as_ref().filter(|(_, id)| tap.wants(*id));
    match (point, embedding) {
        (Some(point), _) => point.stage,
        (None, Some(_)) => Stage::Product,
        (None, None) => Stage::End,
    }
}

/// Hands a result to the tap at each stage that it wants, and completes the epilogue. The result is
/// at stage `done` already.
fn observe_result<E: HasKernels>(
    model: &Model,
    context: &mut TaskContext<'_, E>,
    spec: &EpilogueSpec,
    mut done: Stage,
    tap: &mut dyn Tap,
) -> Result<(), EngineError> {
    for point in &spec.tap_points {
        if !tap.wants(point.module) {
            continue;
        }
        if point.stage > done {
            // SAFETY: all tasks of the step have returned, and the memory has the sizes of the
            // layout.
            unsafe { context.resume(spec, done, point.stage) };
            done = point.stage;
        }
        observe::observe_map(model, tap, point.module, context, &spec.out)?;
    }
    if done < Stage::End {
        let replaced = observe::observe_embedding(model, tap, spec)?;
        context.embedding = replaced.as_ref().map_or(std::ptr::null(), |values| values.as_ptr());
        // SAFETY: all tasks of the step have returned, the memory has the sizes of the layout, and
        // `replaced` lives until `context.embedding` is reset below.
        unsafe { context.resume(spec, done, Stage::End) };
        context.embedding = std::ptr::null();
    }
    Ok(())
}

fn algorithm<E>(op: &Op<E>) -> &'static str {
    match op {
        Op::Winograd(layer) => match layer.tile.side() {
            2 => "Winograd F(2x2)",
            _ => "Winograd F(4x4)",
        },
        Op::Gemm { first, .. } if first.kernel > 1 => "implicit GEMM",
        Op::Gemm { .. } => "GEMM",
        Op::Strassen(_) => "Strassen",
        Op::RowWinograd(_) => "Winograd F(4, 4)",
        _ => "direct",
    }
}

/// Bytes of weights, inputs and outputs of a step, for a batch of `clips`.
fn bytes<E>(op: &Op<E>, clips: usize) -> u64 {
    let weights = match op {
        Op::Gemm { first, second, .. } => {
            first.weights.data.len() + second.as_ref().map_or(0, |s| s.weights.data.len())
        }
        Op::Winograd(layer) => {
            let second = layer.second.as_ref().map_or(0, |branch| branch.weights.data.len());
            layer.main.weights.data.len() + second
        }
        Op::Strassen(s) => {
            s.groups.iter().flat_map(|group| &group.weights).map(|w| w.data.len()).sum()
        }
        Op::RowWinograd(w) => w.weights.iter().map(|w| w.data.len()).sum(),
        _ => 0,
    };
    let inputs = match op {
        Op::Import { .. } => 0,
        Op::Gemm { first, second, .. } => {
            first.from.image() + second.as_ref().map_or(0, |s| s.from.image())
        }
        Op::Strassen(s) => s.from.iter().map(Map::image).sum(),
        Op::RowWinograd(layer) => layer.from.image(),
        Op::Winograd(layer) => layer.from.image(),
        Op::Depthwise { from, .. } | Op::MaxPool { from, .. } | Op::Mean { from, .. } => {
            from.image()
        }
    };
    let outputs: usize = op.writes().iter().map(|map| map.image()).sum();
    ((weights + clips * (inputs + outputs)) * size_of::<E>()) as u64
}

impl<E: Format> Engine for Cpu<E> {
    fn describe(&self) -> String {
        let isa = self.detected.isa();
        format!("cpu {} ({isa}) on cpu", E::PRECISION)
    }

    fn precision(&self) -> Precision {
        E::PRECISION
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        self.run(input, tap, None)
    }

    fn as_profile(&mut self) -> Option<&mut dyn Profile> {
        Some(self)
    }
}

impl<E: Format> Profile for Cpu<E> {
    fn profile(&mut self, input: &Tensor) -> Result<Vec<StepTime>, EngineError> {
        let mut seconds = vec![0.0; self.plan.steps.len()];
        let mut last = Instant::now();
        self.run(
            input,
            &mut spec::Ignore,
            Some(&mut |step: Option<usize>| {
                let now = Instant::now();
                if let Some(step) = step {
                    seconds[step] += (now - last).as_secs_f64();
                }
                last = now;
            }),
        )?;
        let clips = input.shape[0];
        let timed = self.plan.steps.iter().zip(seconds).map(|(step, seconds)| StepTime {
            name: step.name.clone(),
            kind: step.kind,
            macs: step.macs * clips as u64,
            bytes: bytes(&step.op, clips),
            seconds,
            predicted: None,
        });
        Ok(timed.collect())
    }
}
