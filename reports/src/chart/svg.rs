//! The elements of a drawing. Colours are variables of the style sheet, so that they follow the theme.

use std::fmt::Write;

use super::Window;
use crate::format::escape;

/// The shapes of the marks, one for each series, so that they can be told apart without colours.
pub(super) const MARKS: [&str; 6] = ["circle", "square", "triangle", "diamond", "down", "ring"];

/// Which point of a text lies at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// The body of a drawing. Writing into a string cannot fail, so its errors are dropped.
#[derive(Default)]
pub(super) struct Svg(String);

impl Svg {
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: f64) {
        let _ = write!(
            self.0,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"var({colour})\" stroke-width=\"{width}\"/>"
        );
    }

    pub fn dashed(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
        let _ = write!(
            self.0,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"var({colour})\" stroke-width=\"1.5\" stroke-dasharray=\"5 4\"/>"
        );
    }

    pub fn curve(&mut self, points: &[(f64, f64)], colour: &str) {
        let list: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(
            self.0,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"var({colour})\" stroke-width=\"2\"/>",
            list.join(" ")
        );
    }

    /// A text with a halo in the colour of the page, so that it can be read on top of lines.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, colour: &str, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let _ = write!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\"{anchor} fill=\"var({colour})\" font-size=\"12\" \
             stroke=\"var(--paper)\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
            escape(words)
        );
    }

    /// The mark of a series with its tooltip.
    pub fn mark(&mut self, (x, y): (f64, f64), series: usize, tip: &str) {
        let colour = super::colour(series);
        let shape = match MARKS[series % MARKS.len()] {
            "square" => format!("M{:.1} {:.1}h9v9h-9z", x - 4.5, y - 4.5),
            "triangle" => format!("M{x:.1} {:.1}l5.5 9.5h-11z", y - 6.0),
            "down" => format!("M{x:.1} {:.1}l5.5 -9.5h-11z", y + 6.0),
            "diamond" => format!("M{x:.1} {:.1}l5.5 5.5l-5.5 5.5l-5.5 -5.5z", y - 5.5),
            _ => format!("M{:.1} {y:.1}a4.7 4.7 0 1 0 9.4 0a4.7 4.7 0 1 0 -9.4 0z", x - 4.7),
        };
        let _ = write!(
            self.0,
            "<path d=\"{shape}\" fill=\"var({colour})\" stroke=\"var(--card)\" stroke-width=\"1\">\
             <title>{}</title></path>",
            escape(tip)
        );
    }

    /// A small ring for a single measurement behind a mark.
    pub fn ring(&mut self, (x, y): (f64, f64), colour: &str, tip: &str) {
        let _ = write!(
            self.0,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.8\" fill=\"var(--card)\" \
             stroke=\"var({colour})\"><title>{}</title></circle>",
            escape(tip)
        );
    }

    pub fn bar(
        &mut self,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        colour: &str,
        tip: &str,
    ) {
        let _ = write!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"var({colour})\" stroke=\"var(--card)\" stroke-width=\"1\"><title>{}</title></rect>",
            escape(tip)
        );
    }

    /// The complete element. The page hides all drawings but the one for its width; screen readers read
    /// the description here and the values in the table under the figure.
    pub fn element(self, window: Window, height: f64, description: &str) -> String {
        format!(
            "<svg class=\"plot-{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{label}\" font-family=\"system-ui, sans-serif\">{body}</svg>",
            class = window.class(),
            width = window.width(),
            label = escape(description),
            body = self.0,
        )
    }
}

/// The width of a text in pixels, as wide fonts (DejaVu Sans, Verdana) have it.
pub(super) fn width_of(words: &str) -> f64 {
    words.chars().map(width).sum()
}

fn width(letter: char) -> f64 {
    match letter {
        'A'..='Z' | 'm' | 'w' | '%' | '…' => 8.8,
        '0'..='9' | '+' | '−' | '×' => 7.7,
        'f' | 'i' | 'j' | 'l' | 'r' | 't' | ' ' | '.' | ',' | ':' | '-' | '(' | ')' => 4.6,
        _ => 7.3,
    }
}

/// A text cut to a width, with an ellipsis where something is missing.
pub(super) fn cut(words: &str, room: f64) -> String {
    if width_of(words) <= room {
        return words.to_owned();
    }
    let mut left = room - width('…');
    let fits = |letter: &char| {
        left -= width(*letter);
        left >= 0.0
    };
    let kept: String = words.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}
