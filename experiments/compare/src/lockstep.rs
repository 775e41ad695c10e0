//! Runs several engines side by side, module by module. Activations are compared as soon as they are
//! computed, so that the activations of a whole network are never in memory at once.
//!
//! Each engine runs in a thread of its own and waits at every module until [`run`] has called `step`
//! with the values of all engines there.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use spec::{Engine, EngineError, Flow, ModuleId, Selection, Tap, Tensor};

/// One engine and the clip that it is given.
pub struct Runner<'a> {
    /// The engine, loaded with its weights.
    pub engine: &'a mut dyn Engine,
    /// The clip [N, 3, T, H, W].
    pub input: &'a Tensor,
}

/// Runs all engines to the end, or until `step` returns [`Flow::Stop`].
///
/// `step` is called once for each module of `wanted`, in order of execution. It gets one value for
/// each engine, None if the engine has fused the module away. What it returns goes to all engines that
/// gave a value.
///
/// # Errors
///
/// The first error of an engine, in the order of `runners`. The others are still run to their end.
pub fn run(
    runners: Vec<Runner<'_>>,
    wanted: &Selection,
    mut step: impl FnMut(ModuleId, Vec<Option<Tensor>>) -> Flow,
) -> Result<(), EngineError> {
    std::thread::scope(|scope| {
        let mut lanes = vec![];
        for Runner { engine, input } in runners {
            let (to_driver, from_engine) = sync_channel(0);
            let (to_engine, from_driver) = sync_channel(1);
            let thread = scope.spawn(move || {
                let mut tap = Channel { wanted, to_driver, from_driver };
                engine.forward(input, &mut tap).map(drop)
            });
            lanes.push(Lane { from_engine, to_engine, pending: None, thread });
        }
        drive(&mut lanes, &mut step);
        let outcomes = lanes.into_iter().map(Lane::finish);
        // Collect first: all threads are joined before the first error is returned.
        outcomes.collect::<Vec<_>>().into_iter().collect()
    })
}

fn drive<T>(
    lanes: &mut [Lane<'_, T>],
    step: &mut impl FnMut(ModuleId, Vec<Option<Tensor>>) -> Flow,
) {
    loop {
        for lane in lanes.iter_mut().filter(|lane| lane.pending.is_none()) {
            lane.pending = lane.from_engine.recv().ok();
        }
        let next = lanes.iter().filter_map(|lane| lane.pending.as_ref().map(|(id, _)| *id)).min();
        let Some(next) = next else { return };
        let mut here = vec![];
        let mut values = vec![];
        for (at, lane) in lanes.iter_mut().enumerate() {
            let value = lane.pending.take_if(|(id, _)| *id == next).map(|(_, value)| value);
            if value.is_some() {
                here.push(at);
            }
            values.push(value);
        }
        let answer = step(next, values);
        for at in here {
            // Sending fails if the engine has ended with an error, which `finish` returns.
            let _ = lanes[at].to_engine.send(answer.clone());
        }
    }
}

struct Lane<'scope, T> {
    from_engine: Receiver<(ModuleId, Tensor)>,
    to_engine: SyncSender<Flow>,
    pending: Option<(ModuleId, Tensor)>,
    thread: std::thread::ScopedJoinHandle<'scope, T>,
}

impl Lane<'_, Result<(), EngineError>> {
    fn finish(self) -> Result<(), EngineError> {
        // An engine that still waits stops when its channels are closed.
        drop((self.from_engine, self.to_engine));
        match self.thread.join() {
            Ok(Err(EngineError::Stopped)) => Ok(()),
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The tap in an engine's thread: it hands values to the driver and waits for the answer.
struct Channel<'a> {
    wanted: &'a Selection,
    to_driver: SyncSender<(ModuleId, Tensor)>,
    from_driver: Receiver<Flow>,
}

impl Tap for Channel<'_> {
    fn wants(&self, id: ModuleId) -> bool {
        self.wanted.contains(id)
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        if self.to_driver.send((id, value)).is_err() {
            return Flow::Stop;
        }
        self.from_driver.recv().unwrap_or(Flow::Stop)
    }
}

#[cfg(test)]
mod tests {
    use spec::{Config, Model, Precision};

    use super::*;

    /// An engine that gives its number at some modules and records the answers.
    struct Fake {
        number: f64,
        modules: Vec<usize>,
        told: Vec<Flow>,
        fails: bool,
    }

    impl Fake {
        fn new(number: f64, modules: &[usize]) -> Self {
            Fake { number, modules: modules.to_vec(), told: vec![], fails: false }
        }
    }

    impl Engine for Fake {
        fn describe(&self) -> String {
            "fake".into()
        }
        fn precision(&self) -> Precision {
            Precision::F64
        }
        fn forward(&mut self, _: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
            for &at in &self.modules {
                let id = ModuleId(at);
                if tap.wants(id) {
                    let flow = tap.observe(id, Tensor::f64(vec![1], vec![self.number]));
                    self.told.push(flow.clone());
                    if flow == Flow::Stop {
                        return Err(EngineError::Stopped);
                    }
                }
            }
            if self.fails {
                return Err(EngineError::MissingWeight("w".into()));
            }
            Ok(Tensor::f64(vec![0], vec![]))
        }
    }

    fn everything() -> Selection {
        Selection::all(Model::new(Config::default()).unwrap().modules())
    }

    fn collect(engines: &mut [&mut Fake], stop_at: usize) -> Vec<(usize, Vec<Option<f64>>)> {
        let input = Tensor::f64(vec![0], vec![]);
        let mut seen = vec![];
        let runners =
            engines.iter_mut().map(|e| Runner { engine: &mut **e, input: &input }).collect();
        run(runners, &everything(), |id, values| {
            let values: Vec<_> = values.iter().map(|v| v.as_ref().map(|t| t.at(0))).collect();
            seen.push((id.0, values));
            if id.0 == stop_at { Flow::Stop } else { Flow::Continue }
        })
        .unwrap();
        seen
    }

    #[test]
    fn engines_meet_at_every_module_even_where_one_has_fused_some() {
        let (mut a, mut b) = (Fake::new(1.0, &[0, 1, 2, 3]), Fake::new(2.0, &[0, 2, 5]));
        let seen = collect(&mut [&mut a, &mut b], usize::MAX);
        let expected = [
            (0, vec![Some(1.0), Some(2.0)]),
            (1, vec![Some(1.0), None]),
            (2, vec![Some(1.0), Some(2.0)]),
            (3, vec![Some(1.0), None]),
            (5, vec![None, Some(2.0)]),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn stop_reaches_all_of_them() {
        let (mut a, mut b) = (Fake::new(1.0, &[0, 1, 2]), Fake::new(2.0, &[0, 1, 2]));
        assert_eq!(collect(&mut [&mut a, &mut b], 1).len(), 2);
        assert_eq!((a.told.len(), b.told.len()), (2, 2));
    }

    #[test]
    fn an_engine_that_fails_does_not_hang_the_others() {
        let (mut a, mut b) = (Fake::new(1.0, &[0, 1, 2]), Fake::new(2.0, &[0]));
        b.fails = true;
        let input = Tensor::f64(vec![0], vec![]);
        let runners = vec![
            Runner { engine: &mut a, input: &input },
            Runner { engine: &mut b, input: &input },
        ];
        let error = run(runners, &everything(), |_, _| Flow::Continue).unwrap_err();
        assert!(matches!(error, EngineError::MissingWeight(_)));
    }
}
