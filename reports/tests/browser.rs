//! Tests of the pages in headless Chromium: sorting, filtering, links, width, light and dark theme.
//!
//! Without a browser the tests are skipped; `scripts/test` lists them at its end.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use record::DiffRecord;
use record::Record;
use reports::render;

/// Longest time for one page.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A browser, and a temporary folder for its profile and the pages.
struct Session {
    browser: PathBuf,
    folder: tempfile::TempDir,
}

impl Session {
    fn start() -> Option<Session> {
        let Some(browser) = common::browser::find() else {
            skip::skip!(Chromium, "no browser that could open the pages");
            return None;
        };
        Some(Session { browser, folder: tempfile::tempdir().expect("a folder") })
    }

    fn page(&self, name: &str, html: &str) -> String {
        let file = self.folder.path().join(format!("{name}.html"));
        fs::write(&file, html).expect("written");
        format!("file://{}", file.display())
    }

    fn record(&self, name: &str, record: DiffRecord) -> String {
        self.page(name, &render(&Record::Diff(Box::new(record))).expect("a page"))
    }

    /// The HTML of the document after its script has run.
    fn dom(&self, address: &str, dark: bool) -> String {
        let out = self.folder.path().join("dom");
        let file = fs::File::create(&out).expect("a file");
        let mut child = Command::new(&self.browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--virtual-time-budget=3000"])
            .args(["--window-size=1280,900", "--dump-dom"])
            .arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }))
            .arg(format!("--user-data-dir={}", self.profile().display()))
            .arg(address)
            .stdout(file)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the browser starts");
        let start = Instant::now();
        while child.try_wait().expect("the browser can be waited for").is_none() {
            if start.elapsed() > TIME_LIMIT {
                // This fails if the browser has ended in the meantime, which does not matter.
                let _ = child.kill();
                panic!("the browser did not end within {TIME_LIMIT:?} on {address}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        fs::read_to_string(out).expect("the document")
    }

    fn profile(&self) -> PathBuf {
        Path::join(self.folder.path(), "profile")
    }
}

/// The visible rows of the table of layers, in the order shown.
fn shown(dom: &str) -> Vec<&str> {
    let table = dom.split("<tbody>").nth(1).and_then(|rest| rest.split("</tbody>").next());
    let rows = table.expect("the table of layers").split("<tr ").skip(1);
    rows.filter(|row| !row.split('>').next().is_some_and(|tag| tag.contains("hidden"))).collect()
}

fn attribute<'a>(text: &'a str, name: &str) -> &'a str {
    let opening = format!("{name}=\"");
    text.split(&opening).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

fn names(dom: &str) -> Vec<&str> {
    shown(dom).into_iter().map(|row| attribute(row, "data-name")).collect()
}

#[test]
fn the_address_sorts_and_filters_the_table() {
    let Some(session) = Session::start() else { return };
    let page = session.record("diverged", common::diverged());

    let dom = session.dom(&format!("{page}#sort=ratio&filter=ctl14"), false);
    let found = names(&dom);
    assert_eq!(found.first(), Some(&"layer4.0.conv2.spatial_conv.pos_embed"), "{found:?}");
    assert!(found.len() == 18 && found.iter().all(|name| name.starts_with("layer4.0.conv2")));
    let key = dom.split("data-key=\"ratio\"").next().and_then(|before| before.rsplit("<th").next());
    assert!(key.is_some_and(|tag| tag.contains("aria-sort=\"descending\"")), "{key:?}");
    assert!(dom.contains("18 of 407 shown"));

    // An alias selects its module and the modules below it: ctl1 does not select ctl10 to ctl16.
    let dom = session.dom(&format!("{page}#filter=ctl1"), false);
    assert!(names(&dom).iter().all(|name| name.starts_with("layer1.0.conv2")));

    let dom = session.dom(&format!("{page}#verdict=diverged"), false);
    assert_eq!(names(&dom), ["layer4.0.conv2.spatial_conv.pos_embed"]);

    let dom = session.dom(&format!("{page}#filter=no+such+layer"), false);
    assert!(names(&dom).is_empty() && dom.contains("0 of 407 shown"));
}

#[test]
fn numbers_sort_as_numbers_with_nan_as_the_worst_and_missing_at_the_end() {
    let Some(session) = Session::start() else { return };
    let mut record = common::diverged();
    record.layers.truncate(6);
    let values = [9.0, 10.0, f64::NAN, 1e-8, f64::INFINITY];
    for (layer, value) in record.layers.iter_mut().zip(values) {
        layer.introduced = Some(common::errors(value, 1e-7));
    }
    record.layers[5].introduced = None;
    let page = session.record("numbers", record);
    let orders = [("desc", [2, 4, 1, 0, 3, 5]), ("asc", [3, 0, 1, 4, 2, 5])];
    for (direction, expected) in orders {
        let dom = session.dom(&format!("{page}#sort=ratio&dir={direction}"), false);
        let depths: Vec<usize> = shown(&dom)
            .iter()
            .filter_map(|row| row.split("<td>").nth(1)?.split('<').next()?.parse().ok())
            .collect();
        assert_eq!(depths, expected, "{direction}");
    }
}

#[test]
fn a_link_to_a_block_opens_it() {
    let Some(session) = Session::start() else { return };
    let page = session.record("diverged", common::diverged());
    let dom = session.dom(&format!("{page}#block-layer4.0"), false);
    let opened = dom
        .split("<details")
        .skip(1)
        .filter(|rest| rest.split('>').next().is_some_and(|tag| tag.contains(" open")));
    let opened: Vec<&str> = opened.map(|rest| attribute(rest, "id")).collect();
    assert_eq!(opened, ["block-layer4.0"]);
}

#[test]
fn light_and_dark_differ_and_nothing_is_requested() {
    let Some(session) = Session::start() else { return };
    let page = session.record("diverged", common::diverged());
    let [light, dark] = [false, true].map(|dark| session.dom(&format!("{page}#selfcheck"), dark));
    for dom in [&light, &dark] {
        assert_eq!(attribute(dom, "data-requests"), "0");
        assert_eq!(attribute(dom, "data-overflow"), "0");
    }
    assert_eq!(attribute(&light, "data-paper"), "rgb(251, 250, 248)");
    assert_eq!(attribute(&dark, "data-paper"), "rgb(20, 22, 26)");
}

#[test]
fn hostile_text_runs_no_script() {
    let Some(session) = Session::start() else { return };
    let page = session.record("hostile", common::hostile());
    let dom = session.dom(&format!("{page}#filter=%3Cimg%20src=x%3E&sort=%22&verdict=%00"), false);
    assert!(!dom.contains("<title>taken"));
    assert!(!dom.contains("<img"));
}

/// All invented records and all published ones.
fn pages() -> Vec<(String, String)> {
    let mut pages: Vec<(String, String)> = common::all()
        .into_iter()
        .map(|(name, record)| (name.to_owned(), render(&record).expect("a page")))
        .collect();
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    let mut entries = vec![];
    for folder in fs::read_dir(runs).expect("the folder").map(|entry| entry.expect("an entry")) {
        if folder.path().is_dir() {
            let name = folder.file_name().to_string_lossy().into_owned();
            let record = record::read_record(&folder.path()).expect("a record");
            pages.push((name.clone(), render(&record).expect("a page")));
            entries.push(reports::IndexEntry::new(&record, &name, &name));
        }
    }
    pages.push(("index".to_owned(), reports::render_index(&entries).expect("a page")));
    pages
}

#[test]
fn no_page_scrolls_sideways_on_a_phone() {
    let Some(session) = Session::start() else { return };
    let mut wide = vec![];
    for (name, html) in pages() {
        for width in [320, 400] {
            let page = session.page(&format!("{name}-{width}"), &framed(&html, width));
            let dom = session.dom(&page, false);
            // The scroll bar of the frame takes some pixels of the width.
            let inner: i32 = attribute(&dom, "data-inner").parse().expect("the frame's width");
            assert!(inner <= width && inner > width - 20, "{name}: {inner} of {width}");
            if attribute(&dom, "data-overflow") != "0" {
                wide.push(format!("{name} at {width}: {}", attribute(&dom, "data-overflow")));
            }
        }
    }
    assert!(wide.is_empty(), "{wide:?}");
}

/// The source of axe-core, which `scripts/test` installs.
fn axe() -> Option<String> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/axe/lib");
    let versions = fs::read_dir(place).into_iter().flatten().filter_map(|entry| entry.ok());
    let mut files =
        versions.map(|lib| lib.path().join("site-packages/axe_playwright_python/axe.min.js"));
    let source = files.find_map(|file| fs::read_to_string(file).ok());
    if source.is_none() {
        skip::skip!(
            Chromium,
            "axe-core is not installed; scripts/test does so where pip reaches its index"
        );
    }
    source
}

/// The page with axe-core, which stores its violations as an attribute: rule, number of elements and one of
/// them. All blocks are opened, so that they are checked as well.
fn with_axe(html: &str, axe: &str) -> String {
    let check = "for (const block of document.querySelectorAll('details')) block.open = true;\
                 axe.run({ resultTypes: ['violations'] }).then((found) => {\
                 document.documentElement.dataset.axe = 'done ' + found.violations.map((v) =>\
                 `${v.id} (${v.nodes.length}): ${v.nodes[0].html} ${v.nodes[0].failureSummary}`).join(' | ');\
                 document.body.replaceChildren(); });";
    html.replace("</body>", &format!("<script>{axe}</script><script>{check}</script></body>"))
}

#[test]
fn axe_finds_no_violation_in_either_theme() {
    let Some(session) = Session::start() else { return };
    let Some(axe) = axe() else { return };
    let mut violations = vec![];
    // One page of each kind, with few layers: axe-core takes seconds for a small page.
    const KINDS: [&str; 8] =
        ["selftest", "eval", "train", "ablate", "bench", "gpu", "null", "index"];
    let mut diff = common::diverged();
    diff.layers.truncate(20);
    let diff = render(&Record::Diff(Box::new(diff))).expect("a page");
    let others = pages().into_iter().filter(|(name, _)| KINDS.contains(&name.as_str()));
    for (name, html) in others.chain([("diff".to_owned(), diff)]) {
        for dark in [false, true] {
            let page = session.page(&format!("axe-{name}"), &with_axe(&html, &axe));
            let dom = session.dom(&page, dark);
            if attribute(&dom, "data-axe") != "done " {
                let found = attribute(&dom, "data-axe");
                violations.push(format!("{name}, dark {dark}: {found}"));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn axe_notices_a_picture_without_a_text() {
    let Some(session) = Session::start() else { return };
    let Some(axe) = axe() else { return };
    let html = render(&Record::Gpu(Box::new(common::gpu::checked()))).expect("a page");
    let html = html.replace("</main>", "<img src=\"data:,\"></main>");
    let dom = session.dom(&session.page("axe", &with_axe(&html, &axe)), false);
    assert!(attribute(&dom, "data-axe").contains("image-alt"), "{}", attribute(&dom, "data-axe"));
}

#[test]
fn a_figure_is_saved_as_svg_csv_and_latex() {
    let Some(session) = Session::start() else { return };
    let html = render(&Record::Bench(Box::new(common::bench::bench()))).expect("a page");
    let dom = session.dom(&format!("{}#selfcheck", session.page("bench", &html)), true);
    let [svg, csv, tex] = ["data-svg", "data-csv", "data-tex"].map(|name| attribute(&dom, name));
    assert!(svg.contains("&lt;svg") || svg.starts_with("<svg"), "{svg}");
    assert!(svg.contains("xmlns=") && !svg.contains("var(--"), "{svg}");
    assert!(svg.contains("#0b62a8"), "the colours are not those of the light theme");
    assert!(csv.starts_with("Row,times as fast as the fastest other runtime,low,high"), "{csv}");
    assert_eq!(csv.lines().count(), 9, "{csv}");
    assert!(tex.starts_with("\\begin{tabular}{l"), "{tex}");
    let buttons = dom.matches("data-save=\"svg\"").count();
    assert_eq!(buttons, html.matches("<figure class=\"plot\"").count());
}

#[test]
fn a_cell_that_looks_like_a_formula_is_quoted_in_csv() {
    let Some(session) = Session::start() else { return };
    let mut bench = common::bench::bench();
    bench.settings.truncate(1);
    bench.settings[0].precision = "=HYPERLINK(1)".to_owned();
    bench.settings[0].entries[0].name = "cpu".to_owned();
    bench.settings[0].entries.iter_mut().for_each(|entry| entry.to_peer = None);
    bench.settings[0].entries[1].name = "=1+1,\"x\"".to_owned();
    let html = render(&Record::Bench(Box::new(bench))).expect("a page");
    let dom = session.dom(&format!("{}#selfcheck", session.page("formula", &html)), false);
    let csv = attribute(&dom, "data-csv");
    assert!(csv.contains("&quot;'=1+1,&quot;&quot;x&quot;&quot;&quot;"), "{csv}");
}

#[test]
fn the_list_of_runs_is_filtered() {
    let Some(session) = Session::start() else { return };
    let (name, html) = pages().pop().expect("the index");
    let page = session.page(&name, &html);
    let dom = session.dom(&format!("{page}#kind=bench&filter=h100"), false);
    let shown = dom.split("data-shown=\"\">").nth(1).and_then(|rest| rest.split('<').next());
    assert!(shown.is_some_and(|text| text.starts_with("3 of ")), "{shown:?}");
}

#[test]
fn the_check_of_the_width_notices_a_page_that_is_too_wide() {
    let Some(session) = Session::start() else { return };
    let html = render(&Record::Diff(Box::new(common::empty()))).expect("a page");
    let wide = html.replace("</main>", "<div style=\"width:900px\">wide</div></main>");
    let dom = session.dom(&session.page("wide", &framed(&wide, 400)), false);
    let overflow: i32 = attribute(&dom, "data-overflow").parse().expect("a number");
    assert!(overflow > 400, "{overflow}");
}

/// A document with the page in a frame, since the window of a browser cannot be as narrow as a phone.
/// All blocks are opened, so that the widest tables are laid out.
fn framed(html: &str, width: i32) -> String {
    let source = html.replace('&', "&amp;").replace('"', "&quot;");
    format!(
        "<!doctype html><html><body><iframe width=\"{width}\" height=\"800\" srcdoc=\"{source}\">\
         </iframe><script>onload = () => {{\
         const inner = document.querySelector('iframe').contentDocument;\
         for (const block of inner.querySelectorAll('details')) block.open = true;\
         const root = inner.documentElement;\
         document.documentElement.dataset.inner = root.clientWidth;\
         document.documentElement.dataset.overflow = root.scrollWidth - root.clientWidth;\
         document.querySelector('iframe').remove();\
         }};</script></body></html>"
    )
}
