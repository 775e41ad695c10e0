//! The examples of scripts/cluster on clusters that run on this machine: what is killed and queued again
//! ends with the table of an undisturbed run, byte for byte.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::videos::{Eval, arguments, slow_ffmpeg, wait_for, wait_until};
use skip::skip;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name)
}

/// Slurm with two nodes, started by scripts/lib/with_slurm. It ends when its stdin is closed.
struct Slurm {
    cluster: Child,
    conf: PathBuf,
}

impl Slurm {
    fn start(folder: &Path) -> Slurm {
        let mut cluster = Command::new(script("lib/with_slurm"))
            .arg(folder)
            .args(["sh", "-c", "echo ready; cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(cluster.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "Slurm did not start");
        Slurm { cluster, conf: folder.join("slurm.conf") }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", &self.conf);
        command
    }

    /// The standard output of a command of Slurm that must succeed.
    #[track_caller]
    fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Whether no job is left. Jobs that were queued again start after five seconds and not after two
    /// minutes as usual; with less, Slurm may find that the credential of the killed job is revoked.
    fn is_idle(&self, hurried: &mut BTreeSet<String>) -> bool {
        let jobs = self.ask("squeue", &["-h", "-r", "-o", "%i %r"]);
        for job in jobs.lines().filter_map(|job| job.strip_suffix(" BeginTime")) {
            if hurried.insert(job.to_owned()) {
                self.ask("scontrol", &["update", &format!("JobId={job}"), "StartTime=now+5"]);
            }
        }
        jobs.is_empty()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        drop(self.cluster.stdin.take());
        let _ = self.cluster.wait();
    }
}

#[test]
fn an_array_of_slurm_survives_being_killed_and_queued_again() {
    let installed = |program: &str| {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    };
    if let Some(program) =
        ["munged", "slurmctld", "slurmd", "sbatch"].iter().find(|program| !installed(program))
    {
        skip!(Slurm, "the array of scripts/cluster/slurm.sh: {program} was not found");
        return;
    }
    let Some(eval) = Eval::new() else { return };
    let at = |name: &str| eval.harness.path(name);
    let slurm = Slurm::start(Path::new(&at("slurm")));
    let arguments = arguments(&eval.data, &eval.list, &[]);
    let array = slurm
        .command("sbatch")
        .args(["--parsable", "--array=1-2"])
        .arg(format!("--output={}", at("%a.log")))
        .arg(script("cluster/slurm.sh"))
        .args(&arguments[1..])
        .env("HARNESS", env!("CARGO_BIN_EXE_harness"))
        .env("FFMPEG", slow_ffmpeg(&eval.harness, 2.0))
        .env("OUT", at("parts"))
        .output()
        .unwrap();
    let job = String::from_utf8(array.stdout).unwrap().trim().to_owned();
    assert!(!job.is_empty(), "{}", String::from_utf8_lossy(&array.stderr));
    let (first, second, merged) = (at("parts/1"), at("parts/2"), at("merged"));
    let merge = format!(
        "{} eval k400 --list '{}' --merge {first} {second} --out {merged}",
        env!("CARGO_BIN_EXE_harness"),
        eval.list
    );
    let after = format!("--dependency=afterany:{job}");
    let log = format!("--output={}", at("merge.log"));
    slurm.ask("sbatch", &[&after, &log, "--wrap", &merge]);
    // One task is killed and queued again, the other one is warned that its time is nearly over.
    wait_for(&Path::new(&first).join("videos.jsonl"), 1);
    slurm.ask("scontrol", &["requeue", &format!("{job}_1")]);
    wait_for(&Path::new(&second).join("videos.jsonl"), 1);
    slurm.ask("scancel", &["--signal=USR1", &format!("{job}_2")]);
    let mut hurried = BTreeSet::new();
    wait_until("the end of all jobs", || slurm.is_idle(&mut hurried));
    let log = |name: &str| fs::read_to_string(at(name)).unwrap_or_default();
    for name in ["1.log", "2.log"] {
        let text = log(name);
        assert!(text.contains("stopping after this step"), "{name}: {text}");
        assert!(text.contains("videos done: ") && !text.contains("left: 0"), "{name}: {text}");
    }
    assert!(log("merge.log").contains("PASS"), "{}{}", log("merge.log"), log("1.log"));
    assert!(eval.table("merged") == eval.wanted, "the table differs");
}

/// Kills the process that holds a lock; `false` if there is none.
fn kill_writer(lock: &Path) -> bool {
    let text = fs::read_to_string(lock).unwrap_or_default();
    let owner: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(process) = owner["process"].as_u64() else { return false };
    let kill = Command::new("kill").args(["-s", "KILL", &process.to_string()]).output();
    kill.is_ok_and(|output| output.status.success())
}

#[test]
fn hyperqueue_survives_a_killed_task_and_a_killed_cluster() {
    let Ok(python) = std::env::var("HARNESS_HQ") else {
        skip!(Hyperqueue, "scripts/cluster/with_hyperqueue.py: no Python with HyperQueue");
        return;
    };
    let Some(eval) = Eval::new() else { return };
    let at = |name: &str| eval.harness.path(name);
    let parts = at("parts");
    let start = || {
        Command::new(&python)
            .arg(script("cluster/with_hyperqueue.py"))
            .args(["--shards", "3", "--workers", "2", "--cores", "1", "--out", &parts, "--"])
            .arg(env!("CARGO_BIN_EXE_harness"))
            .args(arguments(&eval.data, &eval.list, &[]))
            .env("FFMPEG", slow_ffmpeg(&eval.harness, 1.0))
            .env("HOME", at(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut cluster = start();
    let part = |number: u32, name: &str| Path::new(&parts).join(number.to_string()).join(name);
    wait_for(&part(1, "videos.jsonl"), 1);
    assert!(kill_writer(&part(1, "writer.lock")), "the first part was over too soon");
    wait_for(&part(2, "videos.jsonl"), 1);
    cluster.kill().unwrap();
    cluster.wait().unwrap();
    // A machine that goes down takes all its processes with it, but here they may outlive the cluster, and one
    // that was just starting has no lock yet.
    for _ in 0..20 {
        for number in 1..4 {
            kill_writer(&part(number, "writer.lock"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let code = start().wait().unwrap().code();
    assert_eq!(
        code,
        Some(0),
        "{:?}",
        (1..4).map(|n| fs::read_to_string(format!("{parts}/{n}.log")))
    );
    let out = at("merged");
    let folders = [1, 2, 3].map(|number| format!("{parts}/{number}"));
    let merge = ["eval", "k400", "--out", &out, "--merge", &folders[0], &folders[1], &folders[2]];
    eval.harness.run(&merge).code(0);
    assert!(eval.table("merged") == eval.wanted, "the table differs");
}
