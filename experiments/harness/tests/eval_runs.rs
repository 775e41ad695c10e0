//! What happens to a run of `harness eval` that is disturbed: nothing is lost, and its table is in the end
//! that of an undisturbed run, byte for byte.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::videos::{Eval, VIDEOS, arguments, ffmpeg_after, make, slow_ffmpeg};
use common::{Harness, ffmpeg, json_of};

/// How often each disturbance is tried; `HARNESS_ROUNDS` sets another number.
fn rounds() -> u64 {
    std::env::var("HARNESS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[test]
fn a_killed_run_goes_on_with_the_same_command() {
    let Some(eval) = Eval::new() else { return };
    for round in 0..rounds() {
        let name = format!("killed{round}");
        let mut run = eval.slow(&name, 0.1, &[]);
        run.wait_for(1 + round as usize % (VIDEOS - 3));
        run.child.kill().unwrap();
        run.end();
        let again = eval.ends_undisturbed(&name);
        assert!(again.stderr.contains("taking over"), "{}", again.stderr);
    }
}

#[test]
fn a_second_process_in_the_same_folder_is_refused() {
    let Some(eval) = Eval::new() else { return };
    for round in 0..rounds() {
        let name = format!("two{round}");
        let (first, second) = (eval.slow(&name, 0.1, &[]), eval.slow(&name, 0.1, &[]));
        let ids = [first.child.id(), second.child.id()];
        let ends = [first.end(), second.end()];
        let mut codes = ends.each_ref().map(|(code, ..)| *code);
        codes.sort_unstable();
        assert_eq!(codes, [0, 2], "{ends:?}");
        let (winner, loser) = if ends[0].0 == 0 { (0, 1) } else { (1, 0) };
        let why = &ends[loser].2;
        assert!(why.contains(&format!("process {} on host", ids[winner])), "{why}");
        assert!(why.contains("is writing there") && why.contains("--out"), "{why}");
        assert!(eval.table(&name) == eval.wanted, "{name}");
        assert!(!Path::new(&eval.harness.path(&name)).join("writer.lock").exists());
    }
}

#[test]
fn signals_stop_the_run_after_the_video_at_hand() {
    let Some(eval) = Eval::new() else { return };
    for round in 0..rounds() {
        for signal in ["USR1", "TERM", "INT", "HUP"] {
            let name = format!("{signal}{round}");
            let run = eval.slow(&name, 0.15, &[]);
            run.wait_for(2);
            run.signal(signal);
            let (code, stdout, stderr) = run.end();
            // Slurm uses 75; Ctrl-C is for people.
            let wanted = if signal == "INT" { 130 } else { 75 };
            assert_eq!(code, wanted, "{signal}: {stdout}{stderr}");
            let why = match signal {
                "INT" => "harness: interrupted; ".to_owned(),
                other => format!("harness: stopped by SIG{other}; "),
            };
            let last = stderr.lines().last().unwrap();
            assert!(last.starts_with(&why) && last.contains("goes on: harness eval"), "{stderr}");
            assert!(stdout.contains("run the same command again"), "{stdout}");
            let record = json_of(&format!("{}/record.json", eval.harness.path(&name)));
            assert_eq!(record["manifest"]["interrupted"], true);
            let done = record["manifest"]["evaluated"].as_u64().unwrap();
            assert!((2..VIDEOS as u64).contains(&done), "{signal}: {done} were evaluated");
            eval.ends_undisturbed(&name);
        }
    }
}

#[test]
fn the_second_interrupt_ends_the_run_at_once() {
    let Some(eval) = Eval::new() else { return };
    let run = eval.slow("twice", 2.0, &[]);
    run.wait_for(0);
    run.signal("INT");
    std::thread::sleep(Duration::from_millis(200));
    run.signal("INT");
    let (code, _, stderr) = run.end();
    assert_eq!(code, 130, "{stderr}");
    assert!(stderr.contains("harness: interrupted; the finished videos are kept"), "{stderr}");
    eval.ends_undisturbed("twice");
}

/// A limit on the size of files acts as a full disk, and needs no privilege.
#[test]
fn a_full_disk_costs_nothing_but_time() {
    let Some(eval) = Eval::new() else { return };
    for round in 0..rounds() {
        let name = format!("full{round}");
        let out = eval.harness.path(&name);
        let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", 1 + round % 6);
        let output = Command::new("bash")
            .args(["-c", &limit, "bash", env!("CARGO_BIN_EXE_harness")])
            .args(arguments(&eval.data, &eval.list, &["--out", &out]))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("cannot be written"), "{stderr}");
        assert!(!Path::new(&out).join("videos.parquet").exists());
        eval.ends_undisturbed(&name);
    }
}

#[test]
fn a_damaged_line_costs_its_video_and_nothing_else() {
    let Some(eval) = Eval::new() else { return };
    eval.ends_undisturbed("run");
    let journal = PathBuf::from(eval.harness.path("run")).join("videos.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[4].replace_range(20..40, "\u{1b}[2J?");
    lines[6] = "{\"index\": 7, \"pa".to_owned();
    let partial = lines.pop().unwrap();
    let damaged = lines.join("\n") + "\n" + &partial[..30];
    fs::write(&journal, damaged).unwrap();
    let run = eval.ends_undisturbed("run");
    let said = run.stderr.contains("3 lines are damaged (the first is line 5)");
    assert!(said && run.stderr.contains("videos done: 9, left: 3"), "{}", run.stderr);
    let run = eval.ends_undisturbed("run");
    assert!(run.stderr.contains("videos done: 12, left: 0"), "{}", run.stderr);
    let out = eval.harness.path("run");
    let other = eval.run(&["--out", &out, "--resume", "--order", "reversed"]).code(2);
    assert!(other.stderr.contains("its order is"), "{}", other.stderr);
    let header = fs::read_to_string(&journal).unwrap().replacen('{', "", 1);
    fs::write(&journal, header).unwrap();
    let refused = eval.run(&["--out", &out]).code(2);
    assert!(refused.stderr.contains("first line"), "{}", refused.stderr);
}

#[test]
fn errors_are_tried_again_when_that_may_help() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let harness = Harness::new();
    let folder = PathBuf::from(harness.path("data"));
    fs::create_dir(&folder).unwrap();
    make(&ffmpeg, "testsrc=size=64x48:rate=25:duration=1", &folder.join("a.mp4"));
    fs::write(folder.join("b.mp4"), "not a video").unwrap();
    fs::write(folder.join("list.txt"), "a.mp4 1\nb.mp4 2\nc.mp4 3\n").unwrap();
    let (data, list) =
        (folder.display().to_string(), folder.join("list.txt").display().to_string());
    let out = harness.path("run");
    let run = |more: &[&str]| {
        let more = [&["--out", out.as_str(), "--allow-missing"], more].concat();
        harness.run(&arguments(&data, &list, &more))
    };
    let first = run(&[]).code(1);
    assert!(first.stdout.contains("1 missing") && first.stdout.contains("1 undecodable"));
    let same = run(&[]).code(1);
    assert!(same.stderr.contains("videos done: 2, left: 0"), "{}", same.stderr);
    let asked = run(&["--retry-errors"]).code(1);
    assert!(
        asked.stderr.contains("1 of these are tried again as --retry-errors asks"),
        "{}",
        asked.stderr
    );
    fs::copy(folder.join("a.mp4"), folder.join("b.mp4")).unwrap();
    fs::copy(folder.join("a.mp4"), folder.join("c.mp4")).unwrap();
    let whole = run(&["--resume"]).code(0);
    assert!(whole.stderr.contains("since their files have changed"), "{}", whole.stderr);
    assert!(whole.stderr.contains("videos done: 1, left: 2"), "{}", whole.stderr);
    // An answer does not outlive its file.
    fs::write(folder.join("a.mp4"), "not a video").unwrap();
    let changed = run(&[]).code(1);
    assert!(changed.stderr.contains("since their files have changed"), "{}", changed.stderr);
    assert!(changed.stdout.contains("1 undecodable"), "{}", changed.stdout);
    let same = run(&[]).code(1);
    assert!(same.stderr.contains("videos done: 3, left: 0"), "{}", same.stderr);
}

/// Without the group of their own, the Ctrl-C of a terminal would end the ffmpeg processes as well.
#[test]
fn an_interrupt_while_mini_is_made_is_one_sentence() {
    if ffmpeg().is_none() {
        return;
    }
    use std::os::unix::process::CommandExt;
    let harness = Harness::new();
    let data = harness.path("mini");
    let child = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(["eval", "mini", "--data", &data, "--out", &harness.path("run")])
        .env("FFMPEG", slow_ffmpeg(&harness, 0.3))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    common::videos::wait_until("the first videos", || {
        Path::new(&data).join("test/move_right/0000.mp4").exists()
    });
    // A negative number means the whole group, as the terminal does it.
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-s", "INT", "--", &group]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("harness: interrupted; no video was evaluated"), "{stderr}");
    assert!(!stderr.contains("ffmpeg"), "{stderr}");
}

/// The terminal's Ctrl-C reaches an ffmpeg that has just been started and has no group of its own yet.
#[test]
fn an_interrupt_that_also_ends_ffmpeg_is_no_error_of_ffmpeg() {
    if ffmpeg().is_none() {
        return;
    }
    let harness = Harness::new();
    let both = "[ \"$1\" != -v ] || { kill -s INT $PPID; sleep 0.3; kill -s INT $$; }";
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(["eval", "mini", "--data", &harness.path("mini"), "--out", &harness.path("run")])
        .args(["--threads", "1"])
        .env("FFMPEG", ffmpeg_after(&harness, "ended", both))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.lines().last().unwrap().starts_with("harness: interrupted; "), "{stderr}");
}
