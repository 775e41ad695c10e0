//! A strip of the frames of a video, as a picture that is embedded in the report.

use std::io::Write;
use std::process::Stdio;

use video::ffmpeg::Ffmpeg;
use video::views::Views;

/// The number of frames in a strip.
const FRAMES: usize = 8;

/// The strip as a data URI of a JPEG file; `None` if ffmpeg cannot make it, which does not fail the run.
pub fn strip(ffmpeg: &Ffmpeg, views: &Views) -> Option<String> {
    let indexes = views.indexes.first()?;
    let frames: Vec<_> = indexes
        .iter()
        .step_by(indexes.len().div_ceil(FRAMES).max(1))
        .filter_map(|index| views.small.get(index))
        .collect();
    let first = frames.first()?;
    let (width, height) = (frames.len() * first.width, first.height);
    let mut pixmap = format!("P6\n{width} {height}\n255\n").into_bytes();
    for row in 0..height {
        for frame in &frames {
            pixmap.extend(&frame.data[3 * row * frame.width..][..3 * frame.width]);
        }
    }
    let mut child = ffmpeg
        .command()
        .args(["-v", "quiet", "-f", "image2pipe", "-c:v", "ppm", "-i", "pipe:0"])
        .args(["-vf", "scale='min(1024,iw)':-1", "-q:v", "5", "-c:v", "mjpeg"])
        .args(["-f", "image2pipe", "pipe:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(&pixmap).ok()?;
    let output = child.wait_with_output().ok()?;
    (output.status.success() && !output.stdout.is_empty())
        .then(|| format!("data:image/jpeg;base64,{}", base64(&output.stdout)))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        let word = word << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_follows_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(super::base64(bytes.as_bytes()), text);
        }
    }
}
