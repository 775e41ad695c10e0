//! The whole engine on an emulated GPU, compared with the scalar engine in float64 and with itself.

use std::sync::Arc;

use checkpoint::{Weights, formula};
use cuda::Cuda;
use cuda::device::host::SCHEDULES;
use cuda::device::{Host, Schedule};
use cuda::kernels::tile::BandSupport;
use scalar::Scalar;
use skip::skip;
use spec::{
    Config, Engine, EngineError, Flow, Frames, Ignore, Model, ModuleId, Precision, Profile,
    StepTime, Tap, Tensor,
};

/// Numbers of multiprocessors of the emulated GPU. With few, a block computes a tile; with many, the K of
/// convolutions is split.
const FEW: usize = 2;
const MANY: usize = 132;

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

    /// The engine on an emulated GPU. If none can be emulated, reports the skip and returns None.
    fn cuda(
        &self,
        precision: Precision,
        multiprocessors: usize,
        schedule: Schedule,
    ) -> Option<Cuda> {
        self.cuda_with(precision, multiprocessors, schedule, (BandSupport::Planes, true))
    }

    /// As [`Case::cuda`], on a GPU that runs convolutions in bands or does not, and has clusters or not.
    fn cuda_with(
        &self,
        precision: Precision,
        multiprocessors: usize,
        schedule: Schedule,
        (bands, clusters): (BandSupport, bool),
    ) -> Option<Cuda> {
        let mut host = match Host::new(multiprocessors) {
            Ok(host) => host,
            Err(error) => {
                skip!(Gxx, "{error}");
                return None;
            }
        };
        (host.schedule, host.bands, host.clusters) = (schedule, bands, clusters);
        let (model, device) = (self.model.clone(), Box::new(host));
        let mut cuda = Cuda::new(model, &self.weights, precision, device).unwrap();
        cuda.poison = true;
        Some(cuda)
    }

    fn truth(&self, tap: &mut dyn Tap) -> Tensor {
        let mut scalar = Scalar::<f64>::new(self.model.clone(), &self.weights).unwrap();
        scalar.forward(&self.input, tap).unwrap()
    }
}

fn small(depth: usize) -> Config {
    Config {
        depth,
        width: 0.125,
        frames: 3,
        size: (45, 37),
        classes: 7,
        pos_dim: [5, 4, 3, 2],
        ..Config::default()
    }
}

fn configs() -> Vec<Config> {
    let set = |setting: &str| {
        let mut config = small(18);
        config.semantics.set(setting).unwrap();
        config
    };
    vec![
        small(50),
        Config { size: (29, 29), width: 0.3, ..small(18) },
        Config { size: (40, 33), frames: 1, ..small(10) },
        // The stem runs in bands where height and width are even.
        Config { size: (44, 36), ..small(10) },
        set("tfc=off"),
        set("ioi=off"),
        set("pos_embed=off"),
        set("align_corners=off"),
    ]
}

/// The relative L2 error; the shapes must agree.
fn relative(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.shape, want.shape);
    spec::relative_l2(&got.to_f64(), &want.to_f64())
}

/// The relative error that a whole network may have: 16 eps, because about ten roundings lie on the
/// way of each value.
fn tolerance(precision: Precision) -> f64 {
    16.0 * precision.epsilon()
}

/// A tap that keeps every activation, and replaces those in `replace`.
#[derive(Default)]
struct Keep {
    seen: Vec<(ModuleId, Tensor)>,
    replace: Vec<(ModuleId, Tensor)>,
}

impl Tap for Keep {
    fn wants(&self, _: ModuleId) -> bool {
        true
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        self.seen.push((id, value));
        let other = self.replace.iter().find(|(at, _)| *at == id);
        other.map_or(Flow::Continue, |(_, value)| Flow::Replace(value.clone()))
    }
}

#[test]
fn every_precision_agrees_with_the_scalar_implementation() {
    for config in configs() {
        let case = Case::new(config.clone(), 2);
        let truth = case.truth(&mut Ignore);
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
            for multiprocessors in [FEW, MANY] {
                let Some(mut cuda) = case.cuda(precision, multiprocessors, Schedule::default())
                else {
                    return;
                };
                let error = relative(&cuda.forward(&case.input, &mut Ignore).unwrap(), &truth);
                assert!(
                    error <= tolerance(precision),
                    "{config:?} {precision} {multiprocessors}: {error}"
                );
            }
        }
    }
}

/// Only Hopper runs in bands. Other GPUs, and a Hopper that refuses them, run in tiles.
#[test]
fn half_precision_is_right_without_bands_and_with_flat_ones() {
    // The map of each stage has even sides, so that it can be halved by the kernel that makes it.
    let case = Case::new(Config { size: (64, 32), ..small(50) }, 2);
    let truth = case.truth(&mut Ignore);
    for (precision, bands, multiprocessors, in_bands) in [
        (Precision::Bf16, BandSupport::Off, FEW, false),
        (Precision::F16, BandSupport::Off, MANY, false),
        (Precision::Bf16, BandSupport::Flat, FEW, true),
        (Precision::Bf16, BandSupport::Shifted, FEW, true),
        (Precision::Bf16, BandSupport::Planes, FEW, true),
        (Precision::F16, BandSupport::Planes, FEW, true),
    ] {
        let has = (bands, true);
        let engine = case.cuda_with(precision, multiprocessors, Schedule::default(), has);
        let Some(mut cuda) = engine else { return };
        let first = cuda.forward(&case.input, &mut Ignore).unwrap();
        let error = relative(&first, &truth);
        assert!(error <= tolerance(precision), "{precision} {bands:?}: {error}");
        let observed = cuda.forward(&case.input, &mut Keep::default()).unwrap();
        assert_eq!(observed, first, "{precision} {bands:?} observed");
        let how: Vec<(&str, bool)> = cuda
            .explain(2)
            .unwrap()
            .iter()
            .map(|(_, kind, how)| (*kind, how.contains("bands")))
            .collect();
        assert_eq!(how.contains(&("reduce 1x1", true)), in_bands, "{bands:?} {how:?}");
        let shifted = bands >= BandSupport::Shifted;
        // A gated map of which all readers multiply by the gate themselves is not stored.
        let steps = cuda.explain(2).unwrap();
        let stored = steps.iter().any(|(.., how)| how.contains("with the product of its map"));
        assert_eq!(stored, bands == BandSupport::Flat, "{bands:?}");
        let halved = steps.iter().filter(|(.., how)| how.contains("with the downsampling"));
        assert_eq!(halved.count(), if in_bands { 3 } else { 0 }, "{bands:?} {steps:?}");
        let pairs = steps.iter().any(|(.., how)| how.contains("with the next 1x1 convolution"));
        assert_eq!(pairs, in_bands, "{bands:?} {steps:?}");
        let imports = steps.iter().filter(|(_, kind, _)| *kind == "import").count();
        assert_eq!(imports == 0, bands == BandSupport::Planes, "{bands:?} {steps:?}");
        for kind in ["stem", "ioi 3x3 in"] {
            assert_eq!(how.contains(&(kind, true)), shifted, "{bands:?} {how:?}");
        }
    }
}

/// With channels that fill vectors and such that do not, in batches whose pixels do not fill tiles, and where each
/// clip is NaN or infinite somewhere.
#[test]
fn two_convolutions_in_one_kernel_change_no_bit() {
    let wide = Config { width: 0.3, size: (29, 30), ..small(50) };
    for (config, clips, special) in [(small(50), 1, 0.0), (wide, 9, 0.0), (small(50), 3, f32::NAN)]
    {
        let mut case = Case::new(config, clips);
        if special != 0.0 {
            let mut values = case.input.to_f32();
            values.iter_mut().step_by(3000).for_each(|value| *value = special);
            case.input = Tensor::f32(case.input.shape.clone(), values);
        }
        let [one, two] = [true, false].map(|pairs| {
            let mut host = Host::new(FEW).ok()?;
            host.pairs = pairs;
            let (model, device) = (case.model.clone(), Box::new(host));
            let mut cuda = Cuda::new(model, &case.weights, Precision::Bf16, device).unwrap();
            cuda.poison = true;
            let out = cuda.forward(&case.input, &mut Ignore).unwrap();
            let steps = cuda.explain(clips).unwrap();
            let paired = steps.iter().filter(|(_, kind, _)| *kind == "expand + reduce 1x1").count();
            assert_eq!(paired > 2, pairs, "{steps:?}");
            Some(out.to_f32().iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        });
        if one.is_none() {
            return skip!(Gxx, "no GPU can be emulated");
        }
        assert_eq!(one, two, "{clips} clips");
    }
}

/// Where 1x1 convolutions run in bands and a CTL block is not fused, the temporal convolution, whose
/// sums have initial values, does not.
#[test]
fn a_block_that_is_not_fused_keeps_its_initial_values() {
    let case = Case::new(Config { size: (52, 44), ..small(50) }, 1);
    let truth = case.truth(&mut Ignore);
    // With clusters, the block is fused.
    let has = (BandSupport::Flat, false);
    let engine = case.cuda_with(Precision::Bf16, 4, Schedule::default(), has);
    let Some(mut cuda) = engine else { return };
    let how = cuda.explain(1).unwrap();
    let runs = |kind: &str, word: &str| {
        let mut of_kind = how.iter().filter(|(_, of, how)| *of == kind && !how.contains("fused"));
        of_kind.next().is_some_and(|(.., how)| how.contains(word))
    };
    assert!(runs("reduce 1x1", "bands") && runs("tfc 1x1", "tile"), "{how:?}");
    let first = cuda.forward(&case.input, &mut Ignore).unwrap();
    let error = relative(&first, &truth);
    assert!(error <= tolerance(Precision::Bf16), "{error}");
    assert_eq!(cuda.forward(&case.input, &mut Keep::default()).unwrap(), first, "observed");
}

#[test]
fn the_schedule_of_threads_changes_no_bit() {
    let case = Case::new(small(50), 1);
    for precision in [Precision::F32, Precision::Bf16] {
        for multiprocessors in [FEW, MANY] {
            let run = |schedule| {
                let mut cuda = case.cuda(precision, multiprocessors, schedule)?;
                Some(cuda.forward(&case.input, &mut Ignore).unwrap())
            };
            let Some(first) = run(SCHEDULES[0]) else { return };
            for schedule in &SCHEDULES[1..] {
                assert_eq!(run(*schedule), Some(first.clone()), "{precision} {schedule:?}");
            }
        }
    }
}

#[test]
fn observing_and_running_again_change_no_bit() {
    // Where K is split and there are no clusters, blocks are not fused.
    for (precision, multiprocessors, clusters) in [
        (Precision::F32, FEW, true),
        (Precision::Bf16, FEW, true),
        (Precision::F16, MANY, false),
        (Precision::F16, MANY, true),
        (Precision::F32, MANY, true),
    ] {
        let case = Case::new(small(50), 2);
        let has = (BandSupport::Planes, clusters);
        let engine = case.cuda_with(precision, multiprocessors, Schedule::default(), has);
        let Some(mut cuda) = engine else { return };
        let first = cuda.forward(&case.input, &mut Ignore).unwrap();
        let mut keep = Keep::default();
        assert_eq!(cuda.forward(&case.input, &mut keep).unwrap(), first, "{precision} observed");
        assert_eq!(cuda.forward(&case.input, &mut Ignore).unwrap(), first, "{precision} again");
        let actions = cuda.explain(2).unwrap();
        let any = |begin: &str| actions.iter().any(|(_, _, how)| how.starts_with(begin));
        assert!(any("average pool"), "{precision}: a dense layer should make the means of a gate");
        assert_eq!(
            any("fused"),
            clusters,
            "{precision} with {multiprocessors} multiprocessors: whether blocks are fused"
        );
        let apart = actions.iter().any(|(.., how)| how.contains("another launch"));
        assert_eq!(apart, multiprocessors == MANY && !clusters, "{actions:?}");
    }
}

#[test]
fn timed_runs_have_the_bits_of_the_clips_they_are_given() {
    let case = Case::new(small(10), 2);
    let Some(mut cuda) = case.cuda(Precision::F32, FEW, Schedule::default()) else { return };
    let mut values = case.input.to_f32();
    values[0] += 1.0;
    let other = Tensor::f32(case.input.shape.clone(), values);
    let [want, want_other] =
        [&case.input, &other].map(|input| cuda.forward(input, &mut Ignore).unwrap());
    assert_ne!(want, want_other);
    for (input, want) in [(&case.input, &want), (&case.input, &want), (&other, &want_other)] {
        let (got, seconds) = cuda.timed(input).unwrap();
        assert!(got == *want && seconds > 0.0);
    }
    // Each of these writes to the memory of the clips.
    cuda.forward(&case.input, &mut Ignore).unwrap();
    assert_eq!(cuda.timed(&other).unwrap().0, want_other);
    cuda.profile(&case.input).unwrap();
    assert_eq!(cuda.timed(&other).unwrap().0, want_other);
    let more = Case::new(small(10), 3);
    cuda.timed(&more.input).unwrap();
    assert_eq!(cuda.timed(&other).unwrap().0, want_other);
}

#[test]
fn a_profile_accounts_for_every_multiplication_fused_or_not() {
    let case = Case::new(small(50), 2);
    let all: u64 = case.model.modules().iter().map(|module| module.macs).sum();
    for multiprocessors in [FEW, MANY] {
        let Some(mut cuda) = case.cuda(Precision::Bf16, multiprocessors, Schedule::default())
        else {
            return;
        };
        let steps = cuda.profile(&case.input).unwrap();
        assert_eq!(steps.iter().map(|step| step.macs).sum::<u64>(), 2 * all);
        assert!(steps.iter().all(|step| step.bytes > 0 && step.seconds > 0.0), "{steps:?}");
        // The model is of a GPU with many.
        let modelled = |step: &StepTime| step.predicted.is_some_and(|seconds| seconds > 1e-6);
        assert!(steps.iter().all(|step| modelled(step) == (multiprocessors == MANY)), "{steps:?}");
    }
}

#[test]
fn the_model_knows_that_a_gate_reads_sums_of_tiles_and_not_the_map() {
    let case = Case::new(small(50), 1);
    let Some(cuda) = case.cuda(Precision::Bf16, MANY, Schedule::default()) else { return };
    let predicted = cuda.predict(64).unwrap();
    let memory = |wanted: &str| -> f64 {
        predicted.iter().filter(|(kind, ..)| *kind == wanted).map(|(.., p)| p.memory).sum()
    };
    assert!(memory("gate") < memory("reduce 1x1") / 4.0, "{predicted:?}");
}

#[test]
fn every_observed_activation_is_right_and_can_be_replaced() {
    let case = Case::new(small(50), 2);
    let mut truth = Keep::default();
    case.truth(&mut truth);
    let names = |keep: &Keep| keep.seen.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    for precision in [Precision::F32, Precision::Bf16] {
        for multiprocessors in [FEW, MANY] {
            let Some(mut cuda) = case.cuda(precision, multiprocessors, Schedule::default()) else {
                return;
            };
            // Each module is fed the truth, so that its error is its own.
            let mut keep = Keep { replace: truth.seen.clone(), ..Keep::default() };
            cuda.forward(&case.input, &mut keep).unwrap();
            let order = names(&keep);
            assert!(order.is_sorted(), "activations are observed in the order of the model");
            assert!(order.len() > case.model.modules().len() * 2 / 3, "most modules are observed");
            for (id, value) in &keep.seen {
                let (_, want) = truth.seen.iter().find(|(at, _)| at == id).unwrap();
                let error = relative(value, want);
                // In float32 a sum of K terms may be off by sqrt(K) eps, as in the allowed error of the
                // harness, and by 4 eps at least. In other precisions the rounding of inputs and
                // weights dominates.
                let module = case.model.module(*id);
                let roundings = (module.reduction as f64).sqrt().max(4.0);
                let f32 = roundings * Precision::F32.epsilon();
                let bound =
                    if precision == Precision::F32 { f32 } else { 2.0 * precision.epsilon() };
                let name = &module.name;
                assert!(error <= bound, "{precision} {multiprocessors} {name}: {error}");
            }
        }
    }
}

#[test]
fn batches_of_any_size_run_including_empty_ones() {
    let case = Case::new(small(10), 3);
    // Without clusters, K is not split on so small a GPU.
    let has = (BandSupport::Planes, false);
    let engine = case.cuda_with(Precision::F32, FEW, Schedule::default(), has);
    let Some(mut cuda) = engine else { return };
    let three = cuda.forward(&case.input, &mut Ignore).unwrap();
    assert!(relative(&three, &case.truth(&mut Ignore)) <= tolerance(Precision::F32));
    let none = Case::new(small(10), 0);
    assert_eq!(cuda.forward(&none.input, &mut Keep::default()).unwrap().shape, [0, 7]);
    let one = Case::new(small(10), 1);
    let one = cuda.forward(&one.input, &mut Ignore).unwrap();
    assert_eq!(
        one.to_f32(),
        three.to_f32()[..7],
        "without a split of K, the bits of a clip do not depend on its batch"
    );
}

#[test]
fn nan_and_infinity_in_a_clip_reach_its_logits_and_no_other_clip() {
    let mut case = Case::new(small(10), 2);
    let Some(mut cuda) = case.cuda(Precision::F32, FEW, Schedule::default()) else { return };
    let clean = cuda.forward(&case.input, &mut Ignore).unwrap().to_f32();
    for value in [f32::NAN, f32::INFINITY] {
        let mut values = case.input.to_f32();
        values[100] = value;
        case.input = Tensor::f32(case.input.shape.clone(), values);
        let got = cuda.forward(&case.input, &mut Ignore).unwrap().to_f32();
        assert!(got[..7].iter().all(|v| v.is_nan()), "{value}: {got:?}");
        assert_eq!(got[7..], clean[7..]);
    }
}

#[test]
fn a_batch_that_does_not_fit_is_refused_with_the_largest_that_does() {
    let case = Case::new(small(10), 64);
    let mut host = match Host::new(FEW) {
        Ok(host) => host,
        Err(error) => return skip!(Gxx, "{error}"),
    };
    host.memory = 4 << 20;
    let (model, device) = (case.model.clone(), Box::new(host));
    let mut cuda = Cuda::new(model, &case.weights, Precision::F32, device).unwrap();
    let Err(EngineError::OutOfMemory { clips, fits, .. }) = cuda.forward(&case.input, &mut Ignore)
    else {
        panic!("64 clips do not fit into 4 MiB");
    };
    assert!(clips == 64 && (1..64).contains(&fits), "{fits}");
    let fitting = Case::new(small(10), fits);
    assert_eq!(cuda.forward(&fitting.input, &mut Ignore).unwrap().shape, [fits, 7]);
    let more = Case::new(small(10), fits + 1);
    assert!(
        cuda.forward(&more.input, &mut Ignore).is_err(),
        "{fits} clips should be the most that fit"
    );
}

#[test]
fn wrong_shapes_and_precisions_are_refused() {
    let case = Case::new(small(10), 1);
    let Some(mut cuda) = case.cuda(Precision::F32, FEW, Schedule::default()) else { return };
    let wrong = Tensor::f32([1, 3, 1, 45, 37], vec![0.0; 3 * 45 * 37]);
    let refused = cuda.forward(&wrong, &mut Ignore);
    assert!(matches!(refused, Err(EngineError::Shape { .. })), "{refused:?}");
    let device = Box::new(Host::new(1).unwrap());
    let refused = Cuda::new(case.model.clone(), &case.weights, Precision::F64, device).map(drop);
    assert!(refused.unwrap_err().to_string().contains("not in f64"));
}

#[test]
fn frames_are_normalised_on_the_device_bit_for_bit() {
    let case = Case::new(small(10), 2);
    let Some(mut cuda) = case.cuda(Precision::F32, FEW, Schedule::default()) else { return };
    let (mean, std) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
    let (shape, pixels) = ([2, 3, 45, 37], 45 * 37);
    let rgb: Vec<u8> = (0..2 * 3 * pixels * 3).map(|at| (at * 7919 % 256) as u8).collect();
    let mut clip = vec![0.0; rgb.len()];
    for (at, pixel) in rgb.chunks(3).enumerate() {
        let (image, time, in_frame) = (at / pixels / 3, at / pixels % 3, at % pixels);
        for colour in 0..3 {
            let value = (f32::from(pixel[colour]) - mean[colour]) / std[colour];
            clip[((image * 3 + colour) * 3 + time) * pixels + in_frame] = value;
        }
    }
    let want = cuda.forward(&Tensor::f32([2, 3, 3, 45, 37], clip), &mut Ignore).unwrap();
    let frames = Frames { shape, rgb: &rgb, mean, std };
    assert_eq!(cuda.forward_frames(&frames).unwrap().unwrap(), want);
    let short = Frames { rgb: &rgb[1..], ..frames };
    let refused = cuda.forward_frames(&short).unwrap();
    assert!(matches!(refused, Err(EngineError::Shape { .. })), "{refused:?}");
}
