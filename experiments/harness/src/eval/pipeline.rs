//! Runs videos through engines. Every core decodes, a few videos ahead of the engines.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Result, bail};
use record::{Damage, DecordRemark, FileState, Speed, Video};
use video::VideoError;
use video::views::{self, Views};

pub use super::engine::NamedEngine;
use super::score;
use super::source::Videos;
use super::speed::Clock;
use crate::{progress, stop};

/// The results of all engines for one video.
pub struct Evaluated {
    /// The video's row in the record.
    pub video: Video,
    /// The logits of each engine, [views, classes].
    pub logits: Vec<Vec<f32>>,
}

/// How a run ended.
pub struct Ran {
    /// Whether all videos were evaluated; `false` if the user has stopped the run.
    pub whole: bool,
    /// How fast it was; `None` if no video was decoded.
    pub speed: Option<Speed>,
}

/// A video that was decoded ahead.
struct Decoded {
    place: usize,
    file: Option<FileState>,
    views: Result<Views, VideoError>,
    time: Duration,
}

/// Runs the videos with the indexes `places` through the engines, and passes each to `done` when it is
/// finished. A batch has at most `batch` views. Views of different videos share one only in engines whose
/// results do not depend on it, so that the result for a video never depends on its neighbours.
pub fn run(
    videos: &Videos,
    places: &[usize],
    engines: &mut [NamedEngine],
    batch: usize,
    classes: usize,
    done: &mut dyn FnMut(Evaluated) -> Result<()>,
) -> Result<Ran> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(places.len());
    let bar = progress::bar("videos", places.len() as u64);
    let next = AtomicUsize::new(0);
    let mut clock = Clock::start(threads.max(1));
    let whole: Result<bool> = std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel(threads.max(1));
        for _ in 0..threads {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || decode_ahead(videos, places, next, &send));
        }
        drop(send);
        while let Some(group) = group(&receive, engines, batch) {
            if stop::asked() {
                return Ok(false);
            }
            for one in evaluate(videos, group, engines, batch, classes, &mut clock)? {
                done(one)?;
                bar.inc(1);
            }
        }
        Ok(true)
    });
    bar.finish_and_clear();
    Ok(Ran { whole: whole?, speed: clock.speed() })
}

/// Decodes videos until there are none left, or until nobody receives them.
fn decode_ahead(videos: &Videos, places: &[usize], next: &AtomicUsize, send: &SyncSender<Decoded>) {
    while let Some(&place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
        let start = Instant::now();
        let path = videos.file(place);
        // Asked before decoding: a file that is replaced meanwhile counts as changed.
        let file = state_of(&path);
        let views = views::load(&videos.ffmpeg, &path, &videos.protocol, videos.limits);
        if send.send(Decoded { place, file, views, time: start.elapsed() }).is_err() {
            return;
        }
    }
}

/// The next video, with those after it that are decoded already and share its batch. `None` at the end.
fn group(
    receive: &Receiver<Decoded>,
    engines: &[NamedEngine],
    batch: usize,
) -> Option<Vec<Decoded>> {
    let mut group = vec![receive.recv().ok()?];
    let views = |group: &[Decoded]| -> usize {
        group.iter().filter_map(|one| one.views.as_ref().ok()).map(Views::len).sum()
    };
    while engines.iter().any(|engine| engine.mixes) && views(&group) < batch {
        match receive.try_recv() {
            Ok(more) => group.push(more),
            Err(_) => break,
        }
    }
    Some(group)
}

/// The logits of one engine for a video, and their share of the time in seconds.
type Given = Option<(Vec<f32>, f64)>;

/// Runs a group of videos through all engines.
fn evaluate(
    videos: &Videos,
    group: Vec<Decoded>,
    engines: &mut [NamedEngine],
    batch: usize,
    classes: usize,
    clock: &mut Clock,
) -> Result<Vec<Evaluated>> {
    let mut rows = Vec::new();
    let mut good: Vec<(usize, &Views)> = Vec::new();
    for one in &group {
        rows.push(Evaluated { video: row(videos, one)?, logits: vec![] });
        if let Ok(views) = &one.views {
            clock.decoded(views.len(), one.time);
            good.push((one.place, views));
        }
    }
    let (count, first) = (engines.len(), group.first().map_or(0, |one| one.place));
    let mut given: Vec<Vec<Given>> = vec![vec![None; count]; good.len()];
    // A different engine goes first for each group, because the first finds cold caches.
    for turn in 0..count {
        let at = (first + turn) % count;
        let together = if engines[at].mixes { good.len().max(1) } else { 1 };
        for (part, answers) in good.chunks(together).zip(given.chunks_mut(together)) {
            let (logits, time) = forward(videos, part, &mut engines[at], batch, clock)?;
            let all: usize = part.iter().map(|(_, views)| views.len()).sum();
            let mut rest = &logits[..];
            for ((_, views), answer) in part.iter().zip(answers) {
                let (own, others) = rest.split_at(views.len() * classes);
                let share = views.len() as f64 / all.max(1) as f64;
                answer[at] = Some((own.to_vec(), time.as_secs_f64() * share));
                rest = others;
            }
        }
    }
    let evaluated = rows.iter_mut().filter(|row| row.video.error.is_none());
    for (row, answers) in evaluated.zip(given) {
        let label = row.video.label.map(|label| label as usize);
        for (logits, seconds) in answers.into_iter().flatten() {
            let scores = score::scores(&logits, classes);
            row.video.says.push(score::answer(&scores, label, seconds));
            row.logits.push(logits);
        }
    }
    Ok(rows)
}

/// The row of a video, without answers. Fails only for a fault of ffmpeg itself.
fn row(videos: &Videos, one: &Decoded) -> Result<Video> {
    let entry = &videos.entries[one.place];
    let mut video = Video {
        index: one.place as u64,
        path: entry.path.clone(),
        label: entry.label.map(|label| label as u64),
        frames: 0,
        says: vec![],
        error: None,
        transient: false,
        file: one.file,
        damage: None,
        warning: None,
        decord: None,
        decode_seconds: one.time.as_secs_f64(),
    };
    match &one.views {
        Ok(views) => {
            video.frames = views.frames as u64;
            video.warning.clone_from(&views.warning);
            let came = views.came as u64;
            video.damage = views.promised.map(|promised| Damage { came, promised });
            video.decord = remark(views);
        }
        Err(why @ VideoError::Ffmpeg(_)) => bail!("{why}"),
        Err(why) => {
            video.error = Some(why.reason());
            video.transient = why.is_transient();
        }
    }
    Ok(video)
}

fn remark(views: &Views) -> Option<DecordRemark> {
    let remark = views.remark.as_ref()?;
    let numbers = |frames: &[usize]| frames.iter().map(|&frame| frame as u64).collect();
    let known = !remark.takes.is_empty();
    let evaluated: Vec<usize> = views.indexes.iter().flatten().copied().collect();
    Some(DecordRemark {
        why: remark.why.clone(),
        evaluated: if known { numbers(&evaluated) } else { vec![] },
        decord_takes: numbers(&remark.takes),
    })
}

/// Size and time of a file; `None` if it is not there.
pub fn state_of(path: &Path) -> Option<FileState> {
    let meta = std::fs::metadata(path).ok()?;
    let since = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let modified = i64::try_from(since.as_nanos()).ok()?;
    Some(FileState { bytes: meta.len(), modified })
}

/// The logits of the views of some videos, one after the other, and how long they took.
fn forward(
    videos: &Videos,
    part: &[(usize, &Views)],
    engine: &mut NamedEngine,
    batch: usize,
    clock: &mut Clock,
) -> Result<(Vec<f32>, Duration)> {
    let (frames, side) = (videos.protocol.frames, videos.protocol.crop);
    let all: Vec<(usize, &Views, usize)> = part
        .iter()
        .flat_map(|&(place, views)| (0..views.len()).map(move |view| (place, views, view)))
        .collect();
    let (start, before) = (Instant::now(), engine.preparing);
    let logits = engine.forward(all.len(), batch, [frames, side, side], |some| {
        let mut rgb = Vec::with_capacity(some.len() * frames * side * side * 3);
        for &(place, views, view) in &all[some] {
            let pixels = views.pixels(view);
            let size = pixels.len() / frames;
            let order = videos.order.of(frames, place);
            order.iter().for_each(|&t| rgb.extend_from_slice(&pixels[t * size..][..size]));
        }
        rgb
    })?;
    let time = start.elapsed();
    clock.evaluated(time, engine.preparing - before);
    Ok((logits, time))
}
