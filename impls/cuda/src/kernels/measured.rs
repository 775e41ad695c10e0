//! Tilings that were measured on a GPU (`tiles.tsv`, from `harness gpu-check --sweep`). The planner
//! prefers them to its estimates.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use spec::Precision;

use super::is_half;
use super::tile::{Machine, Product, TILES, Tiling};

/// The table: a line for each [`Row`], and comments after `#`.
const TABLE: &str = include_str!("tiles.tsv");

/// A product, and its tiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Size of the product.
    pub product: Product,
    /// How it is divided among blocks.
    pub tiling: Tiling,
}

/// A line of the table: the fastest tiling of a product on a GPU.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Multiprocessors, and KiB of shared memory of a block, of the GPU on which it was measured.
    pub gpu: (usize, usize),
    /// The precision in which it was measured; bf16 stands for f16 as well.
    pub precision: Precision,
    /// The product and its tiling.
    pub candidate: Candidate,
}

/// The lines of a table without comments and blank lines, with their numbers.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn number(word: &str) -> Result<usize, String> {
    match word.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("`{word}` must be a whole number from 1 on")),
    }
}

impl FromStr for Candidate {
    type Err = String;

    /// Reads pixels, outputs, steps, a tile such as 128x64, and splits, with blanks in between.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [pixels, outputs, steps, name, splits] = words[..] else {
            return Err("expected 5 words: pixels, outputs, steps, tile, splits".to_owned());
        };
        let tile = TILES.into_iter().find(|tile| tile.name() == name).ok_or_else(|| {
            let names = TILES.map(|tile| tile.name()).join(", ");
            format!("`{name}` is not a tile; use one of {names}")
        })?;
        let [pixels, outputs, steps, splits] =
            [number(pixels)?, number(outputs)?, number(steps)?, number(splits)?];
        let product = Product { pixels, outputs, steps };
        Ok(Candidate { product, tiling: Tiling { tile, splits } })
    }
}

impl Display for Candidate {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        let Candidate { product: Product { pixels, outputs, steps }, tiling } = self;
        let (tile, splits) = (tiling.tile.name(), tiling.splits);
        write!(to, "{pixels}\t{outputs}\t{steps}\t{tile}\t{splits}")
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.splitn(4, '\t');
        let mut next = || words.next().ok_or("expected 8 words with tabs in between".to_owned());
        let (multiprocessors, shared) = (number(next()?)?, number(next()?)?);
        let precision =
            next()?.parse().map_err(|_| "the third word must be a precision".to_owned())?;
        Ok(Row { gpu: (multiprocessors, shared), precision, candidate: next()?.parse()? })
    }
}

impl Display for Row {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        let Row { gpu: (multiprocessors, shared), precision, candidate } = self;
        write!(to, "{multiprocessors}\t{shared}\t{precision}\t{candidate}")
    }
}

/// How the table names a GPU.
pub fn gpu(machine: Machine) -> (usize, usize) {
    (machine.multiprocessors, machine.shared_bytes >> 10)
}

/// The tiling of a product in the table, if it has one that `may_split` allows.
fn tiling_in(
    table: &str,
    product: Product,
    (gpu, precision): ((usize, usize), Precision),
    may_split: bool,
) -> Option<Tiling> {
    let same = |other: Precision| other == precision || is_half(other) && is_half(precision);
    let mut rows = lines(table).filter_map(|(_, line)| line.parse::<Row>().ok());
    let found =
        rows.find(|row| row.gpu == gpu && same(row.precision) && row.candidate.product == product);
    let found = found?.candidate.tiling;
    (may_split || found.splits == 1).then_some(found)
}

/// The tiling of a product on a GPU: the one that was measured to be the fastest, or the one with
/// the least estimated time.
pub fn tiling(product: Product, machine: Machine, precision: Precision, may_split: bool) -> Tiling {
    let measured = tiling_in(TABLE, product, (gpu(machine), precision), may_split);
    measured.unwrap_or_else(|| product.tiling(machine, may_split))
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: (usize, usize) = (132, 227);

    #[test]
    fn every_line_of_the_table_is_a_row_whose_tile_fits() {
        for (at, line) in lines(TABLE) {
            let row: Row = line.parse().unwrap_or_else(|e| panic!("tiles.tsv, line {at}: {e}"));
            let bytes = row.candidate.tiling.tile.shared_bytes() as usize;
            assert!(bytes <= row.gpu.1 << 10, "tiles.tsv, line {at}: the tile does not fit");
            assert_eq!(row.to_string(), line, "tiles.tsv, line {at}");
        }
    }

    #[test]
    fn a_row_holds_for_its_gpu_product_and_precision_only() {
        let table = "# comment\n132\t227\tbf16\t49\t512\t144\t64x64\t16\n";
        let product = Product { pixels: 49, outputs: 512, steps: 144 };
        let splits = |product, gpu, precision, may_split| {
            tiling_in(table, product, (gpu, precision), may_split).map(|tiling| tiling.splits)
        };
        assert_eq!(splits(product, H100, Precision::Bf16, true), Some(16));
        assert_eq!(splits(product, H100, Precision::F16, true), Some(16));
        assert_eq!(splits(product, H100, Precision::Bf16, false), None);
        assert_eq!(splits(product, H100, Precision::F32, true), None);
        assert_eq!(splits(Product { steps: 143, ..product }, H100, Precision::Bf16, true), None);
        assert_eq!(splits(product, (108, 163), Precision::Bf16, true), None);
    }

    #[test]
    fn a_wrong_line_is_refused_with_a_reason() {
        let error = |text: &str| text.parse::<Candidate>().unwrap_err();
        assert!(error("1 2 3 64x64").contains("5 words"));
        assert!(error("1 2 3 64x63 1").contains("use one of 128x128"));
        assert!(error("1 0 3 64x64 1").contains("`0` must be"));
    }
}
