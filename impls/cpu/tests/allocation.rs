//! Tests of allocations. Once an engine has run a batch of some size, another run of that size
//! allocates its output and nothing in the steps of the network. Loading does not hold all weights
//! twice. These tests have a file of their own because the allocator counts for the whole process.

#![allow(unsafe_code, reason = "implements an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use checkpoint::{Weights, formula};
use cpu::Options;
use spec::{Config, Engine, Ignore, Model, Precision, Tensor};

/// Number of allocations so far, of all threads.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Bytes that are allocated now.
static LIVE: AtomicUsize = AtomicUsize::new(0);
/// The maximum of [`LIVE`] since it was last reset.
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Held by the test that counts, so that only one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

struct Counting;

// SAFETY: every call is forwarded to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn engine(config: &Config, precision: Precision, threads: usize) -> (Box<dyn Engine>, Arc<Model>) {
    let model = Arc::new(Model::new(config.clone()).unwrap());
    let weights = Weights::formula(model.parameters(), 0);
    let options = Options { threads, ..Options::default() };
    (cpu::load(model.clone(), weights, precision, options).unwrap(), model)
}

/// Number of allocations in the third run of an engine.
fn allocations(config: &Config, precision: Precision, threads: usize, clips: usize) -> usize {
    let (mut engine, model) = engine(config, precision, threads);
    let shape = model.input_shape(clips);
    let input = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
    for _ in 0..2 {
        engine.forward(&input, &mut Ignore).unwrap();
    }
    let before = COUNT.load(Ordering::Relaxed);
    engine.forward(&input, &mut Ignore).unwrap();
    COUNT.load(Ordering::Relaxed) - before
}

#[test]
fn a_model_is_not_held_twice_while_it_is_packed() {
    let _alone = ALONE.lock().unwrap();
    let model = Arc::new(Model::new(Config::default()).unwrap());
    let start = LIVE.load(Ordering::Relaxed);
    let weights = Weights::formula(model.parameters(), 0);
    let held = LIVE.load(Ordering::Relaxed) - start;
    PEAK.store(0, Ordering::Relaxed);
    let options = Options { threads: 1, ..Options::default() };
    let engine = cpu::load(model, weights, Precision::F32, options).unwrap();
    let packed = LIVE.load(Ordering::Relaxed) - start;
    let peak = PEAK.load(Ordering::Relaxed) - start;
    eprintln!("{held} bytes of weights, {packed} bytes packed, {peak} bytes at the peak");
    assert!(held > 50 << 20 && peak < packed + held / 4, "{held}, {packed}, {peak}");
    drop(engine);
}

#[test]
fn a_run_allocates_its_output_and_nothing_in_the_network() {
    let config = |depth| Config {
        depth,
        width: 0.125,
        frames: 2,
        size: (32, 32),
        classes: 7,
        ..Config::default()
    };
    let _alone = ALONE.lock().unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        for threads in [1, 2] {
            for clips in [1, 3, 8] {
                let [shallow, deep] =
                    [10, 101].map(|d| allocations(&config(d), precision, threads, clips));
                let what = format!("{precision}, {threads} threads, {clips} clips");
                // The networks have 4 and 33 blocks: if a step allocated, the counts would differ.
                assert_eq!(shallow, deep, "{what}: allocations depend on the number of steps");
                // What remains: shapes, the list of the threads' scratch memory, and the logits; in
                // a large batch, a list and logits for each clip.
                assert!(deep <= 12 + 3 * clips, "{what}: {deep} allocations");
            }
        }
    }
}
