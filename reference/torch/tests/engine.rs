//! The behaviour of the engine: observing changes nothing, a tap gets the modules in order, and
//! error messages are one sentence.
#![cfg(feature = "libtorch")]

mod common;

use common::{Record, engine};
use spec::{
    Config, Engine, EngineError, Flow, Frames, Ignore, Kind, ModuleId, Precision, Tap, Tensor,
};
use torch::Device;

fn small() -> Config {
    Config { depth: 18, width: 0.125, frames: 4, size: (40, 33), classes: 5, ..Config::default() }
}

const PRECISIONS: [Precision; 5] =
    [Precision::F32, Precision::F64, Precision::Bf16, Precision::Tf32, Precision::F16];

#[test]
fn observing_does_not_change_the_result() {
    for precision in PRECISIONS {
        for depth in [18, 50] {
            let (_, mut torch, input) = engine(Config { depth, ..small() }, precision, 2);
            let quiet = torch.forward(&input, &mut Ignore).unwrap();
            let (_, observed) = Record::of(&mut torch, &input);
            assert_eq!(quiet, observed, "{precision} depth {depth}");
        }
    }
}

#[test]
fn every_module_is_observed_once_in_order_with_its_shape() {
    for precision in PRECISIONS {
        let (model, mut torch, input) = engine(small(), precision, 3);
        let (record, _) = Record::of(&mut torch, &input);
        let seen: Vec<_> = record.0.iter().map(|(id, value)| (*id, value.shape.clone())).collect();
        let expected: Vec<_> = model.modules().iter().map(|m| (m.id, m.batch_shape(3))).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_batch_normalisation_is_observed_before_its_relu() {
    let (model, mut torch, input) = engine(small(), Precision::F32, 1);
    let (record, _) = Record::of(&mut torch, &input);
    for (id, value) in record.0 {
        if model.module(id).kind == Kind::BatchNorm && value.len() > 64 {
            assert!(
                value.iter().any(|x| x < 0.0),
                "{} has no negative value",
                model.module(id).name
            );
        }
    }
}

/// A tap that returns the given flow at one module, and records which modules it was shown.
struct At(ModuleId, Flow, Vec<ModuleId>);

impl Tap for At {
    fn wants(&self, _: ModuleId) -> bool {
        true
    }

    fn observe(&mut self, id: ModuleId, _: Tensor) -> Flow {
        self.2.push(id);
        if id == self.0 { self.1.clone() } else { Flow::Continue }
    }
}

#[test]
fn a_replaced_value_is_what_the_next_module_reads() {
    let (model, mut torch, input) = engine(small(), Precision::F64, 1);
    let plain = torch.forward(&input, &mut Ignore).unwrap();
    let bn = model.find("bn1").unwrap();
    let zeros = Tensor::f64(bn.batch_shape(1), vec![0.0; bn.shape.iter().product()]);
    let replaced = torch.forward(&input, &mut At(bn.id, Flow::Replace(zeros), vec![])).unwrap();
    assert_ne!(plain, replaced);
    let wrong = Flow::Replace(Tensor::f64(vec![1], vec![0.0]));
    let error = torch.forward(&input, &mut At(bn.id, wrong, vec![])).unwrap_err();
    assert!(matches!(error, EngineError::Shape { ref what, .. } if what == "bn1"), "{error}");
}

#[test]
fn a_tap_can_stop_the_forward_pass() {
    let (model, mut torch, input) = engine(small(), Precision::F32, 1);
    let id = model.find("layer1.0").unwrap().id;
    let mut tap = At(id, Flow::Stop, vec![]);
    assert!(matches!(torch.forward(&input, &mut tap), Err(EngineError::Stopped)));
    assert_eq!(tap.2.last(), Some(&id));
}

#[test]
fn an_empty_batch_gives_empty_logits() {
    let (model, mut torch, input) = engine(small(), Precision::F32, 0);
    let (record, logits) = Record::of(&mut torch, &input);
    assert_eq!(logits.shape, [0, 5]);
    assert_eq!(record.0.len(), model.modules().len());
}

#[test]
fn nan_and_infinity_come_through() {
    let (_, mut torch, mut input) = engine(small(), Precision::F32, 1);
    let spec::Data::F32(values) = &mut input.data else { panic!("a float32 clip") };
    values[100] = f32::NAN;
    let logits = torch.forward(&input, &mut Ignore).unwrap();
    assert!(logits.iter().any(f64::is_nan));
}

#[test]
fn a_clip_of_the_wrong_shape_is_one_sentence() {
    let (_, mut torch, _) = engine(small(), Precision::F32, 1);
    let clip = Tensor::f32(vec![1, 3, 4, 40, 32], vec![0.0; 3 * 4 * 40 * 32]);
    let error = torch.forward(&clip, &mut Ignore).unwrap_err().to_string();
    assert!(error.contains("[1, 3, 4, 40, 33]") && error.contains("[1, 3, 4, 40, 32]"), "{error}");
}

#[test]
fn cuda_without_a_gpu_is_one_sentence() {
    match Device::Cuda(0).open() {
        Ok(_) => skip::skip!(Gpu, "cuda_without_a_gpu_is_one_sentence: this machine has a GPU"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("--device cuda: "), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }
}

#[test]
fn devices_are_parsed() {
    assert_eq!("cuda:3".parse(), Ok(Device::Cuda(3)));
    assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
    assert_eq!("cpu".parse(), Ok(Device::Cpu));
    for bad in ["gpu", "cuda:", "cuda:x", "cuda3", ""] {
        assert!(bad.parse::<Device>().is_err(), "{bad}");
    }
}

#[test]
fn frames_are_normalised_as_by_hand() {
    let (_, mut torch, input) = engine(small(), Precision::F32, 1);
    let [n, _, t, h, w] = input.shape[..] else { panic!("{:?}", input.shape) };
    let (mean, std) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
    let rgb: Vec<u8> = (0..n * t * h * w * 3).map(|at| (at * 7919 % 256) as u8).collect();
    let mut clip = vec![0.0; rgb.len()];
    for (at, pixel) in rgb.chunks(3).enumerate() {
        for colour in 0..3 {
            let value = (f32::from(pixel[colour]) - mean[colour]) / std[colour];
            clip[colour * t * h * w + at] = value;
        }
    }
    let want = torch.forward(&Tensor::f32(input.shape, clip), &mut Ignore).unwrap();
    let frames = Frames { shape: [n, t, h, w], rgb: &rgb, mean, std };
    assert_eq!(torch.run_frames(&frames).unwrap(), want);
    assert!(
        torch.forward_frames(&frames).is_none(),
        "on the CPU the caller normalises with a lookup table"
    );
}
