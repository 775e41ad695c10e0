//! An ffmpeg process that decodes a file, with its three pipes and a watchdog.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::dump::{self, Dump};
use super::packets::{self, Packet};
use crate::ffmpeg::Ffmpeg;

/// The accepted container formats. Playlists and similar formats, which name other files, are not among
/// them, so that a video from an untrusted source cannot make ffmpeg read other files of this machine.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,ogg,\
                          asf,gif,m4v,h264,hevc,ivf,rm,wtv,nut,mxf,dv,swf,y4m,yuv4mpegpipe";

/// Lets at most one encoded frame wait for the pipe, which itself holds a few.
const ONE_WAITS: [&str; 2] = ["-thread_queue_size", "1"];

/// What is decoded, and how frames are turned before they are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The index of the stream among those that are videos and not covers.
    pub(super) stream: usize,
    /// Whether ffmpeg turns and mirrors frames as the display matrix says.
    pub(super) upright: bool,
    /// The filter that turns frames instead.
    pub(super) filter: Option<&'static str>,
}

/// A running ffmpeg.
pub(super) struct Process {
    pub(super) frames: BufReader<ChildStdout>,
    /// Receives the description of the file once.
    pub(super) described: Receiver<Dump>,
    child: Arc<Mutex<Child>>,
    log: Option<JoinHandle<String>>,
    packets: Option<JoinHandle<Option<Vec<Packet>>>>,
    watchdog: Option<JoinHandle<()>>,
    watch: Arc<Watch>,
}

/// The state that the process and its watchdog share.
struct Watch {
    ended: Mutex<bool>,
    wake: Condvar,
    timed_out: AtomicBool,
}

impl Process {
    /// Starts ffmpeg. The frames come on its stdout, the list of packets on its stdin (a pipe that ffmpeg
    /// writes to, since a process inherits no other), and the log on its stderr.
    pub(super) fn start(
        ffmpeg: &Ffmpeg,
        path: &Path,
        recipe: Recipe,
        time: Duration,
    ) -> io::Result<Self> {
        let (list, list_end) = io::pipe()?;
        let mut command = command(ffmpeg, path, recipe);
        command.stdin(list_end).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        drop(command); // It holds our copy of the pipe that ffmpeg writes the list to.
        let (Some(frames), Some(log)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        widen(&frames);
        let (send, described) = channel();
        let log = std::thread::spawn(move || dump::read(log, &send));
        let packets = std::thread::spawn(move || packets::read(list));
        let child = Arc::new(Mutex::new(child));
        let watch = Arc::new(Watch {
            ended: Mutex::new(false),
            wake: Condvar::new(),
            timed_out: AtomicBool::new(false),
        });
        let watchdog = {
            let (child, watch) = (child.clone(), watch.clone());
            std::thread::spawn(move || watch.run(&child, time))
        };
        Ok(Process {
            frames: BufReader::with_capacity(1 << 20, frames),
            described,
            child,
            log: Some(log),
            packets: Some(packets),
            watchdog: Some(watchdog),
            watch,
        })
    }

    /// Ends the process now, and does not wait.
    pub(super) fn kill(&self) {
        // It fails if the process has ended already, which is fine.
        let _ = lock(&self.child).kill();
    }

    /// Waits for the end of the process.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        // It is asked again and again, because whoever waits while holding the lock keeps the watchdog
        // from ending a process that hangs.
        let status = loop {
            match lock(&self.child).try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) => {}
                Err(why) => break Err(why),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        *lock(&self.watch.ended) = true;
        self.watch.wake.notify_all();
        if let Some(thread) = self.watchdog.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
        status
    }

    /// Whether the process was ended because it took too long.
    pub(super) fn timed_out(&self) -> bool {
        self.watch.timed_out.load(Ordering::Acquire)
    }

    /// ffmpeg's first complaint, once, after the process has ended; empty if there is none.
    pub(super) fn complaint(&mut self) -> String {
        self.log.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }

    /// The packets of the stream, once, after the process has ended.
    pub(super) fn packets(&mut self) -> Option<Vec<Packet>> {
        self.packets.take().and_then(|thread| thread.join().ok()).flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.wait();
    }
}

/// The command that decodes a file in order, one thread each for decoding and encoding.
fn command(ffmpeg: &Ffmpeg, path: &Path, recipe: Recipe) -> Command {
    let mut name = OsString::from("file:");
    name.push(path);
    let stream = format!("0:V:{}", recipe.stream);
    let mut command = ffmpeg.command();
    command
        .args(["-hide_banner", "-nostats", "-loglevel", "level+info", "-nostdin"])
        .args(["-threads", "1", "-protocol_whitelist", "file,pipe"])
        .args(["-format_whitelist", CONTAINERS])
        .args(if recipe.upright { &[][..] } else { &["-noautorotate"][..] })
        .arg("-i")
        .arg(name)
        .args(["-map", &stream, "-fps_mode", "passthrough"])
        // The time base of the file: in that of a constant rate, frames of a variable one may coincide.
        .args(["-enc_time_base", if ffmpeg.is_threaded() { "demux" } else { "-1" }])
        .args(["-sws_flags", "bilinear"]);
    if let Some(filter) = recipe.filter {
        command.args(["-vf", filter]);
    }
    command
        .args(if ffmpeg.is_threaded() { &ONE_WAITS[..] } else { &[][..] })
        .args(["-threads", "1", "-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"])
        .args(["-map", &stream, "-c", "copy", "-copyinkf", "-f", "framecrc", "pipe:0"]);
    command
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
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enlarges a pipe to 1 MiB, which Linux allows any user. If it fails, decoding is only slower.
#[cfg(target_os = "linux")]
fn widen(pipe: &ChildStdout) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
}

#[cfg(not(target_os = "linux"))]
fn widen(_: &ChildStdout) {}
