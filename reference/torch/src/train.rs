//! Training with SGD and libtorch's autograd. The forward pass is the one that is verified.
//!
//! The update is that of PyTorch's `SGD(momentum, weight_decay)`: `v = momentum v + (g + decay w)`,
//! `w = w - rate v`. As usual, there is no weight decay for normalisations and biases. A [`Student`]
//! has no hidden state: parameters, running statistics and momenta can be exported and imported by
//! name, so that interrupted training continues with the same bits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use checkpoint::Weights;
use spec::{EngineError, Ignore, Kind, Model};
use tch::Tensor;

use crate::Device;
use crate::network::Run;
use crate::tensors::{failed, from_torch, to_torch, upload};

type Result<T> = std::result::Result<T, EngineError>;

/// The settings of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Learning rate, the factor of `v` in the update of the weights.
    pub rate: f64,
    /// Momentum, the factor of the previous `v`.
    pub momentum: f64,
    /// Weight decay, for the weights of convolutions and of the classifier only.
    pub decay: f64,
    /// Label smoothing, 0 to 1: the share of the target that is spread over all classes.
    pub smoothing: f64,
    /// The largest L2 norm of the gradients of all parameters together; larger ones are scaled down.
    pub clip_norm: f64,
}

/// A network that is being trained.
pub struct Student {
    model: Arc<Model>,
    tensors: HashMap<String, Tensor>,
    /// Momenta by parameter name. The order is fixed, because sums over parameters must not depend on
    /// the order of a hash map.
    momenta: BTreeMap<String, Tensor>,
    /// Names of the parameters that have weight decay: the weights of convolutions and the classifier.
    decayed: HashSet<String>,
    device: Device,
}

/// The result of one training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Cross-entropy with smoothed labels, mean over the batch, before the update.
    pub loss: f64,
    /// Number of clips in the batch whose largest logit was that of the label.
    pub correct: usize,
}

impl Student {
    /// Starts from the given weights, with momenta of 0.
    pub fn new(model: Arc<Model>, weights: &Weights, device: Device) -> Result<Self> {
        let (mut tensors, mut momenta) = (HashMap::new(), BTreeMap::new());
        for wanted in model.parameters() {
            let name = &wanted.name;
            let param =
                weights.get(name).ok_or_else(|| EngineError::MissingWeight(name.clone()))?;
            let tensor = upload(&param.shape, &param.data, tch::Kind::Float, device)?;
            if is_statistic(name) {
                tensors.insert(name.clone(), tensor);
                continue;
            }
            momenta.insert(name.clone(), tensor.f_zeros_like().map_err(failed)?);
            tensors.insert(name.clone(), tensor.f_set_requires_grad(true).map_err(failed)?);
        }
        let matrices =
            model.modules().iter().filter(|m| matches!(m.kind, Kind::Conv | Kind::Linear));
        let decayed = matrices.map(|module| format!("{}.weight", module.name)).collect();
        Ok(Student { model, tensors, momenta, decayed, device })
    }

    /// Makes one update from `clips` [N, 3, T, H, W] and their N labels.
    pub fn step(&mut self, clips: &spec::Tensor, labels: &[usize], sgd: &Sgd) -> Result<Step> {
        let batch = labels.len();
        let expected = self.model.input_shape(batch);
        if clips.shape != expected {
            let what = "a training batch".to_owned();
            return Err(EngineError::Shape { what, expected, got: clips.shape.clone() });
        }
        let clip = to_torch(clips, tch::Kind::Float, self.device)?;
        let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
        let target = Tensor::f_from_slice(&labels)
            .and_then(|t| t.f_to_device(self.device.into()))
            .map_err(failed)?;
        let mut unseen = Ignore;
        let logits = Run::training(&self.model, &self.tensors, self.device, &mut unseen)
            .walk(clip, batch)?;
        let loss = logits
            .f_cross_entropy_loss::<Tensor>(
                &target,
                None,
                tch::Reduction::Mean,
                -100,
                sgd.smoothing,
            )
            .map_err(failed)?;
        loss.f_backward().map_err(failed)?;
        self.update(sgd).map_err(failed)?;
        let hits = logits.f_argmax(1, false).and_then(|best| best.f_eq_tensor(&target));
        let correct = hits.and_then(|hits| hits.f_sum(tch::Kind::Int64)).map_err(failed)?;
        let number = |t: &Tensor| t.f_double_value(&[]).map_err(failed);
        Ok(Step { loss: number(&loss)?, correct: number(&correct)? as usize })
    }

    fn update(&mut self, sgd: &Sgd) -> std::result::Result<(), tch::TchError> {
        let _no_grad = tch::no_grad_guard();
        let mut square = 0.0;
        for name in self.momenta.keys() {
            let gradient = self.tensors[name].f_grad()?;
            // A part that an ablation switched off has no gradient.
            if gradient.defined() {
                square += gradient.f_square()?.f_sum(tch::Kind::Double)?.f_double_value(&[])?;
            }
        }
        let norm = square.sqrt();
        let scale = if norm > sgd.clip_norm { sgd.clip_norm / norm } else { 1.0 };
        for (name, momentum) in &mut self.momenta {
            let Some(tensor) = self.tensors.get_mut(name) else { continue };
            let mut gradient = tensor.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            let mut change = gradient.f_mul_scalar(scale)?;
            if self.decayed.contains(name) {
                change = change.f_add(&tensor.f_detach()?.f_mul_scalar(sgd.decay)?)?;
            }
            let _ = momentum.f_mul_scalar_(sgd.momentum)?.f_add_(&change)?;
            let _ = tensor.f_sub_(&momentum.f_mul_scalar(sgd.rate)?)?;
            let _ = gradient.f_zero_()?;
        }
        Ok(())
    }

    /// Copies the parameters and the running statistics into `weights`, which must be those of the
    /// same model.
    pub fn export(&self, weights: &mut Weights) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for (name, tensor) in &self.tensors {
            let param =
                weights.get_mut(name).ok_or_else(|| EngineError::MissingWeight(name.clone()))?;
            param.data = from_torch(tensor)?.to_f32();
        }
        Ok(())
    }

    /// Copies the momenta, keyed by the names of their parameters.
    pub fn momenta(&self) -> Result<BTreeMap<String, spec::Tensor>> {
        let out = self.momenta.iter().map(|(name, t)| Ok((name.clone(), from_torch(t)?)));
        out.collect()
    }

    /// Restores momenta that [`Student::momenta`] returned earlier. Fails if one is missing or has
    /// another shape than its parameter.
    pub fn resume(&mut self, momenta: &BTreeMap<String, spec::Tensor>) -> Result<()> {
        for (name, own) in &mut self.momenta {
            let given =
                momenta.get(name).ok_or_else(|| EngineError::MissingWeight(name.clone()))?;
            let expected: Vec<usize> = own.size().iter().map(|&e| e as usize).collect();
            if given.shape != expected {
                let (what, got) = (format!("the momentum of {name}"), given.shape.clone());
                return Err(EngineError::Shape { what, expected, got });
            }
            *own = to_torch(given, tch::Kind::Float, self.device)?;
        }
        Ok(())
    }
}

fn is_statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}
