//! The strips of frames that `harness eval` writes next to its record.

mod common;

use std::fs;
use std::path::Path;

use common::Harness;
use common::videos::{VIDEOS, arguments, make};
use common::{ffmpeg, json_of};
use serde_json::Value;

/// The number of pictures in a page.
fn pictures(page: &str) -> usize {
    // The slashes of base64 are escaped.
    fs::read_to_string(page).unwrap().matches("<img src=\"data:image&#x2f;jpeg;base64,").count()
}

fn shown(record: &Value) -> Vec<Value> {
    record["strips"]["shown"].as_array().unwrap().clone()
}

#[test]
fn strips_of_the_worst_mistakes_lie_next_to_the_record_and_are_in_its_page() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let h = Harness::new();
    let (data, list) = (h.path("data"), h.path("data/list.txt"));
    fs::create_dir(&data).unwrap();
    let mut lines = String::new();
    for at in 0..VIDEOS {
        let name = format!("clip {at}.mp4");
        make(&ffmpeg, "testsrc2=size=96x72:rate=25:duration=1", &Path::new(&data).join(&name));
        lines += &format!("{name} {}\n", at % 10);
    }
    fs::write(&list, lines).unwrap();
    let out = h.path("run");
    let eval = |more: &[&str]| h.run(&arguments(&data, &list, &[&["--out", &out], more].concat()));
    eval(&[]).code(0);
    let record = json_of(&format!("{out}/record.json"));
    let strips = shown(&record);
    // The weights mean nothing, so that nearly all answers are wrong.
    assert_eq!(strips.len(), 8, "{strips:?}");
    let score = |strip: &Value| {
        let videos = record["videos"].as_array().unwrap();
        let video = videos.iter().find(|video| video["index"] == strip["index"]).unwrap();
        assert_eq!(video["says"][0]["right"], false);
        video["says"][0]["scores"][0].as_f64().unwrap()
    };
    let scores: Vec<f64> = strips.iter().map(score).collect();
    assert!(scores.windows(2).all(|two| two[0] >= two[1]), "{scores:?}");
    for strip in &strips {
        let picture = fs::read(format!("{out}/{}", strip["file"].as_str().unwrap())).unwrap();
        assert!(picture.starts_with(&[0xff, 0xd8, 0xff]) && picture.len() <= 32 << 10);
    }
    assert_eq!(pictures(&format!("{out}/report.html")), 8);

    // The report is made again from the folder; without the pictures it says so.
    h.run(&["report", &out, "--out", &h.path("again")]).code(0);
    assert_eq!(pictures(&h.path("again/01-run.html")), 8);
    fs::remove_dir_all(format!("{out}/frames")).unwrap();
    h.run(&["report", &out, "--out", &h.path("without")]).code(0);
    let page = h.path("without/01-run.html");
    assert_eq!(pictures(&page), 0);
    assert!(
        fs::read_to_string(page).unwrap().contains("8 of 8 pictures are not next to the record")
    );

    // A video that is gone cannot be shown. The run says so and does not fail.
    let worst = record["videos"][strips[0]["index"].as_u64().unwrap() as usize]["path"].clone();
    fs::remove_file(Path::new(&data).join(worst.as_str().unwrap())).unwrap();
    let run = eval(&["--allow-missing"]);
    assert!(
        run.stderr.contains("The frames of 1 of 8 videos could not be read again"),
        "{}",
        run.stderr
    );
    assert_eq!(shown(&json_of(&format!("{out}/record.json"))).len(), 7);

    let merged = h.path("merged");
    h.run(&["eval", "k400", "--merge", &out, "--out", &merged]);
    let note = json_of(&format!("{merged}/record.json"))["strips"]["note"].clone();
    assert!(note.as_str().unwrap().contains("merged without their videos"), "{note}");
}

#[test]
fn strips_may_be_left_out() {
    let Some(folder) = common::videos::videos() else { return };
    let h = Harness::new();
    let (data, list, out) = (
        folder.display().to_string(),
        folder.join("list.txt").display().to_string(),
        h.path("run"),
    );
    h.run(&arguments(&data, &list, &["--limit", "3", "--no-strips", "--out", &out])).code(0);
    assert!(!Path::new(&format!("{out}/frames")).exists());
    let strips = json_of(&format!("{out}/record.json"))["strips"].clone();
    assert_eq!(strips["note"], "There are no frames, since --no-strips left them out.");
}
