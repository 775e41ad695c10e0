//! The plots of error by depth, drawn with plotters.

use std::ops::Range;

use plotters::prelude::{IntoDrawingArea, SVGBackend};

use crate::error::{ReportError, Result};
use crate::format::escape;
use crate::rows::Row;

mod axis;
mod canvas;
pub(crate) mod theme;

use axis::Axis;
use canvas::Canvas;
use theme::{Role, themed};

/// plotters places everything on whole pixels; drawing larger keeps the lines smooth.
const SCALE: i32 = 4;

/// The size of a plot on the screen. Each is drawn for a wide and for a narrow window, since
/// text that is scaled down to a telephone cannot be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// The class that the style sheet shows or hides it by.
    class: &'static str,
    width: i32,
    height: i32,
}

/// The two sizes.
const SIZES: [Size; 2] = [
    Size { class: "wide", width: 1040, height: 330 },
    Size { class: "narrow", width: 344, height: 270 },
];

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Filled dots.
    Dots,
    /// A line with rings.
    Rings,
    /// A thin line.
    Line,
}

/// One line or cloud of a plot.
struct Series {
    role: Role,
    look: Look,
    read: fn(&Row) -> Option<f64>,
}

/// What a plot shows.
pub(crate) struct Spec {
    name: &'static str,
    description: &'static str,
    /// Drawn in this order, the most important last.
    series: &'static [Series],
    /// The decades that are shown whatever the values are.
    decades: (f64, f64),
    /// Whether the bound belongs into this plot.
    bounded: bool,
}

/// The budget ratio, which the verdict rests on.
pub(crate) const RATIO: Spec = Spec {
    name: "ratio",
    description: "Budget ratio of every layer by depth on a logarithmic axis, with the bound",
    series: &[
        Series {
            role: Role::Inherited,
            look: Look::Rings,
            read: |row| row.inherited.map(|e| e.ratio),
        },
        Series {
            role: Role::Introduced,
            look: Look::Dots,
            read: |row| row.introduced.map(|e| e.ratio),
        },
    ],
    decades: (-1.0, 1.0),
    bounded: true,
};

/// The error itself, beside that of the yardstick.
pub(crate) const REL_L2: Spec = Spec {
    name: "rel-l2",
    description: "Relative L2 error of every layer by depth on a logarithmic axis, \
                  beside the error of the yardstick",
    series: &[
        Series { role: Role::Muted, look: Look::Line, read: |row| row.inherited.map(|e| e.e_ref) },
        Series {
            role: Role::Inherited,
            look: Look::Rings,
            read: |row| row.inherited.map(|e| e.rel_l2),
        },
        Series {
            role: Role::Introduced,
            look: Look::Dots,
            read: |row| row.introduced.map(|e| e.rel_l2),
        },
    ],
    decades: (-7.0, -6.0),
    bounded: false,
};

/// A run of layers with a name under the axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span<'a> {
    /// The name.
    pub name: &'a str,
    /// The layers.
    pub depths: Range<usize>,
}

/// What is drawn: the layers and the bound.
pub(crate) struct Data<'a> {
    /// The layers in order of execution.
    pub rows: &'a [Row],
    /// The parts of the network along the axis.
    pub spans: &'a [Span<'a>],
    /// A ratio of at most this passes.
    pub bound: f64,
}

impl Spec {
    /// Every value that the plot shows, series by series.
    fn values<'a>(&'a self, rows: &'a [Row]) -> impl Iterator<Item = f64> + Clone + 'a {
        self.series.iter().flat_map(move |series| rows.iter().filter_map(series.read))
    }

    /// The bound, where it can be drawn.
    fn bound(&self, data: &Data<'_>) -> Option<f64> {
        let drawable = data.bound > 0.0 && data.bound.is_finite();
        (self.bounded && drawable).then_some(data.bound)
    }

    fn axis(&self, data: &Data<'_>) -> Axis {
        let bound = self.bound(data);
        Axis::new(self.values(data.rows).chain(bound), self.decades.0, self.decades.1)
    }
}

/// Draws one plot in every size, as SVG elements for the page.
pub(crate) fn draw(spec: &Spec, data: &Data<'_>) -> Result<String> {
    SIZES.iter().map(|size| draw_in(spec, data, *size)).collect()
}

fn draw_in(spec: &Spec, data: &Data<'_>, size: Size) -> Result<String> {
    let pixels = ((size.width * SCALE) as u32, (size.height * SCALE) as u32);
    let mut svg = String::new();
    let area = {
        let root = SVGBackend::with_string(&mut svg, pixels).into_drawing_area();
        draw_on(&mut Canvas::new(&root, size, spec.axis(data), data.rows.len()), spec, data)
    };
    let area =
        area.map_err(|error| ReportError::Plot { plot: spec.name, reason: error.to_string() })?;
    Ok(as_element(&themed(&svg), spec, data, size, area))
}

/// Draws from the back to the front and returns the horizontal pixels that the layers span.
fn draw_on(canvas: &mut Canvas<'_, '_>, spec: &Spec, data: &Data<'_>) -> canvas::Drawn<Range<i32>> {
    let bound = spec.bound(data);
    if let Some(bound) = bound {
        canvas.shade_above(bound)?;
    }
    canvas.frame(data.spans)?;
    if let Some(bound) = bound {
        canvas.bound(bound)?;
    }
    for series in spec.series {
        canvas.series(series, data.rows, bound)?;
    }
    canvas.finish()
}

/// Replaces the head of the SVG by one that fits the page and tells its script where the layers
/// are.
fn as_element(svg: &str, spec: &Spec, data: &Data<'_>, size: Size, area: Range<i32>) -> String {
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let (width, height) = (size.width * SCALE, size.height * SCALE);
    let part = |x: i32| f64::from(x) / f64::from(width);
    format!(
        "<svg class=\"plot-{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{label}\" data-left=\"{left:.4}\" data-right=\"{right:.4}\" \
         data-count=\"{count}\">{body}",
        class = size.class,
        label = escape(spec.description),
        left = part(area.start),
        right = part(area.end),
        count = data.rows.len(),
    )
}
