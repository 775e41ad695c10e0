//! Pages made of sections with figures, tables or pictures: evaluations, trainings, ablations, benches,
//! checks on a GPU and false-alarm rates.

use serde::Serialize;

use super::provenance::Provenance;
use crate::chart::Figure;
use record::Rate;

/// The values of the template `study.html`.
#[derive(Serialize)]
pub(super) struct View {
    pub title: String,
    pub kind: &'static str,
    pub verdict: &'static str,
    pub mark: &'static str,
    /// The result in words.
    pub word: String,
    pub sentence: String,
    pub warnings: Vec<String>,
    pub sections: Vec<Section>,
    pub provenance: Provenance,
}

/// A section of a page. Everything but the title may be empty; the parts are shown in this order.
#[derive(Serialize, Default)]
pub(super) struct Section {
    pub title: String,
    pub lead: String,
    pub figures: Vec<Figure>,
    /// Names and values, which need no table.
    pub facts: Vec<(String, String)>,
    pub table: Option<Table>,
    pub matrix: Option<Matrix>,
    /// Sentences below.
    pub notes: Vec<String>,
    /// Tables behind a line that opens them.
    pub folded: Vec<Table>,
    pub pictures: Vec<Picture>,
}

/// A picture with its caption.
#[derive(Serialize)]
pub(super) struct Picture {
    /// The picture as a data URI.
    pub uri: String,
    /// Text for screen readers, which the caption does not repeat.
    pub text: String,
    pub caption: String,
}

/// A table of texts.
#[derive(Serialize)]
pub(super) struct Table {
    /// What the table shows, for screen readers and for the line that opens a folded table.
    label: String,
    head: Vec<String>,
    /// Whether the cells of each column are numbers, which stand at the right.
    numeric: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(label: &str, head: &[&str], rows: Vec<Vec<String>>) -> Self {
        let number = |cell: Option<&String>| cell.is_none_or(|cell| is_number(cell));
        let numeric = |at: usize| rows.iter().all(|row| number(row.get(at)));
        Table {
            label: label.to_owned(),
            head: head.iter().map(|cell| (*cell).to_owned()).collect(),
            numeric: (0..head.len()).map(numeric).collect(),
            rows,
        }
    }
}

/// Whether a cell is a number, perhaps with a unit or an interval, and not a sentence that begins with one.
fn is_number(cell: &str) -> bool {
    let long = |word: &str| word.chars().filter(|c| c.is_alphabetic()).count() > 3;
    let words = cell.split_whitespace().filter(|word| long(word)).count();
    let markup = cell.starts_with('<') && !cell.starts_with("< ");
    cell.is_empty() || (cell.starts_with(|c| STARTS.contains(c)) && words < 2 && !markup)
}

/// The characters with which a number begins; the dash stands for a missing one.
const STARTS: &str = "0123456789–−-+<";

/// Counts of pairs of classes, shaded by their share of the row.
#[derive(Serialize)]
pub(super) struct Matrix {
    pub label: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// Name of each row, and its cells.
    pub rows: Vec<(String, Vec<Shaded>)>,
}

/// A cell of a matrix: text, depth of the shade in percent, and whether it counts errors.
pub(super) type Shaded = (String, u32, bool);

impl Section {
    pub fn new(title: &str, lead: &str) -> Self {
        Section { title: title.to_owned(), lead: lead.to_owned(), ..Section::default() }
    }

    pub fn figure(mut self, figure: Figure) -> Self {
        self.figures.push(figure);
        self
    }

    pub fn table(mut self, head: &[&str], rows: Vec<Vec<String>>) -> Self {
        self.table = Some(Table::new(&self.title, head, rows));
        self
    }

    pub fn fold(mut self, label: &str, head: &[&str], rows: Vec<Vec<String>>) -> Self {
        self.folded.push(Table::new(label, head, rows));
        self
    }

    pub fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }
}

/// A share of 0 to 1 as a percentage, such as `91.2 %`; a dash for NaN.
pub(super) fn percent(share: f64) -> String {
    if share.is_nan() { "–".to_owned() } else { format!("{:.1}\u{a0}%", 100.0 * share) }
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

/// A list in words: `a`, `a and b`, `a, b and c`.
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}
