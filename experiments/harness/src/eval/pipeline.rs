//! Runs videos through engines. Every core decodes, a few videos ahead of the engines.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Result, bail};
use record::{FileState, Video};
use spec::{Engine, EngineError, Frames, Ignore, Tensor};
use video::views::{self, Views};
use video::{VideoError, normalize};

use super::score;
use super::source::Videos;
use crate::{progress, stop};

/// A loaded engine of an evaluation.
pub struct NamedEngine {
    /// Name of the engine in tables.
    pub name: String,
    /// The engine with its network.
    pub engine: Box<dyn Engine>,
    /// The largest number of views that is known to fit into the device's memory at once.
    pub fits: usize,
}

impl NamedEngine {
    /// An engine that may be given any number of views.
    pub fn new(name: String, engine: Box<dyn Engine>) -> Self {
        NamedEngine { name, engine, fits: usize::MAX }
    }

    /// The logits [views, classes] of `views` views, which run in batches of at most `batch`, or of fewer
    /// if the device has too little memory. `rgb` returns the frames [views, T, H, W, 3] of a range of
    /// views.
    fn forward(
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
            match self.run(shape, &rgb(some.clone())) {
                Ok(output) => {
                    logits.extend(output.to_f32());
                    at = some.end;
                }
                Err(EngineError::OutOfMemory { fits, .. }) if (1..some.len()).contains(&fits) => {
                    eprintln!(
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

    /// Runs a batch of views, which is normalised by the engine if it can, or else here.
    fn run(&mut self, shape: [usize; 4], rgb: &[u8]) -> Result<Tensor, EngineError> {
        let (mean, std) = (normalize::MEAN, normalize::STD);
        if let Some(output) = self.engine.forward_frames(&Frames { shape, rgb, mean, std }) {
            return output;
        }
        let [views, frames, height, width] = shape;
        let mut clip = vec![];
        let view = frames * height * width * 3;
        rgb.chunks(view).for_each(|view| normalize::append(view, &mut clip));
        let clip = Tensor::f32([views, 3, frames, height, width], clip);
        self.engine.forward(&clip, &mut Ignore)
    }
}

/// The results of all engines for one video.
pub struct Evaluated {
    /// The video's row in the record.
    pub video: Video,
    /// The logits of each engine, [views, classes].
    pub logits: Vec<Vec<f32>>,
}

/// Runs the videos with the indexes `places` through the engines, and passes each to `done` when it is
/// finished. A batch has at most `batch` views and never mixes videos, so that the result for a video does
/// not depend on its neighbours. Returns `false` if the user has stopped the run.
pub fn run(
    videos: &Videos,
    places: &[usize],
    engines: &mut [NamedEngine],
    batch: usize,
    classes: usize,
    done: &mut dyn FnMut(Evaluated) -> Result<()>,
) -> Result<bool> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let bar = progress::bar("videos", places.len() as u64);
    let next = AtomicUsize::new(0);
    let result = std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel(threads);
        for _ in 0..threads.min(places.len()) {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                while let Some(&place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let path = videos.file(place);
                    // Asked before decoding: a file that is replaced meanwhile counts as changed.
                    let file = state_of(&path);
                    let views = views::load(&videos.ffmpeg, &path, &videos.protocol, videos.limits);
                    let seconds = start.elapsed().as_secs_f64();
                    if send.send((place, views, file, seconds)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (place, views, file, seconds) in &receive {
            if stop::asked() {
                return Ok(false);
            }
            let entry = &videos.entries[place];
            let mut video = Video {
                index: place as u64,
                path: entry.path.clone(),
                label: entry.label.map(|label| label as u64),
                frames: 0,
                says: vec![],
                error: None,
                transient: false,
                file,
                promised: None,
                warning: None,
                decode_seconds: seconds,
            };
            let mut logits = vec![];
            match &views {
                Ok(views) => {
                    video.frames = views.frames as u64;
                    video.warning.clone_from(&views.warning);
                    // A different engine goes first for each video, because the first finds cold caches.
                    let count = engines.len();
                    let mut given: Vec<_> = engines.iter().map(|_| None).collect();
                    for turn in 0..count {
                        let at = (place + turn) % count;
                        let start = Instant::now();
                        let out = forward(videos, place, views, &mut engines[at], batch)?;
                        let scores = score::scores(&out, classes);
                        let seconds = start.elapsed().as_secs_f64();
                        given[at] = Some((score::answer(&scores, entry.label, seconds), out));
                    }
                    for (answer, out) in given.into_iter().flatten() {
                        video.says.push(answer);
                        logits.push(out);
                    }
                }
                Err(why @ VideoError::Ffmpeg(_)) => bail!("{why}"),
                Err(why) => {
                    video.error = Some(why.reason());
                    video.transient = why.is_transient();
                }
            }
            done(Evaluated { video, logits })?;
            bar.inc(1);
        }
        Ok(true)
    });
    bar.finish_and_clear();
    result
}

/// Size and time of a file; `None` if it is not there.
pub fn state_of(path: &Path) -> Option<FileState> {
    let meta = std::fs::metadata(path).ok()?;
    let since = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let modified = i64::try_from(since.as_nanos()).ok()?;
    Some(FileState { bytes: meta.len(), modified })
}

fn forward(
    videos: &Videos,
    place: usize,
    views: &Views,
    engine: &mut NamedEngine,
    batch: usize,
) -> Result<Vec<f32>> {
    let (frames, side) = (videos.protocol.frames, videos.protocol.crop);
    let order = videos.order.of(frames, place);
    engine.forward(views.len(), batch, [frames, side, side], |some| {
        let mut rgb = Vec::new();
        for view in some {
            let pixels = views.pixels(view);
            let size = pixels.len() / frames;
            order.iter().for_each(|&t| rgb.extend_from_slice(&pixels[t * size..][..size]));
        }
        rgb
    })
}

#[cfg(test)]
mod tests {
    use spec::{Precision, Tap};

    use super::*;

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
}
