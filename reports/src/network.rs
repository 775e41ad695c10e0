//! The network drawn as its blocks, each coloured by its worst budget ratio.

use std::fmt::Write;

use crate::blocks::Block;
use crate::format::{count, escape, short};
use crate::level::Level;

/// Where things are, for a wide and for a narrow window.
struct Layout {
    class: &'static str,
    width: usize,
    per_row: usize,
    tile: (usize, usize),
    gap: (usize, usize),
    /// Where the first tile of a row starts.
    left: usize,
    /// Room above the rows of a stage for its name; 0 puts the name at the left.
    heading: usize,
}

/// The two layouts.
const LAYOUTS: [Layout; 2] = [
    Layout {
        class: "wide",
        width: 1040,
        per_row: 6,
        tile: (134, 66),
        gap: (14, 18),
        left: 152,
        heading: 0,
    },
    Layout {
        class: "narrow",
        width: 344,
        per_row: 3,
        tile: (106, 64),
        gap: (12, 16),
        left: 1,
        heading: 24,
    },
];

/// The height of the strip that shows the inherited error.
const STRIP: usize = 9;

/// The drawing in every layout.
pub(crate) fn draw(blocks: &[Block<'_>], bound: f64) -> String {
    LAYOUTS.iter().map(|layout| draw_in(layout, blocks, bound)).collect()
}

/// The blocks of each stage, in order.
pub(crate) fn stages<'b, 'a>(blocks: &'b [Block<'a>]) -> impl Iterator<Item = &'b [Block<'a>]> {
    blocks.chunk_by(|a, b| a.stage() == b.stage())
}

fn draw_in(layout: &Layout, blocks: &[Block<'_>], bound: f64) -> String {
    let mut body = String::new();
    let mut places = Vec::new();
    let mut top = 1;
    for stage in stages(blocks) {
        body.push_str(&heading(layout, stage, top));
        top += layout.heading;
        for row in stage.chunks(layout.per_row) {
            for (column, block) in row.iter().enumerate() {
                let left = layout.left + column * (layout.tile.0 + layout.gap.0);
                places.push((left, top));
                body.push_str(&tile(layout, block, bound, (left, top)));
            }
            top += layout.tile.1 + layout.gap.1;
        }
    }
    let height = top.saturating_sub(layout.gap.1) + 1;
    format!(
        "<svg class=\"net net-{class}\" viewBox=\"0 0 {width} {height}\" role=\"group\" \
         aria-label=\"The blocks of the network\">{wires}{body}</svg>",
        class = layout.class,
        width = layout.width,
        wires = wires(layout, &places),
    )
}

/// The name of a stage and the shape that leaves it.
fn heading(layout: &Layout, stage: &[Block<'_>], top: usize) -> String {
    let (Some(first), Some(last)) = (stage.first(), stage.last()) else { return String::new() };
    let name = escape(first.stage());
    let shape = escape(last.shape().unwrap_or_default());
    let blocks = count(stage.len(), "block");
    if layout.heading > 0 {
        return format!(
            "<text x=\"0\" y=\"{y}\"><tspan class=\"stage\">{name}</tspan>\
             <tspan class=\"shape\" dx=\"8\">{shape}</tspan></text>",
            y = top + layout.heading - 9,
        );
    }
    format!(
        "<text class=\"stage\" x=\"0\" y=\"{name_y}\">{name}</text>\
         <text class=\"shape\" x=\"0\" y=\"{shape_y}\">{shape}</text>\
         <text class=\"shape\" x=\"0\" y=\"{blocks_y}\">{blocks}</text>",
        name_y = top + 22,
        shape_y = top + 41,
        blocks_y = top + 57,
    )
}

/// One block: a link to its details.
fn tile(layout: &Layout, block: &Block<'_>, bound: f64, (x, y): (usize, usize)) -> String {
    let (width, height) = layout.tile;
    let level = block.level(bound);
    let strip = Level::of(block.inherited, bound);
    let mark = mark(block.verdict);
    let aliases: Vec<&str> = block.aliases().collect();
    let mut svg = String::new();
    // Writing into a string cannot fail.
    let _ = write!(
        svg,
        "<a href=\"#{anchor}\" class=\"tile is-{level}\" transform=\"translate({x} {y})\">\
         <title>{title}</title>\
         <rect class=\"body\" width=\"{width}\" height=\"{height}\" rx=\"7\"/>\
         <rect class=\"pattern\" width=\"{width}\" height=\"{height}\" rx=\"7\"/>\
         <path class=\"strip strip-{strip}\" d=\"M1 {strip_y}h{inner}v{straight}a6 6 0 0 1-6 6h-{flat}\
         a6 6 0 0 1-6-6z\"/>\
         <text class=\"name\" x=\"10\" y=\"19\">{name}</text>\
         <text class=\"alias\" x=\"{right}\" y=\"19\">{alias}</text>\
         <text class=\"ratio\" x=\"10\" y=\"{ratio_y}\">{ratio}</text>\
         <text class=\"mark\" x=\"{right}\" y=\"{ratio_y}\">{mark}</text></a>",
        anchor = escape(&block.anchor),
        level = level.class(),
        title = escape(&title(block)),
        strip = strip.class(),
        strip_y = height - STRIP,
        inner = width - 2,
        straight = STRIP - 7,
        flat = width - 14,
        name = escape(block.name),
        alias = escape(&short_list(&aliases)),
        ratio = block.ratio.map_or_else(|| "–".to_owned(), fitting),
        ratio_y = height - STRIP - 10,
        right = width - 10,
    );
    svg
}

/// A ratio that leaves room for the sign beside it.
fn fitting(ratio: f64) -> String {
    const LONGEST: usize = 6;
    let text = short(ratio);
    if text.len() > LONGEST { format!("{ratio:.0e}") } else { text }
}

/// As many aliases as fit into a tile.
fn short_list(aliases: &[&str]) -> String {
    match aliases {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first, rest @ ..] => format!("{first} +{}", rest.len()),
    }
}

/// What colour says, said again by a sign.
fn mark(verdict: &str) -> &'static str {
    const MARKS: [(&str, &str); 4] =
        [("pass", "✓"), ("diverged", "✗"), ("inherited", "↓"), ("not_compared", "?")];
    MARKS.iter().find(|(name, _)| *name == verdict).map_or("", |(_, mark)| mark)
}

/// The block in words.
fn title(block: &Block<'_>) -> String {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "not measured".to_owned(), short);
    format!(
        "{}: {}; worst ratio introduced {}, inherited {}; {}",
        block.name,
        block.verdict.replace('_', " "),
        ratio(block.ratio),
        ratio(block.inherited),
        count(block.rows.len(), "layer"),
    )
}

/// The lines along which the signal runs: straight within a row, an elbow between rows.
fn wires(layout: &Layout, places: &[(usize, usize)]) -> String {
    let (width, height) = layout.tile;
    let mut path = String::new();
    for pair in places.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        // Writing into a string cannot fail.
        let _ = if y0 == y1 {
            write!(path, "M{} {}H{x1}", x0 + width, y0 + height / 2)
        } else {
            let turn = y0 + height + layout.gap.1 / 2;
            let (from, to) = (x0 + width / 2, x1 + width / 2);
            write!(path, "M{from} {}V{turn}H{to}V{y1}", y0 + height)
        };
    }
    format!("<path class=\"wire\" d=\"{path}\"/>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_draws_no_tile() {
        let svg = draw(&[], 4.0);
        assert!(!svg.contains("<a "), "{svg}");
        assert_eq!(svg.matches("<svg").count(), LAYOUTS.len());
    }
}
