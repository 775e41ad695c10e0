//! Renders the pages: each is a view of formatted strings and a template that escapes them.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::Serialize;

use crate::error::{ReportError, Result};
use crate::table::Column;
use record::{BenchRecord, Record, Run};

mod ablate;
mod bench;
mod compare;
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

pub use ablate::in_words as ablation_in_words;
use compare::Measure;
use index::Headline;
pub use index::IndexEntry;

/// The templates, with the names by which they include each other.
const TEMPLATES: [(&str, &str); 10] = [
    ("base.html", include_str!("assets/base.html")),
    ("figure.html", include_str!("assets/figure.html")),
    ("table.html", include_str!("assets/table.html")),
    ("provenance.html", include_str!("assets/provenance.html")),
    ("details.html", include_str!("assets/details.html")),
    ("quantised.html", include_str!("assets/quantised.html")),
    ("diff.html", include_str!("assets/diff.html")),
    ("study.html", include_str!("assets/study.html")),
    ("selftest.html", include_str!("assets/selftest.html")),
    ("index.html", include_str!("assets/index.html")),
];

/// The parts of the style sheet, in the order in which they are concatenated.
const STYLE: [&str; 4] = [
    include_str!("assets/base.css"),
    include_str!("assets/report.css"),
    include_str!("assets/study.css"),
    include_str!("assets/print.css"),
];

/// The scripts of every page. They look for tables and figures, and do nothing without them.
const SCRIPT: [&str; 4] = [
    include_str!("assets/page.js"),
    include_str!("assets/figures.js"),
    include_str!("assets/index.js"),
    include_str!("assets/print.js"),
];

/// What the reports show of a record: its page, its line in the list of reports and its table.
pub(crate) trait Page {
    /// Renders the page.
    fn render(&self) -> Result<String>;

    /// The verdict and its summary in the list of reports.
    fn headline(&self) -> Headline;

    /// The file name of the table, such as `layers.parquet`.
    fn table_name(&self) -> &'static str;

    /// The columns of the table, which have the same length.
    fn table(&self) -> Vec<Column>;

    /// The numbers that are followed over runs and compared between two.
    fn measures(&self) -> Vec<Measure> {
        vec![]
    }

    /// Whether the file of the table also says how the run was made.
    fn table_holds_run(&self) -> bool {
        true
    }
}

/// The page of a record.
pub(crate) fn of(record: &Record) -> &dyn Page {
    match record {
        Record::Diff(diff) => diff.as_ref(),
        Record::Selftest(selftest) => selftest.as_ref(),
        Record::Eval(eval) => eval.as_ref(),
        Record::Train(train) => train.as_ref(),
        Record::Ablate(ablate) => ablate.as_ref(),
        Record::Bench(bench) => bench.as_ref(),
        Record::Gpu(gpu) => gpu.as_ref(),
        Record::Null(null) => null.as_ref(),
    }
}

/// Renders the page of a record: one HTML document that loads no other file.
///
/// # Errors
///
/// If a plot or the page cannot be made, which is a bug in this crate.
pub fn render(record: &Record) -> Result<String> {
    of(record).render()
}

/// Whether the page of a record has plots of published methods, into which the times of a bench can be put.
pub fn has_published(record: &Record) -> bool {
    matches!(record, Record::Eval(eval) if eval::has_published(eval))
}

/// Renders the page of a record like [`render`], with the times of a bench in the plots of published methods
/// if the page has them.
///
/// # Errors
///
/// If the bench measured another network than the one that was evaluated. If a plot or the page cannot be
/// made, which is a bug in this crate.
pub fn render_with_bench(record: &Record, bench: &BenchRecord) -> Result<String> {
    match record {
        Record::Eval(eval) if eval::has_published(eval) => {
            let of = |run: &Run| {
                let mut model = run.model.clone();
                model.more.remove("batch_size");
                model
            };
            match of(&eval.run) == of(&bench.run) {
                true => eval::render_with_bench(eval, bench),
                false => Err(ReportError::Networks {
                    bench: provenance::model(&of(&bench.run)),
                    eval: provenance::model(&of(&eval.run)),
                }),
            }
        }
        other => render(other),
    }
}

/// Renders a page that lists several reports with their verdicts and links to them.
///
/// # Errors
///
/// If the page cannot be made, which is a bug in this crate.
pub fn render_index(entries: &[IndexEntry]) -> Result<String> {
    fill("index.html", &index::view(entries))
}

/// Renders a page that compares two records of the same kind, each with the name of its run: what changed in
/// verdicts, ratios, times and accuracy.
///
/// # Errors
///
/// If the records are of different kinds. If the page cannot be made, which is a bug in this crate.
pub fn compare(before: (&str, &Record), after: (&str, &Record)) -> Result<String> {
    compare::render(before, after)
}

/// Fills a template. The style sheet and the script are inserted unescaped; everything else is escaped
/// unless the view marks it as safe markup.
fn fill(name: &'static str, view: &impl Serialize) -> Result<String> {
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
        script => Value::from_safe_string(SCRIPT.concat()),
    };
    template.render(context).map_err(fail)
}
