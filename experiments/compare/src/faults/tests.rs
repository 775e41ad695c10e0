//! Tests the catalogue against the scalar engine: the expressions compute what the engine computes,
//! with and without each mistake.

use std::sync::Arc;

use checkpoint::Weights;
use spec::{Config, Engine, Flow, Model, ModuleId, PosEmbed, Semantics, Tap, Tensor};

use super::expr::{Missing, Scope};
use super::reach::reach;
use super::*;

/// A tap that keeps the output of every module.
#[derive(Default)]
struct Everything(Values);

impl Tap for Everything {
    fn wants(&self, _: ModuleId) -> bool {
        true
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        self.0.insert(id, Arc::new(Map::of(&value)));
        Flow::Continue
    }
}

struct Bench {
    model: Model,
    weights: Weights,
    clip: Tensor,
}

impl Bench {
    fn new(depth: usize, size: (usize, usize), semantics: Semantics) -> Bench {
        let config = Config {
            depth,
            width: 0.125,
            size,
            frames: 4,
            classes: 7,
            semantics,
            ..Config::default()
        };
        let model = Model::new(config).unwrap();
        let weights = Weights::formula(model.parameters(), 3);
        let shape = model.input_shape(2);
        let count = shape.iter().product();
        let clip = Tensor::f32(shape, checkpoint::formula::input(count, 5));
        Bench { model, weights, clip }
    }

    /// The output of every module in the scalar engine in float64, with a mistake or without.
    fn run(&self, change: Option<&Change>) -> Values {
        let (mut model, mut weights) = (self.model.clone(), self.weights.clone());
        change.iter().for_each(|change| change.apply(&mut model, &mut weights));
        let engine = scalar::Scalar::<f64>::new(Arc::new(model), &weights).unwrap();
        let mut engine: Box<dyn Engine> = Box::new(engine);
        if let Some(change) = change.cloned() {
            engine = Box::new(Edited { engine, change, weights });
        }
        let mut all = Everything::default();
        engine.forward(&self.clip, &mut all).unwrap();
        all.0
    }
}

/// The largest difference of two maps, relative to the rms of the first one.
fn apart(a: &Map, b: &Map) -> f64 {
    assert_eq!(a.shape, b.shape);
    let squares: f64 = a.data.iter().map(|x| x * x).sum();
    let rms = (squares / a.data.len() as f64).sqrt();
    let most = a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    if most == 0.0 { 0.0 } else { most / rms }
}

/// Models that together have a place for every mistake in the catalogue.
fn benches() -> Vec<Bench> {
    let half = Semantics { pos_embed: PosEmbed::HalfPixel, ..Semantics::default() };
    vec![
        Bench::new(50, (72, 88), Semantics::default()),
        Bench::new(10, (57, 65), Semantics::default()),
        Bench::new(10, (40, 48), half),
    ]
}

#[test]
fn the_expressions_are_the_network() {
    let off = Semantics { tfc: false, ioi: false, pos_embed: PosEmbed::Off };
    for bench in benches().into_iter().chain([Bench::new(10, (32, 32), off)]) {
        let values = bench.run(None);
        let graph = ModelGraph::new(&bench.model);
        for module in bench.model.modules() {
            let own = || Ok(values[&module.id].clone());
            let of = |id: ModuleId| values.get(&id).cloned();
            let scope = Scope { weights: &bench.weights, values: &of, own: &own };
            let value = graph.network.expr(module.id).evaluate(&scope).unwrap();
            let error = apart(&values[&module.id], &value);
            assert!(error < 1e-12, "{}: {error:e}", module.name);
        }
    }
}

#[test]
fn every_mistake_changes_a_place_and_expressions_compute_what_an_engine_does() {
    let benches = benches();
    let truths: Vec<Values> = benches.iter().map(|bench| bench.run(None)).collect();
    for fault in Fault::ALL {
        let found = benches.iter().zip(&truths).find_map(|(bench, truth)| {
            let places = fault.places(&bench.model);
            (!places.is_empty()).then_some((bench, truth, places))
        });
        let (bench, truth, places) = found.unwrap_or_else(|| panic!("no place: {}", fault.word));
        let last = places.len() - 1;
        let graph = ModelGraph::new(&bench.model);
        for change in [&places[0], &places[last]] {
            assert_eq!(change.word, fault.word);
            let at = *reach(&graph, change, &|_| true).first().unwrap();
            assert_eq!(at, change.site, "{}", fault.word);
            let trial = Trial::new(&graph, &bench.weights, change.clone(), &|_| true);
            let clip = Arc::new(Map::of(&bench.clip));
            let expected = trial.value(at, truth, &clip).unwrap();
            let change_is_seen = apart(&truth[&at], &expected) > 1e-6;
            assert!(
                change_is_seen || fault.is_by_value(),
                "{} does not change its place",
                fault.word
            );
            // No module before the site is altered, so the engine may run freely up to it.
            let made = bench.run(Some(change));
            // The engine rounds float32 weights, and the expression rounds float64 values.
            let error = apart(&expected, &made[&at]);
            assert!(error < 1e-12, "{} at {}: {error:e}", fault.word, graph.name(at));
        }
    }
}

#[test]
fn a_mistake_in_a_hidden_module_is_a_hypothesis_at_the_next_shown_one() {
    let bench = Bench::new(50, (72, 88), Semantics::default());
    let graph = ModelGraph::new(&bench.model);
    let id = |name: &str| bench.model.find(name).unwrap().id;
    let shown = |module: ModuleId| module != id("maxpool");
    let words = |at: &str| -> Vec<&str> {
        hypotheses(&graph, id(at), &shown).iter().map(|change| change.word).collect()
    };
    let at_conv = words("layer1.0.conv1");
    for word in ["max-pool-same", "relu-missing", "relu6"] {
        assert!(at_conv.contains(&word), "{word} in {at_conv:?}");
    }
    assert!(!words("bn1").contains(&"max-pool-same"));
}

#[test]
fn a_kernel_of_one_pixel_is_never_rotated_or_transposed() {
    let bench = Bench::new(10, (57, 65), Semantics::default());
    let graph = ModelGraph::new(&bench.model);
    for module in bench.model.modules() {
        let side = graph.weight_shape(module).get(3).copied().unwrap_or(0);
        let area = module.shape.iter().skip(1).product::<usize>();
        for change in hypotheses(&graph, module.id, &|_| true) {
            let of_kernel = ["turned-kernel", "transposed-kernel"].contains(&change.word);
            let possible = side > 1 && area > 1;
            assert!(!of_kernel || possible, "{} at {}", change.word, module.name);
        }
    }
}

#[test]
fn a_default_model_at_224_does_not_exercise_the_resize() {
    let model = |size| Model::new(Config { size, ..Config::default() }).unwrap();
    let unseen = not_exercised(&model((224, 224)), &|_| true, &|_| f64::INFINITY, None);
    for word in ["align-corners", "resize-antialias", "resize-flax"] {
        let found = unseen.iter().find(|fault| fault.word == word);
        let size = found.and_then(|fault| fault.try_size.as_deref());
        assert_eq!(size, Some("57x65"), "{word}: {unseen:?}");
    }
    assert!(unseen.iter().all(|fault| fault.word != "max-pool-same"));
    let odd = not_exercised(&model((57, 65)), &|_| true, &|_| f64::INFINITY, None);
    assert!(odd.iter().all(|fault| !fault.word.starts_with("align")), "{odd:?}");
    let pool = odd.iter().find(|fault| fault.word == "max-pool-same").unwrap();
    assert_eq!(pool.try_size.as_deref(), Some("64x64"));
}

/// As PyTorch initialises it: normalisations do nothing, and embeddings are zero.
#[test]
fn a_network_that_was_not_trained_does_not_exercise_its_statistics() {
    let config = Config { depth: 10, width: 0.125, size: (64, 64), ..Config::default() };
    let model = Model::new(config).unwrap();
    let mut weights = Weights::formula(model.parameters(), 0);
    let words = |weights: &Weights, compared: &dyn Fn(ModuleId) -> bool| -> Vec<&str> {
        kept_by_weights(&model, weights, compared).into_iter().map(|m| m.word).collect()
    };
    assert_eq!(words(&weights, &|_| true), [""; 0]);
    for spec in model.parameters() {
        let fresh = match spec.name.rsplit('.').next() {
            Some("running_mean") => 0.0,
            Some("running_var") => 1.0,
            _ if spec.name.contains("pos_embed") => 0.0,
            _ => continue,
        };
        weights.get_mut(&spec.name).unwrap().data.fill(fresh);
    }
    let kept = words(&weights, &|_| true);
    for word in ["bn-statistics", "bn-deviation", "embedding-dropped", "align-corners"] {
        assert!(kept.contains(&word), "{word}: {kept:?}");
    }
    for word in ["bn-affine", "bn-missing", "eps", "bias-missing", "transposed-kernel"] {
        assert!(!kept.contains(&word), "{word}: {kept:?}");
    }
    assert_eq!(words(&weights, &|_| false), [""; 0], "nothing was compared");
}

#[test]
fn an_eps_whose_effect_passes_everywhere_is_not_exercised() {
    let config = Config { depth: 10, width: 0.125, size: (64, 64), ..Config::default() };
    let model = Model::new(config).unwrap();
    let weights = Weights::formula(model.parameters(), 0);
    let words = |passes: &dyn Fn(ModuleId) -> f64| -> Vec<&str> {
        too_small(&model, &weights, &|_| true, passes).into_iter().map(|m| m.word).collect()
    };
    assert_eq!(words(&|_| 1e-2), ["eps", "eps-1e-6", "eps-0"]);
    assert_eq!(words(&|_| 1e-4), ["eps-1e-6", "eps-0"]);
    assert_eq!(words(&|_| 1e-6), [""; 0]);
    // One layer that is precise enough shows it.
    let first = |id: ModuleId| if model.module(id).name == "bn1" { 1e-6 } else { 1e-2 };
    assert_eq!(words(&first), [""; 0]);
}

#[test]
fn mistakes_in_modules_that_were_not_compared_are_not_exercised() {
    let model = Model::new(Config { depth: 10, size: (57, 65), ..Config::default() }).unwrap();
    let stem = |id: ModuleId| model.module(id).block == "stem";
    let unseen = not_exercised(&model, &stem, &|_| f64::INFINITY, None);
    let gate = unseen.iter().find(|fault| fault.word == "missing-gate").unwrap();
    assert_eq!(gate.try_size, None, "another size does not help");
    assert!(unseen.iter().all(|fault| fault.word != "bgr"));
    // The logits alone show every mistake before them.
    let output = model.output();
    let unseen = not_exercised(&model, &|id| id == output, &|_| f64::INFINITY, None);
    assert!(unseen.iter().all(|fault| fault.try_size.is_some()), "{unseen:?}");
}

#[test]
fn a_clip_that_a_mistake_leaves_as_it_is_does_not_exercise_it() {
    let config = Config { depth: 10, size: (57, 65), frames: 4, ..Config::default() };
    let model = Model::new(config).unwrap();
    let words = |value: &dyn Fn(usize, usize) -> f32| {
        let plane = 57 * 65;
        let values = (0..3 * 4 * plane).map(|at| value(at / plane / 4, at / plane % 4)).collect();
        let clip = Tensor::f32(model.input_shape(1), values);
        let unseen = not_exercised(&model, &|_| true, &|_| f64::INFINITY, Some(&clip));
        let of_clip = ["bgr", "frame-major", "reversed-frames", "shifted-frame"];
        let found = unseen.iter().map(|mistake| mistake.word).filter(|word| of_clip.contains(word));
        let mut found: Vec<&str> = found.collect();
        found.sort_unstable();
        found
    };
    assert_eq!(words(&|colour, frame| (4 * colour + frame) as f32), Vec::<&str>::new());
    assert_eq!(words(&|colour, _| colour as f32), ["reversed-frames", "shifted-frame"]);
    assert_eq!(words(&|_, frame| frame as f32), ["bgr"]);
    let all = ["bgr", "frame-major", "reversed-frames", "shifted-frame"];
    assert_eq!(words(&|_, _| 0.0), all);
    assert_eq!(words(&|_, _| f32::NAN), all);
}

#[test]
fn a_missing_value_is_named() {
    let bench = Bench::new(10, (32, 32), Semantics::default());
    let graph = ModelGraph::new(&bench.model);
    let conv = graph.network.expr(bench.model.stem.conv.id);
    let own = || Err(Missing::Module(bench.model.input));
    let scope = Scope { weights: &bench.weights, values: &|_| None, own: &own };
    assert_eq!(conv.evaluate(&scope), Err(Missing::Module(bench.model.input)));
}

#[test]
fn a_relu6_is_exercised_only_by_values_that_it_cuts_off() {
    let model = Model::new(Config { depth: 10, size: (57, 65), ..Config::default() }).unwrap();
    let named = |largest: f64| {
        let unseen = not_exercised(&model, &|_| true, &|_| largest, None);
        unseen.iter().any(|mistake| mistake.word == "relu6")
    };
    assert!(named(6.0) && !named(6.1) && !named(f64::INFINITY));
}
