//! Colours that follow the page's light or dark theme.
//!
//! plotters knows fixed colours only. Each role is therefore drawn in a placeholder colour, which
//! [`themed`] then replaces by the style sheet's variable for the role.

use plotters::style::RGBColor;

/// The purpose of a colour. The number is the placeholder's red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// Text and axes.
    Ink = 1,
    /// Secondary text and lines.
    Muted = 2,
    /// Grid lines.
    Grid = 3,
    /// Own errors; the first series of a chart.
    Introduced = 4,
    /// Accumulated errors; the second series of a chart.
    Inherited = 5,
    /// The bound, and values above it.
    Bad = 6,
    /// The fourth series of a chart.
    Fourth = 7,
    /// The fifth series of a chart.
    Fifth = 8,
}

/// The roles with their variables in the style sheet.
const VARIABLES: [(Role, &str); 8] = [
    (Role::Ink, "--ink"),
    (Role::Muted, "--muted"),
    (Role::Grid, "--grid"),
    (Role::Introduced, "--introduced"),
    (Role::Inherited, "--inherited"),
    (Role::Bad, "--bad"),
    (Role::Fourth, "--fourth"),
    (Role::Fifth, "--fifth"),
];

/// Attributes that repeat a default or the style sheet, and line breaks.
const REDUNDANT: [&str; 4] =
    [r#" opacity="1""#, r#" font-family="sans-serif""#, r#" stroke="none""#, "\n"];

impl Role {
    /// The placeholder colour of the role.
    pub fn color(self) -> RGBColor {
        RGBColor(self as u8, self as u8, self as u8)
    }

    /// The placeholder colour as plotters writes it into the SVG.
    fn svg_color(self) -> String {
        format!("\"#{0:02X}{0:02X}{0:02X}\"", self as u8)
    }
}

/// Replaces the placeholder colours of plotters' SVG by variables, and removes redundant text.
pub(crate) fn themed(svg: &str) -> String {
    let mut svg = svg.to_owned();
    for (role, variable) in VARIABLES {
        svg = svg.replace(&role.svg_color(), &format!("\"var({variable})\""));
    }
    for text in REDUNDANT {
        svg = svg.replace(text, "");
    }
    svg
}
