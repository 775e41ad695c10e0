//! The plots of error by depth of a comparison, drawn with plotters.

use std::ops::Range;

use plotters::prelude::{IntoDrawingArea, SVGBackend};
use record::Layer;

use crate::error::{ReportError, Result};
use crate::format::escape;

mod axis;
mod canvas;
pub(crate) mod theme;

use axis::Axis;
use canvas::Canvas;
use theme::{Role, themed};

/// plotters places everything on whole pixels; a drawing enlarged by this factor keeps its lines smooth.
const SCALE: i32 = 4;

/// The size of a plot in pixels of the screen. Each plot is drawn for wide and for narrow windows, since
/// text that is scaled down to the width of a phone cannot be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// The style sheet shows or hides the plot by this class.
    class: &'static str,
    width: i32,
    height: i32,
}

/// The sizes for wide and for narrow windows.
const SIZES: [Size; 2] = [
    Size { class: "wide", width: 1040, height: 330 },
    Size { class: "narrow", width: 344, height: 270 },
];

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// A filled dot for each layer.
    Dots,
    /// A line with a ring for each layer.
    Rings,
    /// A thin line without marks.
    Line,
}

/// One quantity of a plot: its colour, its style, and how it is read from a layer.
struct Series {
    role: Role,
    look: Look,
    read: fn(&Layer) -> Option<f64>,
}

/// A plot: its name, its series and its axis.
pub(crate) struct DepthPlot {
    name: &'static str,
    description: &'static str,
    /// The series in drawing order; the most important is last and on top.
    series: &'static [Series],
    /// Exponents of 10: the range that the axis covers at least.
    decades: (f64, f64),
    /// Whether the plot shows the bound.
    bounded: bool,
}

/// Error ratios by depth, which decide the verdict.
pub(crate) const RATIO: DepthPlot = DepthPlot {
    name: "ratio",
    description: "Error / allowed of every layer by depth on a logarithmic axis, with the bound",
    series: &[
        Series {
            role: Role::Inherited,
            look: Look::Rings,
            read: |layer| layer.inherited.map(|e| e.ratio),
        },
        Series {
            role: Role::Introduced,
            look: Look::Dots,
            read: |layer| layer.introduced.map(|e| e.ratio),
        },
    ],
    decades: (-1.0, 1.0),
    bounded: true,
};

/// Relative L2 errors by depth, with the error of the comparison run.
pub(crate) const REL_L2: DepthPlot = DepthPlot {
    name: "rel-l2",
    description: "Relative L2 error of every layer by depth on a logarithmic axis, \
                  with the error of the comparison run",
    series: &[
        Series {
            role: Role::Muted,
            look: Look::Line,
            read: |layer| layer.inherited.map(|e| e.e_ref),
        },
        Series {
            role: Role::Inherited,
            look: Look::Rings,
            read: |layer| layer.inherited.map(|e| e.rel_l2),
        },
        Series {
            role: Role::Introduced,
            look: Look::Dots,
            read: |layer| layer.introduced.map(|e| e.rel_l2),
        },
    ],
    decades: (-7.0, -6.0),
    bounded: false,
};

/// Consecutive layers with a common name under the axis, such as a stage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span<'a> {
    /// Name of the span.
    pub name: &'a str,
    /// Positions of its layers in the order of execution.
    pub depths: Range<usize>,
}

/// The data of a plot.
pub(crate) struct Data<'a> {
    /// The layers in order of execution.
    pub layers: &'a [Layer],
    /// The named parts of the network along the axis.
    pub spans: &'a [Span<'a>],
    /// Error ratios of at most this pass.
    pub bound: f64,
}

impl DepthPlot {
    /// All values of the plot, series by series.
    fn values<'a>(&'a self, layers: &'a [Layer]) -> impl Iterator<Item = f64> + Clone + 'a {
        self.series.iter().flat_map(move |series| layers.iter().filter_map(series.read))
    }

    /// The bound; `None` if the plot does not show it, or if it has no logarithm.
    fn bound(&self, data: &Data<'_>) -> Option<f64> {
        let drawable = data.bound > 0.0 && data.bound.is_finite();
        (self.bounded && drawable).then_some(data.bound)
    }

    fn axis(&self, data: &Data<'_>) -> Axis {
        let bound = self.bound(data);
        Axis::new(self.values(data.layers).chain(bound), self.decades.0, self.decades.1)
    }
}

/// Draws a plot in every size; returns the SVG elements one after the other.
pub(crate) fn draw(plot: &DepthPlot, data: &Data<'_>) -> Result<String> {
    SIZES.iter().map(|size| draw_in(plot, data, *size)).collect()
}

fn draw_in(plot: &DepthPlot, data: &Data<'_>, size: Size) -> Result<String> {
    let pixels = ((size.width * SCALE) as u32, (size.height * SCALE) as u32);
    let mut svg = String::new();
    let area = {
        let root = SVGBackend::with_string(&mut svg, pixels).into_drawing_area();
        draw_on(&mut Canvas::new(&root, size, plot.axis(data), data.layers.len()), plot, data)
    };
    let area =
        area.map_err(|error| ReportError::Plot { plot: plot.name, reason: error.to_string() })?;
    Ok(as_element(&themed(&svg), plot, data, size, area))
}

/// Draws from back to front. Returns the range of horizontal pixels that the layers span.
fn draw_on(
    canvas: &mut Canvas<'_, '_>,
    plot: &DepthPlot,
    data: &Data<'_>,
) -> canvas::DrawResult<Range<i32>> {
    let bound = plot.bound(data);
    if let Some(bound) = bound {
        canvas.shade_above(bound)?;
    }
    canvas.frame(data.spans)?;
    if let Some(bound) = bound {
        canvas.bound(bound)?;
    }
    for series in plot.series {
        canvas.series(series, data.layers, bound)?;
    }
    canvas.finish()
}

/// Replaces the opening tag of the SVG. The new one fits the page and carries the horizontal positions
/// of the layers, which the page's script reads.
fn as_element(
    svg: &str,
    plot: &DepthPlot,
    data: &Data<'_>,
    size: Size,
    area: Range<i32>,
) -> String {
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let (width, height) = (size.width * SCALE, size.height * SCALE);
    let part = |x: i32| f64::from(x) / f64::from(width);
    format!(
        "<svg class=\"plot-{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{label}\" data-left=\"{left:.4}\" data-right=\"{right:.4}\" \
         data-count=\"{count}\">{body}",
        class = size.class,
        label = escape(plot.description),
        left = part(area.start),
        right = part(area.end),
        count = data.layers.len(),
    )
}
