//! Lists as people have them, and names that would steer the terminal.

mod common;

use std::fs;
use std::path::Path;

use common::videos::{arguments, videos};
use common::{Harness, json_of};

#[test]
fn lists_in_every_form_give_the_same_videos() {
    let Some(folder) = videos() else { return };
    let harness = Harness::new();
    let data = folder.display().to_string();
    let kinetics = "youtube_id,time_start,time_end,split\n";
    let with_number = Path::new(&harness.path("k")).to_owned();
    fs::create_dir(&with_number).unwrap();
    fs::copy(folder.join("clip 0.mp4"), with_number.join("abc_000001_000011.mp4")).unwrap();
    for (name, content) in [
        ("plain", "clip 0.mp4 0\nclip 1.mp4 1\n".to_owned()),
        ("without extension", "clip 0 0\nclip 1 1\n".to_owned()),
        ("absolute", format!("{data}/clip 0.mp4 0\n{data}/clip 1.mp4 1\n")),
        ("commas", "clip 0.mp4,0\nclip 1.mp4,1\n".to_owned()),
        ("header", "path,label\nclip 0.mp4,0\nclip 1.mp4,1\n".to_owned()),
    ] {
        let list = harness.path("list.txt");
        fs::write(&list, content).unwrap();
        let out = harness.path(name);
        let run = harness.run(&arguments(&data, &list, &["--out", &out])).code(0);
        assert!(run.stdout.contains("PASS"), "{name}: {}", run.stdout);
        let record = json_of(&format!("{out}/record.json"));
        let labels: Vec<u64> = record["videos"]
            .as_array()
            .unwrap()
            .iter()
            .map(|video| video["label"].as_u64().unwrap())
            .collect();
        assert_eq!(labels, [0, 1], "{name}");
    }
    let list = harness.path("kinetics.csv");
    fs::write(&list, format!("{kinetics}abc,1,11,test\n")).unwrap();
    let two = ["--engine", "scalar,cpu"];
    let run = harness.run(&arguments(&harness.path("k"), &list, &two)).code(0);
    assert!(run.stderr.contains("has no labels") && run.stdout.contains("disagreements: 0"));
    assert!(!run.stdout.contains("NaN") && run.stdout.contains('–'), "{}", run.stdout);
    // Neither accuracy nor agreement: nothing would be measured.
    let one = harness.run(&arguments(&harness.path("k"), &list, &["--engine", "cpu"])).code(2);
    assert!(one.stderr.contains("give two engines"), "{}", one.stderr);
    let twice = ["--engine", "scalar,cpu,scalar:f32"];
    let run = harness.run(&arguments(&harness.path("k"), &list, &twice)).code(2);
    assert!(run.stderr.contains("--engine scalar:f32: it is named twice"), "{}", run.stderr);
}

#[test]
fn mistakes_are_named_with_their_lines() {
    let Some(folder) = videos() else { return };
    let harness = Harness::new();
    let data = folder.display().to_string();
    let list = harness.path("list.txt");
    for (content, words) in [
        ("clip 0.mp4 0\nclip 1.mp4\nclip 2.mp4 10\n", &["line 2", "add the label", "line 3"][..]),
        ("abseiling/x 120 0\nzumba/y 250 3\n", &["line 1", "extracted frames"]),
        ("label,youtube_id,time_start,time_end,split\na,x,1,11,val\n", &["1 classes", "10"]),
        ("/elsewhere/a.mp4 0\n", &["line 1", "is not inside of --data"]),
        ("{\"a\": 1}\n", &["JSON"]),
    ] {
        fs::write(&list, content).unwrap();
        harness.run(&arguments(&data, &list, &[])).refuses(words);
    }
}

#[test]
fn names_cannot_steer_the_terminal() {
    let Some(folder) = videos() else { return };
    let harness = Harness::new();
    let data = folder.display().to_string();
    let list = harness.path("list.txt");
    fs::write(&list, "clip 0.mp4 0\nred\u{1b}[31m.mp4 1\n").unwrap();
    let out = harness.path("run");
    for more in [&["--out", out.as_str()][..], &["--out", out.as_str(), "--allow-missing"]] {
        let run = harness.run(&arguments(&data, &list, more));
        assert!(!(run.stdout + &run.stderr).contains('\u{1b}'), "{more:?}");
    }
    fs::write(&list, "clip 0.mp4 0\n\u{1b}]0;x\u{7}.mp4 x\n").unwrap();
    let run = harness.run(&arguments(&data, &list, &[])).code(2);
    assert!(!run.stderr.contains('\u{1b}') && !run.stderr.contains('\u{7}'), "{:?}", run.stderr);
}
