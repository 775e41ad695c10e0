//! Draws the network as its blocks, each coloured by its worst error ratio.

use std::fmt::Write;

use record::LayerVerdict;

use crate::blocks::Block;
use crate::format::{count, escape, short};
use crate::ratio_band::RatioBand;

/// Sizes and positions of the drawing for one width of the window, in units of the SVG's view box.
struct Layout {
    /// The style sheet shows or hides the drawing by this class.
    class: &'static str,
    width: usize,
    per_row: usize,
    /// Width and height of a tile.
    tile: (usize, usize),
    /// Horizontal and vertical distance between tiles.
    gap: (usize, usize),
    /// Left edge of the first tile of a row.
    left: usize,
    /// Height above the rows of a stage for its name; if it is 0, the name is left of the rows.
    heading: usize,
}

/// The layouts for wide and for narrow windows; the style sheet shows one of them.
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
        per_row: 2,
        tile: (166, 64),
        gap: (12, 16),
        left: 1,
        heading: 24,
    },
];

/// Height of the strip at the bottom of a tile that shows the accumulated error.
const STRIP: usize = 9;

/// Draws the network in every layout, as SVG elements one after the other.
pub(crate) fn draw(blocks: &[Block<'_>], bound: f64) -> String {
    LAYOUTS.iter().map(|layout| draw_in(layout, blocks, bound)).collect()
}

/// Splits the blocks into runs of the same stage, in order of execution.
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

/// The name of a stage, its output shape and, in the wide layout, its number of blocks.
fn heading(layout: &Layout, stage: &[Block<'_>], top: usize) -> String {
    let (Some(first), Some(last)) = (stage.first(), stage.last()) else { return String::new() };
    let name = escape(first.stage());
    let shape = escape(&last.shape().unwrap_or_default());
    let blocks = count(stage.len(), "block");
    if layout.heading > 0 {
        return format!(
            "<text class=\"heading\" x=\"0\" y=\"{y}\"><tspan class=\"stage\">{name}</tspan>\
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

/// The tile of one block, which links to the block's details.
fn tile(layout: &Layout, block: &Block<'_>, bound: f64, (x, y): (usize, usize)) -> String {
    let (width, height) = layout.tile;
    let band = block.band(bound);
    let strip = RatioBand::of(block.inherited, bound);
    let mark = mark(block.verdict);
    let aliases: Vec<&str> = block.aliases().collect();
    let mut svg = String::new();
    // Writing into a string cannot fail.
    let _ = write!(
        svg,
        "<a href=\"#{anchor}\" class=\"tile is-{band}\" transform=\"translate({x} {y})\">\
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
        band = band.class(),
        title = escape(&title(block)),
        strip = strip.class(),
        strip_y = height - STRIP,
        inner = width - 2,
        straight = STRIP - 7,
        flat = width - 14,
        name = escape(block.name),
        alias = escape(&short_list(&aliases)),
        ratio = block.ratio.map_or_else(|| "–".to_owned(), short_ratio),
        ratio_y = height - STRIP - 10,
        right = width - 10,
    );
    svg
}

/// A ratio in at most six characters, so that there is room for the mark next to it.
fn short_ratio(ratio: f64) -> String {
    const MAX_LENGTH: usize = 6;
    let text = short(ratio);
    if text.len() > MAX_LENGTH { format!("{ratio:.0e}") } else { text }
}

/// The first alias, and the number of the others: a tile has no room for more.
fn short_list(aliases: &[&str]) -> String {
    match aliases {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first, rest @ ..] => format!("{first} +{}", rest.len()),
    }
}

/// A mark for the verdict, for readers who cannot tell the colours apart.
fn mark(verdict: LayerVerdict) -> &'static str {
    match verdict {
        LayerVerdict::Pass | LayerVerdict::Covered => "✓",
        LayerVerdict::Diverged => "✗",
        LayerVerdict::Inherited => "↓",
        LayerVerdict::NotCompared => "?",
    }
}

/// The tooltip of a block: its verdict, its worst ratios and its number of layers.
fn title(block: &Block<'_>) -> String {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "not measured".to_owned(), short);
    format!(
        "{}: {}; worst own error / allowed {}, accumulated {}; {}",
        block.name,
        block.verdict.words(),
        ratio(block.ratio),
        ratio(block.inherited),
        count(block.layers.len(), "layer"),
    )
}

/// The lines between consecutive blocks: straight within a row, with two bends between rows.
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

    #[test]
    fn the_texts_of_a_tile_do_not_touch_in_any_layout() {
        // The widths of a letter at 12, 11, 20 and 17 pixels, in wide fonts.
        let (name, alias, ratio, mark) = (7.0, 6.3, 12.5, 17.0);
        for layout in &LAYOUTS {
            let room = (layout.tile.0 - 20) as f64 - 4.0;
            for (block, aliases) in [("layer3.2", "ctl10 +1"), ("layer3.35", "ctl43")] {
                let used = name * block.len() as f64 + alias * aliases.len() as f64;
                assert!(used <= room, "{}: {block} {aliases}", layout.class);
            }
            for value in [8.74e5, 2.12e5, 0.001_23, f64::MAX, f64::NAN, f64::INFINITY] {
                let used = ratio * short_ratio(value).len() as f64 + mark;
                assert!(used <= room, "{}: {}", layout.class, short_ratio(value));
            }
        }
    }
}
