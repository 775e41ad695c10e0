//! An engine of an evaluation, which runs views in batches that fit into its memory.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use spec::{Engine, EngineError, Frames, Ignore, Tensor};
use video::normalize;

/// A loaded engine of an evaluation.
pub struct NamedEngine {
    /// Name of the engine in tables.
    pub name: String,
    /// The engine with its network.
    pub engine: Box<dyn Engine>,
    /// The largest number of views that is known to fit into the device's memory at once.
    pub fits: usize,
    /// Whether views of different videos may share a batch.
    pub mixes: bool,
    /// The time that this engine's batches took to make: crops put together, and values normalised unless
    /// the engine does so itself.
    pub preparing: Duration,
}

impl NamedEngine {
    /// An engine that may be given any number of views of one video.
    pub fn new(name: String, engine: Box<dyn Engine>) -> Self {
        let preparing = Duration::ZERO;
        NamedEngine { name, engine, fits: usize::MAX, mixes: false, preparing }
    }

    /// The same engine; `mixes` says whether views of different videos may share a batch.
    pub fn mixing(self, mixes: bool) -> Self {
        NamedEngine { mixes, ..self }
    }

    /// The logits [views, classes] of `views` views, which run in batches of at most `batch`, or of fewer
    /// if the device has too little memory. `rgb` returns the frames [views, T, H, W, 3] of a range of
    /// views.
    pub fn forward(
        &mut self,
        views: usize,
        batch: usize,
        [frames, height, width]: [usize; 3],
        rgb: impl Fn(Range<usize>) -> Vec<u8>,
    ) -> Result<Vec<f32>> {
        let (mut logits, mut at) = (vec![], 0);
        while at < views {
            let some = at..views.min(at + batch.min(self.fits).max(1));
            let shape = [some.len(), frames, height, width];
            let start = Instant::now();
            let pixels = rgb(some.clone());
            self.preparing += start.elapsed();
            match self.run(shape, &pixels) {
                Ok(output) => {
                    logits.extend(output.to_f32());
                    at = some.end;
                }
                Err(EngineError::OutOfMemory { fits, .. }) if (1..some.len()).contains(&fits) => {
                    announce!(
                        "{}: continuing with {fits} views at a time, since more do not fit in memory",
                        self.name
                    );
                    self.fits = fits;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(logits)
    }

    /// Runs a batch of views [N, T, H, W, 3], which is normalised by the engine if it can, or else here. `shape` is
    /// N, T, H and W.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    pub fn run(&mut self, shape: [usize; 4], rgb: &[u8]) -> Result<Tensor, EngineError> {
        let (mean, std) = (normalize::MEAN, normalize::STD);
        if let Some(output) = self.engine.forward_frames(&Frames { shape, rgb, mean, std }) {
            return output;
        }
        let [views, frames, height, width] = shape;
        let start = Instant::now();
        let mut clip = vec![];
        let view = frames * height * width * 3;
        rgb.chunks(view).for_each(|view| normalize::append(view, &mut clip));
        self.preparing += start.elapsed();
        let clip = Tensor::f32([views, 3, frames, height, width], clip);
        self.engine.forward(&clip, &mut Ignore)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use checkpoint::Weights;
    use spec::{Config, Model, Precision, Tap};

    use super::*;
    use crate::flags::EngineName;

    /// An engine whose memory holds two clips of one pixel, and whose logit is the red channel.
    struct Small(Vec<usize>);

    impl Engine for Small {
        fn describe(&self) -> String {
            "small".to_owned()
        }

        fn precision(&self) -> Precision {
            Precision::F32
        }

        fn forward(&mut self, input: &Tensor, _: &mut dyn Tap) -> Result<Tensor, EngineError> {
            let clips = input.shape[0];
            self.0.push(clips);
            let device = String::new();
            match clips {
                0..=2 => {
                    let red = input.to_f32().into_iter().step_by(3).collect();
                    Ok(Tensor::f32([clips, 1], red))
                }
                clips => {
                    Err(EngineError::OutOfMemory { device, clips, needed: 9, free: 5, fits: 2 })
                }
            }
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_lowered_once_and_nothing_is_lost() {
        let mut engine = NamedEngine::new("small".to_owned(), Box::new(Small(vec![])));
        let rgb = |some: Range<usize>| some.flat_map(|view| [view as u8, 0, 0]).collect();
        let red = |views: usize| -> Vec<f32> {
            let (mean, std) = (normalize::MEAN[0], normalize::STD[0]);
            (0..views).map(|view| (view as f32 - mean) / std).collect()
        };
        assert_eq!(engine.forward(5, 4, [1, 1, 1], rgb).unwrap(), red(5));
        assert_eq!(engine.fits, 2);
        assert_eq!(engine.forward(3, 4, [1, 1, 1], rgb).unwrap(), red(3));
    }

    /// What allows views of different videos to share a batch: a view has the same bits in every batch.
    #[test]
    fn engines_that_mix_videos_give_the_same_bits_in_every_batch() {
        for (depth, width, size) in [(10, 0.125, 64), (18, 0.25, 96), (50, 0.125, 64)] {
            let config =
                Config { depth, width, classes: 7, size: (size, size), ..Config::default() };
            let model = Model::new(config).unwrap();
            let weights = Weights::formula(model.parameters(), 0);
            let view = 16 * size * size * 3;
            let rgb = |some: Range<usize>| -> Vec<u8> {
                let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
                (some.start * view..some.end * view).map(byte).collect()
            };
            for name in [EngineName::Scalar, EngineName::Cpu] {
                assert!(name.mixes_clips());
                let load = || -> Box<dyn Engine> {
                    let model = Arc::new(model.clone());
                    let (precision, options) = (Precision::F32, cpu::Options::default());
                    match name {
                        EngineName::Cpu => {
                            cpu::load(model, weights.clone(), precision, options).unwrap()
                        }
                        _ => Box::new(scalar::Scalar::<f32>::new(model, &weights).unwrap()),
                    }
                };
                let logits = [7, 1, 2, 3].map(|batch| {
                    let mut engine = NamedEngine::new(name.to_string(), load());
                    let logits = engine.forward(7, batch, [16, size, size], rgb).unwrap();
                    logits.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                });
                assert_eq!(logits[0].len(), 7 * 7);
                assert!(logits.iter().all(|other| *other == logits[0]), "{name}, depth {depth}");
            }
        }
    }
}
