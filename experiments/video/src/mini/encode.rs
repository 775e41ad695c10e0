//! Makes the data set's video files with ffmpeg at first use.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;

use rayon::prelude::*;

use super::{HEIGHT, Part, SEED, WIDTH, frames};
use crate::VideoError;
use crate::ffmpeg::Ffmpeg;
use crate::list::Entry;

/// Version of the data set, which must be increased when the same seed gives other pixels.
const VERSION: u32 = 1;
const X264: [&str; 6] = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20"];
const MPEG4: [&str; 4] = ["-c:v", "mpeg4", "-q:v", "3"];

/// Makes those of the first `most` files of a part that are not in `folder` yet, and returns the entries of
/// all of them. `made` is called after each new file, with the number of files made so far and the number
/// of files to make. Fails with [`VideoError::Stopped`] as soon as `stopped` is true.
///
/// A folder that was filled by another version of this program or of ffmpeg is cleared and filled again.
/// Each file is written under a temporary name and renamed, so an interrupted run leaves no partial file.
pub fn provide(
    ffmpeg: &Ffmpeg,
    folder: &Path,
    part: Part,
    most: usize,
    made: &(dyn Fn(usize, usize) + Sync),
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Entry>, VideoError> {
    let mut entries = part.entries();
    let root = folder.join(part.name());
    let stamp = format!("mini {VERSION}, seed {SEED}, ffmpeg {}\n", ffmpeg.version);
    let stamp_file = root.join("made-by.txt");
    let same = fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp);
    if !same {
        if root.exists() {
            fs::remove_dir_all(&root).map_err(|why| VideoError::write(&root, why))?;
        }
        for entry in &entries[..super::CLASSES.len()] {
            let path = folder.join(&entry.path);
            let class = path.parent().unwrap_or(&root);
            fs::create_dir_all(class).map_err(|why| VideoError::write(class, why))?;
        }
        fs::write(&stamp_file, &stamp).map_err(|why| VideoError::write(&stamp_file, why))?;
    }
    entries.truncate(most);
    let missing: Vec<usize> =
        (0..entries.len()).filter(|&i| !folder.join(&entries[i].path).exists()).collect();
    let done = std::sync::atomic::AtomicUsize::new(0);
    missing.par_iter().try_for_each(|&index| {
        if stopped() {
            return Err(VideoError::Stopped);
        }
        encode(ffmpeg, part, index, &folder.join(&entries[index].path)).map_err(|why| {
            // A Ctrl-C that comes before ffmpeg has a process group of its own ends ffmpeg as well.
            if stopped() { VideoError::Stopped } else { why }
        })?;
        let count = 1 + done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        made(count, missing.len());
        Ok(())
    })?;
    Ok(entries)
}

/// The arguments for H.264 if this ffmpeg has x264, else for MPEG-4, which every ffmpeg has.
fn codec(ffmpeg: &Ffmpeg) -> Result<&'static [&'static str], VideoError> {
    static ASKED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if let Some(&has_x264) = ASKED.get() {
        return Ok(if has_x264 { &X264 } else { &MPEG4 });
    }
    let output = ffmpeg
        .command()
        .args(["-hide_banner", "-encoders"])
        .stdin(Stdio::null())
        .output()
        .map_err(|why| VideoError::read(&ffmpeg.path, why))?;
    let has_x264 = String::from_utf8_lossy(&output.stdout).contains("libx264 ");
    Ok(if *ASKED.get_or_init(|| has_x264) { &X264 } else { &MPEG4 })
}

/// Makes the file of one video.
pub fn encode(ffmpeg: &Ffmpeg, part: Part, index: usize, path: &Path) -> Result<(), VideoError> {
    let codec = codec(ffmpeg)?;
    let written = files::write_with(path, |file| {
        let mut child = ffmpeg
            .command()
            .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-r", "25"])
            .args(["-s", &format!("{WIDTH}x{HEIGHT}"), "-i", "pipe:0", "-an"])
            .args(codec)
            .args(["-threads", "1", "-pix_fmt", "yuv420p", "-fflags", "+bitexact"])
            .args(["-flags:v", "+bitexact", "-f", "mp4"])
            .arg(file.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let fed = feed(child.stdin.take(), part, index);
        let output = child.wait_with_output()?;
        if !output.status.success() || fed.is_err() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let last = stderr.lines().last().unwrap_or("it failed without a message").to_owned();
            return Err(io::Error::other(format!("ffmpeg: {last}")));
        }
        Ok(())
    });
    written.map_err(|why| VideoError::write(path, why))
}

fn feed(pipe: Option<std::process::ChildStdin>, part: Part, index: usize) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Err(io::ErrorKind::BrokenPipe.into()) };
    frames(part, index).iter().try_for_each(|frame| pipe.write_all(&frame.data))
}
