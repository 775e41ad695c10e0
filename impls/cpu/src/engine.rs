//! The engine: a plan, its memory and its threads.

#![allow(unsafe_code, reason = "hands memory to the tasks")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use spec::weights::Weights;
use spec::{Data, Engine, EngineError, Model, Precision, Tap, Tensor};

use crate::element::Bf16;
use crate::isa::{Isa, Kernels, Level, Tabled};
use crate::kernels::epilogue::stage;
use crate::memory::Memory;
use crate::plan::build::{Target, plan};
use crate::plan::choose::Convolution;
use crate::plan::{Finish, Op, Plan};
use crate::pool::Pool;
use crate::run::exec::{Ends, Frame};
use crate::run::layout::Layout;
use crate::run::observe;

/// What can be chosen about the engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The instruction set; the best that is there, if none is named.
    pub isa: Option<Isa>,
    /// Threads; 0 is one for each core.
    pub threads: usize,
    /// How 3x3 convolutions are computed.
    pub convolution: Convolution,
    /// Fills all memory with NaN before each run: a value that is read before it is written shows.
    pub poison: bool,
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
    /// Its time.
    pub seconds: f64,
}

/// The fast implementation on the processor, with f32 or [`Bf16`] storage.
pub struct Cpu<E> {
    model: Arc<Model>,
    level: Level,
    kernels: Kernels<E>,
    plan: Plan<E>,
    pool: Pool,
    poison: bool,
    /// For a group of clips that all threads share.
    prepared: Prepared,
    /// For each thread, a clip of its own.
    alone: Vec<Mutex<Prepared>>,
}

/// Memory, and where everything lies in it for some numbers of clips.
#[derive(Default)]
struct Prepared {
    layouts: Vec<Layout>,
    memory: Option<Memory>,
    scratch: Vec<Memory>,
    zeros: Option<Memory>,
}

/// Layouts that are kept: of a full group of clips, of a smaller one, and of an observed batch.
const LAYOUTS: usize = 3;

impl Prepared {
    /// Makes room for so many clips, and returns which layout it is.
    fn room<E: Tabled>(
        &mut self,
        plan: &Plan<E>,
        clips: usize,
        threads: usize,
        rows: usize,
    ) -> usize {
        if let Some(found) = self.layouts.iter().position(|layout| layout.clips == clips) {
            return found;
        }
        if self.layouts.len() == LAYOUTS {
            *self = Prepared::default();
        }
        let layout = Layout::new(plan, clips, threads, rows);
        let grow = |memory: &mut Option<Memory>, bytes: usize| {
            if memory.as_ref().is_none_or(|memory| memory.len() < bytes) {
                // The old block goes first: both together may be too much.
                *memory = None;
                *memory = Some(Memory::new(bytes));
            }
        };
        grow(&mut self.memory, layout.bytes);
        grow(&mut self.zeros, layout.widest * size_of::<E>());
        if self.scratch.first().is_none_or(|memory| memory.len() < layout.scratch) {
            self.scratch = (0..threads).map(|_| Memory::new(layout.scratch)).collect();
        }
        self.layouts.push(layout);
        self.layouts.len() - 1
    }

    /// The memory of a run of these clips.
    fn frame<'a, E: Tabled>(
        &'a mut self,
        kernels: &'a Kernels<E>,
        layout: usize,
        clip: &[f32],
    ) -> Frame<'a, E> {
        let start = |memory: &mut Option<Memory>| {
            memory.as_mut().map_or(std::ptr::null_mut(), Memory::start)
        };
        Frame {
            kernels,
            layout: &self.layouts[layout],
            base: start(&mut self.memory),
            clip: clip.as_ptr(),
            zeros: start(&mut self.zeros).cast::<E>().cast_const(),
            scratch: self.scratch.iter_mut().map(Memory::start).collect(),
            post: std::ptr::null(),
        }
    }

    fn poison(&mut self) {
        let all = self.memory.iter_mut().chain(&mut self.scratch);
        all.for_each(|memory| memory.fill(0xff));
    }
}

/// Clips that go through the network together. A clip's maps just fit the last cache level: more of
/// them would come from memory at every step, which costs more than reading the weights again (8
/// clips on 2 cores: 10 % in f32, 25 % in bf16). Many threads need more work in a step.
fn together(threads: usize) -> usize {
    threads.div_ceil(4)
}

/// Loads the engine in a precision: f32 or bf16.
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
            message: format!("computes in f32 or bf16, not in {other}; use scalar, torch or cuda"),
        }),
    }
}

/// A format with the name of its precision.
pub trait Format: Tabled {
    /// The precision.
    const PRECISION: Precision;
}

impl Format for f32 {
    const PRECISION: Precision = Precision::F32;
}

impl Format for Bf16 {
    const PRECISION: Precision = Precision::Bf16;
}

impl<E: Format> Cpu<E> {
    /// Plans the network and packs the weights, which are let go one by one: a clone that shares the
    /// values keeps them. A missing tensor is
    /// [`EngineError::MissingWeight`], one of another shape [`EngineError::Shape`], an instruction
    /// set that the machine lacks [`EngineError::Device`].
    pub fn new(model: Arc<Model>, weights: Weights, options: Options) -> Result<Self, EngineError> {
        let level = match options.isa {
            None => Level::best(),
            Some(isa) => isa.detect().ok_or_else(|| {
                let best = Level::best().isa();
                EngineError::Device(format!("this processor has no {isa}; its best is {best}"))
            })?,
        };
        let kernels = E::kernels(level);
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let pool = Pool::new(if options.threads == 0 { cores } else { options.threads });
        let target = Target { convolution: options.convolution };
        let alone = (0..pool.threads()).map(|_| Mutex::default()).collect();
        let plan = plan(&model, weights, &kernels, target)?;
        let poison = options.poison;
        Ok(Cpu { model, level, kernels, plan, pool, poison, prepared: Prepared::default(), alone })
    }

    /// The steps of the plan: name, kind, algorithm.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &'static str, &'static str)> {
        self.plan.steps.iter().map(|step| (step.name.as_str(), step.kind, algorithm(&step.op)))
    }

    /// Runs a clip and returns what each step took.
    pub fn profile(&mut self, input: &Tensor) -> Result<Vec<Timed>, EngineError> {
        let mut seconds = vec![0.0; self.plan.steps.len()];
        self.run(input, &mut spec::Ignore, Some(&mut seconds))?;
        let clips = input.shape[0];
        let timed = self.plan.steps.iter().zip(seconds).map(|(step, seconds)| Timed {
            name: step.name.clone(),
            kind: step.kind,
            macs: step.macs * clips as u64,
            bytes: bytes(&step.op, clips),
            seconds,
        });
        Ok(timed.collect())
    }

    fn check(&self, input: &Tensor) -> Result<usize, EngineError> {
        let clips = input.shape.first().copied().unwrap_or(0);
        let expected = self.model.input_shape(clips);
        if input.shape != expected {
            let (what, got) = ("input".to_owned(), input.shape.clone());
            return Err(EngineError::Shape { what, expected, got });
        }
        Ok(clips)
    }

    fn run(
        &mut self,
        input: &Tensor,
        tap: &mut dyn Tap,
        mut seconds: Option<&mut [f64]>,
    ) -> Result<Tensor, EngineError> {
        let clips = self.check(input)?;
        let mut replaced = None;
        if tap.wants(self.model.input) {
            let id = self.model.input;
            replaced = observe::show(&self.model, tap, id, clips, input.to_f32())?;
        }
        let rounded;
        let clip = match &replaced.as_ref().unwrap_or(input).data {
            Data::F32(values) => values,
            Data::F64(values) => {
                rounded = values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
                &rounded
            }
        };
        let model = self.model.clone();
        let shape = model.module(model.output()).batch_shape(clips);
        // An observer sees whole batches; the bits are the same.
        let observed = model.modules().iter().any(|module| tap.wants(module.id));
        let threads = self.pool.threads();
        if !observed && seconds.is_none() && threads > 1 && clips >= 2 * threads {
            return Ok(Tensor::f32(shape, self.each_alone(clips, clip)));
        }
        let group = if observed { clips } else { together(threads) };
        let groups = clips.div_ceil(group.max(1));
        let each = clip.len() / clips.max(1);
        let mut output = Vec::with_capacity(shape.iter().product());
        for at in 0..groups.max(usize::from(observed)) {
            // As even as can be.
            let (first, last) = (at * clips / groups.max(1), (at + 1) * clips / groups.max(1));
            let part = &clip[first * each..last * each];
            self.group(last - first, part, tap, seconds.as_deref_mut(), &mut output)?;
        }
        Ok(Tensor::f32(shape, output))
    }

    /// Every thread takes clips one by one and runs the whole network: nobody waits for anybody, but
    /// each thread needs memory of its own. The bits are the same.
    fn each_alone(&mut self, clips: usize, clip: &[f32]) -> Vec<f32> {
        let (each, next) = (clip.len() / clips, AtomicUsize::new(0));
        let outputs: Vec<Mutex<Vec<f32>>> = (0..clips).map(|_| Mutex::default()).collect();
        let (plan, kernels, alone, poison) = (&self.plan, &self.kernels, &self.alone, self.poison);
        self.pool.run(&|thread| {
            // A panic in another run has left memory, not data.
            let mut prepared = alone[thread].lock().unwrap_or_else(PoisonError::into_inner);
            // Also in a thread that comes too late for a clip: the next run then allocates nothing.
            let layout = prepared.room(plan, 1, 1, kernels.rows);
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= clips {
                    return;
                }
                if poison {
                    prepared.poison();
                }
                let frame = prepared.frame(kernels, layout, &clip[at * each..(at + 1) * each]);
                for step in &plan.steps {
                    let ends = [stage::END; 2];
                    tasks_of(&frame, &step.op, ends, &mut |work| work(0));
                }
                let mut output = outputs[at].lock().unwrap_or_else(PoisonError::into_inner);
                observe::append(&frame, &plan.output, &mut output);
            }
        });
        let values = outputs.into_iter();
        values.flat_map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    /// Runs some clips and appends their outputs.
    fn group(
        &mut self,
        clips: usize,
        clip: &[f32],
        tap: &mut dyn Tap,
        mut seconds: Option<&mut [f64]>,
        output: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let threads = self.pool.threads();
        let layout = self.prepared.room(&self.plan, clips, threads, self.kernels.rows);
        if self.poison {
            self.prepared.poison();
        }
        let mut frame = self.prepared.frame(&self.kernels, layout, clip);
        for (at, step) in self.plan.steps.iter().enumerate() {
            let start = seconds.as_ref().map(|_| Instant::now());
            let ends = step.op.finishes().map(|finish| first_shown(finish, tap));
            tasks_of(&frame, &step.op, ends, &mut |work| self.pool.run(work));
            for (finish, end) in step.op.finishes().into_iter().zip(ends) {
                if let Some(finish) = finish {
                    show(&self.model, &mut frame, finish, end, tap)?;
                }
            }
            if let (Some(seconds), Some(start)) = (seconds.as_deref_mut(), start) {
                seconds[at] += start.elapsed().as_secs_f64();
            }
        }
        observe::append(&frame, &self.plan.output, output);
        Ok(())
    }
}

/// What every thread does in a phase, with its number.
type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// Runs all tasks of a step; `share` calls the work in every thread that takes part.
fn tasks_of<E: Tabled>(
    frame: &Frame<'_, E>,
    op: &Op<E>,
    ends: Ends,
    share: &mut dyn FnMut(&Work<'_>),
) {
    for phase in 0..frame.phases(op) {
        let tasks = frame.tasks(op, phase);
        let next = AtomicUsize::new(0);
        let work = |thread: usize| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= tasks {
                    return;
                }
                // SAFETY: the frame's memory was made from its layout, `share` returns when all
                // threads are done, so that a phase ends before the next begins, and numbers the
                // threads of the layout from 0.
                unsafe { frame.task(op, phase, index, thread, ends) };
            }
        };
        match tasks {
            0 => {}
            1 => work(0),
            _ => share(&work),
        }
    }
}

/// The first stage of a result that an observer wants to see.
fn first_shown(finish: Option<&Finish>, tap: &dyn Tap) -> u8 {
    let Some(finish) = finish else { return stage::END };
    let shown = finish.shows.iter().find(|show| tap.wants(show.module));
    let embedding = finish.post.as_ref().filter(|(_, id)| tap.wants(*id));
    match (shown, embedding) {
        (Some(show), _) => show.stage,
        (None, Some(_)) => stage::PRODUCT,
        (None, None) => stage::END,
    }
}

/// Shows a result that was stopped at a stage, and takes it to its end.
fn show<E: Tabled>(
    model: &Model,
    frame: &mut Frame<'_, E>,
    finish: &Finish,
    mut done: u8,
    tap: &mut dyn Tap,
) -> Result<(), EngineError> {
    for shown in &finish.shows {
        if !tap.wants(shown.module) {
            continue;
        }
        if shown.stage > done {
            // SAFETY: all tasks of the step are done, and the frame's memory is as its layout says.
            unsafe { frame.resume(finish, done, shown.stage) };
            done = shown.stage;
        }
        observe::show_map(model, tap, shown.module, frame, &finish.out)?;
    }
    if done < stage::END {
        let replaced = observe::show_embedding(model, tap, finish)?;
        frame.post = replaced.as_ref().map_or(std::ptr::null(), |values| values.as_ptr());
        // SAFETY: as above; `replaced` lives until the pointer is taken back.
        unsafe { frame.resume(finish, done, stage::END) };
        frame.post = std::ptr::null();
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
        _ => "direct",
    }
}

/// Bytes of weights, inputs and outputs.
fn bytes<E>(op: &Op<E>, clips: usize) -> u64 {
    let weights = match op {
        Op::Gemm { first, second, .. } => {
            first.weights.data.len() + second.as_ref().map_or(0, |s| s.weights.data.len())
        }
        Op::Winograd(layer) => {
            let second = layer.second.as_ref().map_or(0, |arm| arm.weights.data.len());
            layer.main.weights.data.len() + second
        }
        _ => 0,
    };
    let inputs = match op {
        Op::Import { .. } => 0,
        Op::Gemm { first, second, .. } => {
            first.from.image() + second.as_ref().map_or(0, |s| s.from.image())
        }
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
        let isa = self.level.isa();
        format!("cpu {} ({isa}) on cpu", E::PRECISION)
    }

    fn precision(&self) -> Precision {
        E::PRECISION
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        self.run(input, tap, None)
    }
}
