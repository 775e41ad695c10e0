//! Decodes the frames of a video file in order, with one ffmpeg process per file.
//!
//! With ffmpeg 5.1 and 7.0, the arguments give the same pixels as decord 0.6.0: `-fps_mode passthrough`
//! neither drops nor doubles frames, and `bilinear` is decord's chroma interpolation. Which stream is
//! decoded and how frames are turned is decided by [`crate::decord`], or as a player does. Reading order:
//! `process` (the arguments and the pipes), `dump` and `packets` (what ffmpeg says about the file),
//! `gate` (how many at a time), `ending` (whose fault it was).

mod dump;
mod ending;
mod gate;
mod packets;
mod process;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use self::dump::{Dump, Stream};
use self::gate::Permit;
pub(crate) use self::packets::Packet;
use self::process::{Process, Recipe};
use crate::decord::{self, Counting};
use crate::ffmpeg::Ffmpeg;
use crate::{Frame, VideoError, ppm};

/// The time and the memory that decoding one file may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest time to decode the file once.
    pub time: Duration,
    /// The largest number of bytes of resized frames that are kept until it is known which are needed. A
    /// file with more is decoded a second time.
    pub memory: usize,
}

impl Default for Limits {
    /// Two minutes, and 96 MiB, which is 380 frames of a Kinetics clip.
    fn default() -> Self {
        Limits { time: Duration::from_secs(120), memory: 96 << 20 }
    }
}

/// A file that is being decoded.
pub struct Decoder {
    path: PathBuf,
    version: String,
    limits: Limits,
    process: Process,
    permit: Option<Permit>,
    dump: Dump,
    stream: usize,
    count: usize,
    end: Option<End>,
}

/// What is known after the last frame.
#[derive(Debug, Clone, Default)]
struct End {
    warning: Option<String>,
    packets: Option<Vec<Packet>>,
}

impl Decoder {
    /// Starts to decode a file as decord does; fails if it is missing, empty or not a file.
    pub fn open(ffmpeg: &Ffmpeg, path: &Path, limits: Limits) -> Result<Self, VideoError> {
        Decoder::open_as(ffmpeg, path, limits, Counting::Decord)
    }

    /// Starts to decode a file; `counting` decides which stream is taken and how frames are turned.
    pub fn open_as(
        ffmpeg: &Ffmpeg,
        path: &Path,
        limits: Limits,
        counting: Counting,
    ) -> Result<Self, VideoError> {
        let meta = std::fs::metadata(path).map_err(|why| VideoError::read(path, why))?;
        if !meta.is_file() {
            return Err(VideoError::undecodable(path, "this is not a file"));
        }
        if meta.len() == 0 {
            return Err(VideoError::undecodable(path, "the file is empty"));
        }
        let upright = counting == Counting::Decoded;
        let first = Recipe { stream: 0, upright, filter: None };
        let start = |recipe: Recipe| {
            let process = Process::start(ffmpeg, path, recipe, limits.time).map_err(|why| {
                let program = ffmpeg.path.display();
                VideoError::accident(path, format!("{program} could not be started ({why})"))
            })?;
            // Nothing is received only if ffmpeg's stderr could not be read.
            let dump = process.described.recv().unwrap_or_default();
            Ok((process, dump))
        };
        let (mut process, dump) = start(first)?;
        let videos = dump.videos();
        let stream = decord::stream(&videos, counting);
        let rotation = videos.get(stream).map_or(0.0, |stream| stream.rotation);
        let filter = if upright { None } else { decord::turn(rotation) };
        let recipe = Recipe { stream, upright, filter };
        let pixels = videos.get(stream).map_or(0, |stream| stream.pixels);
        let mut permit = Permit::at_once(pixels);
        if recipe != first || permit.is_none() {
            drop(process);
            permit = Some(permit.unwrap_or_else(|| Permit::wait(pixels)));
            (process, _) = start(recipe)?;
        }
        let (path, version) = (path.to_owned(), ffmpeg.version.clone());
        Ok(Decoder { path, version, limits, process, permit, dump, stream, count: 0, end: None })
    }

    /// The next frame; `None` after the last one. Fails if the file has no frame at all, if ffmpeg fails, or
    /// if decoding takes too long.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, VideoError> {
        let mut frame = Frame { width: 0, height: 0, data: Vec::new() };
        Ok(self.read(&mut frame)?.then_some(frame))
    }

    /// Reads the next frame into `frame`, whose memory is used again. After the last frame it returns
    /// `false` and leaves `frame` as it is; it fails as [`Decoder::next_frame`] does.
    pub fn read(&mut self, frame: &mut Frame) -> Result<bool, VideoError> {
        match ppm::read(&mut self.process.frames, frame) {
            Ok(true) => {
                self.count += 1;
                Ok(true)
            }
            Ok(false) => self.finish(None).map(|()| false),
            Err(why) => self.finish(Some(why)).map(|()| false),
        }
    }

    /// ffmpeg's warning about a file that it has decoded nevertheless. Call it after the last frame.
    pub fn warning(&mut self) -> Option<String> {
        self.end.as_ref()?.warning.clone()
    }

    /// The packets of the stream, after the last frame; `None` if they are not known.
    pub(crate) fn packets(&mut self) -> Option<Vec<Packet>> {
        self.end.as_mut()?.packets.take()
    }

    /// What ffmpeg says about the file.
    pub(crate) fn dump(&self) -> &Dump {
        &self.dump
    }

    /// The stream that is decoded.
    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.dump.videos().get(self.stream).copied()
    }

    fn finish(&mut self, broken: Option<io::Error>) -> Result<(), VideoError> {
        if self.end.is_some() {
            return Ok(());
        }
        // ffmpeg may be blocked on the pipe, from which nobody reads any more; at its end there is no need.
        if broken.as_ref().is_some_and(|why| why.kind() != io::ErrorKind::UnexpectedEof) {
            self.process.kill();
        }
        let status = self.process.wait();
        self.permit = None;
        let complaint = self.process.complaint();
        ending::judge(&ending::Ending {
            path: &self.path,
            version: &self.version,
            status,
            timed_out: self.process.timed_out().then_some(self.limits.time),
            broken,
            count: self.count,
            complaint: complaint.clone(),
            dump: &self.dump,
        })?;
        let warning = (!complaint.is_empty()).then_some(complaint);
        self.end = Some(End { warning, packets: self.process.packets() });
        Ok(())
    }
}
