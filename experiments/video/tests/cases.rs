//! Files as people have them: cut without encoding again, turned, damaged, with several streams. The shared
//! ones are compared with what decord 0.6.0 makes of them, byte for byte; those that the tests make need
//! nothing but ffmpeg.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{ffmpeg, make};
use files::sha256;
use skip::skip;
use video::VideoError;
use video::dataset::{Dataset, Mode};
use video::decode::{Decoder, Limits};
use video::decord::Counting;
use video::ffmpeg::Ffmpeg;
use video::protocol::Protocol;
use video::views::{self, Views};

/// The folder of the shared files; `None`, after a message, if the test must be skipped.
fn cases() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/video");
    if !folder.is_dir() {
        skip!(Shared, "../shared/cases is not here");
        return None;
    }
    Some(folder)
}

fn load(ffmpeg: &Ffmpeg, path: &Path, mode: Mode) -> Result<Views, VideoError> {
    views::load_whole(ffmpeg, path, &Dataset::K400.protocol(mode), Limits::default())
}

/// The SHA-256 of all sampled frames, as `get_batch` returns them.
fn hash(views: &Views) -> String {
    let frames = views.indexes.iter().flatten().map(|index| &views.decoded[index]);
    sha256(&frames.flat_map(|frame| frame.data.iter().copied()).collect::<Vec<u8>>())
}

/// Name, number of frames, and SHA-256 of the sampled frames for `val` and for `test`, from decord 0.6.0.
const DECORD: [(&str, usize, [&str; 2]); 3] = [
    (
        "cut_copy.mp4",
        221,
        [
            "0b7cf3adabc4e45bd69342371709c67a70d335614b80d271a31b94d062ecdbd7",
            "0c30d090fdf7929fb9abd449f760dd9c0110186ea2f242763ff492ff584a480c",
        ],
    ),
    (
        "hflip.mp4",
        77,
        [
            "233a93809edc6499292a1a50e869bc6b2f7bc279aaffcf8a7e0db59f2ba990f6",
            "2e99400a38ecf3e61f5c9b750cbf5afabfd3c4108f628688ade30a8d1ba7c985",
        ],
    ),
    (
        "two_both.mp4",
        90,
        [
            "41fd764f20038fe32243cc14c6bbef02305bab8e9af3b4b6b3250ca7e29c10a3",
            "3fa5f83433b130f7986cfb9217501eaaf84a0ac0fe5e711238394b796b6883c8",
        ],
    ),
];

#[test]
fn edit_lists_mirrors_and_streams_are_what_decord_makes_of_them() {
    let (Some(cases), Some(ffmpeg)) = (cases(), ffmpeg()) else { return };
    for (name, frames, hashes) in DECORD {
        for (mode, wanted) in [Mode::Val, Mode::Test].into_iter().zip(hashes) {
            let views = load(&ffmpeg, &cases.join(name), mode).unwrap();
            assert_eq!((views.frames, views.source), (frames, (426, 240)), "{name}");
            assert_eq!(hash(&views), wanted, "{name} {mode}");
            assert_eq!((&views.remark, views.promised), (&None, None), "{name}");
        }
    }
}

#[test]
fn a_player_shows_other_frames_of_them() {
    let (Some(cases), Some(ffmpeg)) = (cases(), ffmpeg()) else { return };
    let shown = [("cut_copy.mp4", 152, (426, 240)), ("two_both.mp4", 90, (640, 360))];
    for (name, frames, size) in shown {
        let protocol =
            Protocol { counting: Counting::Decoded, ..Dataset::K400.protocol(Mode::Val) };
        let views = views::load(&ffmpeg, &cases.join(name), &protocol, Limits::default()).unwrap();
        assert_eq!((views.frames, views.source), (frames, size), "{name}");
    }
}

/// decord's seeks miss here. Our frames are in order, and those that decord takes are known exactly.
#[test]
fn open_groups_of_pictures_are_in_order_and_named() {
    let (Some(cases), Some(ffmpeg)) = (cases(), ffmpeg()) else { return };
    let path = cases.join("open.mp4");
    let decord = [
        (Mode::Val, "6642be329fd9cc920fb1755a38810b27750bbfd4b169d65bebc4a12e195a233e"),
        (Mode::Test, "d8b42400b05db948197208aabf0abff9600ad090bbd1ad10b9bc7fcdf3986e8f"),
    ];
    let mut decoder = Decoder::open(&ffmpeg, &path, Limits::default()).unwrap();
    let frames: Vec<_> = std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
    assert_eq!(frames.len(), 180);
    for (mode, wanted) in decord {
        let views = load(&ffmpeg, &path, mode).unwrap();
        let remark = views.remark.as_ref().unwrap();
        assert!(remark.why.contains("open"), "{}", remark.why);
        for (&index, frame) in &views.decoded {
            assert!(*frame == frames[index], "frame {index} is not in order");
        }
        let taken = remark.takes.iter().flat_map(|&place| frames[place].data.iter().copied());
        assert_eq!(sha256(&taken.collect::<Vec<u8>>()), wanted, "{mode}");
    }
    let views = load(&ffmpeg, &path, Mode::Val).unwrap();
    assert_eq!(views.indexes[0][..3], [59, 63, 67]);
    assert_eq!(views.remark.unwrap().takes[..3], [60, 64, 68]);
}

#[test]
fn a_transport_stream_is_decoded_and_a_cover_picture_is_not() {
    let (Some(cases), Some(ffmpeg)) = (cases(), ffmpeg()) else { return };
    let views = load(&ffmpeg, &cases.join("open.ts"), Mode::Val).unwrap();
    assert_eq!((views.frames, views.promised), (180, None));
    assert!(views.remark.unwrap().takes.is_empty(), "decord's seeks in it are not computed");
    let why = load(&ffmpeg, &cases.join("audio_cover.m4a"), Mode::Val).unwrap_err();
    assert!(why.to_string().contains("only a cover picture") && !why.is_transient(), "{why}");
}

#[test]
fn a_partial_download_is_damaged_with_both_numbers() {
    let (Some(cases), Some(ffmpeg)) = (cases(), ffmpeg()) else { return };
    let views = load(&ffmpeg, &cases.join("faststart_3.mp4"), Mode::Val).unwrap();
    assert_eq!((views.came, views.promised), (1, Some(280)));
}

/// A folder with a video of 200 frames whose index comes first, so that any part of it can be read.
fn made(ffmpeg: &Ffmpeg, name: &str, more: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let source = "testsrc2=size=96x64:rate=25:duration=8";
    let fixed = ["-c:v", "mpeg4", "-g", "10"];
    make(ffmpeg, source, &[&fixed[..], more].concat(), &path);
    (folder, path)
}

#[test]
fn parts_of_files_are_damaged_in_every_container_that_promises_frames() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let kinds: [(&str, &[&str]); 3] =
        [("x.mp4", &["-movflags", "+faststart"]), ("x.avi", &[]), ("x.mkv", &[])];
    for (name, more) in kinds {
        let (folder, whole) = made(&ffmpeg, name, more);
        let views = load(&ffmpeg, &whole, Mode::Val).unwrap();
        assert_eq!((views.came, views.promised), (200, None), "{name}");
        let bytes = fs::read(&whole).unwrap();
        let part = folder.path().join(format!("part-{name}"));
        fs::write(&part, &bytes[..bytes.len() / 2]).unwrap();
        let views = load(&ffmpeg, &part, Mode::Val).unwrap();
        let promised = views.promised.unwrap_or_else(|| panic!("{name} is not damaged"));
        assert!((170..=200).contains(&promised) && views.came < 120, "{name}: {promised}");
    }
}

#[test]
fn a_variable_frame_rate_is_no_damage_and_no_warning() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in ["v.mp4", "v.mkv"] {
        let path = folder.path().join(name);
        let some = "select='not(mod(n,7))+lt(mod(n,31),9)',settb=1/90000";
        let more = ["-vf", some, "-fps_mode", "vfr", "-c:v", "mpeg4"];
        make(&ffmpeg, "testsrc2=size=96x64:rate=30:duration=8", &more, &path);
        let views = load(&ffmpeg, &path, Mode::Val).unwrap();
        assert_eq!((&views.warning, views.promised), (&None, None), "{name}");
    }
}

#[test]
fn a_cut_without_encoding_hides_packets_that_decord_counts() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let (folder, whole) = made(&ffmpeg, "x.mp4", &["-g", "50"]);
    let cut = folder.path().join("cut.mp4");
    let mut command = ffmpeg.command();
    command.args(["-v", "error", "-y", "-ss", "2.8", "-i"]).arg(&whole);
    assert!(command.args(["-c", "copy"]).arg(&cut).status().unwrap().success());
    let views = load(&ffmpeg, &cut, Mode::Val).unwrap();
    assert_eq!((views.frames, views.came, views.promised), (150, 130, None));
    // Number 44 is asked first, in the first group of pictures: no seek, and the 44th shown frame.
    assert_eq!(views.indexes[0][..2], [44, 48]);
    assert_eq!(views.places[..2], [44, 48]);
    // From the second group on decord seeks, and arrives at the packet with this number.
    assert!(views.indexes[0].iter().zip(&views.places).skip(2).all(|(i, p)| i - 20 == *p));
    assert_eq!(views.remark, None);
}

/// A program in place of ffmpeg, which does something else the first times that it decodes.
fn stand_in(folder: &Path, ffmpeg: &Ffmpeg, times: u32, what: &str) -> Ffmpeg {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("ffmpeg");
    let count = folder.join("count");
    let script = format!(
        "#!/bin/sh\nn=$(cat '{count}' 2>/dev/null || echo 0)\necho $((n + 1)) > '{count}'\n\
         if [ \"$n\" -lt {times} ]; then {what}; fi\nexec '{own}' \"$@\"\n",
        count = count.display(),
        own = fs::canonicalize(&ffmpeg.path).unwrap_or(ffmpeg.path.clone()).display(),
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Ffmpeg { path, ..ffmpeg.clone() }
}

#[test]
fn an_ffmpeg_that_is_killed_is_started_again_and_nothing_is_lost() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let (folder, path) = made(&ffmpeg, "x.mp4", &[]);
    let wanted = load(&ffmpeg, &path, Mode::Test).unwrap();
    for what in ["kill -9 $$", "kill -11 $$", "exec '{own}' \"$@\" | head -c 300000; kill -9 $$"] {
        let what = what.replace("{own}", &ffmpeg.path.display().to_string());
        let killed = stand_in(folder.path(), &ffmpeg, 2, &what);
        let got = load(&killed, &path, Mode::Test).unwrap();
        assert!(got == wanted, "{what}");
        fs::remove_file(folder.path().join("count")).unwrap();
    }
}

#[test]
fn an_ffmpeg_that_is_always_killed_is_an_accident_with_the_name_of_the_signal() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let (folder, path) = made(&ffmpeg, "x.mp4", &[]);
    for (what, name) in [("kill -9 $$", "SIGKILL"), ("kill -11 $$", "SIGSEGV")] {
        let killed = stand_in(folder.path(), &ffmpeg, 99, what);
        let why = load(&killed, &path, Mode::Val).unwrap_err();
        assert!(why.is_transient() && why.to_string().contains(name), "{why}");
        assert!(!why.to_string().contains("no video"), "{why}");
    }
    let old = stand_in(
        folder.path(),
        &ffmpeg,
        999,
        "echo \"[error] Unrecognized option 'fps_mode'.\" >&2; exit 1",
    );
    let why = load(&old, &path, Mode::Val).unwrap_err();
    assert!(matches!(why, VideoError::Ffmpeg(_)), "{why}");
}
