//! Figures of evaluations, trainings, ablations and benches, with the data that they show.
//!
//! They are drawn here and not with plotters, which has no tooltips, no ticks at round numbers on a
//! logarithmic axis and no labels that avoid each other. Each figure is drawn for wide and for narrow
//! windows, and carries its data as a table, from which the page's script makes CSV and LaTeX.

use minijinja::value::Value;
use serde::Serialize;

mod bars;
mod curves;
mod labels;
mod rows;
mod scale;
mod svg;

pub(crate) use bars::Bars;
pub(crate) use curves::{Chart, Look, Point, Series};
pub(crate) use rows::{Dot, Row, Rows};
pub(crate) use scale::Axis;

/// Values of this magnitude or more are not drawn: no axis could show them next to ordinary values.
const DRAWABLE_LIMIT: f64 = 1e30;

/// The variables of the style sheet for the series, in order.
const COLOURS: [&str; 6] =
    ["--introduced", "--inherited", "--fourth", "--fifth", "--muted", "--sixth"];

/// The width of a window for which a figure is drawn; the style sheet shows one drawing by its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Wide,
    Narrow,
}

impl Window {
    const ALL: [Window; 2] = [Window::Wide, Window::Narrow];

    fn class(self) -> &'static str {
        match self {
            Window::Wide => "wide",
            Window::Narrow => "narrow",
        }
    }

    fn width(self) -> f64 {
        match self {
            Window::Wide => 1040.0,
            Window::Narrow => 344.0,
        }
    }
}

/// A figure as the template shows it.
#[derive(Serialize)]
pub(crate) struct Figure {
    /// Name of the figure in the names of saved files.
    name: &'static str,
    /// Text for screen readers, and the caption of the table.
    description: String,
    /// Variable of the colour, shape of the mark and name of each series; empty for a single series.
    legend: Vec<(&'static str, &'static str, String)>,
    /// The drawings, safe markup.
    drawings: Value,
    head: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// A cell of the table under a figure.
#[derive(Serialize)]
struct Cell {
    /// The text that the page shows.
    text: String,
    /// The number with all digits for CSV; `None` for texts and for missing values.
    exact: Option<String>,
}

impl Cell {
    fn text(text: &str) -> Self {
        Cell { text: text.to_owned(), exact: None }
    }

    fn number(value: f64) -> Self {
        Cell { text: crate::format::short(value), exact: Some(value.to_string()) }
    }

    fn option(value: Option<f64>) -> Self {
        value.map_or_else(|| Cell::text("–"), Cell::number)
    }
}

fn colour(at: usize) -> &'static str {
    COLOURS[at.min(COLOURS.len() - 1)]
}

fn drawable(value: f64) -> bool {
    value.is_finite() && value.abs() < DRAWABLE_LIMIT
}
