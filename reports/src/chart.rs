//! Charts of evaluations, trainings, ablations and benches: curves, bars with intervals, scatter plots.

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::{Color, IntoDrawingArea, SVGBackend};
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontFamily, FontStyle, IntoTextStyle, TextStyle};

use crate::error::{ReportError, Result};
use crate::format::{escape, short};
use crate::plot::theme::{Role, themed};

/// plotters places everything on whole pixels; a drawing enlarged by this factor keeps its lines smooth.
const SCALE: i32 = 4;
/// Style sheet class, width and height in pixels of the screen, for wide and for narrow windows.
const SIZES: [(&str, i32, i32); 2] = [("wide", 1040, 330), ("narrow", 344, 270)];
/// The colours of the series in order, with their variables in the style sheet.
const COLOURS: [(Role, &str); 6] = [
    (Role::Introduced, "introduced"),
    (Role::Inherited, "inherited"),
    (Role::Muted, "muted"),
    (Role::Fourth, "fourth"),
    (Role::Fifth, "fifth"),
    (Role::Grid, "grid"),
];
/// The number of series that a chart can show in different colours.
pub(crate) const MAX_SERIES: usize = COLOURS.len();
/// Values of this magnitude or more are not drawn: no axis could show them next to ordinary values.
const DRAWABLE_LIMIT: f64 = 1e30;

/// The content of a chart and its axes.
#[derive(Default)]
pub(crate) struct Chart {
    /// Name of the chart in error messages.
    pub name: &'static str,
    /// Text for screen readers.
    pub description: String,
    /// Label under the horizontal axis.
    pub x_label: String,
    /// Label next to the vertical axis.
    pub y_label: String,
    /// The series, drawn in this order.
    pub series: Vec<Series>,
    /// For bar charts: the names of the positions 0, 1, … on the horizontal axis.
    pub names: Vec<String>,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
    /// Whether the vertical axis is logarithmic.
    pub log_y: bool,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// One dot for each point.
    Dots,
    /// Dots connected by a line.
    Joined,
    /// A line without dots.
    Line,
    /// Bars next to the bars of the other series.
    Bars,
    /// Bars stacked on the bars of the preceding series.
    Stack,
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
pub(crate) struct Point {
    /// Position along the horizontal axis.
    pub x: f64,
    /// Position along the vertical axis.
    pub y: f64,
    /// Lower and upper end of the interval around `y`.
    pub interval: Option<(f64, f64)>,
    /// Text written next to the point; empty for none.
    pub name: String,
}

impl Point {
    /// A point without an interval or a name.
    pub fn at(x: f64, y: f64) -> Self {
        Point { x, y, interval: None, name: String::new() }
    }
}

/// A point in the coordinates of the plane, which are logarithms on a logarithmic axis.
struct Mark<'a> {
    /// Horizontal coordinate.
    x: f64,
    /// Vertical coordinate of a bar's foot.
    from: f64,
    /// Vertical coordinate of a bar's top or of the dot.
    to: f64,
    /// The point that is drawn.
    point: &'a Point,
}

type DrawResult<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type Plane<'a, 'svg> =
    ChartContext<'a, SVGBackend<'svg>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Chart {
    /// Draws the chart in both sizes; returns the legend and the SVG elements as HTML.
    pub fn draw(&self) -> Result<String> {
        let mut html = self.legend();
        for size in SIZES {
            html += &self.draw_in(size).map_err(|error| ReportError::Plot {
                plot: self.name,
                reason: error.to_string(),
            })?;
        }
        Ok(html)
    }

    fn legend(&self) -> String {
        if self.series.len() < 2 {
            return String::new();
        }
        let entry = |(at, series): (usize, &Series)| {
            let (_, colour) = COLOURS[at.min(COLOURS.len() - 1)];
            let name = escape(&series.name);
            format!("<span><i style=\"background:var(--{colour})\"></i>{name}</span>")
        };
        // A series without points is not listed, but keeps its colour, so that a name has the same colour
        // in all charts of a page.
        let shown = self.series.iter().enumerate().filter(|(_, series)| !series.points.is_empty());
        let entries: String = shown.map(entry).collect();
        format!("<p class=\"legend\">{entries}</p>")
    }

    fn x_coordinate(&self, x: f64) -> f64 {
        if self.log_x { x.log10() } else { x }
    }

    fn y_coordinate(&self, y: f64) -> f64 {
        if self.log_y { y.log10() } else { y }
    }

    /// The points of a series that can be drawn: NaN, infinity and, on a logarithmic axis, zero and
    /// negative values cannot.
    fn marks(&self, at: usize) -> Vec<Mark<'_>> {
        let series = &self.series[at];
        let shift = match series.look {
            Look::Bars => (at as f64 - (self.series.len() as f64 - 1.0) / 2.0) * 0.3,
            _ => 0.0,
        };
        let mark = |point| {
            let from = if series.look == Look::Stack { self.below(at, point) } else { 0.0 };
            let (x, to) = (self.x_coordinate(point.x) + shift, self.y_coordinate(from + point.y));
            Mark { x, from, to, point }
        };
        let marks = series.points.iter().map(mark);
        marks.filter(|m| drawable(m.x) && drawable(m.to)).collect()
    }

    /// The sum of the preceding series at the same horizontal position: the foot of a stacked bar.
    fn below(&self, at: usize, point: &Point) -> f64 {
        let before = self.series[..at].iter().flat_map(|s| &s.points);
        before.filter(|p| p.x == point.x && drawable(p.y)).map(|p| p.y).sum()
    }

    fn interval(&self, point: &Point) -> Option<(f64, f64)> {
        let (low, high) = point.interval?;
        let ends = (self.y_coordinate(low), self.y_coordinate(high));
        (drawable(ends.0) && drawable(ends.1)).then_some(ends)
    }

    fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let marks: Vec<Mark<'_>> = (0..self.series.len()).flat_map(|at| self.marks(at)).collect();
        let (left, right) = enclosing(marks.iter().map(|m| m.x));
        let ends = |m: &Mark<'_>| self.interval(m.point).map_or([m.to; 2], |(l, h)| [l, h]);
        let (low, high) = enclosing(marks.iter().flat_map(|m| [m.to].into_iter().chain(ends(m))));
        let margin = |low: f64, high: f64, part: f64| part * (high - low).max(1e-9);
        let bars = !self.names.is_empty();
        let x = match bars {
            true => (-0.6, self.names.len() as f64 - 0.4),
            false => (left - margin(left, right, 0.04), right + margin(left, right, 0.10)),
        };
        let bottom = if bars { 0.0 } else { low - margin(low, high, 0.08) };
        (x, (bottom, high + margin(bottom, high, 0.1)))
    }

    fn draw_in(&self, (class, width, height): (&str, i32, i32)) -> DrawResult<String> {
        let (w, h) = (width * SCALE, height * SCALE);
        let wide = class == "wide";
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (w as u32, h as u32)).into_drawing_area();
            let (x, y) = self.ranges();
            let mut builder = ChartBuilder::on(&root);
            builder.margin(10 * SCALE).x_label_area_size(40 * SCALE).y_label_area_size(56 * SCALE);
            let mut plane = builder.build_cartesian_2d(x.0..x.1, y.0..y.1)?;
            self.mesh(&mut plane, wide)?;
            for at in 0..self.series.len() {
                self.draw_series(&mut plane, at)?;
                if wide {
                    self.draw_names(&mut plane, at, (y.1 - y.0) * 0.015)?;
                }
            }
            root.present()?;
        }
        let svg = themed(&svg);
        let body = svg.split_once('>').map_or("", |(_, body)| body);
        let label = escape(&self.description);
        Ok(format!(
            "<svg class=\"plot-{class}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{label}\">{body}"
        ))
    }

    fn mesh(&self, plane: &mut Plane<'_, '_>, wide: bool) -> DrawResult<()> {
        let many = if wide { 8 } else { 4 };
        let bars = !self.names.is_empty();
        plane
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(if bars { 2 * self.names.len() + 1 } else { many })
            .y_labels(6)
            .x_label_formatter(&|x| self.tick(*x))
            .y_label_formatter(&|y| label(*y, self.log_y))
            .x_desc(self.x_label.as_str())
            .y_desc(self.y_label.as_str())
            .axis_style(Role::Muted.color())
            .bold_line_style(Role::Grid.color().stroke_width(SCALE as u32))
            .light_line_style(Role::Grid.color().mix(0.0))
            .label_style(text(Role::Muted))
            .axis_desc_style(text(Role::Muted))
            .draw()?;
        Ok(())
    }

    fn draw_series(&self, plane: &mut Plane<'_, '_>, at: usize) -> DrawResult<()> {
        let color = COLOURS[at.min(COLOURS.len() - 1)].0.color();
        let look = self.series[at].look;
        let marks = self.marks(at);
        if matches!(look, Look::Joined | Look::Line) {
            let line = color.stroke_width(2 * SCALE as u32);
            plane.draw_series(LineSeries::new(marks.iter().map(|m| (m.x, m.to)), line))?;
        }
        for Mark { x, from, to, point } in marks {
            match look {
                Look::Line => {}
                Look::Dots | Look::Joined => {
                    let dot = Circle::new((x, to), 3 * SCALE, color.filled());
                    plane.draw_series([dot])?;
                }
                Look::Bars | Look::Stack => {
                    let half = if look == Look::Bars { 0.13 } else { 0.2 };
                    let corners = [(x - half, from), (x + half, to)];
                    plane.draw_series([Rectangle::new(corners, color.mix(0.75).filled())])?;
                }
            }
            if let Some((low, high)) = self.interval(point) {
                let ink = Role::Ink.color().stroke_width(2 * SCALE as u32);
                plane.draw_series([PathElement::new(vec![(x, low), (x, high)], ink)])?;
            }
        }
        Ok(())
    }

    /// Writes the names of the points `above` units over them.
    fn draw_names(&self, plane: &mut Plane<'_, '_>, at: usize, above: f64) -> DrawResult<()> {
        let style = text(Role::Ink).pos(Pos::new(HPos::Left, VPos::Bottom));
        for Mark { x, to, point, .. } in self.marks(at) {
            if !point.name.is_empty() {
                let name = Text::new(point.name.clone(), (x, to + above), style.clone());
                plane.draw_series([name])?;
            }
        }
        Ok(())
    }

    fn tick(&self, x: f64) -> String {
        if self.names.is_empty() {
            return label(x, self.log_x);
        }
        let whole = x.round();
        let close = (x - whole).abs() < 0.01 && whole >= 0.0;
        let name = close.then(|| self.names.get(whole as usize).cloned()).flatten();
        name.unwrap_or_default()
    }
}

/// The label of a tick. Axes have little room, so far from 1 a logarithmic axis shows one digit only.
fn label(place: f64, logarithmic: bool) -> String {
    let value = if logarithmic { 10f64.powf(place) } else { place };
    match logarithmic && !(1e-2..1e5).contains(&value) {
        true => format!("{value:.0e}"),
        false => short(value),
    }
}

fn drawable(value: f64) -> bool {
    value.is_finite() && value.abs() < DRAWABLE_LIMIT
}

/// The smallest and the largest value; 0 and 1 if there are no values.
fn enclosing(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let ends = values.fold(None, |ends: Option<(f64, f64)>, v| {
        Some(ends.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
    });
    ends.unwrap_or((0.0, 1.0))
}

fn text(role: Role) -> TextStyle<'static> {
    let font = (FontFamily::SansSerif, 12.0 * 1.24 * f64::from(SCALE), FontStyle::Normal);
    let color = role.color().to_backend_color();
    TextStyle { color, ..font.into_text_style(&(1u32, 1u32)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(look: Look, values: &[&[f64]]) -> Chart {
        let series = |values: &&[f64]| Series {
            name: String::new(),
            look,
            points: values.iter().enumerate().map(|(x, &y)| Point::at(x as f64, y)).collect(),
        };
        Chart { series: values.iter().map(series).collect(), ..Chart::default() }
    }

    #[test]
    fn a_stack_stands_on_what_is_below_it() {
        let chart = chart(Look::Stack, &[&[1.0, f64::NAN], &[2.0, 5.0]]);
        let ends = |at| chart.marks(at).iter().map(|m| (m.from, m.to)).collect::<Vec<_>>();
        assert_eq!(ends(0), [(0.0, 1.0)]);
        assert_eq!(
            ends(1),
            [(1.0, 3.0), (0.0, 5.0)],
            "a value that is not a number adds no height"
        );
    }

    #[test]
    fn a_logarithmic_axis_shows_only_what_has_a_logarithm() {
        let values: &[f64] = &[0.0, -1.0, f64::NAN, f64::INFINITY, 100.0];
        let chart = Chart { log_y: true, ..chart(Look::Dots, &[values]) };
        let heights: Vec<f64> = chart.marks(0).iter().map(|m| m.to).collect();
        assert_eq!(heights, [2.0]);
        assert_eq!((label(-7.0, true), label(2.0, true)), ("1e-7".into(), "100".into()));
        assert!(chart.draw().is_ok());
    }
}
