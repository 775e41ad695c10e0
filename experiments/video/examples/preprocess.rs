//! Times our preprocessing for `scripts/bench_preprocess`, which sends commands on stdin: `decode PATH`
//! decodes every frame, and `views PATH` resizes, crops and normalises the 16 frames of the `val` protocol
//! several times. Each answer is `SECONDS COUNT CHECKSUM`, where COUNT is a number of frames. The work runs
//! on one thread.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use video::dataset::{Dataset, Mode};
use video::decode::{Decoder, Limits};
use video::ffmpeg::Ffmpeg;
use video::{crop, normalize, resize, views};

/// How often `views` repeats the work.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ffmpeg = Ffmpeg::find()?;
    println!("ffmpeg {}", ffmpeg.version);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (what, path) = line.split_once(' ').ok_or("expected `decode PATH` or `views PATH`")?;
        let (seconds, count, sum) = match what {
            "decode" => decode(&ffmpeg, Path::new(path))?,
            _ => make_views(&ffmpeg, Path::new(path))?,
        };
        println!("{seconds} {count} {sum}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

type Answer = Result<(f64, usize, u64), video::VideoError>;

fn decode(ffmpeg: &Ffmpeg, path: &Path) -> Answer {
    let start = Instant::now();
    let mut decoder = Decoder::open(ffmpeg, path, Limits::default())?;
    let (mut count, mut sum) = (0, 0);
    while let Some(frame) = decoder.next_frame()? {
        count += 1;
        sum += u64::from(frame.data[frame.data.len() / 2]);
    }
    Ok((start.elapsed().as_secs_f64(), count, sum))
}

fn make_views(ffmpeg: &Ffmpeg, path: &Path) -> Answer {
    let protocol = Dataset::K400.protocol(Mode::Val);
    let loaded = views::load_whole(ffmpeg, path, &protocol, Limits::default())?;
    let (width, height) = loaded.resized;
    let start = Instant::now();
    let mut sum = 0;
    for _ in 0..ROUNDS {
        let mut pixels = Vec::new();
        for index in &loaded.indexes[0] {
            let small = resize::bilinear(&loaded.decoded[index], width, height);
            crop::copy(&small, loaded.corners[0], protocol.crop, &mut pixels);
        }
        let mut input = Vec::new();
        normalize::append(&pixels, &mut input);
        sum = pixels.iter().map(|&byte| u64::from(byte)).sum();
        std::hint::black_box(&input);
    }
    Ok((start.elapsed().as_secs_f64(), ROUNDS * protocol.frames, sum))
}
