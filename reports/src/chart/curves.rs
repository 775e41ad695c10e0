//! Curves and scatter plots.

use minijinja::value::Value;

use super::labels::{self, Wish};
use super::scale::{Axis, Scale};
use super::svg::{Anchor, MARKS, Svg, cut};
use super::{Cell, Figure, Window, colour};
use crate::format::short;

/// A figure with two numeric axes.
#[derive(Default)]
pub(crate) struct Chart {
    /// Name of the figure in the names of saved files.
    pub name: &'static str,
    /// Text for screen readers.
    pub description: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The series, drawn in this order.
    pub series: Vec<Series>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// One mark for each point.
    Dots,
    /// Marks connected by a line.
    Joined,
    /// A line without marks.
    Line,
    /// The same, for a value that belongs to no point of the other axis: its ends are not in the table.
    Level,
}

impl Look {
    fn has_marks(self) -> bool {
        !matches!(self, Look::Line | Look::Level)
    }
}

/// Points of one contestant, engine or quantity, drawn in one colour.
pub(crate) struct Series {
    /// Name of the series in the legend.
    pub name: String,
    /// How the points are drawn.
    pub look: Look,
    /// The points, in drawing order.
    pub points: Vec<Point>,
}

/// One point of a series, in the units of the axes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Point {
    /// Position along the horizontal axis.
    pub x: f64,
    /// Position along the vertical axis.
    pub y: f64,
    /// Lower and upper end of the interval around `y`.
    pub interval: Option<(f64, f64)>,
    /// Text next to the point; empty for none.
    pub name: String,
    /// Whether the name is placed before the others.
    pub first: bool,
    /// Whether the name is shown only in the tooltip and in the table.
    pub quiet: bool,
}

impl Series {
    /// The entry of the series with this number in the legend.
    fn key((at, series): (usize, &Series)) -> (&'static str, &'static str, String) {
        let mark = if series.look.has_marks() { MARKS[at % MARKS.len()] } else { "line" };
        (colour(at), mark, series.name.clone())
    }
}

impl Point {
    /// A point without an interval or a name.
    pub fn at(x: f64, y: f64) -> Self {
        Point { x, y, ..Point::default() }
    }

    /// A point with a name next to it.
    pub fn named(x: f64, y: f64, name: &str) -> Self {
        Point { x, y, name: name.to_owned(), ..Point::default() }
    }
}

/// The plane of a drawing: both scales and the pixels of its edges.
struct Plane {
    x: Scale,
    y: Scale,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Chart {
    /// Draws the chart for both widths.
    pub fn draw(&self) -> Figure {
        let drawings: String = Window::ALL.iter().map(|window| self.drawing(*window)).collect();
        let shown = self.series.iter().enumerate().filter(|(_, s)| !s.points.is_empty());
        // A series without points is not listed, but keeps its colour, so that a name has the same colour
        // in all figures of a page.
        let legend = match self.series.len() {
            0 | 1 => vec![],
            _ => shown.map(Series::key).collect(),
        };
        let mut head = vec!["Series".to_owned()];
        head.extend(["Point", &self.x.label, &self.y.label, "low", "high"].map(str::to_owned));
        Figure {
            name: self.name,
            description: self.description.clone(),
            legend,
            drawings: Value::from_safe_string(drawings),
            head,
            rows: self.table(),
        }
    }

    fn table(&self) -> Vec<Vec<Cell>> {
        let row = |series: &Series, point: &Point| {
            vec![
                Cell::text(&series.name),
                Cell::text(&point.name),
                Cell::number(point.x),
                Cell::number(point.y),
                Cell::option(point.interval.map(|ends| ends.0)),
                Cell::option(point.interval.map(|ends| ends.1)),
            ]
        };
        let listed = self.series.iter().filter(|series| series.look != Look::Level);
        let rows = listed.flat_map(|s| s.points.iter().map(move |p| row(s, p)));
        rows.collect()
    }

    fn plane(&self, window: Window) -> (Plane, f64) {
        let height = if window == Window::Wide { 380.0 } else { 320.0 };
        let (left, right) = (58.0, window.width() - 18.0);
        let (top, bottom) = (34.0, height - 48.0);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let heights = points().flat_map(|point| {
            let (low, high) = point.interval.unwrap_or((point.y, point.y));
            [point.y, low, high]
        });
        let x = Scale::new(&self.x, points().map(|point| point.x), (left + 4.0, right - 4.0));
        let y = Scale::new(&self.y, heights, (bottom, top));
        (Plane { x, y, left, right, top, bottom }, height)
    }

    fn drawing(&self, window: Window) -> String {
        let (plane, height) = self.plane(window);
        let mut svg = Svg::default();
        self.frame(&mut svg, &plane);
        for (at, series) in self.series.iter().enumerate() {
            self.draw_series(&mut svg, &plane, at, series);
        }
        self.draw_names(&mut svg, &plane, window);
        svg.element(window, height, &self.description)
    }

    fn frame(&self, svg: &mut Svg, plane: &Plane) {
        for (y, label) in plane.y.ticks(34.0) {
            svg.line((plane.left, y), (plane.right, y), "--grid", 1.0);
            svg.text((plane.left - 8.0, y + 4.0), Anchor::End, "--muted", &label);
        }
        svg.line((plane.left, plane.bottom), (plane.right, plane.bottom), "--muted", 1.0);
        for (x, label) in plane.x.ticks(52.0) {
            svg.line((x, plane.bottom), (x, plane.bottom + 5.0), "--muted", 1.0);
            svg.text((x, plane.bottom + 19.0), Anchor::Middle, "--muted", &label);
        }
        svg.text((4.0, 16.0), Anchor::Start, "--muted", &self.y.label);
        let label = cut(&self.x.label, plane.right);
        svg.text((plane.right, plane.bottom + 40.0), Anchor::End, "--muted", &label);
    }

    fn draw_series(&self, svg: &mut Svg, plane: &Plane, at: usize, series: &Series) {
        let place = |point: &Point| Some((plane.x.at(point.x)?, plane.y.at(point.y)?));
        if series.look != Look::Dots {
            let line: Vec<(f64, f64)> = series.points.iter().filter_map(place).collect();
            svg.curve(&line, colour(at));
        }
        for point in series.points.iter().filter(|_| series.look.has_marks()) {
            let Some((x, y)) = place(point) else { continue };
            let ends = point.interval.and_then(|(l, h)| Some((plane.y.at(l)?, plane.y.at(h)?)));
            if let Some((low, high)) = ends {
                svg.line((x, low), (x, high), colour(at), 2.0);
            }
            svg.mark((x, y), at, &self.tip(series, point));
        }
    }

    /// The tooltip of a point.
    fn tip(&self, series: &Series, point: &Point) -> String {
        let name: Vec<&str> =
            [series.name.as_str(), &point.name].into_iter().filter(|n| !n.is_empty()).collect();
        let interval = point
            .interval
            .map_or(String::new(), |(low, high)| format!(" ({} to {})", short(low), short(high)));
        let (x, y) = (short(point.x), short(point.y));
        format!("{}: {} {x}, {} {y}{interval}", name.join(", "), self.x.label, self.y.label)
    }

    fn draw_names(&self, svg: &mut Svg, plane: &Plane, window: Window) {
        let seen = self.series.iter().filter(|series| series.look.has_marks());
        let mut points: Vec<&Point> = seen.flat_map(|series| &series.points).collect();
        points.sort_by_key(|point| !point.first);
        let place = |point: &&Point| Some((plane.x.at(point.x)?, plane.y.at(point.y)?));
        let marks: Vec<(f64, f64)> = points.iter().filter_map(place).collect();
        let wish = |point: &'_ &Point| {
            let mark = place(point)?;
            let wanted =
                !point.name.is_empty() && !point.quiet && (window == Window::Wide || point.first);
            wanted.then_some((point.name.clone(), mark, point.first))
        };
        let wanted: Vec<(String, (f64, f64), bool)> = points.iter().filter_map(wish).collect();
        let wishes: Vec<Wish<'_>> =
            wanted.iter().map(|(name, mark, _)| Wish { name, mark: *mark }).collect();
        let frame = [plane.left, plane.top - 14.0, plane.right + 14.0, plane.bottom - 1.0];
        let places = labels::place(&wishes, &marks, frame);
        for ((name, _, first), place) in wanted.iter().zip(places) {
            if let Some((at, anchor)) = place {
                svg.text(at, anchor, if *first { "--ink" } else { "--muted" }, name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_stays_in_the_table() {
        let values = [0.0, -1.0, f64::NAN, f64::INFINITY, 100.0];
        let points = values.iter().map(|y| Point::named(1.0, *y, "<b>")).collect();
        let series = vec![Series { name: String::new(), look: Look::Joined, points }];
        let chart = Chart { x: Axis::log("x"), y: Axis::log("y"), series, ..Chart::default() };
        let figure = chart.draw();
        let drawing = figure.drawings.to_string();
        assert_eq!(drawing.matches("<path").count(), 2, "one mark in each of two drawings");
        assert!(!drawing.contains("NaN") && !drawing.contains("<b>"), "{drawing}");
        assert_eq!(figure.rows.len(), values.len());
        // The ends of a level are no data.
        let points = vec![Point::at(1.0, 5.0), Point::at(9.0, 5.0)];
        let series = vec![Series { name: "level".to_owned(), look: Look::Level, points }];
        assert!(Chart { series, ..Chart::default() }.draw().rows.is_empty());
    }
}
