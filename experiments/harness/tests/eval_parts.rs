//! Parts of a list on several machines: shards, and merging from the journals alone.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::json_of;
use common::videos::{Eval, arguments};

#[test]
fn any_partition_merges_to_the_whole_without_the_videos() {
    let Some(eval) = Eval::new() else { return };
    let at = |name: &str| eval.harness.path(name);
    for (name, shard) in [("a", "1/3"), ("b", "2/3"), ("c", "3/3"), ("d", "2/2")] {
        eval.run(&["--out", &at(name), "--shard", shard]).code(0);
    }
    let nothing = at("nothing");
    fs::create_dir(&nothing).unwrap();
    let merge = |out: &str, parts: &[&str], more: &[&str]| {
        let parts: Vec<String> = parts.iter().map(|name| at(name)).collect();
        let mut words = vec!["eval", "k400", "--out", out, "--merge"];
        words.extend(parts.iter().map(String::as_str));
        eval.harness.run(&[&words[..], more].concat())
    };
    // Parts may overlap if they agree, and the order is that of the list.
    for (name, parts) in [("m1", &["c", "a", "b"][..]), ("m2", &["d", "a", "b", "c"])] {
        merge(&at(name), parts, &[]).code(0);
        assert!(eval.table(name) == eval.wanted, "{name}");
    }
    let some = merge(&at("m3"), &["a", "c"], &["--list", &eval.list]).code(1);
    assert!(
        some.stdout.contains("4 missing") && some.stdout.contains("clip 1.mp4"),
        "{}",
        some.stdout
    );
    let some = merge(&at("m4"), &["a", "c"], &[]).code(1);
    assert!(some.stdout.contains("video 1 of the list"), "{}", some.stdout);
    merge(&at("m5"), &["a", "b"], &["--limit", "2"]).code(0);
    let empty = merge(&at("m6"), &["nothing"], &[]).code(2);
    assert!(empty.stderr.contains("videos.jsonl"), "{}", empty.stderr);
}

#[test]
fn overlaps_that_differ_and_other_runs_are_refused() {
    let Some(eval) = Eval::new() else { return };
    let [a, b, m] = ["a", "b", "m"].map(|name| eval.harness.path(name));
    eval.run(&["--out", &a, "--shard", "1/2"]).code(0);
    eval.run(&["--out", &b, "--shard", "1/2"]).code(0);
    let merge =
        |dataset: &str| eval.harness.run(&["eval", dataset, "--out", &m, "--merge", &a, &b]);
    let journal = Path::new(&b).join("videos.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let twice = merge("k400").code(1);
    assert!(twice.stdout.contains("6 missing"), "{}", twice.stdout);
    let line = text.lines().find(|line| line.contains("\"index\":4,")).unwrap();
    fs::write(&journal, text.replace(line, &line.replace("\"frames\":", "\"frames\":1"))).unwrap();
    let refused = merge("k400").code(2);
    for word in ["different results", "video 4", "clip 4.mp4"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    fs::write(&journal, text.replace("natural", "reversed")).unwrap();
    let other = merge("k400").code(2);
    assert!(other.stderr.contains("its order is"), "{}", other.stderr);
    let other = merge("k600").code(2);
    assert!(other.stderr.contains("is a run on k400"), "{}", other.stderr);
}

#[test]
fn the_scheduler_gives_the_shard() {
    let Some(eval) = Eval::new() else { return };
    let out = eval.harness.path("task");
    let run = |variables: &[(&str, &str)], shard: &str| {
        Command::new(env!("CARGO_BIN_EXE_harness"))
            .args(arguments(&eval.data, &eval.list, &["--out", &out, "--shard", shard]))
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    };
    let array = [
        ("SLURM_ARRAY_TASK_ID", "5"),
        ("SLURM_ARRAY_TASK_MIN", "4"),
        ("SLURM_ARRAY_TASK_COUNT", "3"),
    ];
    let output = run(&array, "auto");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("shard 2/3, from SLURM_ARRAY_TASK_ID=5"), "{stderr}");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let record = json_of(&format!("{out}/record.json"));
    assert_eq!(record["manifest"]["shard"], "2/3");
    let places: Vec<u64> =
        record["videos"].as_array().unwrap().iter().map(|v| v["index"].as_u64().unwrap()).collect();
    assert_eq!(places, [1, 4, 7, 10]);
    let refused = run(&[("HQ_TASK_ID", "1")], "auto");
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && stderr.contains("auto/COUNT"), "{stderr}");
}
