//! Tests of the pages: they are complete, escaped, self-contained and not too large.

mod common;

use std::path::Path;

use common::{HOSTILE, all};
use record::Record;
use record::SelftestRecord;
use reports::{IndexEntry, compare, render, render_index};

fn page(name: &str) -> String {
    let records = all();
    let (_, record) = records.iter().find(|(n, _)| *n == name).expect("a record of this name");
    render(record).expect("a page")
}

/// All values of an attribute in the page.
fn attribute_values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
    let opening = format!(" {attribute}=\"");
    html.split(&opening).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_record_makes_a_page_that_loads_nothing() {
    for (name, record) in all() {
        let html = render(&record).unwrap_or_else(|error| panic!("{name}: {error}"));
        for scheme in ["http:", "https:", "url(//", "@import", "<link", "<iframe", "<object"] {
            assert!(!html.contains(scheme), "{name} holds {scheme}");
        }
        for href in attribute_values(&html, "href") {
            assert!(href.starts_with('#'), "{name} links to {href}");
        }
        let mut loaded = attribute_values(&html, "src");
        // The slashes of base64 are escaped.
        loaded.retain(|source| !source.starts_with("data:image&#x2f;jpeg;base64,"));
        assert!(loaded.is_empty(), "{name} loads {loaded:?}");
    }
}

#[test]
fn links_lead_to_something() {
    for name in ["pass", "diverged", "incomplete", "selftest"] {
        let html = page(name);
        let ids = attribute_values(&html, "id");
        for href in attribute_values(&html, "href") {
            assert!(ids.contains(&&href[1..]), "{name}: no element has the id {href}");
        }
    }
}

#[test]
fn hostile_text_stays_text() {
    let html = page("hostile");
    assert!(!html.contains(HOSTILE));
    assert!(!html.contains("<script>document"));
    assert!(!html.contains("<img"));
    assert_eq!(html.matches("<script>").count(), 1);
    assert!(!html.contains(">49&"), "text was expanded as a template");
}

#[test]
fn hostile_names_of_videos_and_classes_stay_text() {
    for name in ["eval", "train", "ablate", "bench-hostile"] {
        let html = page(name);
        assert!(!html.contains(HOSTILE), "{name}");
        assert_eq!(html.matches("<script>").count(), 1, "{name}");
        assert!(html.contains("plot-wide") && html.contains("plot-narrow"), "{name}");
    }
}

#[test]
fn a_bench_shows_speed_accuracy_and_where_the_time_goes() {
    let html = page("bench");
    for words in [
        "cpu is 1.4 times as fast as the fastest other runtime, onnxruntime, in 8 of 8 settings",
        "cpu (our engine)",
        "Speed against accuracy",
        "Throughput over threads: f32, batch 8",
        "Throughput over clips in a batch: bf16, threads: 2",
        "Where the time goes",
        "short 3x3",
        "other work",
        "Roofline: f32, batch 1, 1 thread",
        "openvino was left out: is not set up.",
    ] {
        assert!(html.contains(words), "{words}");
    }
    assert!(
        !page("bench-hostile").contains("NaN to"),
        "a missing interval must be shown as a dash"
    );
    let empty = page("bench-empty");
    assert!(!empty.contains("Speed against accuracy") && !empty.contains("Roofline"));
}

#[test]
fn an_evaluation_says_first_what_is_missing() {
    let html = page("eval");
    let head = html.split("<main").next().expect("a head");
    for words in [
        "files are missing",
        "could not be decoded",
        "stopped before its end",
        "shuffled:1",
        "This is shard 1",
    ] {
        assert!(head.contains(words), "{words}");
    }
}

/// The text between the tags of the heading and the sentence below it.
fn head(html: &str) -> String {
    let header = html.split("<header").nth(1).and_then(|rest| rest.split("</header>").next());
    text_of(header.expect("a header")).replace('\u{a0}', " ")
}

fn published(name: &str) -> Record {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    record::read_record(&runs.join(name)).expect("a published record")
}

#[test]
fn the_result_stands_first_and_in_words() {
    let cases = [
        (
            "bench-batch-1",
            "cpu is 1.5 to 1.6 times as fast as the fastest other runtime, openvino, in 4 of 4 settings",
        ),
        (
            "gpu-h100-bench-batch-1",
            "cuda is 1.6 times as fast as the fastest other runtime, torch-graph",
        ),
        ("mini-eval", "98.8 % top-1 (97.1 to 99.5) on mini"),
        ("mini-train", "99.5 % (97.2 to 99.9) on the validation part after 60 epochs"),
        ("mini-retrained", "Without IOI, accuracy 3.3 points lower"),
        ("mini-knock-out", "Without IOI, accuracy 88.8 points lower"),
    ];
    for (name, words) in cases {
        let html = render(&published(name)).expect("a page");
        assert!(head(&html).contains(words), "{name}: {}", head(&html));
        assert!(html.contains("<details class=\"data\">"), "{name} has no data under its figures");
    }
    let html = render(&Record::Eval(Box::new(common::study::eval()))).expect("a page");
    assert!(head(&html).contains("13.4 points above the published 71.6 %"), "{}", head(&html));
}

#[test]
fn an_ablation_keeps_its_two_tests_apart() {
    let html = render(&published("mini-retrained")).expect("a page");
    for words in [
        "These networks, other videos",
        "Without IOI, 44 of 1200 answers became wrong and 4 right: more than chance explains",
        "the answers are not independent",
        "Other trainings",
        "this number of trainings cannot tell it from chance",
        "Found in 80 % of such runs",
        "What was not tested",
    ] {
        assert!(html.contains(words), "{words}");
    }
    let once = render(&published("mini-knock-out")).expect("a page");
    assert!(once.contains("Not tested: one trained network was changed"));
}

#[test]
fn times_that_scatter_are_said_and_cost_the_tick() {
    let mut bench = common::bench::bench();
    let entry = &mut bench.settings[0].entries[0];
    entry.p99_s = 3.0 * entry.min_s;
    let html = render(&Record::Bench(Box::new(bench))).expect("a page");
    assert!(head(&html).contains("scatter by a factor of 3.00"), "{}", head(&html));
    assert!(html.contains("<header class=\"hero hero-incomplete\">"));
    assert!(!page("bench").contains("scatter by a factor"));
}

#[test]
fn a_gpu_is_named_or_said_to_be_unknown() {
    let html = render(&published("gpu-h100-bench-batch-1")).expect("a page");
    assert!(head(&html).contains("a GPU that the record does not name"), "{}", head(&html));
    assert!(html.contains("785\u{a0}TFLOP&#x2f;s") && html.contains("steps of cuda"));
    let mut bench = common::bench::bench();
    bench.run.machine.gpu = Some("NVIDIA H100".to_owned());
    let html = render(&Record::Bench(Box::new(bench))).expect("a page");
    assert!(head(&html).contains("computed on NVIDIA H100"), "{}", head(&html));
}

#[test]
fn a_training_shows_no_json_and_no_zero_videos() {
    let html = render(&published("mini-train")).expect("a page");
    assert!(!html.contains("training videos") && !html.contains("&quot;depth"));
}

#[test]
fn two_runs_are_compared_by_what_changed() {
    let all = all();
    let of = |name: &str| &all.iter().find(|(n, _)| *n == name).expect("a record").1;
    let html = compare(("first", of("pass")), ("second", of("diverged"))).expect("a page");
    assert!(html.contains("Layers with another verdict") && html.contains("pos_embed"));
    let same = compare(("a", of("bench")), ("b", of("bench"))).expect("a page");
    assert!(same.contains("No number changed"));
    let error = compare(("a", of("bench")), ("b", of("eval"))).expect_err("different kinds");
    assert!(error.to_string().contains("give two records of the same kind"), "{error}");
    for name in ["bench-hostile", "hostile", "eval", "ablate", "train", "null-hostile"] {
        let html = compare((HOSTILE, of(name)), (HOSTILE, of(name))).expect("a page");
        assert!(!html.contains(HOSTILE), "{name}");
    }
}

#[test]
fn a_page_of_450_layers_is_below_1_5_megabytes() {
    let html = page("pass");
    assert_eq!(html.matches("data-name=").count(), 450);
    println!("the page has {} bytes", html.len());
    assert!(html.len() < 1_500_000, "{} bytes", html.len());
}

#[test]
fn the_verdict_stands_first_and_in_words() {
    let cases = [
        ("pass", "</span> Pass</h1>", "no own error is more than 4 times the allowed"),
        ("diverged", "</span> Diverged</h1>", "first goes wrong at layer4.0.conv2.spatial_conv"),
        ("incomplete", "</span> Incomplete</h1>", "50 layers were not compared"),
        ("empty", "</span> Incomplete</h1>", "The record holds no layers."),
    ];
    for (name, heading, sentence) in cases {
        let html = page(name);
        assert!(html.contains(heading) && html.contains(sentence), "{name}");
    }
}

#[test]
fn blocks_that_were_not_compared_are_hatched() {
    let html = page("incomplete");
    // Two blocks, each drawn for a wide and for a narrow window.
    assert_eq!(html.matches("class=\"tile is-none\"").count(), 4);
}

#[test]
fn nan_and_infinity_are_drawn_and_written() {
    let html = page("extreme");
    assert!(html.contains("NaN, ∞") && html.contains("zero"));
    assert!(html.contains("<polygon"), "no triangle for NaN");
    assert!(html.contains("heat-broken"));
}

#[test]
fn a_selftest_shows_each_fault() {
    let html = page("selftest");
    for text in ["Faults missed", "58 of 60 injected", "swapped weights", "90 %", "other layer"] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn a_selftest_shows_what_was_planted_against_what_was_named() {
    let html = page("selftest");
    for text in [
        "150 of 160 are on the diagonal, 93.8 %",
        "engine: 2 as eps 0 &lt;instead&gt; of 1e-5",
        "(not in the catalogue)",
        "the bias is missing",
    ] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn a_selftest_without_a_matrix_makes_a_page() {
    let old = SelftestRecord { confusion: vec![], ..common::selftest() };
    let html = render(&Record::Selftest(Box::new(old))).expect("a page");
    assert!(html.contains("swapped weights") && !html.contains("on the diagonal"));
}

#[test]
fn the_index_lists_every_report_and_links_stay_local() {
    let entries: Vec<IndexEntry> = all()
        .iter()
        .map(|(name, record)| IndexEntry::new(record, name, &format!("{name}/a b.html")))
        .chain([IndexEntry::new(&all()[0].1, HOSTILE, "javascript:alert(1)")])
        .collect();
    let html = render_index(&entries).expect("a page");
    assert!(html.contains("href=\"./pass/a%20b.html\""), "{html}");
    assert!(html.contains("href=\"./javascript%3Aalert%281%29\""));
    assert!(!html.contains("<img"));
    assert!(render_index(&[]).expect("a page").contains("There are no reports."));
    let twice = ["monday", "tuesday"].map(|name| IndexEntry::new(&all()[7].1, name, name));
    let html = render_index(&twice).expect("a page");
    assert!(html.contains("<h2>top-1 in % on k400 (val), libtorch f32</h2>"), "no trend");
}

#[test]
fn the_text_of_the_diverged_page_reads_well() {
    let record = Record::Diff(Box::new(common::diverged()));
    let html = render(&record).expect("a page");
    let header = html.split("<header").nth(1).and_then(|h| h.split("</header>").next());
    insta::assert_snapshot!(text_of(header.expect("a header")));
}

/// The text between the tags, one piece per line.
fn text_of(html: &str) -> String {
    let pieces =
        html.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text.trim());
    pieces.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n").replace("&#x2f;", "/")
}

#[test]
fn strips_are_shown_and_what_is_missing_is_said() {
    let html = page("eval");
    assert_eq!(html.matches("<img src=\"data:image&#x2f;jpeg").count(), 1, "one of two is there");
    assert!(html.contains("1 of 2 pictures are not next to the record, in the folder frames."));
    assert!(html.contains("1 strip on this page, with 2 KiB."), "the size is stated");
    let mut eval = common::study::eval();
    eval.strips = None;
    let html = render(&Record::Eval(Box::new(eval))).expect("a page");
    assert!(!html.contains("<img") && !html.contains("The worst mistakes"), "an old record");
}

#[test]
fn a_bench_over_published_methods_has_the_network_of_the_evaluation() {
    let (eval, mut bench) = (Record::Eval(Box::new(common::study::eval())), common::bench::bench());
    let html = reports::render_with_bench(&eval, &bench).expect("a page");
    assert!(html.contains("another machine: Xeon, 2 cores") && html.contains("bf16 t2"));
    assert!(html.contains("different machines"), "the axis says so");
    assert!(!page("eval").contains("different machines"));
    bench.run.model.depth = 18;
    let error = reports::render_with_bench(&eval, &bench).expect_err("another network");
    assert!(error.to_string().contains("give a bench with the same flags"), "{error}");
    for name in ["bench-hostile", "bench-empty"] {
        let all = all();
        let Some((_, Record::Bench(bench))) = all.iter().find(|(n, _)| *n == name) else {
            panic!("a bench")
        };
        let html = reports::render_with_bench(&eval, bench).expect("a page");
        assert!(!html.contains(HOSTILE), "{name}");
    }
}

#[test]
fn every_test_of_an_ablation_says_what_it_could_have_seen() {
    for name in ["mini-knock-out", "mini-retrained"] {
        let html = render(&published(name)).expect("a page");
        let tests = if name == "mini-retrained" { 2 } else { 1 };
        assert_eq!(
            html.matches(">Found in 80 % of such runs, points</th>").count(),
            tests,
            "{name}"
        );
        assert!(html.contains("this test would find a true difference of"), "{name}");
    }
}
