//! Real video files for the tests of `eval`, which they make themselves, and runs that take their time.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{Harness, Run, ffmpeg};

/// The number of videos in the folder.
pub const VIDEOS: usize = 12;

/// A small network, which is fast even at 224 x 224.
pub const SMALL: [&str; 10] = [
    "--depth",
    "10",
    "--width",
    "0.125",
    "--classes",
    "10",
    "--weights",
    "formula:0",
    "--threads",
    "1",
];

/// A folder with a list and videos whose names contain a space. It is made once.
pub fn videos() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let ffmpeg = ffmpeg()?;
            let folder = tempfile::TempDir::new().unwrap().keep();
            let mut list = String::new();
            for i in 0..VIDEOS {
                let name = format!("clip {i}.mp4");
                let source = format!("testsrc2=size=96x72:rate=25:duration={}", 1 + i % 3);
                make(&ffmpeg, &source, &folder.join(&name));
                list += &format!("{name} {}\n", i % 10);
            }
            fs::write(folder.join("list.txt"), list).unwrap();
            Some(folder)
        })
        .as_deref()
}

pub fn make(ffmpeg: &str, source: &str, path: &Path) {
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", source, "-c:v", "mpeg4"]);
    assert!(command.arg(path).status().unwrap().success(), "{source}");
}

/// The arguments of an evaluation of the videos in a folder that a list names.
pub fn arguments<'a>(folder: &'a str, list: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["eval", "k400", "--protocol", "val", "--data", folder, "--list", list];
    [&fixed[..], &SMALL, more].concat()
}

/// An evaluation of the videos, and the table of one that nobody disturbed.
pub struct Eval {
    pub harness: Harness,
    pub data: String,
    pub list: String,
    pub wanted: Vec<u8>,
}

impl Eval {
    /// `None` if there is no ffmpeg.
    pub fn new() -> Option<Self> {
        let folder = videos()?;
        let harness = Harness::new();
        let data = folder.display().to_string();
        let list = folder.join("list.txt").display().to_string();
        let mut eval = Eval { harness, data, list, wanted: vec![] };
        eval.run(&["--out", &eval.harness.path("undisturbed")]).code(0);
        eval.wanted = eval.table("undisturbed");
        Some(eval)
    }

    pub fn run(&self, more: &[&str]) -> Run {
        self.harness.run(&arguments(&self.data, &self.list, more))
    }

    /// Runs the evaluation in the folder `name` to its end, and compares its table.
    #[track_caller]
    pub fn ends_undisturbed(&self, name: &str) -> Run {
        let run = self.run(&["--out", &self.harness.path(name)]).code(0);
        assert!(self.table(name) == self.wanted, "{name}: the table differs");
        run
    }

    /// The table of the run in the folder `name`.
    pub fn table(&self, name: &str) -> Vec<u8> {
        fs::read(Path::new(&self.harness.path(name)).join("videos.parquet")).unwrap()
    }

    /// Starts the evaluation in the folder `name` with an ffmpeg that takes at least so many seconds.
    pub fn slow(&self, name: &str, seconds: f64, more: &[&str]) -> Slow {
        let out = self.harness.path(name);
        let more = [&["--out", out.as_str()], more].concat();
        let child = Command::new(env!("CARGO_BIN_EXE_harness"))
            .args(arguments(&self.data, &self.list, &more))
            .env("FFMPEG", slow_ffmpeg(&self.harness, seconds))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Slow { child, journal: Path::new(&out).join("videos.jsonl") }
    }
}

/// A program that waits before it becomes ffmpeg; its version is that of ffmpeg.
pub fn slow_ffmpeg(harness: &Harness, seconds: f64) -> PathBuf {
    let before = format!("[ \"$1\" = -version ] || sleep {seconds}");
    ffmpeg_after(harness, &format!("ffmpeg-{seconds}"), &before)
}

/// An ffmpeg that runs a line of shell first.
pub fn ffmpeg_after(harness: &Harness, name: &str, before: &str) -> PathBuf {
    let path = PathBuf::from(harness.path(name));
    let real = ffmpeg().expect("asked before");
    let script = format!("#!/bin/sh\n{before}\nexec '{real}' \"$@\"\n");
    // Written under another name and renamed, since a file that is open for writing cannot be executed.
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    file.write_all(script.as_bytes()).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755)).unwrap();
    file.into_temp_path().persist(&path).unwrap();
    path
}

/// A run that takes its time.
pub struct Slow {
    pub child: Child,
    journal: PathBuf,
}

impl Slow {
    /// Waits until so many videos are in the journal.
    pub fn wait_for(&self, videos: usize) {
        wait_for(&self.journal, videos);
    }

    /// Sends a signal such as `USR1`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end; the exit code, or -1 after a signal.
    pub fn end(self) -> (i32, String, String) {
        let output = self.child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code(output.status), text(output.stdout), text(output.stderr))
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

pub fn signal(process: u32, name: &str) {
    let id = process.to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}

/// Waits until a journal holds so many videos.
pub fn wait_for(journal: &Path, videos: usize) {
    wait_until(&format!("{videos} videos in {}", journal.display()), || {
        let lines = fs::read(journal).unwrap_or_default();
        lines.iter().filter(|byte| **byte == b'\n').count() > videos
    });
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited two minutes for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
