//! Renders the pages: each is a view of formatted strings and a template that escapes them.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::Serialize;

use crate::error::{ReportError, Result};
use record::Record;

mod ablate;
mod bench;
mod diff;
mod eval;
mod gpu;
mod index;
mod layers;
mod null;
mod provenance;
mod selftest;
mod study;
mod summary;
mod train;

pub use index::IndexEntry;

/// The templates, with the names by which they include each other.
const TEMPLATES: [(&str, &str); 7] = [
    ("base.html", include_str!("assets/base.html")),
    ("provenance.html", include_str!("assets/provenance.html")),
    ("details.html", include_str!("assets/details.html")),
    ("diff.html", include_str!("assets/diff.html")),
    ("study.html", include_str!("assets/study.html")),
    ("selftest.html", include_str!("assets/selftest.html")),
    ("index.html", include_str!("assets/index.html")),
];

/// The parts of the style sheet, in the order in which they are concatenated.
const STYLE: [&str; 2] = [include_str!("assets/base.css"), include_str!("assets/report.css")];

/// The script of every page. It looks for the table and the plots, and does nothing without them.
const SCRIPT: &str = include_str!("assets/page.js");

/// Renders the page of a record: one HTML document that loads no other file.
///
/// # Errors
///
/// If a plot, the table or the page cannot be made, which is a bug in this crate.
pub fn render(record: &Record) -> Result<String> {
    match record {
        Record::Diff(diff) => page("diff.html", &diff::view(diff)?),
        Record::Selftest(selftest) => page("selftest.html", &selftest::view(selftest)),
        Record::Eval(record) => page("study.html", &eval::view(record)?),
        Record::Train(record) => page("study.html", &train::view(record)?),
        Record::Ablate(record) => page("study.html", &ablate::view(record)?),
        Record::Bench(record) => page("study.html", &bench::view(record)?),
        Record::Gpu(record) => page("study.html", &gpu::view(record)),
        Record::Null(record) => page("study.html", &null::view(record)?),
    }
}

/// Renders a page that lists several reports with their verdicts and links to them.
///
/// # Errors
///
/// If the page cannot be made, which is a bug in this crate.
pub fn render_index(entries: &[IndexEntry]) -> Result<String> {
    page("index.html", &index::view(entries))
}

/// Fills a template. The style sheet and the script are inserted unescaped; everything else is escaped
/// unless the view marks it as safe markup.
fn page(name: &'static str, view: &impl Serialize) -> Result<String> {
    let fail =
        |error: minijinja::Error| ReportError::Page { page: name, reason: error.to_string() };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(fail)?,
    );
    for (name, source) in TEMPLATES {
        environment.add_template(name, source).map_err(fail)?;
    }
    let template = environment.get_template(name).map_err(fail)?;
    let context = context! {
        view => Value::from(Serde(view)),
        style => Value::from_safe_string(STYLE.concat()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
    };
    template.render(context).map_err(fail)
}
