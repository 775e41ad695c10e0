//! The behaviour of the engine: taps that observe, replace and stop; parts that are switched off;
//! inputs and weights that it must refuse.

mod common;

use std::sync::Arc;

use checkpoint::{Param, Weights};
use common::{Case, Record, assert_within, bits, small_config};
use scalar::{Real, Scalar};
use spec::relative_l2;
use spec::{
    Config, Data, Engine, EngineError, Flow, Ignore, Kind, Model, ModuleId, PosEmbed, Precision,
    Tap, Tensor,
};

fn small(depth: usize, clips: usize) -> Case {
    Case::new(small_config(depth), clips)
}

/// A tap that returns `flow` at one module and counts the activations that it is shown after that.
struct Answer {
    at: ModuleId,
    flow: Option<Flow>,
    seen_after: usize,
}

impl Answer {
    fn new(at: ModuleId, flow: Flow) -> Self {
        Answer { at, flow: Some(flow), seen_after: 0 }
    }
}

impl Tap for Answer {
    fn wants(&self, id: ModuleId) -> bool {
        id >= self.at
    }

    fn observe(&mut self, id: ModuleId, _: Tensor) -> Flow {
        match self.flow.take() {
            Some(flow) if id == self.at => flow,
            _ => {
                self.seen_after += 1;
                Flow::Continue
            }
        }
    }
}

#[test]
fn engines_say_what_they_are() {
    let case = small(50, 1);
    let (single, double) = (case.engine::<f32>(), case.engine::<f64>());
    assert_eq!(
        (single.describe().as_str(), single.precision()),
        ("scalar f32 on cpu", Precision::F32)
    );
    assert_eq!(
        (double.describe().as_str(), double.precision()),
        ("scalar f64 on cpu", Precision::F64)
    );
}

/// Values that a checkpoint stores as float64 change the float64 result and no other.
#[test]
fn float64_weights_count_in_float64_only() {
    let plain = small(10, 1);
    let mut exact = small(10, 1);
    let bias = exact.weights.get_mut("fc.bias").unwrap();
    let values = bias.to_f64().iter().map(|x| x + 1e-12).collect();
    *bias = Param::of(bias.shape.clone(), Data::F64(values));
    assert_eq!(bits(&plain.run::<f32>()), bits(&exact.run::<f32>()));
    let (plain, exact) = (plain.run::<f64>().to_f64(), exact.run::<f64>().to_f64());
    for (a, b) in plain.iter().zip(exact) {
        assert!((b - a - 1e-12).abs() < 1e-15, "{a} and {b}");
    }
}

/// The tap gets every module once, in the model's order and shape and in the engine's precision.
fn observes_all<T: Real>(depth: usize, clips: usize) {
    let case = small(depth, clips);
    let mut record = Record::default();
    let logits = case.run_with::<T>(&mut record).unwrap();
    assert_eq!(record.0.len(), case.model.modules().len());
    for ((id, value), module) in record.0.iter().zip(case.model.modules()) {
        assert_eq!(*id, module.id, "order at {}", module.name);
        assert_eq!(value.shape, module.batch_shape(clips), "shape of {}", module.name);
        assert_eq!(*value, T::tensor(value.shape.clone(), T::values(value)), "{}", module.name);
    }
    assert_eq!(record.value(case.model.output()), &logits);
    assert_eq!(bits(&logits), bits(&case.run::<T>()), "observing changed the result");
}

#[test]
fn every_module_is_observed_and_nothing_changes() {
    for depth in [10, 50] {
        for clips in [0, 1, 2] {
            observes_all::<f32>(depth, clips);
            observes_all::<f64>(depth, clips);
        }
    }
}

#[test]
fn batch_normalisations_are_observed_before_their_relu() {
    let case = small(50, 1);
    let mut record = Record::default();
    case.run_with::<f32>(&mut record).unwrap();
    for (id, value) in &record.0 {
        let module = case.model.module(*id);
        let negative = value.iter().any(|v| v < 0.0);
        match module.kind {
            Kind::BatchNorm if value.len() > 64 => assert!(negative, "{}", module.name),
            Kind::Relu | Kind::Block | Kind::Sigmoid => assert!(!negative, "{}", module.name),
            _ => {}
        }
    }
}

/// Replacing a module's output by the value that it has anyway does not change the logits.
#[test]
fn replacing_by_the_same_value_changes_nothing() {
    let case = small(10, 2);
    let mut record = Record::default();
    let logits = case.run_with::<f64>(&mut record).unwrap();
    for (id, value) in record.0 {
        let mut tap = Answer::new(id, Flow::Replace(value));
        let again = case.run_with::<f64>(&mut tap).unwrap();
        assert_eq!(bits(&again), bits(&logits), "{}", case.model.module(id).name);
        assert_eq!(tap.seen_after, case.model.modules().len() - id.0 - 1);
    }
}

/// The rest of the network reads a replaced value: the logits change for every module. Both
/// directions are tried, because a ReLU can absorb a shift in one of them.
#[test]
fn every_replaced_value_reaches_the_logits() {
    for depth in [10, 50] {
        let case = small(depth, 1);
        let mut record = Record::default();
        let logits = case.run_with::<f64>(&mut record).unwrap();
        for (id, value) in record.0 {
            let changes = |shift: f64| {
                let other = value.iter().map(|v| v + shift).collect();
                let other = Flow::Replace(Tensor::f64(value.shape.clone(), other));
                let got = case.run_with::<f64>(&mut Answer::new(id, other)).unwrap();
                bits(&got) != bits(&logits)
            };
            let name = &case.model.module(id).name;
            assert!(changes(4.0) || changes(-4.0), "replacing {name} was ignored");
        }
    }
}

#[test]
fn replaced_logits_are_the_result() {
    let case = small(10, 1);
    let ours = Tensor::f64([1, 5], vec![1.0, 2.0, 3.0, 4.0, 5.0]);
    let mut tap = Answer::new(case.model.output(), Flow::Replace(ours));
    let got = case.run_with::<f32>(&mut tap).unwrap();
    assert_eq!(got, Tensor::f32([1, 5], vec![1.0, 2.0, 3.0, 4.0, 5.0]));
}

#[test]
fn a_replacement_of_the_wrong_shape_names_the_module() {
    let case = small(50, 1);
    let at = case.id("layer1.2.conv2.spatial_conv.glo_conv.3");
    let expected = case.model.module(at).batch_shape(1);
    let turned: Vec<usize> = expected.iter().rev().copied().collect();
    let value = Tensor::f32(turned.clone(), vec![0.0; turned.iter().product()]);
    let error = case.run_with::<f32>(&mut Answer::new(at, Flow::Replace(value))).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the value that replaces layer1.2.conv2.spatial_conv.glo_conv.3: expected shape \
             {expected:?}, got {turned:?}"
        )
    );
}

#[test]
fn stopping_stops_there() {
    let case = small(50, 1);
    for module in case.model.modules() {
        let mut tap = Answer::new(module.id, Flow::Stop);
        let error = case.run_with::<f32>(&mut tap).unwrap_err();
        assert!(matches!(error, EngineError::Stopped), "{error}");
        assert_eq!(tap.seen_after, 0, "something was computed after {}", module.name);
    }
}

/// The clips of a batch are independent, and an engine keeps no state from one run to the next.
#[test]
fn a_batch_equals_its_clips_run_alone() {
    let case = small(50, 3);
    let mut engine = case.engine::<f32>();
    let together = engine.forward(&case.input, &mut Ignore).unwrap().to_f32();
    let values = case.input.to_f32();
    let one = values.len() / 3;
    for clip in 0..3 {
        let input = Tensor::f32(case.model.input_shape(1), values[clip * one..][..one].to_vec());
        let alone = engine.forward(&input, &mut Ignore).unwrap().to_f32();
        assert_eq!(alone, together[clip * 5..][..5], "clip {clip}");
    }
}

#[test]
fn an_empty_batch_has_no_logits() {
    assert_eq!(small(50, 0).run::<f32>(), Tensor::f32([0, 5], vec![]));
}

#[test]
fn a_backbone_returns_the_pooled_features() {
    let case = Case::of(Model::backbone(small_config(50)).unwrap(), 2);
    let mut record = Record::default();
    let features = case.run_with::<f64>(&mut record).unwrap();
    assert_eq!(features.shape, [2, 4 * case.model.config.channels(3)]);
    assert_eq!(record.value(case.model.avgpool), &features);
    let mut with_head = Record::default();
    small(50, 2).run_with::<f64>(&mut with_head).unwrap();
    assert_eq!(with_head.value(case.model.avgpool), &features);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let case = small(50, 2);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&case.run::<f32>()))
    };
    let alone = run(1);
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), alone, "{threads} threads");
    }
}

#[test]
fn float32_is_near_float64() {
    let case = small(50, 1);
    let (single, double) = (case.run::<f32>(), case.run::<f64>());
    assert_within(relative_l2(&single.to_f64(), &double.to_f64()), 1e-5, "logits");
}

#[test]
fn float64_input_is_rounded_to_the_precision() {
    let case = small(10, 1);
    let exact = Tensor::f64(case.input.shape.clone(), case.input.to_f64());
    let mut engine = case.engine::<f32>();
    assert_eq!(engine.forward(&exact, &mut Ignore).unwrap(), case.run::<f32>());
}

/// A NaN in one clip reaches all logits of that clip and no logits of other clips.
#[test]
fn nan_in_a_clip_reaches_its_logits() {
    let mut case = small(50, 2);
    let mut values = case.input.to_f32();
    values[5] = f32::NAN;
    case.input = Tensor::f32(case.input.shape.clone(), values);
    let logits = case.run::<f32>().to_f32();
    assert!(logits[..5].iter().all(|v| v.is_nan()), "{logits:?}");
    assert!(logits[5..].iter().all(|v| v.is_finite()), "{logits:?}");
}

fn ablated(setting: &str) -> (Case, Record, Tensor) {
    let mut config = small_config(50);
    config.semantics.set(setting).unwrap();
    let case = Case::new(config, 1);
    let mut record = Record::default();
    let logits = case.run_with::<f64>(&mut record).unwrap();
    (case, record, logits)
}

#[test]
fn a_part_that_is_off_outputs_a_constant_and_changes_the_logits() {
    let plain = bits(&small(50, 1).run::<f64>());
    for (setting, value) in [("tfc=off", 1.0), ("ioi=off", 0.0), ("pos_embed=off", 0.0)] {
        let (case, record, logits) = ablated(setting);
        assert_ne!(bits(&logits), plain, "{setting}");
        for ctl in case.model.ctls() {
            let id = match setting {
                "tfc=off" => ctl.gate.sigmoid,
                "ioi=off" => ctl.spatial_conv.id,
                _ => ctl.spatial_conv.pos_embed.id,
            };
            assert!(record.value(id).iter().all(|v| v == value), "{setting} in {}", ctl.name);
        }
    }
    assert_ne!(bits(&ablated("align_corners=off").2), plain, "align_corners=off");
    assert_ne!(bits(&ablated("pos_embed=flax").2), plain, "pos_embed=flax");
}

/// The semantics of one CTL alone can be changed, and every module before it stays the same.
#[test]
fn one_ctl_can_differ_from_the_others() {
    let plain = small(50, 1);
    let mut before = Record::default();
    plain.run_with::<f64>(&mut before).unwrap();
    let mut model = Model::new(small_config(50)).unwrap();
    model.ctl_mut(3).unwrap().semantics.pos_embed = PosEmbed::Off;
    let case = Case::of(model, 1);
    let mut after = Record::default();
    case.run_with::<f64>(&mut after).unwrap();
    let differ = |((_, a), (_, b)): (&(ModuleId, Tensor), &(ModuleId, Tensor))| a != b;
    let first = before.0.iter().zip(&after.0).position(differ).map(ModuleId);
    assert_eq!(first, Some(case.id("layer1.2.conv2.spatial_conv.pos_embed")));
}

#[test]
fn eps_is_read_from_the_module() {
    let mut model = Model::new(small_config(50)).unwrap();
    let stem = model.stem.bn.id;
    model.batch_norm_mut(stem).unwrap().eps = 1e-3;
    let changed = Case::of(model, 1).run::<f64>();
    assert_ne!(bits(&changed), bits(&small(50, 1).run::<f64>()));
}

#[test]
fn an_embedding_that_flax_cannot_resize_is_one_sentence() {
    let mut config = Config { pos_dim: [1, 1, 1, 1], ..small_config(50) };
    config.semantics.pos_embed = PosEmbed::Flax;
    let error = Case::new(config, 1).run_with::<f32>(&mut Ignore).unwrap_err();
    assert_eq!(
        error.to_string(),
        "scalar: layer1.0.conv2.spatial_conv.pos_embed: the Flax emulation of align_corners \
         divides by zero when a side is 1 pixel long: 1x1 to 10x9"
    );
}

#[test]
fn input_of_the_wrong_shape_is_refused() {
    let case = small(50, 1);
    let mut engine = case.engine::<f32>();
    for shape in [vec![], vec![1, 3, 2, 33, 40], vec![3, 2, 40, 33], vec![1, 3, 2, 40, 33, 1]] {
        let input = Tensor::f32(shape.clone(), vec![0.0; shape.iter().product()]);
        let error = engine.forward(&input, &mut Ignore).unwrap_err();
        assert!(matches!(error, EngineError::Shape { got, .. } if got == shape), "{shape:?}");
    }
}

#[test]
fn missing_and_misshapen_weights_are_named() {
    let model = Arc::new(Model::new(small_config(50)).unwrap());
    let mut specs = model.parameters().to_vec();
    let last = specs.pop().unwrap();
    let missing = Scalar::<f32>::new(model.clone(), &Weights::formula(&specs, 0)).unwrap_err();
    assert_eq!(missing.to_string(), format!("the weights have no tensor {}", last.name));

    specs.push(last);
    specs[0].shape.swap(0, 1);
    let wrong = Scalar::<f64>::new(model, &Weights::formula(&specs, 0)).unwrap_err();
    assert!(matches!(wrong, EngineError::Shape { what, .. } if what == "conv1.weight"));
}
