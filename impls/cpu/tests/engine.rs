//! Tests of the engine against the scalar engine in float64.

use std::sync::Arc;

use checkpoint::{Weights, formula};
use cpu::element::Bf16;
use cpu::kernels::winograd::Tile;
use cpu::{Convolution, Cpu, DetectedIsa, Isa, Options};
use scalar::Scalar;
use spec::{Config, Engine, Flow, Ignore, Model, ModuleId, Precision, Tap, Tensor};

struct Case {
    model: Arc<Model>,
    weights: Weights,
    input: Tensor,
}

impl Case {
    fn new(config: Config, clips: usize) -> Self {
        let model = Model::new(config).unwrap();
        let weights = Weights::formula(model.parameters(), 0);
        let shape = model.input_shape(clips);
        let input = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
        Case { model: Arc::new(model), weights, input }
    }

    fn cpu(&self, precision: Precision, options: Options) -> Box<dyn Engine> {
        cpu::load(self.model.clone(), self.weights.clone(), precision, options).unwrap()
    }

    fn truth(&self) -> Tensor {
        let mut scalar = Scalar::<f64>::new(self.model.clone(), &self.weights).unwrap();
        scalar.forward(&self.input, &mut Ignore).unwrap()
    }
}

/// The relative L2 error; the shapes must agree.
fn relative(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.shape, want.shape);
    spec::relative_l2(&got.to_f64(), &want.to_f64())
}

fn small(depth: usize) -> Config {
    Config {
        depth,
        width: 0.3,
        frames: 3,
        size: (57, 65),
        classes: 7,
        pos_dim: [5, 4, 3, 2],
        ..Config::default()
    }
}

/// A network whose halves of channels are whole vectors of every instruction set, as Strassen's algorithm needs.
fn whole(depth: usize) -> Config {
    Config { width: 0.5, size: (33, 30), ..small(depth) }
}

fn configs() -> Vec<Config> {
    let base = small(18);
    let set = |setting: &str| {
        let mut config = small(50);
        config.semantics.set(setting).unwrap();
        config
    };
    vec![
        base.clone(),
        small(10),
        small(50),
        Config { size: (29, 29), ..small(50) },
        Config { size: (40, 33), width: 0.0625, ..small(10) },
        Config { size: (96, 64), width: 0.125, frames: 1, ..base },
        whole(50),
        set("tfc=off"),
        set("ioi=off"),
        set("pos_embed=off"),
        set("align_corners=off"),
    ]
}

/// The instruction sets of this machine; the others are reported as skipped.
fn instruction_sets() -> Vec<Isa> {
    let present = |isa: &Isa| {
        if isa.detect().is_none() {
            skip::skip!(Isa, "this processor has no {isa}");
        }
        isa.detect().is_some()
    };
    Isa::ALL.into_iter().filter(present).collect()
}

const ALGORITHMS: [Convolution; 5] = [
    Convolution::Auto,
    Convolution::Direct,
    Convolution::Winograd(Tile::F2),
    Convolution::Winograd(Tile::F4),
    Convolution::Strassen,
];

#[test]
fn logits_agree_with_the_scalar_engine() {
    for config in configs() {
        for clips in [1, 3] {
            let case = Case::new(config.clone(), clips);
            let truth = case.truth();
            for isa in instruction_sets() {
                for convolution in ALGORITHMS {
                    for (precision, bound) in [(Precision::F32, 2e-5), (Precision::Bf16, 0.06)] {
                        let coarse =
                            precision == Precision::Bf16 && ALGORITHMS[3..].contains(&convolution);
                        // In f32, `amx-emulated` uses the portable kernels, which have their own
                        // turn.
                        let duplicate = precision == Precision::F32 && isa == Isa::AmxEmulated;
                        if coarse || duplicate {
                            continue;
                        }
                        let options =
                            Options { isa: Some(isa), threads: 2, convolution, poison: true };
                        let got = case.cpu(precision, options).forward(&case.input, &mut Ignore);
                        let error = relative(&got.unwrap(), &truth);
                        let what = format!("{isa} {precision} {convolution:?} {clips} {config:?}");
                        assert!(error <= bound, "{what}: {error:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_forced_algorithm_is_used() {
    for isa in instruction_sets() {
        for (convolution, name) in
            [(Convolution::Strassen, "Strassen"), (ALGORITHMS[3], "Winograd F(4, 4)")]
        {
            let case = Case::new(whole(50), 0);
            let options = Options { isa: Some(isa), convolution, ..Options::default() };
            let engine = Cpu::<Bf16>::new(case.model, case.weights, options).unwrap();
            let count = engine.steps().filter(|(_, _, algorithm)| *algorithm == name).count();
            assert!(count >= 16, "{isa}: {count} steps by {name}");
        }
    }
}

#[test]
fn an_empty_batch_gives_an_empty_output() {
    let case = Case::new(small(18), 0);
    for precision in [Precision::F32, Precision::Bf16] {
        let got = case.cpu(precision, Options::default()).forward(&case.input, &mut Ignore);
        assert_eq!(got.unwrap().shape, [0, 7]);
    }
}

#[test]
fn threads_batch_size_and_a_tap_do_not_change_the_bits() {
    let best = DetectedIsa::best().isa();
    let kernels =
        [(Precision::F32, best), (Precision::Bf16, best), (Precision::Bf16, Isa::AmxEmulated)];
    let cases = [small(18), small(50)].map(|config| (config, Convolution::Auto));
    let forced = [Convolution::Strassen, ALGORITHMS[3]].map(|forced| (whole(50), forced));
    for (config, convolution) in cases.into_iter().chain(forced) {
        for (precision, isa) in kernels {
            // With 7 clips, 2 or 3 threads each take clips of their own, and 5 threads work on each
            // clip together.
            let case = Case::new(config.clone(), 7);
            let isa = Some(isa);
            let options = |threads| Options { threads, isa, convolution, poison: true };
            let want = case.cpu(precision, options(1)).forward(&case.input, &mut Ignore).unwrap();
            for threads in [2, 3, 5] {
                let mut engine = case.cpu(precision, options(threads));
                assert_eq!(engine.forward(&case.input, &mut Ignore).unwrap(), want);
                assert_eq!(engine.forward(&case.input, &mut Everything(vec![])).unwrap(), want);
            }
            let mut shape = case.input.shape.clone();
            shape[0] = 1;
            let first = case.input.to_f32()[..case.input.len() / 7].to_vec();
            let first = Tensor::f32(shape, first);
            let alone = case.cpu(precision, options(2)).forward(&first, &mut Ignore).unwrap();
            assert_eq!(alone.to_f32(), want.to_f32()[..7]);
        }
    }
}

/// A tap that keeps every activation.
struct Everything(Vec<(ModuleId, Tensor)>);

impl Tap for Everything {
    fn wants(&self, _: ModuleId) -> bool {
        true
    }
    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        self.0.push((id, value));
        Flow::Continue
    }
}

#[test]
fn a_tap_observes_what_the_scalar_engine_computes() {
    for depth in [18, 50] {
        for (precision, bound) in [(Precision::F32, 2e-5), (Precision::Bf16, 0.06)] {
            let case = Case::new(small(depth), 2);
            let mut want = Everything(vec![]);
            let mut scalar = Scalar::<f64>::new(case.model.clone(), &case.weights).unwrap();
            scalar.forward(&case.input, &mut want).unwrap();
            let mut got = Everything(vec![]);
            case.cpu(precision, Options::default()).forward(&case.input, &mut got).unwrap();
            assert!(
                got.0.len() * 2 > want.0.len(),
                "only {} of {} activations were observed",
                got.0.len(),
                want.0.len()
            );
            assert!(
                got.0.is_sorted_by_key(|(id, _)| *id),
                "activations are not in order of execution"
            );
            for (id, value) in &got.0 {
                let (_, truth) = want.0.iter().find(|(other, _)| other == id).unwrap();
                let error = relative(value, truth);
                assert!(error <= bound, "{precision} {}: {error:e}", case.model.module(*id).name);
            }
        }
    }
}

#[test]
fn a_replacement_by_a_tap_is_used() {
    struct Zero(ModuleId);
    impl Tap for Zero {
        fn wants(&self, id: ModuleId) -> bool {
            id == self.0
        }
        fn observe(&mut self, _: ModuleId, value: Tensor) -> Flow {
            Flow::Replace(Tensor::f32(value.shape.clone(), vec![0.0; value.len()]))
        }
    }
    let case = Case::new(small(18), 1);
    let mut all = Everything(vec![]);
    case.cpu(Precision::F32, Options::default()).forward(&case.input, &mut all).unwrap();
    for (id, _) in &all.0 {
        let mut scalar = Scalar::<f64>::new(case.model.clone(), &case.weights).unwrap();
        let want = scalar.forward(&case.input, &mut Zero(*id)).unwrap();
        let got = case.cpu(Precision::F32, Options::default()).forward(&case.input, &mut Zero(*id));
        let error = relative(&got.unwrap(), &want);
        assert!(error <= 1e-4, "{}: {error:e}", case.model.module(*id).name);
    }
}

#[test]
fn unsupported_precisions_and_shapes_are_refused_with_a_reason() {
    let case = Case::new(small(10), 1);
    let error =
        cpu::load(case.model.clone(), case.weights.clone(), Precision::F64, Options::default());
    assert!(error.err().unwrap().to_string().contains("f32 or bf16"));
    let mut engine = case.cpu(Precision::F32, Options::default());
    let wrong = Tensor::f32(vec![1, 3], vec![0.0; 3]);
    assert!(engine.forward(&wrong, &mut Ignore).unwrap_err().to_string().contains("[1, 3]"));
}
