//! Trains a network on `mini` with libtorch.

mod augment;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Result, bail};
use checkpoint::Weights;
use rayon::prelude::*;
use record::{Epoch, Rate};
use spec::{Config, Engine, Ignore, Model, ParamSpec, Precision, Tensor};
use torch::train::{Sgd, Student};
use video::dataset::{Dataset, Mode};
use video::decode::Limits;
use video::ffmpeg::Ffmpeg;
use video::mini::Part;
use video::mini::rng::Rng;
use video::{VideoError, normalize, views};

use crate::engines::Device;
use crate::eval::source::provide;
use crate::eval::stats;
use crate::{progress, stop};
use augment::{Clip, Extent};
use state::{Progress, State};

/// Name of the file from which a training is resumed.
pub const STATE_FILE: &str = "training.safetensors";

/// The settings of a training.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Configuration of the network.
    pub config: Config,
    /// Number of epochs.
    pub epochs: usize,
    /// Number of clips in a batch.
    pub batch: usize,
    /// Peak learning rate.
    pub rate: f64,
    /// Number of epochs in which the learning rate rises to its peak.
    pub warm_up: f64,
    /// Seed of the initial weights, the order of the videos and the augmentation.
    pub seed: u64,
    /// Number of training videos; 0 uses all.
    pub videos: usize,
}

const MOMENTUM: f64 = 0.9;
const DECAY: f64 = 1e-4;
const SMOOTHING: f64 = 0.1;
const CLIP_NORM: f64 = 40.0;
/// Number of videos in a batch of the validation.
const EVAL_BATCH: usize = 50;

impl Settings {
    /// All settings by name, for the record and to check that a resumed training has the same ones.
    pub fn describe(&self) -> BTreeMap<String, String> {
        let config = serde_json::to_string(&self.config).unwrap_or_default();
        [
            ("network", config),
            ("epochs", self.epochs.to_string()),
            ("batch size", self.batch.to_string()),
            (
                "learning rate",
                format!("{}, {} epochs of warm-up, then cosine", self.rate, self.warm_up),
            ),
            ("momentum", MOMENTUM.to_string()),
            ("weight decay", DECAY.to_string()),
            ("label smoothing", SMOOTHING.to_string()),
            ("largest gradient norm", CLIP_NORM.to_string()),
            ("augmentation", "flip, reversal of time, shift by 5 pixels, colour".to_owned()),
            ("seed", self.seed.to_string()),
            ("training videos", self.videos.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn rate_at(&self, step: usize, steps: usize, per_epoch: usize) -> f64 {
        let warm = self.warm_up * per_epoch as f64;
        let rise = ((step + 1) as f64 / warm.max(1.0)).min(1.0);
        let done = step as f64 / steps as f64;
        self.rate * rise * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

/// The result of a training.
pub struct Trained {
    /// The weights after the last finished epoch.
    pub weights: Weights,
    /// Loss and accuracy of each finished epoch.
    pub epochs: Vec<Epoch>,
    /// Whether all epochs are finished.
    pub finished: bool,
}

/// The decoded videos of `mini`.
pub struct Videos {
    train: Vec<Clip>,
    val: Vec<Clip>,
}

impl Videos {
    /// Makes the files that do not exist yet, and decodes the first `videos` of the training part (0 for
    /// all) and the whole validation part.
    pub fn load(ffmpeg: &Ffmpeg, folder: &Path, videos: usize) -> Result<Self> {
        let mut parts = [(Part::Train, videos), (Part::Val, 0)].map(|(part, most)| {
            let entries = provide(ffmpeg, folder, part, most)?;
            let bar = progress::bar(&format!("decoding {}", part.name()), entries.len() as u64);
            let protocol = Dataset::Mini.protocol(Mode::Val);
            let clips = entries.par_iter().map(|entry| {
                if stop::asked() {
                    return Err(VideoError::Stopped);
                }
                let path = folder.join(&entry.path);
                let views = views::load(ffmpeg, &path, &protocol, Limits::default())?;
                bar.inc(1);
                // Every video of mini has a label.
                Ok(Clip { pixels: views.pixels(0), label: entry.label.unwrap_or_default() })
            });
            let clips = clips.collect::<Result<Vec<_>, VideoError>>();
            bar.finish_and_clear();
            Ok::<_, anyhow::Error>(clips?)
        });
        let [train, val] = &mut parts;
        let take = |part: &mut Result<Vec<Clip>>| std::mem::replace(part, Ok(vec![]));
        Ok(Videos { train: take(train)?, val: take(val)? })
    }
}

/// Trains a network, and writes [`STATE_FILE`] into `folder` after each epoch. If that file is there it
/// continues from it, and the result has the same bits as if it had never stopped. A run that is stopped
/// afterwards says that this is `kept`; before, it fails with [`VideoError::Stopped`].
pub fn train(
    settings: &Settings,
    videos: &Videos,
    device: Device,
    folder: &Path,
    kept: &str,
) -> Result<Trained> {
    let model = Arc::new(Model::new(settings.config.clone())?);
    let extent = extent(settings)?;
    let path: PathBuf = folder.join(STATE_FILE);
    let mut state = match path.exists() {
        true => State::read(&path, &model, &settings.describe())?,
        false => State {
            progress: Progress { settings: settings.describe(), epochs: vec![] },
            weights: initial(model.parameters(), settings.seed),
            momenta: BTreeMap::new(),
        },
    };
    match state.progress.epochs.len() {
        0 => {}
        done => {
            stop::gently(kept);
            announce!("{done} of {} epochs are done in {}", settings.epochs, folder.display());
        }
    }
    let mut student = Student::new(model.clone(), &state.weights, device.torch)?;
    if !state.momenta.is_empty() {
        student.resume(&state.momenta)?;
    }
    let per_epoch = (videos.train.len() / settings.batch).max(1);
    announce!("{} videos to learn from, {per_epoch} steps in an epoch", videos.train.len());
    for epoch in state.progress.epochs.len()..settings.epochs {
        let start = Instant::now();
        let Some(sums) = one_epoch(settings, videos, extent, &mut student, epoch)? else { break };
        student.export(&mut state.weights)?;
        state.momenta = student.momenta()?;
        let val = validate(&model, &state.weights, &videos.val, device)?;
        let steps = settings.epochs * per_epoch;
        let point = Epoch {
            epoch: epoch as u64 + 1,
            rate: settings.rate_at((epoch + 1) * per_epoch - 1, steps, per_epoch),
            loss: sums.loss / per_epoch as f64,
            train: sums.correct as f64 / (per_epoch * settings.batch) as f64,
            val,
            seconds: start.elapsed().as_secs_f64(),
        };
        if !point.loss.is_finite() {
            bail!(
                "the loss is {} in epoch {}; try a smaller --rate and another --out",
                point.loss,
                point.epoch
            );
        }
        announce!(
            "epoch {:3} of {}: loss {:.3}, train {:.1} %, val {:.1} %, {:.1} s",
            point.epoch,
            settings.epochs,
            point.loss,
            100.0 * point.train,
            100.0 * val.share(),
            point.seconds
        );
        state.progress.epochs.push(point);
        state.write(&path)?;
        stop::gently(kept);
    }
    let finished = state.progress.epochs.len() == settings.epochs;
    if state.progress.epochs.is_empty() && !finished {
        return Err(VideoError::Stopped.into());
    }
    Ok(Trained { weights: state.weights, epochs: state.progress.epochs, finished })
}

fn extent(settings: &Settings) -> Result<Extent> {
    let (height, width) = settings.config.size;
    let side = Dataset::Mini.protocol(Mode::Val).crop;
    if (height, width) != (side, side) || settings.config.frames != 16 {
        bail!("mini has 16 frames of {side}x{side} pixels; leave out --size and --frames");
    }
    Ok(Extent { frames: settings.config.frames, side })
}

/// Sums over the batches of an epoch.
struct Sums {
    loss: f64,
    correct: usize,
}

/// Trains one epoch; the next batch is made while the network learns from the current one. `None` if the
/// user has stopped the run.
fn one_epoch(
    settings: &Settings,
    videos: &Videos,
    extent: Extent,
    student: &mut Student,
    epoch: usize,
) -> Result<Option<Sums>> {
    let count = videos.train.len();
    let per_epoch = (count / settings.batch).max(1);
    let order = Rng::new(settings.seed).fork(1).fork(1 + epoch as u64).order(count);
    let bar = progress::bar(&format!("epoch {}", epoch + 1), per_epoch as u64);
    let (send, batches) = mpsc::sync_channel(1);
    let result = std::thread::scope(|scope| {
        scope.spawn(move || {
            for index in 0..per_epoch {
                let step = (epoch * per_epoch + index) as u64;
                let mut rng = Rng::new(settings.seed).fork(2).fork(1 + step);
                let (mut clips, mut labels) = (Vec::new(), Vec::new());
                for at in 0..settings.batch {
                    let clip = &videos.train[order[(index * settings.batch + at) % count]];
                    labels.push(augment::append(clip, extent, &mut rng, &mut clips));
                }
                if send.send((clips, labels)).is_err() {
                    return;
                }
            }
        });
        let mut sums = Sums { loss: 0.0, correct: 0 };
        for (index, (clips, labels)) in batches.iter().enumerate() {
            if stop::asked() {
                return Ok(None);
            }
            let step = epoch * per_epoch + index;
            let sgd = Sgd {
                rate: settings.rate_at(step, settings.epochs * per_epoch, per_epoch),
                momentum: MOMENTUM,
                decay: DECAY,
                smoothing: SMOOTHING,
                clip_norm: CLIP_NORM,
            };
            let shape = [labels.len(), 3, extent.frames, extent.side, extent.side];
            let done = student.step(&Tensor::f32(shape, clips), &labels, &sgd)?;
            sums.loss += done.loss;
            sums.correct += done.correct;
            bar.inc(1);
        }
        drop(batches);
        Ok(Some(sums))
    });
    bar.finish_and_clear();
    result
}

fn validate(model: &Arc<Model>, weights: &Weights, clips: &[Clip], device: Device) -> Result<Rate> {
    let mut engine = torch::Torch::new(model.clone(), weights, Precision::F32, device.torch)?;
    let mut hits = 0;
    for batch in clips.chunks(EVAL_BATCH) {
        let mut input = Vec::new();
        batch.iter().for_each(|clip| normalize::append(&clip.pixels, &mut input));
        let input = Tensor::f32(model.input_shape(batch.len()), input);
        let logits = engine.forward(&input, &mut Ignore)?.to_f32();
        let rows = logits.chunks(model.config.classes);
        hits += rows.zip(batch).filter(|(row, clip)| best(row) == Some(clip.label)).count();
    }
    Ok(stats::rate(hits as u64, clips.len() as u64))
}

/// The index of the largest value; `None` if any value is NaN.
fn best(row: &[f32]) -> Option<usize> {
    if row.iter().any(|value| value.is_nan()) {
        return None;
    }
    row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at)
}

/// He's normal initialisation (fan out) for convolutions, a small normal one for the classifier,
/// ones and zeros for normalisations, biases and embeddings.
fn initial(params: &[ParamSpec], seed: u64) -> Weights {
    let mut weights = Weights::formula(params, 0);
    for (at, spec) in params.iter().enumerate() {
        let Some(param) = weights.get_mut(&spec.name) else { continue };
        let mut rng = Rng::new(seed).fork(3).fork(1 + at as u64);
        match spec.shape[..] {
            [outputs, inputs, height, width] if spec.name.ends_with(".weight") => {
                let depthwise = if inputs == 1 { outputs } else { 1 };
                let fan = (outputs / depthwise * height * width) as f32;
                let scale = (2.0 / fan).sqrt();
                param.data.fill_with(|| scale * normal(&mut rng));
            }
            [_, _] => param.data.fill_with(|| 0.01 * normal(&mut rng)),
            _ => {
                let one = spec.name.ends_with(".weight") || spec.name.ends_with(".running_var");
                param.data.fill(if one { 1.0 } else { 0.0 });
            }
        }
    }
    weights
}

/// A standard normal number, by the method of Box and Muller.
fn normal(rng: &mut Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (2.0 * std::f32::consts::PI * rng.unit()).cos()
}
