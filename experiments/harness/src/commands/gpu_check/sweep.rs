//! `harness gpu-check --sweep`: times the tilings in a file, and writes which of them are the fastest.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use cuda::device::Device;
use cuda::kernels::measured::{self, Candidate, Row};
use cuda::sweep::{self, PRECISION, Timed};
use serde_json::json;

/// What was measured.
pub(super) struct Swept {
    /// A line for each tiling.
    pub table: String,
    /// The number of tilings whose result differs from that of the first one of their product.
    pub wrong: usize,
    /// Whether the sweep came to its end.
    pub whole: bool,
}

/// Reads the tilings, and puts those of one product next to each other.
pub(super) fn read(path: &Path) -> Result<Vec<Candidate>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name}: cannot be read"))?;
    let candidate = |(at, line): (usize, &str)| {
        line.parse().map_err(|error| anyhow!("{name}, line {at}: {error}"))
    };
    let mut all = measured::lines(&text).map(candidate).collect::<Result<Vec<Candidate>>>()?;
    ensure!(!all.is_empty(), "{name} lists no tiling; write lines such as `49 512 144 64x64 8`");
    all.sort_by_key(|Candidate { product, .. }| (product.pixels, product.outputs, product.steps));
    Ok(all)
}

/// Times the tilings until `go_on` returns false. Writes all times to `sweep.json` in the folder, and a
/// row for each product to `tiles.tsv`.
pub(super) fn run(
    device: &mut dyn Device,
    candidates: &[Candidate],
    folder: &Path,
    mut go_on: impl FnMut() -> bool,
) -> Result<Swept> {
    let mut whole = true;
    let timed = sweep::run(device, candidates, || {
        whole = go_on();
        whole
    })?;
    let fastest: Vec<Candidate> = sweep::fastest(&timed).iter().map(|t| t.candidate).collect();
    let gpu = measured::gpu(device.machine());
    let rows = fastest.iter().map(|&candidate| Row { gpu, precision: PRECISION, candidate });
    let rows: String = rows.map(|row| format!("{row}\n")).collect();
    let described = device.describe();
    write(
        folder,
        "tiles.tsv",
        &format!("# Measured by `harness gpu-check --sweep` on {described}\n{rows}"),
    )?;
    write(folder, "sweep.json", &serde_json::to_string_pretty(&json(&timed))?)?;
    let wrong = timed.iter().filter(|timed| !timed.is_right()).count();
    Ok(Swept { table: table(&timed, &fastest), wrong, whole })
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))
}

fn json(timed: &[Timed]) -> Vec<serde_json::Value> {
    let one = |timed: &Timed| {
        let Candidate { product, tiling } = timed.candidate;
        json!({
            "pixels": product.pixels,
            "outputs": product.outputs,
            "steps": product.steps,
            "tile": tiling.tile.name(),
            "splits": tiling.splits,
            "microseconds": timed.microseconds,
            "difference": timed.difference,
        })
    };
    timed.iter().map(one).collect()
}

/// A line for each tiling, of at most 100 columns.
fn table(timed: &[Timed], fastest: &[Candidate]) -> String {
    let mut text = String::from("   pixels  outputs    steps  tile     splits         us");
    for one in timed {
        let Candidate { product, tiling } = one.candidate;
        let note = match (one.is_right(), fastest.contains(&one.candidate)) {
            (false, _) => "  wrong",
            (true, true) => "  fastest",
            (true, false) => "",
        };
        let _ = write!(
            text,
            "\n{:9}{:9}{:9}  {:8}{:7}{:11.2}{note}",
            product.pixels,
            product.outputs,
            product.steps,
            tiling.tile.name(),
            tiling.splits,
            one.microseconds
        );
    }
    text
}
