//! Plots of evaluations: curves, bars with intervals, and accuracy against cost.

use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::{Color, IntoDrawingArea, SVGBackend};
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontFamily, FontStyle, IntoTextStyle, TextStyle};

use crate::error::{ReportError, Result};
use crate::format::escape;
use crate::plot::theme::{Role, themed};

/// plotters places everything on whole pixels; drawing larger keeps the lines smooth.
const SCALE: i32 = 4;
/// Size on the screen, for wide and for narrow windows.
const SIZES: [(&str, i32, i32); 2] = [("wide", 1040, 330), ("narrow", 344, 270)];
/// Colours of series, in their order.
const COLOURS: [Role; 5] =
    [Role::Introduced, Role::Inherited, Role::Muted, Role::Fourth, Role::Fifth];

/// What is drawn.
pub(crate) struct Chart {
    /// For messages.
    pub name: &'static str,
    /// For those who cannot see it.
    pub description: String,
    /// Under the horizontal axis.
    pub x_label: String,
    /// Beside the vertical axis.
    pub y_label: String,
    /// Lines or points.
    pub series: Vec<Series>,
    /// Whether the points of a series are joined.
    pub joined: bool,
    /// Whether bars are drawn from the bottom up to each point.
    pub bars: bool,
    /// Names of the places 0, 1, … on the horizontal axis, for bars.
    pub names: Vec<String>,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
}

/// Points in one colour.
pub(crate) struct Series {
    /// Its name in the legend.
    pub name: String,
    /// The points.
    pub points: Vec<Point>,
}

/// One point.
pub(crate) struct Point {
    /// Horizontal value.
    pub x: f64,
    /// Vertical value.
    pub y: f64,
    /// Ends of its interval.
    pub interval: Option<(f64, f64)>,
    /// A name written beside it.
    pub name: String,
}

impl Chart {
    /// The chart in both sizes as SVG elements, with its legend.
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
        let classes = ["introduced", "inherited", "muted", "fourth", "fifth"];
        let entry = |(at, series): (usize, &Series)| {
            let colour = classes[at.min(COLOURS.len() - 1)];
            let name = escape(&series.name);
            format!("<span><i style=\"background:var(--{colour})\"></i>{name}</span>")
        };
        let entries: String = self.series.iter().enumerate().map(entry).collect();
        format!("<p class=\"legend\">{entries}</p>")
    }

    fn range(&self, of: impl Fn(&Point) -> Vec<f64>) -> (f64, f64) {
        let values: Vec<f64> = self
            .series
            .iter()
            .flat_map(|s| s.points.iter().flat_map(&of))
            .filter(|v| v.is_finite())
            .collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if values.is_empty() { (0.0, 1.0) } else { (low, high) }
    }

    fn place(&self, x: f64) -> f64 {
        if self.log_x { x.log10() } else { x }
    }

    fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let (left, right) = self.range(|p| vec![self.place(p.x)]);
        let vertical = |p: &Point| p.interval.map_or(vec![p.y], |(low, high)| vec![p.y, low, high]);
        let (low, high) = self.range(vertical);
        let air = |low: f64, high: f64, part: f64| part * (high - low).max(1e-9);
        let x = match self.bars {
            true => (-0.6, self.names.len().max(1) as f64 - 0.4),
            false => (left - air(left, right, 0.04), right + air(left, right, 0.10)),
        };
        let bottom = if self.bars { 0.0 } else { low - air(low, high, 0.08) };
        (x, (bottom, high + air(bottom, high, 0.1)))
    }

    fn draw_in(
        &self,
        (class, width, height): (&str, i32, i32),
    ) -> std::result::Result<String, Box<dyn std::error::Error>> {
        let (w, h) = (width * SCALE, height * SCALE);
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (w as u32, h as u32)).into_drawing_area();
            let (x, y) = self.ranges();
            let mut builder = ChartBuilder::on(&root);
            builder.margin(10 * SCALE).x_label_area_size(40 * SCALE).y_label_area_size(56 * SCALE);
            let mut plane = builder.build_cartesian_2d(x.0..x.1, y.0..y.1)?;
            let names = |x: &f64| self.tick(*x);
            let many = if class == "wide" { 8 } else { 4 };
            plane
                .configure_mesh()
                .disable_x_mesh()
                .x_labels(if self.bars { 2 * self.names.len() + 1 } else { many })
                .y_labels(6)
                .x_label_formatter(&names)
                .y_label_formatter(&|y| crate::format::short(*y))
                .x_desc(self.x_label.as_str())
                .y_desc(self.y_label.as_str())
                .axis_style(Role::Muted.color())
                .bold_line_style(Role::Grid.color().stroke_width(SCALE as u32))
                .light_line_style(Role::Grid.color().mix(0.0))
                .label_style(text(Role::Muted))
                .axis_desc_style(text(Role::Muted))
                .draw()?;
            for (at, series) in self.series.iter().enumerate() {
                let color = COLOURS[at.min(COLOURS.len() - 1)].color();
                let line = color.stroke_width(2 * SCALE as u32);
                let spots = || series.points.iter().map(|p| (self.place(p.x), p));
                if self.joined {
                    let points = spots().filter(|(_, p)| p.y.is_finite()).map(|(x, p)| (x, p.y));
                    plane.draw_series(LineSeries::new(points, line))?;
                }
                let shift = |x: f64| match self.bars {
                    true => x + (at as f64 - (self.series.len() as f64 - 1.0) / 2.0) * 0.3,
                    false => x,
                };
                for (x, point) in spots().filter(|(_, p)| p.y.is_finite()) {
                    let x = shift(x);
                    if self.bars {
                        let corners = [(x - 0.13, 0.0), (x + 0.13, point.y)];
                        plane.draw_series([Rectangle::new(corners, color.mix(0.75).filled())])?;
                    } else {
                        plane.draw_series([Circle::new(
                            (x, point.y),
                            3 * SCALE,
                            color.filled(),
                        )])?;
                    }
                    if let Some((low, high)) = point.interval {
                        let ink = Role::Ink.color().stroke_width(2 * SCALE as u32);
                        plane.draw_series([PathElement::new(vec![(x, low), (x, high)], ink)])?;
                    }
                    if !point.name.is_empty() && class == "wide" {
                        let pos = Pos::new(HPos::Left, VPos::Bottom);
                        let style = text(Role::Ink).pos(pos);
                        let air = (y.1 - y.0) * 0.015;
                        plane.draw_series([Text::new(
                            point.name.clone(),
                            (x, point.y + air),
                            style,
                        )])?;
                    }
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

    fn tick(&self, x: f64) -> String {
        if self.bars {
            let whole = x.round();
            let close = (x - whole).abs() < 0.01 && whole >= 0.0;
            return if close {
                self.names.get(whole as usize).cloned().unwrap_or_default()
            } else {
                String::new()
            };
        }
        crate::format::short(if self.log_x { 10f64.powf(x) } else { x })
    }
}

fn text(role: Role) -> TextStyle<'static> {
    let font = (FontFamily::SansSerif, 12.0 * 1.24 * f64::from(SCALE), FontStyle::Normal);
    let color = role.color().to_backend_color();
    TextStyle { color, ..font.into_text_style(&(1u32, 1u32)) }
}
