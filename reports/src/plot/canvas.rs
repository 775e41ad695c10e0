//! Draws the elements of a plot: grid, labels, bound and series.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, Circle, Color, Cross, DrawingArea, PathElement, Rectangle, SVGBackend, ShapeStyle,
    Text, TextStyle, TriangleMarker,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontFamily, FontStyle, IntoTextStyle};
use record::{Layer, LayerVerdict};

use super::axis::{Axis, Spot};
use super::theme::Role;
use super::{Look, SCALE, Series, Size, Span};

/// The result of drawing. The error is boxed, since plotters has one error type for each backend.
pub(super) type DrawResult<T> = Result<T, Box<dyn std::error::Error>>;

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The margins around the plane in pixels of the screen: top, right, bottom, left.
const MARGINS: [i32; 4] = [10, 24, 26, 52];

/// Font size for 12 pixels of the screen; plotters divides the size that it is given by 1.24.
const TEXT: f64 = 12.0 * 1.24 * SCALE as f64;

/// Smallest distance between the names of two stages, in pixels of the screen.
const NAME_SPACE: i32 = 46;

/// The drawing area of one plot: the plane of the data and the margins around it.
pub(super) struct Canvas<'root, 'svg> {
    root: &'root Root<'svg>,
    plane: Plane<'svg>,
    axis: Axis,
    /// Radius of a dot, in pixels of the drawing.
    dot: i32,
    /// Left and right end of the horizontal axis, in layers.
    ends: (f64, f64),
}

impl<'root, 'svg> Canvas<'root, 'svg> {
    pub fn new(root: &'root Root<'svg>, size: Size, axis: Axis, layers: usize) -> Self {
        let [top, right, bottom, left] = MARGINS.map(|margin| margin * SCALE);
        let inner = root.margin(top, bottom, left, right);
        let pixels = inner.get_pixel_range();
        // Half a layer of margin on both sides; a plot without layers still gets an axis.
        let ends = (-0.5, layers.max(1) as f64 - 0.5);
        let (low, high) = axis.range();
        let spec = Cartesian2d::new(ends.0..ends.1, low..high, upward(pixels));
        Canvas {
            root,
            plane: inner.apply_coord_spec(spec),
            axis,
            dot: dot_radius(size, layers),
            ends,
        }
    }

    /// The pixel at a position of the plane.
    fn pixel(&self, x: f64, y: f64) -> (i32, i32) {
        self.plane.map_coordinate(&(x, y))
    }

    fn text(&self, role: Role, at: (i32, i32), words: &str, pos: Pos) -> DrawResult<()> {
        let font = (FontFamily::SansSerif, TEXT, FontStyle::Normal);
        let color = role.color();
        let style: TextStyle<'_> = font.into_text_style(self.root).color(&color).pos(pos);
        Ok(self.root.draw(&Text::new(words.to_owned(), at, style))?)
    }

    fn line(&self, points: Vec<(f64, f64)>, style: ShapeStyle) -> DrawResult<()> {
        Ok(self.plane.draw(&PathElement::new(points, style))?)
    }

    fn horizontal_line(&self, y: f64, style: ShapeStyle) -> DrawResult<()> {
        self.line(vec![(self.ends.0, y), (self.ends.1, y)], style)
    }

    /// Draws the grid, the labels of the axis and the names of the stages.
    pub fn frame(&self, spans: &[Span<'_>]) -> DrawResult<()> {
        for (y, label) in self.axis.labels() {
            self.horizontal_line(y, stroke(Role::Grid, 1))?;
            let at = (MARGINS[3] * SCALE - 8 * SCALE, self.pixel(self.ends.0, y).1);
            self.text(Role::Muted, at, &label, Pos::new(HPos::Right, VPos::Center))?;
        }
        for y in self.axis.borders() {
            self.horizontal_line(y, stroke(Role::Muted, 1))?;
        }
        self.stages(spans)
    }

    /// Draws the lines between the stages, and the names of the stages where there is room.
    fn stages(&self, spans: &[Span<'_>]) -> DrawResult<()> {
        let (low, high) = self.axis.range();
        let bottom = self.pixel(self.ends.0, low).1 + 8 * SCALE;
        let mut free_from = i32::MIN;
        for span in spans {
            let start = span.depths.start as f64 - 0.5;
            self.line(vec![(start, low), (start, high)], stroke(Role::Grid, 1))?;
            let middle = self.pixel((start + span.depths.end as f64 - 0.5) / 2.0, low).0;
            if middle < free_from {
                continue;
            }
            free_from = middle + NAME_SPACE * SCALE;
            let pos = Pos::new(HPos::Center, VPos::Top);
            self.text(Role::Muted, (middle, bottom), span.name, pos)?;
        }
        Ok(())
    }

    /// Tints the area above the bound.
    pub fn shade_above(&self, bound: f64) -> DrawResult<()> {
        let corners = [(self.ends.0, self.axis.range().1), (self.ends.1, bound.log10())];
        let tint = Role::Bad.color().mix(0.07).filled();
        Ok(self.plane.draw(&Rectangle::new(corners, tint))?)
    }

    /// Draws the bound as a line with a label at its left end, where errors are rarely above it.
    pub fn bound(&self, bound: f64) -> DrawResult<()> {
        let y = bound.log10();
        self.horizontal_line(y, stroke(Role::Bad, 2))?;
        let (x, y) = self.pixel(self.ends.0, y);
        let words = format!("bound {bound}");
        self.text(
            Role::Bad,
            (x + 6 * SCALE, y - 4 * SCALE),
            &words,
            Pos::new(HPos::Left, VPos::Bottom),
        )
    }

    /// Draws one series: its line, then its marks.
    pub fn series(&self, series: &Series, layers: &[Layer], bound: Option<f64>) -> DrawResult<()> {
        if series.look != Look::Dots {
            self.series_line(series, layers)?;
        }
        if series.look == Look::Line {
            return Ok(());
        }
        for (depth, layer) in layers.iter().enumerate() {
            let Some(value) = (series.read)(layer) else { continue };
            // The comparison is false for NaN, which is above every bound.
            let within = |bound: f64| value <= bound;
            let over = bound.is_some_and(|bound| !within(bound));
            self.mark(series, over, (depth as f64, self.axis.spot(value)))?;
        }
        Ok(())
    }

    /// Draws the line of a series. The line is interrupted at NaN and infinity, which lie in the strip,
    /// and at layers that were not compared, whose values are unknown. A layer checked through the next one has no value of
    /// its own, and the line passes over it.
    fn series_line(&self, series: &Series, layers: &[Layer]) -> DrawResult<()> {
        let spot = |layer: &Layer| (series.read)(layer).map(|value| self.axis.spot(value));
        let breaks = |(_, layer): &(usize, &Layer)| {
            layer.verdict == LayerVerdict::NotCompared
                || matches!(spot(layer), Some(Spot::Broken(_)))
        };
        let layers: Vec<(usize, &Layer)> = layers.iter().enumerate().collect();
        for piece in layers.split(breaks) {
            let place =
                |(depth, layer): &(usize, &Layer)| Some((*depth as f64, spot(layer)?.height()));
            let points: Vec<_> = piece.iter().filter_map(place).collect();
            if points.len() > 1 {
                self.line(points, stroke(series.role, 1))?;
            }
        }
        Ok(())
    }

    /// Draws one mark: a dot or a ring for a value, a triangle or a cross for NaN and infinity. The dots
    /// of own errors above the bound are larger and have the colour of the bound.
    fn mark(&self, series: &Series, over: bool, (x, spot): (f64, Spot)) -> DrawResult<()> {
        let at = (x, spot.height());
        let filled = series.look == Look::Dots;
        let highlighted = over && filled;
        let color = if highlighted { Role::Bad } else { series.role }.color();
        let radius = if highlighted { self.dot * 3 / 2 } else { self.dot };
        let ring = color.stroke_width(SCALE as u32);
        match (spot, filled) {
            (Spot::Broken(_), true) => {
                self.plane.draw(&TriangleMarker::new(at, 2 * self.dot, color.filled()))?;
            }
            (Spot::Broken(_), false) => {
                self.plane.draw(&Cross::new(at, self.dot, ring))?;
            }
            (_, true) => self.plane.draw(&Circle::new(at, radius, color.filled()))?,
            (_, false) => self.plane.draw(&Circle::new(at, radius, ring))?,
        }
        Ok(())
    }

    /// Completes the drawing. Returns the range of horizontal pixels of the plane.
    pub fn finish(&self) -> DrawResult<Range<i32>> {
        self.root.present()?;
        Ok(self.plane.get_pixel_range().0)
    }
}

/// The radius of a dot: smaller for many layers, but at least one and a half pixels of the screen.
fn dot_radius(size: Size, layers: usize) -> i32 {
    let each = size.width * SCALE / layers.max(1) as i32;
    each.clamp(3 * SCALE / 2, 3 * SCALE)
}

fn stroke(role: Role, width: i32) -> ShapeStyle {
    role.color().stroke_width((width * SCALE) as u32)
}

/// The pixel ranges with the vertical one reversed: plotters counts pixels from the top, the axis from
/// the bottom.
fn upward((x, y): (Range<i32>, Range<i32>)) -> (Range<i32>, Range<i32>) {
    (x, y.end..y.start)
}
