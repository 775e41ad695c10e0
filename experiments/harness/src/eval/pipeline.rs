//! Videos through networks: decoding on every core, ahead of the networks by a few videos.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::Result;
use reports::record::Video;
use spec::{Engine, Ignore, Tensor};
use video::views::{self, Views};
use video::{VideoError, normalize};

use super::score;
use super::source::Videos;
use crate::{progress, stop};

/// A network with a name.
pub struct Contestant {
    /// Its name in tables.
    pub name: String,
    /// The network.
    pub engine: Box<dyn Engine>,
}

/// What the networks gave for one video.
pub struct Seen {
    /// The row of the table.
    pub video: Video,
    /// The logits of each network, [views, classes] each.
    pub logits: Vec<Vec<f32>>,
}

/// Runs the videos at `places` through the networks, and gives each to `done` as it is finished.
/// Views go in batches of `batch`, never together with another video's: what a video gives does not
/// depend on its neighbours. Ends early, and says so by `false`, when somebody has asked to stop.
pub fn run(
    videos: &Videos,
    places: &[usize],
    contestants: &mut [Contestant],
    batch: usize,
    classes: usize,
    done: &mut dyn FnMut(Seen) -> Result<()>,
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
                    let path = videos.folder.join(&videos.entries[place].path);
                    let views = views::load(&videos.ffmpeg, &path, &videos.protocol, videos.limits);
                    if send.send((place, views, start.elapsed().as_secs_f64())).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (place, views, seconds) in &receive {
            if stop::asked() {
                return Ok(false);
            }
            let entry = &videos.entries[place];
            let mut video = Video {
                index: place as u64,
                path: entry.path.clone(),
                label: entry.label as u64,
                frames: 0,
                says: vec![],
                error: None,
                warning: None,
                decode_seconds: seconds,
            };
            let mut logits = vec![];
            match &views {
                Ok(views) => {
                    video.frames = views.frames as u64;
                    video.warning.clone_from(&views.warning);
                    // Another one goes first each time: the first finds cold caches.
                    let count = contestants.len();
                    let mut given: Vec<_> = contestants.iter().map(|_| None).collect();
                    for turn in 0..count {
                        let at = (place + turn) % count;
                        let start = Instant::now();
                        let out = forward(videos, place, views, &mut contestants[at], batch)?;
                        let scores = score::scores(&out, classes);
                        let seconds = start.elapsed().as_secs_f64();
                        given[at] = Some((score::answer(&scores, entry.label, seconds), out));
                    }
                    for (answer, out) in given.into_iter().flatten() {
                        video.says.push(answer);
                        logits.push(out);
                    }
                }
                Err(VideoError::Undecodable { reason, .. }) => video.error = Some(reason.clone()),
                Err(why) => video.error = Some(why.to_string()),
            }
            done(Seen { video, logits })?;
            bar.inc(1);
        }
        Ok(true)
    });
    bar.finish_and_clear();
    result
}

fn forward(
    videos: &Videos,
    place: usize,
    views: &Views,
    contestant: &mut Contestant,
    batch: usize,
) -> Result<Vec<f32>> {
    let (frames, side) = (videos.protocol.frames, videos.protocol.crop);
    let order = videos.order.of(frames, place);
    let mut logits = Vec::new();
    let all: Vec<usize> = (0..views.len()).collect();
    for some in all.chunks(batch.max(1)) {
        let mut input = Vec::new();
        for &view in some {
            let pixels = views.pixels(view);
            let size = pixels.len() / frames;
            let shown: Vec<u8> =
                order.iter().flat_map(|&t| pixels[t * size..][..size].iter().copied()).collect();
            normalize::append(&shown, &mut input);
        }
        let input = Tensor::f32([some.len(), 3, frames, side, side], input);
        logits.extend(contestant.engine.forward(&input, &mut Ignore)?.to_f32());
    }
    Ok(logits)
}
