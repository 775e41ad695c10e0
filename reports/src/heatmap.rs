//! Draws the error of one layer over space, with one SVG path for each step of the colour scale.

use std::fmt::Write;

use serde::Serialize;

use crate::format::{escape, short};
use crate::ratio_band::worse;
use record::Heatmap;

/// Number of steps of the colour scale; the style sheet has a colour for each, `heat-0` to `heat-9`.
const STEPS: usize = 10;

/// Largest number of cells along one side; of larger maps, neighbours are merged by their maximum.
const MAX_CELLS: usize = 112;

/// If the largest value exceeds the smallest by more than this factor, the scale is logarithmic.
const LINEAR_SPAN: f64 = 30.0;

/// The drawing, with the texts next to it.
#[derive(Debug, Serialize)]
pub(crate) struct Drawing {
    /// The map as an SVG element.
    pub svg: String,
    /// The smallest positive value, at the low end of the scale.
    pub low: String,
    /// The largest finite value, at the high end of the scale.
    pub high: String,
    /// `linear` or `logarithmic`.
    pub scale: &'static str,
    /// The worst value with its row and column, as text.
    pub peak: String,
    /// How the map was reduced, as a sentence; empty if it was not.
    pub remark: String,
    /// Number of values that are zero.
    pub zeros: usize,
    /// Number of values that are NaN, infinite or negative.
    pub broken: usize,
}

/// The class of a cell; each is drawn in one colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Zero,
    Step(usize),
    Broken,
}

/// The map after reduction, row by row.
struct Grid {
    height: usize,
    width: usize,
    values: Vec<f64>,
}

/// The colour scale, from the smallest positive to the largest finite value.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(values: &[f64]) -> Scale {
        let positive = values.iter().copied().filter(|v| *v > 0.0 && v.is_finite());
        let (low, high) =
            positive.fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
        Scale { low, high, logarithmic: high > LINEAR_SPAN * low }
    }

    fn cell(&self, value: f64) -> Cell {
        match value {
            0.0 => Cell::Zero,
            v if v > 0.0 && v.is_finite() => Cell::Step(self.step(v)),
            _ => Cell::Broken,
        }
    }

    fn step(&self, value: f64) -> usize {
        let along = |v: f64| if self.logarithmic { v.log10() } else { v };
        let (low, high) = (along(self.low), along(self.high));
        // If all values are equal, the span is zero and all cells take the lowest step.
        let part = if high > low { (along(value) - low) / (high - low) } else { 0.0 };
        ((part * STEPS as f64) as usize).min(STEPS - 1)
    }
}

/// Draws a map. Returns `None` if the map is empty or its values do not fill its shape.
pub(crate) fn draw(map: &Heatmap) -> Option<Drawing> {
    if map.height.checked_mul(map.width) != Some(map.values.len()) || map.values.is_empty() {
        return None;
    }
    let grid = reduced(map);
    let scale = Scale::of(&map.values);
    let count = |kind: Cell| map.values.iter().filter(|v| scale.cell(**v) == kind).count();
    let any = scale.high > 0.0;
    let shown = |value: f64| if any { short(value) } else { "–".to_owned() };
    Some(Drawing {
        svg: svg(&grid, &scale, &format!("Error of {} over space", map.layer)),
        low: shown(scale.low),
        high: shown(scale.high),
        scale: if scale.logarithmic { "logarithmic" } else { "linear" },
        peak: peak(map),
        remark: remark(map, &grid),
        zeros: count(Cell::Zero),
        broken: count(Cell::Broken),
    })
}

/// Reduces a map to at most [`MAX_CELLS`] on a side; each cell keeps the worst of its values.
fn reduced(map: &Heatmap) -> Grid {
    let factor = map.height.max(map.width).div_ceil(MAX_CELLS).max(1);
    let (height, width) = (map.height.div_ceil(factor), map.width.div_ceil(factor));
    let mut values = vec![f64::NEG_INFINITY; height * width];
    for (index, &value) in map.values.iter().enumerate() {
        let (y, x) = (index / map.width, index % map.width);
        let cell = &mut values[y / factor * width + x / factor];
        *cell = worse(*cell, value);
    }
    Grid { height, width, values }
}

fn remark(map: &Heatmap, grid: &Grid) -> String {
    if grid.height == map.height && grid.width == map.width {
        return String::new();
    }
    format!(
        "The map has {} × {} places and is drawn with {} × {}; each shows the worst value of its neighbourhood.",
        map.height, map.width, grid.height, grid.width
    )
}

/// The position of the worst value: the first NaN or infinity, or else the largest value.
fn peak(map: &Heatmap) -> String {
    let rank = |v: f64| if v.is_nan() { f64::INFINITY } else { v };
    let worst = map.values.iter().copied().enumerate();
    let worst = worst.reduce(|a, b| if rank(b.1) > rank(a.1) { b } else { a });
    let Some((index, value)) = worst else { return String::new() };
    format!("{} at row {}, column {}", short(value), index / map.width, index % map.width)
}

/// One path for each class of cells, one horizontal stroke for each run of cells of that class.
fn svg(grid: &Grid, scale: &Scale, label: &str) -> String {
    let mut paths = vec![String::new(); STEPS + 2];
    for (y, row) in grid.values.chunks(grid.width).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| scale.cell(*a) == scale.cell(*b)) {
            let path = &mut paths[slot(scale.cell(run[0]))];
            // Writing into a string cannot fail.
            let _ = write!(path, "M{x} {y}.5h{}", run.len());
            x += run.len();
        }
    }
    let paths: String = paths
        .iter()
        .enumerate()
        .filter(|(_, path)| !path.is_empty())
        .map(|(slot, path)| format!("<path class=\"heat-{}\" d=\"{path}\"/>", slot_class(slot)))
        .collect();
    format!(
        "<svg class=\"heat\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{paths}</svg>",
        grid.width,
        grid.height,
        escape(label),
    )
}

fn slot(cell: Cell) -> usize {
    match cell {
        Cell::Step(step) => step,
        Cell::Zero => STEPS,
        Cell::Broken => STEPS + 1,
    }
}

fn slot_class(slot: usize) -> String {
    match slot {
        STEPS => "zero".to_owned(),
        s if s > STEPS => "broken".to_owned(),
        step => step.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::ErrorKind;

    fn map(height: usize, width: usize, values: Vec<f64>) -> Heatmap {
        Heatmap { layer: "a<b".into(), what: ErrorKind::Introduced, height, width, values }
    }

    #[test]
    fn zero_and_nan_have_their_own_class() {
        let drawing = draw(&map(2, 2, vec![0.0, f64::NAN, 1.0, 2.0])).expect("a drawing");
        assert!(drawing.svg.contains("heat-zero") && drawing.svg.contains("heat-broken"));
        assert!(drawing.svg.contains("a&lt;b") && !drawing.svg.contains("a<b"));
        assert_eq!((drawing.zeros, drawing.broken, drawing.scale), (1, 1, "linear"));
        assert_eq!(drawing.peak, "NaN at row 0, column 1");
    }

    #[test]
    fn a_wide_span_is_logarithmic_and_equal_neighbours_are_one_run() {
        let drawing = draw(&map(1, 4, vec![1e-8, 1e-8, 1e-8, 1e-2])).expect("a drawing");
        assert_eq!(drawing.scale, "logarithmic");
        assert!(drawing.svg.contains("M0 0.5h3") && drawing.svg.contains("M3 0.5h1"));
    }

    #[test]
    fn a_large_map_keeps_its_worst_value() {
        let mut values = vec![1.0; 300 * 200];
        values[299 * 200 + 199] = 9.0;
        let drawing = draw(&map(300, 200, values)).expect("a drawing");
        assert!(drawing.svg.contains("viewBox=\"0 0 67 100\""), "{}", &drawing.svg[..200]);
        assert!(drawing.svg.contains("heat-9"));
        assert!(drawing.remark.contains("300 × 200"));
    }

    #[test]
    fn maps_without_values_or_with_equal_ones_do_not_fail() {
        assert!(draw(&map(0, 0, Vec::new())).is_none());
        assert!(draw(&map(2, 2, vec![1.0])).is_none());
        for value in [0.0, f64::NAN, f64::INFINITY, -1.0, 3.0, f64::MAX, 5e-324] {
            assert!(draw(&map(2, 2, vec![value; 4])).is_some(), "{value}");
        }
    }
}
