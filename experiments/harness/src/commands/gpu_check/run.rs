//! `harness gpu-check`: checks everything about the engine `cuda` that needs a GPU, in one command.
//!
//! Each step is a process with a time limit, so that a step that hangs or crashes is recorded and the
//! others still run. Steps that measure time run alone, the others side by side. The record is written
//! after every step. `scripts/gpu-check` builds what is needed, and copies it to a machine that has a GPU
//! and none of our tools.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use record::{GpuStep, Record, Verdict};

use super::args::GpuCheckArgs;
use super::check::Check;
use super::steps::{self, Step};
use crate::flags::{DeviceName, OutputArgs};
use crate::machine::Started;
use crate::outcome::Outcome;
use crate::publish;
use crate::stop;

/// The largest number of steps that run side by side.
const SIDE_BY_SIDE: usize = 4;

/// Runs `harness gpu-check`.
pub fn run(args: &GpuCheckArgs) -> Result<Outcome> {
    let started = Started::now();
    let device = if args.rehearse { DeviceName::Emulated } else { args.device };
    let mut all = if args.rehearse { steps::rehearsal() } else { steps::on_gpu(device) };
    if args.sweep.is_some() {
        all.insert(0, steps::sweep());
    }
    let steps = steps::chosen(args, &all)?;
    let folder = args.out.clone().unwrap_or_else(|| started.folder("gpu-check"));
    let kept = format!("the steps so far are kept in {}", folder.display());
    stop::gently(format!("{kept}, and the same command runs all of them again"));
    let check = Check::new(args, device, folder.clone())?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("{}: cannot be created", folder.display()))?;
    let mut log = Log::new(&check, &started, &folder, all.len());
    for group in steps.chunk_by(|a, b| !a.alone && !b.alone) {
        side_by_side(&check, group, &mut log)?;
        if stop::asked() {
            break;
        }
    }
    log.bar.finish_and_clear();
    let record = check.record(&log.done, all.len(), &started);
    let verdict = record.verdict;
    let out = OutputArgs { json: None, html: None };
    publish::publish(&Record::Gpu(Box::new(record)), &folder, &out)?;
    if stop::interrupted() {
        return Ok(Outcome::Stopped);
    }
    Ok(if verdict == Verdict::Pass { Outcome::Passed } else { Outcome::Failed })
}

/// Runs the steps of a group in a few threads, and files each result as it comes.
fn side_by_side(check: &Check, group: &[Step], log: &mut Log) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let workers = (cores / 2).clamp(1, SIDE_BY_SIDE).min(group.len());
    let next = AtomicUsize::new(0);
    let log = Mutex::new(log);
    let work = || -> Result<()> {
        while let Some(step) = group.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop::asked() {
                break;
            }
            let result = check.step(step);
            log.lock().unwrap_or_else(PoisonError::into_inner).file(result)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let ends = threads.into_iter().map(|thread| match thread.join() {
            Ok(end) => end,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ends.collect()
    })
}

/// The results so far, which are printed and written as they come.
struct Log<'a> {
    check: &'a Check<'a>,
    started: &'a Started,
    folder: &'a Path,
    /// The number of steps of the whole check.
    all: usize,
    bar: crate::progress::Bar,
    done: Vec<GpuStep>,
}

impl<'a> Log<'a> {
    fn new(check: &'a Check<'a>, started: &'a Started, folder: &'a Path, all: usize) -> Self {
        let bar = crate::progress::bar("gpu-check", all as u64);
        Log { check, started, folder, all, bar, done: vec![] }
    }

    fn file(&mut self, result: GpuStep) -> Result<()> {
        let line = format!("{:30} {:9} {:6.1} s", result.name, result.outcome, result.seconds);
        self.bar.suspend(|| publish::print(&line));
        if result.name == steps::sweep().name {
            self.bar.suspend(|| publish::print(&result.said));
        }
        self.bar.inc(1);
        self.done.push(result);
        let record = self.check.record(&self.done, self.all, self.started);
        let record = Record::Gpu(Box::new(record));
        Ok(record::write_record(&record, &self.folder.join("record.json"))?)
    }
}
