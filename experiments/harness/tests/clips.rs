//! `--clips`: every layer is judged over several inputs.

mod common;

use common::Harness;

const SMALL: [&str; 9] =
    ["--depth", "10", "--width", "0.125", "--classes", "7", "--size", "64", "--no-edge"];

#[test]
fn a_right_engine_passes_with_every_input() {
    let h = Harness::new();
    let record = h.diff(&[&["--clips", "4"], &SMALL[..]].concat()).passes();
    let clips = &record["clips"];
    let inputs = clips["inputs"].as_array().unwrap();
    let names: Vec<&str> = inputs.iter().map(|input| input["input"].as_str().unwrap()).collect();
    assert_eq!(names, ["formula:0", "formula:1", "formula:2", "formula:3"]);
    for module in clips["modules"].as_array().unwrap() {
        assert_eq!((&module["passed"], &module["high"]), (&4.into(), &1.0.into()));
        // 0.025 to the power of a quarter.
        assert!((module["low"].as_f64().unwrap() - 0.3976).abs() < 1e-3, "{module}");
        assert_eq!(module["ratios"].as_array().unwrap().len(), 4);
    }
    assert!(h.html().contains("4 inputs"));
    // The ratio of a layer is the worst one of all inputs.
    let worst = |field: &str| {
        let all = record["layers"].as_array().unwrap().iter();
        all.filter_map(|layer| layer["introduced"][field].as_f64()).fold(0.0, f64::max)
    };
    let largest = inputs.iter().map(|input| input["worst"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(worst("ratio"), largest);
}

#[test]
fn a_mistake_is_named_with_the_input_that_shows_it_most() {
    let h = Harness::new();
    let flags = ["--clips", "3", "--inject", "bn-statistics@layer2.0.bn1"];
    let run = h.diff(&[&flags, &SMALL[..]].concat());
    assert!(run.stdout.contains("3 inputs: 0 without a divergence"), "{}", run.stdout);
    let record = run.fails();
    assert_eq!(record["first_divergent"], "layer2.0.bn1");
    assert!(record["explanation"].as_str().unwrap().contains("running statistics"));
    let inputs = record["clips"]["inputs"].as_array().unwrap();
    assert!(inputs.iter().all(|input| input["first_divergent"] == "layer2.0.bn1"));
}

#[test]
fn a_folder_of_videos_gives_an_input_for_each() {
    if common::ffmpeg().is_none() {
        return;
    }
    let h = Harness::new();
    let fixed = ["eval", "mini", "--videos", "2", "--protocol", "val", "--engine", "scalar"];
    let data = h.path("videos");
    h.run(&[&fixed[..], &["--part", "test", "--data", &data, "--out", &h.path("eval")]].concat());
    let found =
        std::process::Command::new("find").args([&data, "-name", "*.mp4"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let some: Vec<&str> = found.lines().take(2).collect();
    assert_eq!(some.len(), 2, "eval mini makes its videos in {data}");
    let folder = h.path("two");
    std::fs::create_dir(&folder).unwrap();
    for (at, path) in some.iter().enumerate() {
        std::fs::copy(path, format!("{folder}/{at}.mp4")).unwrap();
    }
    let record = h.diff(&[&["--clips", &folder], &SMALL[..]].concat()).passes();
    assert_eq!(record["clips"]["inputs"][1]["input"], "1.mp4");
    assert_eq!(record["run"]["input"], "2 inputs, 0.mp4 to 1.mp4");
}

#[test]
fn what_cannot_be_run_on_other_inputs_is_refused() {
    let h = Harness::new();
    let empty = h.path("empty");
    std::fs::create_dir(&empty).unwrap();
    h.diff(&["--clips", "2", "--candidate", "npz:a.npz"]).refuses(&["--clips", "is a dump"]);
    h.diff(&["--clips", &empty]).refuses(&["holds no videos"]);
    h.diff(&["--clips", "nowhere"]).refuses(&["expected a number of clips or a readable folder"]);
    let run = h.diff(&["--clips", "0"]).code(2);
    assert!(run.stderr.contains("from 1 to 1000"), "{}", run.stderr);
}
