//! Pages made of sections with a plot, a table or pictures: evaluations, trainings, ablations, benches,
//! checks on a GPU and false-alarm rates.

use minijinja::value::Value;
use serde::Serialize;

use super::provenance::Provenance;
use crate::chart::Chart;
use crate::error::Result;
use record::Rate;

/// The values of the template `study.html`.
#[derive(Serialize)]
pub(super) struct View {
    pub title: String,
    pub kind: &'static str,
    pub verdict: &'static str,
    pub mark: &'static str,
    pub word: String,
    pub sentence: String,
    pub warnings: Vec<String>,
    pub sections: Vec<Section>,
    pub provenance: Provenance,
}

/// A section of a page: heading, introduction and, where they are set, a plot, a table and pictures.
#[derive(Serialize, Default)]
pub(super) struct Section {
    pub title: String,
    pub lead: String,
    /// SVG elements, marked as safe.
    pub plot: Option<Value>,
    /// Column titles of the table; empty for a section without a table.
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Pictures as data URIs, with their captions.
    pub pictures: Vec<(String, String)>,
}

impl Section {
    pub fn new(title: &str, lead: &str) -> Self {
        Section { title: title.to_owned(), lead: lead.to_owned(), ..Section::default() }
    }

    pub fn table(mut self, head: &[&str], rows: Vec<Vec<String>>) -> Self {
        self.head = head.iter().map(|cell| (*cell).to_owned()).collect();
        self.rows = rows;
        self
    }

    pub fn chart(mut self, chart: &Chart) -> Result<Self> {
        self.plot = Some(Value::from_safe_string(chart.draw()?));
        Ok(self)
    }
}

/// A share of 0 to 1 as a percentage, such as `91.2 %`; a dash for NaN.
pub(super) fn percent(share: f64) -> String {
    if share.is_nan() { "–".to_owned() } else { format!("{:.1} %", 100.0 * share) }
}

/// A rate with its interval, such as `91.2 % (88.0 to 93.6)`.
pub(super) fn with_interval(rate: &Rate) -> String {
    let (low, high) = (100.0 * rate.low, 100.0 * rate.high);
    format!("{} ({low:.1} to {high:.1})", percent(rate.share()))
}

/// The name of a class, or its number if the names are not known.
pub(super) fn class(classes: &[String], label: usize) -> String {
    classes.get(label).cloned().unwrap_or_else(|| label.to_string())
}
