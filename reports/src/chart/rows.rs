//! Dot plots: one row for each contestant or variant, so that names and values cannot overlap.

use minijinja::value::Value;

use super::scale::{Axis, Scale};
use super::svg::{Anchor, Svg, cut, width_of};
use super::{Cell, Figure, Window, colour};
use crate::format::short;

/// A figure with a named row for each value.
#[derive(Default)]
pub(crate) struct Rows {
    /// Name of the figure in the names of saved files.
    pub name: &'static str,
    /// Text for screen readers.
    pub description: String,
    /// The horizontal axis.
    pub axis: Axis,
    /// A value to compare with, drawn as a dashed line with its name.
    pub reference: Option<(f64, String)>,
    /// What the single measurements are, such as `round`; empty if there are none.
    pub single: &'static str,
    /// The rows, from the top.
    pub rows: Vec<Row>,
}

/// One row of a dot plot.
#[derive(Default)]
pub(crate) struct Row {
    /// Name at the left.
    pub name: String,
    /// Number of the colour and mark.
    pub series: usize,
    /// The value; a row without one says so.
    pub dot: Option<Dot>,
    /// Single measurements behind the value.
    pub singles: Vec<f64>,
}

/// The value of a row.
#[derive(Default)]
pub(crate) struct Dot {
    /// The value.
    pub value: f64,
    /// Its interval, a thick line.
    pub interval: Option<(f64, f64)>,
    /// The range of the measurements, a thin line.
    pub range: Option<(f64, f64)>,
    /// The value in words, next to the row.
    pub label: String,
}

/// Sizes of a drawing.
struct Layout {
    window: Window,
    /// Height of a row.
    pitch: f64,
    /// Distance of the axis of a row from its top.
    middle: f64,
    /// Left and right edge of the plane.
    plane: (f64, f64),
    top: f64,
    /// Smallest distance of two ticks.
    spacing: f64,
}

impl Rows {
    /// Draws the rows for both widths.
    pub fn draw(&self) -> Figure {
        let drawings: String = Window::ALL.iter().map(|window| self.drawing(*window)).collect();
        let mut head = vec!["Row".to_owned(), self.axis.label.clone()];
        head.extend(["low", "high", "least", "most"].map(str::to_owned));
        let most = self.rows.iter().map(|row| row.singles.len()).max().unwrap_or(0);
        head.extend((1..=most).map(|at| format!("{} {at}", self.single)));
        Figure {
            name: self.name,
            description: self.description.clone(),
            legend: vec![],
            drawings: Value::from_safe_string(drawings),
            head,
            rows: self.rows.iter().map(|row| row.cells(most)).collect(),
        }
    }

    fn layout(&self, window: Window) -> Layout {
        let top = if self.reference.is_some() { 24.0 } else { 8.0 };
        let widest =
            |texts: &mut dyn Iterator<Item = &str>| texts.map(width_of).fold(60.0, f64::max);
        let names = widest(&mut self.rows.iter().map(|row| row.name.as_str()));
        let labels = widest(&mut self.rows.iter().map(Row::label));
        match window {
            // Names and values have columns of their own, so that nothing in the plane covers them.
            Window::Wide => {
                let plane = (names.min(300.0) + 16.0, window.width() - labels.min(260.0) - 22.0);
                Layout { window, pitch: 34.0, middle: 17.0, plane, top, spacing: 76.0 }
            }
            // A narrow window has no room for columns: names and values stand above their rows, in one line
            // if there is room for both.
            Window::Narrow => {
                let plane = (8.0, window.width() - 14.0);
                let both = self.rows.iter().map(|row| width_of(&row.name) + width_of(row.label()));
                let lines =
                    if both.fold(0.0, f64::max) + 20.0 > plane.1 - plane.0 { 2.0 } else { 1.0 };
                let (pitch, middle) = (30.0 + 16.0 * lines, 14.0 + 16.0 * lines);
                Layout { window, pitch, middle, plane, top, spacing: 56.0 }
            }
        }
    }

    /// All values that the axis must show.
    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        let of = |row: &Row| {
            let dot = row.dot.iter().flat_map(|dot| {
                let ends = [dot.interval, dot.range].into_iter().flatten();
                std::iter::once(dot.value).chain(ends.flat_map(|(low, high)| [low, high]))
            });
            dot.chain(row.singles.iter().copied()).collect::<Vec<_>>()
        };
        let rows = self.rows.iter().flat_map(of);
        rows.chain(self.reference.iter().map(|(value, _)| *value))
    }

    fn drawing(&self, window: Window) -> String {
        let layout = self.layout(window);
        let bottom = layout.top + layout.pitch * self.rows.len() as f64;
        let (left, right) = layout.plane;
        let scale = Scale::new(&self.axis, self.values(), (left + 6.0, right - 6.0));
        let mut svg = Svg::default();
        for (x, label) in scale.ticks(layout.spacing) {
            svg.line((x, layout.top), (x, bottom), "--grid", 1.0);
            svg.text((x, bottom + 17.0), Anchor::Middle, "--muted", &label);
        }
        svg.line((left, bottom), (right, bottom), "--muted", 1.0);
        let label = cut(&self.axis.label, right);
        svg.text((right, bottom + 36.0), Anchor::End, "--muted", &label);
        let reference = self.reference.as_ref();
        if let Some((x, name)) = reference.and_then(|(value, name)| Some((scale.at(*value)?, name)))
        {
            svg.dashed((x, layout.top - 2.0), (x, bottom), "--muted");
            let anchor = if x > (left + right) / 2.0 { Anchor::End } else { Anchor::Start };
            svg.text((x, layout.top - 8.0), anchor, "--muted", name);
        }
        for (at, row) in self.rows.iter().enumerate() {
            let top = layout.top + layout.pitch * at as f64;
            row.draw(&mut svg, &scale, &layout, top, self.single);
        }
        svg.element(window, bottom + 44.0, &self.description)
    }
}

impl Row {
    fn cells(&self, singles: usize) -> Vec<Cell> {
        let dot = self.dot.as_ref();
        let ends = |read: fn(&Dot) -> Option<(f64, f64)>| dot.and_then(read);
        let (interval, range) = (ends(|dot| dot.interval), ends(|dot| dot.range));
        let mut cells = vec![Cell::text(&self.name), Cell::option(dot.map(|dot| dot.value))];
        for pair in [interval, range] {
            cells.push(Cell::option(pair.map(|pair| pair.0)));
            cells.push(Cell::option(pair.map(|pair| pair.1)));
        }
        cells.extend((0..singles).map(|at| Cell::option(self.singles.get(at).copied())));
        cells
    }

    fn draw(&self, svg: &mut Svg, scale: &Scale, layout: &Layout, top: f64, single: &str) {
        let y = top + layout.middle;
        let (left, right) = layout.plane;
        match layout.window {
            Window::Wide => {
                let name = cut(&self.name, left - 12.0);
                svg.text((left - 12.0, y + 4.0), Anchor::End, "--ink", &name);
            }
            Window::Narrow => {
                let name = cut(&self.name, right - left);
                svg.text((left, top + 14.0), Anchor::Start, "--ink", &name);
            }
        }
        self.draw_lines(svg, scale, y);
        for (at, value) in self.singles.iter().enumerate() {
            if let Some(x) = scale.at(*value) {
                let tip = format!("{}, {single} {}: {}", self.name, at + 1, short(*value));
                svg.ring((x, y), colour(self.series), &tip);
            }
        }
        if let Some((x, dot)) = self.dot.as_ref().and_then(|dot| Some((scale.at(dot.value)?, dot)))
        {
            svg.mark((x, y), self.series, &format!("{}: {}", self.name, dot.label));
        }
        match layout.window {
            Window::Wide => {
                let label = cut(self.label(), 260.0);
                svg.text((right + 14.0, y + 4.0), Anchor::Start, "--ink", &label);
            }
            Window::Narrow => {
                let label = cut(self.label(), right - left);
                svg.text((right, y - 16.0), Anchor::End, "--ink", &label);
            }
        }
    }

    /// The value in words.
    fn label(&self) -> &str {
        self.dot.as_ref().map_or("not measured", |dot| dot.label.as_str())
    }

    /// Draws the range and the interval of the value.
    fn draw_lines(&self, svg: &mut Svg, scale: &Scale, y: f64) {
        let Some(dot) = &self.dot else { return };
        for (ends, width) in [(dot.range, 1.2), (dot.interval, 4.0)] {
            let Some((low, high)) = ends else { continue };
            if let (Some(low), Some(high)) = (scale.at(low), scale.at(high)) {
                svg.line((low, y), (high, y), colour(self.series), width);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_rows_are_drawn_without_what_has_no_place() {
        let values = [f64::NAN, f64::INFINITY, f64::MAX, -1.0, 0.0, 5e-324, 3.0];
        let row = |value: &f64| Row {
            name: "</text><script>".to_owned(),
            dot: Some(Dot { value: *value, interval: Some((f64::NAN, *value)), ..Dot::default() }),
            singles: values.to_vec(),
            ..Row::default()
        };
        let rows = values.iter().map(row).chain([Row::default()]).collect();
        let figure =
            Rows { axis: Axis::log("ms"), single: "round", rows, ..Rows::default() }.draw();
        let drawing = figure.drawings.to_string();
        assert!(!drawing.contains("<script>") && !drawing.contains("=\"NaN"), "{drawing}");
        assert!(drawing.contains("not measured"));
    }
}
