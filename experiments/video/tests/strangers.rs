//! Files from untrusted sources: each is decoded correctly or refused with a sentence.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{ffmpeg, make};
use video::VideoError;
use video::dataset::{Dataset, Mode};
use video::decode::Limits;
use video::ffmpeg::Ffmpeg;
use video::views::{self, Views};

fn load(ffmpeg: &Ffmpeg, path: &Path) -> Result<Views, VideoError> {
    views::load(ffmpeg, path, &Dataset::K400.protocol(Mode::Val), Limits::default())
}

#[test]
fn what_is_not_a_video_is_refused_with_a_sentence() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.mp4");
    fs::write(&text, "this is a text, called mp4\n".repeat(100)).unwrap();
    let empty = folder.path().join("empty.mp4");
    fs::write(&empty, "").unwrap();
    let noise = folder.path().join("noise.avi");
    fs::write(&noise, (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect::<Vec<_>>())
        .unwrap();
    let playlist = folder.path().join("list.mp4");
    fs::write(&playlist, format!("#EXTM3U\n#EXTINF:1,\n{}\n", text.display())).unwrap();
    let sound = folder.path().join("sound.mp4");
    make(&ffmpeg, "sine=duration=1", &["-c:a", "aac"], &sound);
    let gone = folder.path().join("gone.mp4");
    for path in [&text, &empty, &noise, &playlist, &sound, &gone, &folder.path().to_owned()] {
        let message = load(&ffmpeg, path).unwrap_err().to_string();
        let why = message.strip_prefix(&path.display().to_string());
        // The path is removed, because the folder's name is random and may contain `0x`.
        let why = why.unwrap_or_else(|| panic!("no path at the start of: {message}"));
        assert!(!why.contains('\n') && !why.contains("0x"), "{message}");
    }
}

#[test]
fn odd_names_are_accepted() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in ["a b;c #1 %d.avi", "-y.avi", "concat:x|y.avi", "é'\".avi"] {
        let path = folder.path().join(name);
        let made = folder.path().join("made.avi");
        make(&ffmpeg, "testsrc=size=64x48:rate=25:duration=0.4", &["-c:v", "mpeg4"], &made);
        fs::rename(&made, &path).unwrap();
        assert_eq!(load(&ffmpeg, &path).unwrap().frames, 10, "{name}");
    }
}

#[test]
fn one_frame_is_sampled_sixteen_times() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.mp4");
    make(&ffmpeg, "testsrc=size=64x48", &["-frames:v", "1", "-c:v", "mpeg4"], &path);
    let views = load(&ffmpeg, &path).unwrap();
    assert_eq!((views.frames, &views.indexes), (1, &vec![vec![0; 16]]));
    assert_eq!((views.resized, views.len()), ((341, 256), 1));
    assert_eq!(views.input().len(), 3 * 16 * 224 * 224);
}

#[test]
fn a_file_cut_short_gives_its_frames_and_a_warning_or_a_refusal() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole.avi"), folder.path().join("cut.avi"));
    make(&ffmpeg, "testsrc=size=160x120:rate=25:duration=4", &["-c:v", "mpeg4"], &whole);
    let bytes = fs::read(&whole).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    match load(&ffmpeg, &cut) {
        Ok(views) => assert!((1..100).contains(&views.frames), "{}", views.frames),
        Err(why) => assert!(matches!(why, VideoError::Undecodable { .. }), "{why}"),
    }
}

#[test]
fn a_file_beyond_the_memory_limit_is_decoded_twice_to_the_same_views() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.mp4");
    make(&ffmpeg, "testsrc2=size=96x64:rate=25:duration=8", &["-c:v", "mpeg4"], &path);
    let protocol = Dataset::K400.protocol(Mode::Test);
    let all = views::load(&ffmpeg, &path, &protocol, Limits::default()).unwrap();
    let tight = Limits { memory: 40 * 3 * 96 * 64, ..Limits::default() };
    let few = views::load(&ffmpeg, &path, &protocol, tight).unwrap();
    assert_eq!(all.frames, 200);
    assert!(all == few);
}

#[test]
fn a_file_that_takes_too_long_is_given_up() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.mp4");
    make(&ffmpeg, "testsrc2=size=640x480:rate=25:duration=40", &["-c:v", "mpeg4"], &path);
    let limits = Limits { time: Duration::from_millis(100), ..Limits::default() };
    let start = Instant::now();
    let why = views::load(&ffmpeg, &path, &Dataset::K400.protocol(Mode::Val), limits).unwrap_err();
    assert!(why.to_string().contains("longer than 0.1 s"), "{why}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn lists_are_read_or_refused_with_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.txt");
    let read = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        video::list::read(&path, Path::new("data"), 5).map_err(|why| why.to_string())
    };
    assert_eq!(read(b"\xef\xbb\xbfa b/x y.mp4 3\r\nc.mp4 0\r\n").unwrap().entries.len(), 2);
    for (content, message) in [
        (&b"a.mp4 1\nb.mp4 5\n"[..], "line 2: label 5"),
        (b"a.mp4 1\nb.mp4\n", "line 2: expected `path label`"),
        (b"a.mp4 1\n../b.mp4 1\n", "line 2"),
        (b"a.mp4 1\n\xff 1\n", "line 2: this is not UTF-8 text"),
        (b"\n\n", "holds no video"),
    ] {
        let why = read(content).unwrap_err();
        assert!(why.contains(message) && why.contains("list.txt"), "{why}");
    }
}
