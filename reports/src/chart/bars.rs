//! Stacked bars: one row for each contestant, one part for each kind of work.

use minijinja::value::Value;

use super::scale::{Axis, Scale};
use super::svg::{Anchor, Svg, cut, width_of};
use super::{Cell, Figure, Window, colour, drawable};
use crate::format::short;

/// A figure of stacked horizontal bars.
pub(crate) struct Bars {
    /// Name of the figure in the names of saved files.
    pub name: &'static str,
    /// Text for screen readers.
    pub description: String,
    /// The horizontal axis, from 0.
    pub axis: Axis,
    /// The kinds, in the order in which they are stacked; at most six.
    pub kinds: Vec<String>,
    /// The name of each bar and its value of each kind.
    pub rows: Vec<(String, Vec<f64>)>,
}

/// Height of a bar.
const BAR: f64 = 20.0;

impl Bars {
    /// Draws the bars for both widths.
    pub fn draw(&self) -> Figure {
        let drawings: String = Window::ALL.iter().map(|window| self.drawing(*window)).collect();
        let row = |(name, values): &(String, Vec<f64>)| {
            let cells = std::iter::once(Cell::text(name));
            cells.chain(values.iter().map(|value| Cell::number(*value))).collect()
        };
        let head = std::iter::once("Row".to_owned()).chain(self.kinds.iter().cloned()).collect();
        Figure {
            name: self.name,
            description: self.description.clone(),
            legend: self.kinds.iter().enumerate().map(key).collect(),
            drawings: Value::from_safe_string(drawings),
            head,
            rows: self.rows.iter().map(row).collect(),
        }
    }

    fn drawing(&self, window: Window) -> String {
        let wide = window == Window::Wide;
        let pitch = if wide { 32.0 } else { 46.0 };
        let widest = self.rows.iter().map(|(name, _)| width_of(name)).fold(60.0, f64::max);
        let left = if wide { widest.min(300.0) + 16.0 } else { 8.0 };
        // The total stands right of its bar.
        let right = window.width() - if wide { 84.0 } else { 14.0 };
        let bottom = 8.0 + pitch * self.rows.len() as f64;
        let totals = self.rows.iter().map(|(_, values)| total(values));
        let axis = Axis { cover: vec![0.0], ..self.axis.clone() };
        let scale = Scale::new(&axis, totals, (left, right));
        let mut svg = Svg::default();
        for (x, label) in scale.ticks(56.0) {
            svg.line((x, 8.0), (x, bottom), "--grid", 1.0);
            svg.text((x, bottom + 17.0), Anchor::Middle, "--muted", &label);
        }
        svg.text((right, bottom + 36.0), Anchor::End, "--muted", &self.axis.label);
        for (at, (name, values)) in self.rows.iter().enumerate() {
            let top = 8.0 + pitch * at as f64 + if wide { 6.0 } else { 20.0 };
            let end = self.bar(&mut svg, &scale, top, name, values);
            let sum = short(total(values));
            if wide {
                svg.text((left - 12.0, top + 14.0), Anchor::End, "--ink", &cut(name, left - 12.0));
                svg.text((end + 8.0, top + 14.0), Anchor::Start, "--ink", &sum);
            } else {
                svg.text((left, top - 5.0), Anchor::Start, "--ink", &cut(name, right - 80.0));
                svg.text((right, top - 5.0), Anchor::End, "--ink", &sum);
            }
        }
        svg.element(window, bottom + 44.0, &self.description)
    }

    /// Draws the parts of a bar; returns the pixel where it ends.
    fn bar(&self, svg: &mut Svg, scale: &Scale, top: f64, name: &str, values: &[f64]) -> f64 {
        let mut from = 0.0;
        let mut end = scale.at(0.0).unwrap_or(0.0);
        for (at, value) in values.iter().enumerate().filter(|(_, v)| drawable(**v) && **v > 0.0) {
            let kind = self.kinds.get(at).map_or("", String::as_str);
            let tip = format!("{name}, {kind}: {}", short(*value));
            if let Some(next) = scale.at(from + value) {
                svg.bar((end, top), (next - end, BAR), colour(at), &tip);
                end = next;
            }
            from += value;
        }
        end
    }
}

/// The entry of a kind in the legend.
fn key((at, name): (usize, &String)) -> (&'static str, &'static str, String) {
    (colour(at), "square", name.clone())
}

/// The sum of the values that can be drawn.
fn total(values: &[f64]) -> f64 {
    values.iter().filter(|value| drawable(**value) && **value > 0.0).sum()
}
