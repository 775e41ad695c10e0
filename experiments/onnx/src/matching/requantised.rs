//! The weights that a quantised file should have: those of the checkpoint, rounded to the file's steps.
//!
//! Where a number of the file is within half a step of the checkpoint's (times the factor of a folded batch
//! normalisation), it is what rounding makes of it, and the reference computes with it. Any other number of
//! the file is a mistake, and the reference keeps the checkpoint's. So the reference is the quantised
//! network, and the rounding of weights does not count as an error of the file.

use anyhow::Result;
use checkpoint::{Param, Weights};
use spec::{Data, Model, ModuleId, Tensor};

use super::anchors::{Anchor, Content, Numbers};
use super::places::Place;
use super::weigh::Likeness;
use super::{Ground, Matched, as_module, found_in};
use crate::read::Net;

/// What the reference of a quantised file computes with.
pub struct Requantised {
    /// The checkpoint, rounded as the file is.
    pub weights: Weights,
    /// The positional embeddings of the file that are the model's, rounded, each at the size of its map.
    pub embeddings: Vec<(ModuleId, Tensor)>,
    /// Number of weights that are integers with a scale.
    pub quantised: usize,
    /// How many of them are not what rounding the checkpoint gives.
    pub beyond: usize,
}

/// Rounds a checkpoint as a quantised file is. `embedding` gives the embedding of a module at the size of its
/// map.
///
/// # Errors
///
/// As [`super::matched`].
pub fn requantised(
    net: &Net,
    model: &Model,
    weights: &Weights,
    embedding: &dyn Fn(ModuleId) -> Option<Tensor>,
) -> Result<Requantised> {
    let ground = Ground::of(net, model, weights)?;
    let Ground { anchors, places, aligned } = &ground;
    let mut made =
        Requantised { weights: weights.clone(), embeddings: vec![], quantised: 0, beyond: 0 };
    for (a, place) in aligned.places.iter().enumerate() {
        let Some(p) = *place else { continue };
        let folded = aligned.evidence.get(&(a, p)) == Some(&Likeness::Scaled);
        made.node(model, weights, &anchors[a], &places[p], folded);
    }
    made.embeddings(net, &found_in(net, model, weights, &ground)?, model, embedding);
    Ok(made)
}

impl Requantised {
    /// Rounds the weights of one node's module.
    fn node(
        &mut self,
        model: &Model,
        weights: &Weights,
        anchor: &Anchor,
        place: &Place,
        folded: bool,
    ) {
        let name = &model.module(place.id).name;
        match &anchor.content {
            Content::Product { values, bias, .. } => {
                let norm = place.norm.filter(|_| folded).map(|norm| &model.module(norm).name);
                let scale = norm.and_then(|norm| folded_scale(weights, norm));
                let row = values.len() / place.shape[0].max(1);
                let factor = |at: usize| scale.as_ref().map_or(1.0, |scale| scale[at / row]);
                self.round(&format!("{name}.weight"), values, &factor, &|_| 0.0);
                let Some(bias) = bias else { return };
                match (norm, &scale) {
                    (Some(norm), Some(scale)) => self.folded_bias(weights, name, norm, scale, bias),
                    _ if place.bias => {
                        self.round(&format!("{name}.bias"), bias, &|_| 1.0, &|_| 0.0)
                    }
                    _ => {}
                }
            }
            Content::Norm { parts, .. } if parts.len() == 4 => {
                for (leaf, part) in
                    ["weight", "bias", "running_mean", "running_var"].iter().zip(parts)
                {
                    self.round(&format!("{name}.{leaf}"), part, &|_| 1.0, &|_| 0.0);
                }
            }
            Content::Norm { .. } => {}
        }
    }

    /// The bias that a folded normalisation leaves: beta + (bias - mean) * scale. Its rounding is given to beta.
    fn folded_bias(
        &mut self,
        weights: &Weights,
        conv: &str,
        norm: &str,
        scale: &[f64],
        bias: &Numbers,
    ) {
        let Some(mean) = weights.get(&format!("{norm}.running_mean")) else { return };
        let (mean, own) = (mean.to_f64(), weights.get(&format!("{conv}.bias")));
        let own = own.map_or(vec![0.0; mean.len()], |own| own.to_f64());
        let shift = |c: usize| (own[c] - mean[c]) * scale[c];
        self.round(&format!("{norm}.bias"), bias, &|_| 1.0, &shift);
    }

    /// Sets each value x of a parameter so that `factor * x + shift` is the file's number, if that number is
    /// what rounding makes of it.
    fn round(
        &mut self,
        name: &str,
        file: &Numbers,
        factor: &dyn Fn(usize) -> f64,
        shift: &dyn Fn(usize) -> f64,
    ) {
        let Some(param) = self.weights.get_mut(name) else { return };
        if file.steps.is_none() {
            return;
        }
        let (mut quantised, mut beyond) = (0, 0);
        let mut values = param.to_f64();
        if values.len() == file.len() {
            quantised = values.len();
            for (at, value) in values.iter_mut().enumerate() {
                let (scaled, shift) = (factor(at) * *value, shift(at));
                let exact = scaled + shift;
                // The exporter has folded in float32, where both terms are rounded.
                let rounding = 8.0 * f64::from(f32::EPSILON) * (scaled.abs() + shift.abs());
                match (file[at] - exact).abs() <= file.half_step(at) + rounding {
                    true if factor(at) != 0.0 => *value = (file[at] - shift) / factor(at),
                    true => {}
                    false => beyond += 1,
                }
            }
            *param = Param::of(param.shape.clone(), Data::F64(values));
        }
        self.quantised += quantised;
        self.beyond += beyond;
    }

    fn embeddings(
        &mut self,
        net: &Net,
        found: &Matched,
        model: &Model,
        embedding: &dyn Fn(ModuleId) -> Option<Tensor>,
    ) {
        for (&id, &value) in &found.points {
            let Some(constant) = net.constant(value).filter(|c| c.steps.is_some()) else {
                continue;
            };
            let wanted = &model.module(id).batch_shape(1);
            let own = Tensor::f64(constant.shape.clone(), constant.values.to_vec());
            let axes = found.axes.get(&value).copied();
            let steps = constant.steps.as_ref().map_or(vec![], |steps| steps.to_vec());
            let steps = Tensor::f64(constant.shape.clone(), steps);
            let (Some(own), Some(steps), Some(exact)) =
                (as_module(own, axes, wanted), as_module(steps, axes, wanted), embedding(id))
            else {
                continue;
            };
            if exact.shape != own.shape {
                continue;
            }
            // The file's embedding was resized in float32 before it was rounded.
            let largest = exact.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            let resized = 16.0 * f64::from(f32::EPSILON) * largest;
            let mut rounded = vec![];
            for ((file, exact), step) in own.iter().zip(exact.iter()).zip(steps.iter()) {
                let within = (file - exact).abs() <= 0.501 * step + resized;
                self.beyond += usize::from(!within);
                rounded.push(if within { file } else { exact });
            }
            self.quantised += own.len();
            self.embeddings.push((id, Tensor::f64(own.shape, rounded)));
        }
    }
}

/// The factor of each channel of a batch normalisation of the checkpoint.
fn folded_scale(weights: &Weights, norm: &str) -> Option<Vec<f64>> {
    let part = |leaf: &str| Some(weights.get(&format!("{norm}.{leaf}"))?.to_f64());
    let (weight, variance) = (part("weight")?, part("running_var")?);
    let scale = |(w, v): (&f64, &f64)| w / (v + spec::model::BN_EPS).sqrt();
    Some(weight.iter().zip(&variance).map(scale).collect())
}
