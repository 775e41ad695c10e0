//! Colours that follow the page from light to dark.
//!
//! plotters knows fixed colours only. So each role is drawn in a colour that nobody would choose,
//! and afterwards that colour is replaced by the style sheet's variable for the role.

use plotters::style::RGBColor;

/// What a colour is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// Text and axes.
    Ink = 1,
    /// Text that may stand back.
    Muted = 2,
    /// Grid lines.
    Grid = 3,
    /// The error that a layer introduces.
    Introduced = 4,
    /// The error that it inherits.
    Inherited = 5,
    /// The bound, and what is beyond it.
    Bad = 6,
    /// The fourth series of a chart.
    Fourth = 7,
    /// The fifth.
    Fifth = 8,
}

/// Every role with its variable in the style sheet.
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

/// Attributes that repeat what is the default, or what the style sheet says.
const NOISE: [&str; 4] =
    [r#" opacity="1""#, r#" font-family="sans-serif""#, r#" stroke="none""#, "\n"];

impl Role {
    /// The colour that stands for the role until [`themed`] replaces it.
    pub fn color(self) -> RGBColor {
        RGBColor(self as u8, self as u8, self as u8)
    }

    fn written(self) -> String {
        format!("\"#{0:02X}{0:02X}{0:02X}\"", self as u8)
    }
}

/// The SVG of plotters with variables for colours, without what only makes it larger.
pub(crate) fn themed(svg: &str) -> String {
    let mut svg = svg.to_owned();
    for (role, variable) in VARIABLES {
        svg = svg.replace(&role.written(), &format!("\"var({variable})\""));
    }
    for noise in NOISE {
        svg = svg.replace(noise, "");
    }
    svg
}
