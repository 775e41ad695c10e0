//! Runs several engines side by side, module by module, so that activations are compared as they
//! are made and no network is held in memory whole.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use spec::{Engine, EngineError, Flow, ModuleId, Selection, Tap, Tensor};

/// One engine and the clip that it is given.
pub struct Runner<'a> {
    /// The engine.
    pub engine: &'a mut dyn Engine,
    /// Its input [N, 3, T, H, W].
    pub input: &'a Tensor,
}

/// Runs all engines to their end or until `step` stops them. `step` gets each module of `wanted`
/// once, in order of execution, with what each engine gave there (None where an engine has fused
/// the module away), and its answer goes to all of them.
pub fn run(
    runners: Vec<Runner<'_>>,
    wanted: &Selection,
    mut step: impl FnMut(ModuleId, Vec<Option<Tensor>>) -> Flow,
) -> Result<(), EngineError> {
    std::thread::scope(|scope| {
        let mut lanes = vec![];
        for Runner { engine, input } in runners {
            let (to_us, from_engine) = sync_channel(0);
            let (to_engine, from_us) = sync_channel(1);
            let thread = scope.spawn(move || {
                let mut tap = Channel { wanted, to_us, from_us };
                engine.forward(input, &mut tap).map(drop)
            });
            lanes.push(Lane { from_engine, to_engine, pending: None, thread });
        }
        drive(&mut lanes, &mut step);
        let outcomes = lanes.into_iter().map(Lane::finish);
        // All threads are joined before the first error is returned.
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
            // An engine that has given up no longer listens; its own error says why.
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
        // Without its channels an engine that still waits is told to stop.
        drop((self.from_engine, self.to_engine));
        match self.thread.join() {
            Ok(Err(EngineError::Stopped)) => Ok(()),
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The tap inside an engine's thread.
struct Channel<'a> {
    wanted: &'a Selection,
    to_us: SyncSender<(ModuleId, Tensor)>,
    from_us: Receiver<Flow>,
}

impl Tap for Channel<'_> {
    fn wants(&self, id: ModuleId) -> bool {
        self.wanted.contains(id)
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        if self.to_us.send((id, value)).is_err() {
            return Flow::Stop;
        }
        self.from_us.recv().unwrap_or(Flow::Stop)
    }
}

#[cfg(test)]
mod tests {
    use spec::{Config, Model, Precision};

    use super::*;

    /// Hands out its number at some modules, and remembers what it was told.
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
