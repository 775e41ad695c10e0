//! A thread pool with low latency. A step of the network takes microseconds, so idle workers spin
//! for a while before they sleep.

#![allow(unsafe_code, reason = "extends the lifetime of a job while all threads work on it")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A job: every thread calls it once, with its own number.
type Job = &'static (dyn Fn(usize) + Sync);

/// Iterations of the waiting loop with a spin hint, before the thread starts to yield its core.
const SPINS: usize = 4_000;
/// Further iterations in which the thread yields, before it sleeps.
const YIELDS: usize = 200;

/// A pool with a fixed number of threads, one of which is the calling thread.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The number of jobs so far; a worker that sees a new number takes the job.
    generation: AtomicUsize,
    job: Mutex<Option<Job>>,
    /// Workers that have not finished the current job.
    pending: AtomicUsize,
    sleepers: AtomicUsize,
    wake: Condvar,
    panicked: AtomicBool,
    quit: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Job>> {
        // No job runs under the lock, so the value is valid even if the lock is poisoned.
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the job after number `seen`; None if the pool is being dropped.
    fn next(&self, seen: usize) -> Option<(usize, Job)> {
        let fresh = || self.generation.load(Ordering::Acquire) != seen;
        if !wait(fresh, SPINS + YIELDS) {
            let mut guard = self.lock();
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while !fresh() {
                guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        let generation = self.generation.load(Ordering::Acquire);
        let job = *self.lock();
        if self.quit.load(Ordering::Acquire) { None } else { Some((generation, job?)) }
    }
}

/// Spins, then yields, until `done` returns true; returns false after `turns` iterations.
fn wait(done: impl Fn() -> bool, turns: usize) -> bool {
    for turn in 0..turns {
        if done() {
            return true;
        }
        if turn < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
    done()
}

impl Pool {
    /// A pool of `threads` threads (at least 1), or fewer if the system refuses to start more.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            generation: AtomicUsize::new(0),
            job: Mutex::new(None),
            pending: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            wake: Condvar::new(),
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
        });
        let start = |number: usize| {
            let shared = shared.clone();
            let named = std::thread::Builder::new().name(format!("cpu engine {number}"));
            named.spawn(move || work(&shared, number)).ok()
        };
        let workers = (1..threads.max(1)).map_while(start).collect();
        Pool { shared, workers }
    }

    /// Number of threads, including the calling thread.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` once in every thread, with the numbers 0 to threads - 1, and returns when all
    /// calls have returned. Panics if one of them panicked.
    pub fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return job(0);
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. A worker does not use the job after it has decremented
        // `pending`, and this function neither returns nor unwinds before `pending` is 0.
        let extended = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        {
            let mut slot = shared.lock();
            *slot = Some(extended);
            shared.pending.store(self.workers.len(), Ordering::Release);
            shared.generation.fetch_add(1, Ordering::SeqCst);
        }
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        while !wait(|| shared.pending.load(Ordering::Acquire) == 0, usize::MAX) {}
        *shared.lock() = None;
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(
            !shared.panicked.swap(false, Ordering::SeqCst),
            "a worker thread of the cpu engine panicked"
        );
    }
}

fn work(shared: &Shared, number: usize) {
    let mut seen = 0;
    while let Some((generation, job)) = shared.next(seen) {
        seen = generation;
        if catch_unwind(AssertUnwindSafe(|| job(number))).is_err() {
            shared.panicked.store(true, Ordering::SeqCst);
        }
        shared.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Release);
        {
            let mut slot = self.shared.lock();
            *slot = None;
            self.shared.generation.fetch_add(1, Ordering::SeqCst);
        }
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // `run` has already reported a panic of this worker.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_job_once() {
        let mut pool = Pool::new(3);
        let counts: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        for round in 0..2000 {
            pool.run(&|number| {
                counts[number].fetch_add(1, Ordering::Relaxed);
            });
            if round % 500 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            for count in &counts {
                assert_eq!(count.load(Ordering::Relaxed), round + 1);
            }
        }
    }

    #[test]
    fn a_panic_comes_out_and_the_pool_goes_on() {
        let mut pool = Pool::new(2);
        for who in 0..2 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|number| assert!(number != who, "on purpose"));
            }));
            assert!(outcome.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.run(&|number| {
            sum.fetch_add(number + 1, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 3);
    }
}
