//! How every page looks: small pictures of the pages of the invented records, at 1280 and at 400 pixels, in
//! light and dark, are compared with those in the folder `looks`.
//!
//! Fonts and browsers draw differently, so that the pictures are compared only where the browser and the
//! fonts are those with which they were made (`looks/made-with.txt`); elsewhere this is skipped. After an
//! intended change of the pages:
//!
//! ```text
//! HARNESS_WRITE_LOOKS=1 cargo test --release -p reports --test looks
//! ```
//!
//! `HARNESS_LOOKS_DIR=DIR` writes the pictures in full size there as well, to look at them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::browser::{Tab, find};
use common::look::Look;
use record::Record;
use reports::{IndexEntry, render};

/// How much smaller than the page a stored picture is.
const SCALE: f64 = 0.25;
/// A page is not shown beyond this height, in pixels.
const HIGHEST: f64 = 12_000.0;
/// The largest share of squares that may differ. The same browser draws the same pixels, so that a picture
/// differs from itself only by its colours, of which it has 16: 0 of all squares on the machine where they
/// were made. A heading that is missing moves everything below it, and another colour of the links changes
/// more than 0.1 % of a page with links.
const MAY_DIFFER: f64 = 0.000_5;
/// The largest size of all pictures together, in bytes.
const MAX_BYTES: u64 = 2 << 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/looks")
}

/// The first line of the output of a command; empty if it does not run.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_owned()
}

/// The browser and the fonts, which decide how a page is drawn.
fn drawn_with(browser: &Path) -> String {
    let font = |name: &str| said(Command::new("fc-match").arg(name));
    let version = said(Command::new(browser).arg("--version"));
    let version = version.split(" built on").next().unwrap_or_default().to_owned();
    format!("{version}\n{}\n{}\n", font("system-ui"), font("monospace"))
}

/// The pages of all invented records, a list of them and a comparison.
fn pages() -> Vec<(String, String)> {
    let all = common::all();
    let page =
        |(name, record): &(&str, Record)| ((*name).to_owned(), render(record).expect("a page"));
    let mut pages: Vec<(String, String)> = all.iter().map(page).collect();
    let entry = |(name, record): &(&str, Record)| IndexEntry::new(record, name, name);
    let entries: Vec<IndexEntry> = all.iter().map(entry).collect();
    pages.push(("index".to_owned(), reports::render_index(&entries).expect("a page")));
    let bench =
        |name: &'static str| all.iter().find(|(other, _)| *other == name).expect("a record");
    let (before, mut after) = (&bench("bench").1, common::bench::bench());
    after.settings[0].entries[0].p50_s *= 0.8;
    let after = Record::Bench(Box::new(after));
    let both = reports::compare(("before", before), ("after", &after)).expect("a page");
    pages.push(("compare".to_owned(), both));
    let eval = &bench("eval").1;
    let overlaid = reports::render_with_bench(eval, &common::bench::bench()).expect("a page");
    pages.push(("eval-published".to_owned(), overlaid));
    pages
}

#[test]
fn every_page_looks_as_it_did() {
    let Some(browser) = find() else {
        skip::skip!(Chromium, "no browser that could draw the pages");
        return;
    };
    let (write, made_with) = (std::env::var_os("HARNESS_WRITE_LOOKS"), drawn_with(&browser));
    let stored = fs::read_to_string(folder().join("made-with.txt")).unwrap_or_default();
    let big = std::env::var_os("HARNESS_LOOKS_DIR").map(PathBuf::from);
    let compared = write.is_some() || stored == made_with;
    if !compared {
        let made = stored.lines().next().unwrap_or("nothing");
        skip::skip!(
            Chromium,
            "the pictures of the pages were made with {made}, and other fonts or another browser are here"
        );
        if big.is_none() {
            return;
        }
    }
    if write.is_some() {
        let _ = fs::remove_dir_all(folder());
        fs::create_dir_all(folder()).expect("a folder");
        fs::write(folder().join("made-with.txt"), &made_with).expect("written");
    }
    let mut tab = Tab::open(&browser);
    let (mut changed, mut worst, mut count) = (vec![], 0.0f64, 0);
    for (name, html) in pages() {
        for (width, dark) in [(1280, false), (1280, true), (400, false), (400, true)] {
            let file = format!("{name}-{width}-{}.png", if dark { "dark" } else { "light" });
            tab.show(&html, width, dark);
            if let Some(big) = &big {
                fs::create_dir_all(big).expect("a folder");
                fs::write(big.join(&file), tab.picture(1.0, HIGHEST)).expect("written");
            }
            if !compared {
                continue;
            }
            let now = Look::read(&tab.picture(SCALE, HIGHEST)).packed();
            let path = folder().join(&file);
            if write.is_some() {
                fs::write(&path, &now).expect("written");
            }
            let Ok(before) = fs::read(&path) else {
                changed.push(format!("{file} is missing"));
                continue;
            };
            let share = Look::read(&before).differs(&Look::read(&now));
            (worst, count) = (worst.max(share), count + 1);
            if share > MAY_DIFFER {
                changed.push(format!("{file}: {:.2} % of it", 100.0 * share));
            }
        }
    }
    println!("{count} pictures; the largest share that differs is {:.4} %", 100.0 * worst);
    assert!(
        changed.is_empty(),
        "these pages look different: {}; if that is intended, write their pictures again with \
         HARNESS_WRITE_LOOKS=1 cargo test --release -p reports --test looks",
        changed.join(", ")
    );
}

#[test]
fn the_pictures_are_small() {
    let files = fs::read_dir(folder()).into_iter().flatten().flatten();
    let bytes: u64 = files.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes");
}

#[test]
fn the_comparison_notices_small_changes_and_no_others() {
    let Some(browser) = find() else {
        skip::skip!(Chromium, "no browser that could draw the pages");
        return;
    };
    let html = render(&Record::Eval(Box::new(common::study::eval()))).expect("a page");
    let mut tab = Tab::open(&browser);
    let mut look = |html: &str| {
        tab.show(html, 1280, false);
        Look::read(&Look::read(&tab.picture(SCALE, HIGHEST)).packed())
    };
    let before = look(&html);
    assert_eq!(before.differs(&look(&html)), 0.0, "the same page twice");
    let changes = [
        ("a missing heading", html.replace("<h2>Agreement</h2>", "")),
        (
            "another colour of the dots",
            html.replace("--introduced: #0b62a8", "--introduced: #b3261e"),
        ),
        ("text that is a pixel larger", html.replace("font: 15px", "font: 16px")),
        ("another paper", html.replace("--paper: #fbfaf8", "--paper: #eeeeee")),
    ];
    for (what, changed) in changes {
        assert_ne!(changed, html, "{what}: nothing was changed");
        let share = before.differs(&look(&changed));
        println!("{what}: {:.3} %", 100.0 * share);
        assert!(share > MAY_DIFFER, "{what}: {share}");
    }
}
