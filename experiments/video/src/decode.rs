//! Decodes the frames of a video file in order, with one ffmpeg process per file.
//!
//! With ffmpeg 5.1 and 7.0, the arguments give the same pixels as decord 0.6.0 on files with an even
//! height: `-fps_mode passthrough` neither drops nor doubles frames, `bilinear` is decord's chroma
//! interpolation, and rotation is applied. Decord's random access is wrong on packed MPEG-4 in AVI
//! (HMDB51); here every file is decoded in order.

use std::io::{BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::ffmpeg::Ffmpeg;
use crate::{Frame, VideoError, ppm, signals};

/// The time and the memory that decoding one file may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest time to decode the file once.
    pub time: Duration,
    /// The largest number of bytes of decoded frames that are kept until it is known which are needed. A
    /// file with more is decoded a second time.
    pub memory: usize,
}

impl Default for Limits {
    /// Two minutes, and 256 MiB, which is 1000 frames of a Kinetics clip.
    fn default() -> Self {
        Limits { time: Duration::from_secs(120), memory: 256 << 20 }
    }
}

/// The accepted container formats. Playlists and similar formats, which name other files, are not among
/// them, so that a video from an untrusted source cannot make ffmpeg read other files of this machine.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,ogg,\
                          asf,gif,m4v,h264,hevc,ivf,rm,wtv,nut,mxf,dv,swf,y4m,yuv4mpegpipe";
/// The number of bytes of ffmpeg's stderr that are kept.
const MAX_STDERR: u64 = 16 << 10;

/// A file that is being decoded.
pub struct Decoder {
    path: PathBuf,
    version: String,
    limits: Limits,
    child: Arc<Mutex<Child>>,
    frames: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    watchdog: Option<JoinHandle<()>>,
    watch: Arc<Watch>,
    count: usize,
}

/// The state that the decoder and its watchdog share.
struct Watch {
    ended: Mutex<bool>,
    wake: Condvar,
    timed_out: AtomicBool,
}

impl Decoder {
    /// Starts to decode a file; fails if it is missing, empty or not a file.
    pub fn open(ffmpeg: &Ffmpeg, path: &Path, limits: Limits) -> Result<Self, VideoError> {
        let meta = std::fs::metadata(path).map_err(|why| VideoError::read(path, why))?;
        if !meta.is_file() {
            return Err(VideoError::undecodable(path, "this is not a file"));
        }
        if meta.len() == 0 {
            return Err(VideoError::undecodable(path, "the file is empty"));
        }
        let mut name = std::ffi::OsString::from("file:");
        name.push(path);
        let mut child = Command::new(&ffmpeg.path)
            .args(["-v", "error", "-nostdin", "-threads", "1", "-protocol_whitelist", "file,pipe"])
            .args(["-format_whitelist", CONTAINERS, "-i"])
            .arg(name)
            .args(["-an", "-sn", "-dn", "-fps_mode", "passthrough", "-sws_flags", "bilinear"])
            .args(["-threads", "1", "-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe"])
            .arg("pipe:1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|why| {
                let program = ffmpeg.path.display();
                VideoError::accident(path, format!("{program} could not be started ({why})"))
            })?;
        let (Some(frames), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(VideoError::accident(path, "the decoder has no pipe"));
        };
        widen(&frames);
        let stderr = std::thread::spawn(move || read_stderr(stderr));
        let child = Arc::new(Mutex::new(child));
        let watch = Arc::new(Watch {
            ended: Mutex::new(false),
            wake: Condvar::new(),
            timed_out: AtomicBool::new(false),
        });
        let watchdog = {
            let (child, watch) = (child.clone(), watch.clone());
            std::thread::spawn(move || watch.run(&child, limits.time))
        };
        Ok(Decoder {
            path: path.to_owned(),
            version: ffmpeg.version.clone(),
            limits,
            child,
            frames: BufReader::with_capacity(1 << 20, frames),
            stderr: Some(stderr),
            watchdog: Some(watchdog),
            watch,
            count: 0,
        })
    }

    /// The next frame; `None` after the last one. Fails if the file has no frame at all, if ffmpeg fails, or
    /// if decoding takes too long.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, VideoError> {
        match ppm::read(&mut self.frames) {
            Ok(Some(frame)) => {
                self.count += 1;
                Ok(Some(frame))
            }
            Ok(None) => self.end(None),
            Err(why) => self.end(Some(why.to_string())),
        }
    }

    /// ffmpeg's warning about a file that it has decoded nevertheless. Call it after the last frame.
    pub fn warning(&mut self) -> Option<String> {
        let message = self.stderr.take()?.join().unwrap_or_default();
        (!message.is_empty()).then_some(message)
    }

    fn end(&mut self, broken: Option<String>) -> Result<Option<Frame>, VideoError> {
        if broken.is_some() {
            // ffmpeg may be blocked on the pipe, from which nobody reads any more.
            let _ = lock(&self.child).kill();
        }
        let status = lock(&self.child).wait();
        self.stop_watching();
        if self.watch.timed_out.load(Ordering::Acquire) {
            let (count, time) = (self.count, self.limits.time.as_secs_f64());
            let reason = format!("decoding took longer than {time} s ({count} frames by then)");
            return Err(VideoError::accident(&self.path, reason));
        }
        let good = status.as_ref().is_ok_and(ExitStatus::success) && broken.is_none();
        if good && self.count > 0 {
            return Ok(None);
        }
        let message = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Err(match (broken, status.ok().and_then(|status| status.signal())) {
            (None, Some(number)) => VideoError::accident(&self.path, signals::sentence(number)),
            (Some(why), _) if message.is_empty() => VideoError::undecodable(&self.path, why),
            (_, _) if message.contains("Unrecognized option") => VideoError::Ffmpeg(format!(
                "ffmpeg {} cannot be used: {message}; set FFMPEG to an ffmpeg of 5.1 or later",
                self.version
            )),
            (_, _) if !message.is_empty() => {
                VideoError::undecodable(&self.path, format!("ffmpeg: {message}"))
            }
            _ => VideoError::undecodable(&self.path, "the file holds no video frame"),
        })
    }

    fn stop_watching(&mut self) {
        *lock(&self.watch.ended) = true;
        self.watch.wake.notify_all();
        if let Some(thread) = self.watchdog.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // Both calls fail if the process has ended already, which is fine.
        let _ = lock(&self.child).kill();
        let _ = lock(&self.child).wait();
        self.stop_watching();
    }
}

impl Watch {
    /// Kills the child when the time is over, unless decoding has ended before.
    fn run(&self, child: &Mutex<Child>, time: Duration) {
        let start = Instant::now();
        let mut ended = lock(&self.ended);
        while !*ended {
            let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero())
            else {
                self.timed_out.store(true, Ordering::Release);
                let _ = lock(child).kill();
                return;
            };
            ended = self.wake.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Locks a mutex. A panic of another holder is ignored, because it cannot leave the values inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enlarges a pipe to 1 MiB, which Linux allows any user. If it fails, decoding is only slower.
#[cfg(target_os = "linux")]
fn widen(pipe: &ChildStdout) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
}

#[cfg(not(target_os = "linux"))]
fn widen(_: &ChildStdout) {}

/// Reads ffmpeg's stderr to its end, and returns its first message as one sentence.
fn read_stderr(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = from.by_ref().take(MAX_STDERR).read_to_end(&mut kept);
    let _ = std::io::copy(&mut from, &mut std::io::sink());
    sentence(&String::from_utf8_lossy(&kept))
}

/// The first line that is not empty, without the addresses and the path that ffmpeg puts before it.
fn sentence(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    let mut message = line;
    while let Some((context, rest)) = message.strip_prefix('[').and_then(|t| t.split_once("] ")) {
        if !context.contains(" @ 0x") && !context.starts_with("in#") {
            break;
        }
        message = rest;
    }
    if let (true, Some((_, reason))) = (message.contains("file:"), message.rsplit_once(": ")) {
        message = reason;
    }
    let clean: String = message.chars().filter(|c| !c.is_control()).take(160).collect();
    clean.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn ffmpeg_is_quoted_without_addresses_and_paths() {
        let cases = [
            ("[mov,mp4,m4a @ 0x5594] moov atom not found\nmore\n", "moov atom not found"),
            (
                "file:/a: b/c.mp4: Invalid data found when processing input",
                "Invalid data found when processing input",
            ),
            (
                "[in#0 @ 0x7f] Error opening input: Invalid argument",
                "Error opening input: Invalid argument",
            ),
            ("", ""),
        ];
        for (message, wanted) in cases {
            assert_eq!(sentence(message), wanted);
        }
    }
}
