//! The tables on the terminal, at most 100 columns wide. The table of `diff` has one line per block, and
//! shows the layers of the blocks that diverge.

#[cfg(test)]
mod tests;

use console::style;
use files::printable;
use record::{
    ArrayState, DiffRecord, Edge, Errors, Layer, LayerVerdict, NotExercised, Stage, Verdict,
};

const WIDTH: usize = 100;
const NAME: usize = 31;
const SHAPE: usize = 14;
const NUMBERS: usize = 16;
const COUNT: usize = 6;

/// The most layers of a block that are shown below its line.
const MOST_OF_A_BLOCK: usize = 6;

/// The table of a comparison and its verdict.
pub fn table(record: &DiffRecord) -> String {
    let sides = format!("{} compared with {}", record.run.candidate, record.run.reference);
    let mut lines = wrapped(&printable(&sides));
    lines.extend(header());
    // A short list is shown whole: the user has asked for these layers.
    let whole = record.layers.len() <= 40;
    for block in blocks(&record.layers) {
        // The whole path of a layer may be too long for a line.
        let grouped = block.len() > 1 || block[0].name.len() > NAME;
        if grouped {
            lines.push(block_line(block));
        }
        let shown = |layer: &&Layer| whole || block.len() == 1 || is_diverged(layer);
        let shown: Vec<&Layer> = block.iter().filter(shown).collect();
        let most = if whole { shown.len() } else { MOST_OF_A_BLOCK };
        lines.extend(shown.iter().take(most).map(|layer| layer_line(layer, grouped)));
        if shown.len() > most {
            lines.push(format!("  … and {} more, which the report shows", shown.len() - most));
        }
        if !whole && block.len() > 1 {
            lines.extend(missing_line(block));
        }
    }
    lines.push(String::new());
    lines.extend(verdict(record));
    lines.join("\n")
}

/// Two lines: the two errors, and below them their two numbers.
fn header() -> Vec<String> {
    let numbers = format!("{:>7} {:>8}", "rel L2", "/allowed");
    let lines = [
        format!("{:NAME$} {:SHAPE$} {:>NUMBERS$} {:>NUMBERS$}", "", "", "own error", "accumulated"),
        format!(
            "{:NAME$} {:SHAPE$} {numbers:>NUMBERS$} {numbers:>NUMBERS$} {:COUNT$} {}",
            "layer", "output", "layers", "verdict"
        ),
    ];
    lines.map(|line| style(line).bold().to_string()).to_vec()
}

/// Splits the layers into blocks, which are runs of layers with the same `block`.
fn blocks(layers: &[Layer]) -> impl Iterator<Item = &[Layer]> {
    layers.chunk_by(|a, b| a.block == b.block)
}

/// Whether a layer is shown below the line of its block.
fn is_diverged(layer: &Layer) -> bool {
    layer.verdict == LayerVerdict::Diverged
}

/// The names of the layers of a block that were not compared, cut to one line.
fn missing_line(block: &[Layer]) -> Option<String> {
    let missing: Vec<&str> =
        block.iter().filter(|layer| layer.verdict == LayerVerdict::NotCompared).map(bare).collect();
    let line = format!("  not compared: {}", missing.join(", "));
    let line = console::truncate_str(&line, WIDTH, "…").into_owned();
    (!missing.is_empty()).then_some(line)
}

/// The name of a layer without the prefix of its block.
fn bare(layer: &Layer) -> &str {
    layer.name.strip_prefix(&format!("{}.", layer.block)).unwrap_or(&layer.name)
}

fn shape(layer: &Layer) -> String {
    let extents: Vec<String> = layer.shape.iter().map(u64::to_string).collect();
    extents.join("x")
}

fn numbers(errors: Option<&Errors>) -> String {
    match errors {
        Some(e) => format!("{:>7} {:>8}", scientific(e.rel_l2), ratio(e.ratio)),
        None => "-".to_owned(),
    }
}

/// An error in at most seven characters.
fn scientific(error: f64) -> String {
    let text = format!("{error:.1e}");
    if text.len() > 7 { format!("{error:.0e}") } else { text }
}

/// An error ratio in at most eight characters.
fn ratio(ratio: f64) -> String {
    match ratio {
        r if r.is_nan() => "NaN".to_owned(),
        r if r.is_infinite() => "inf".to_owned(),
        r if r < 1000.0 => format!("{r:.2}"),
        r => format!("{r:.0e}"),
    }
}

/// The errors with the largest ratio in a block; NaN counts as the largest.
fn worst<'a>(
    block: &'a [Layer],
    errors: impl Fn(&'a Layer) -> Option<&'a Errors>,
) -> Option<&'a Errors> {
    let rank = |e: &Errors| if e.ratio.is_nan() { f64::INFINITY } else { e.ratio };
    block.iter().filter_map(errors).max_by(|a, b| rank(a).total_cmp(&rank(b)))
}

fn block_line(block: &[Layer]) -> String {
    let last = &block[block.len() - 1];
    let aliases: Vec<&str> = block.iter().filter_map(|l| l.alias.as_deref()).collect();
    let count = |wanted: LayerVerdict| block.iter().filter(|l| l.verdict == wanted).count();
    let urgent = [LayerVerdict::Diverged, LayerVerdict::NotCompared, LayerVerdict::Inherited];
    let urgent = urgent.into_iter().find(|verdict| count(*verdict) > 0);
    let (verdict, number) = match urgent {
        Some(verdict) => (verdict, count(verdict)),
        None => (LayerVerdict::Pass, block.len()),
    };
    let alias = match aliases.is_empty() {
        true => String::new(),
        false => format!(" ({})", aliases.join(", ")),
    };
    line(
        &format!("{}{alias}", last.block),
        &shape(last),
        worst(block, |l| l.introduced.as_ref()),
        worst(block, |l| l.inherited.as_ref()),
        &number.to_string(),
        verdict,
    )
}

fn layer_line(layer: &Layer, indented: bool) -> String {
    let name = match indented {
        true => format!("  {}", bare(layer)),
        false => layer.name.clone(),
    };
    let (own, accumulated) = (layer.introduced.as_ref(), layer.inherited.as_ref());
    line(&name, &shape(layer), own, accumulated, "", layer.verdict)
}

fn line(
    name: &str,
    shape: &str,
    own: Option<&Errors>,
    accumulated: Option<&Errors>,
    count: &str,
    verdict: LayerVerdict,
) -> String {
    let (own, accumulated, verdict) = (numbers(own), numbers(accumulated), paint(verdict));
    let name = console::truncate_str(name, NAME, "…");
    let shape = console::truncate_str(shape, SHAPE, "…");
    format!(
        "{name:NAME$} {shape:SHAPE$} {own:>NUMBERS$} {accumulated:>NUMBERS$} {count:>COUNT$} {verdict}"
    )
}

fn paint(verdict: LayerVerdict) -> String {
    let text = style(verdict.words());
    match verdict {
        LayerVerdict::Pass | LayerVerdict::Covered => text.green(),
        LayerVerdict::Diverged => text.red().bold(),
        LayerVerdict::Inherited | LayerVerdict::NotCompared => text.yellow(),
    }
    .to_string()
}

/// The verdict on a comparison, in capitals where it is the verdict on the run.
fn painted(verdict: Verdict, capitals: bool) -> String {
    let word = verdict.as_str();
    let text = style(if capitals { word.to_uppercase() } else { word.to_owned() });
    match verdict {
        Verdict::Pass => text.green(),
        Verdict::Diverged => text.red(),
        Verdict::Incomplete => text.yellow(),
    }
    .bold()
    .to_string()
}

fn verdict(record: &DiffRecord) -> Vec<String> {
    let count = |wanted| record.layers.iter().filter(|l| l.verdict == wanted).count();
    let missing = count(LayerVerdict::NotCompared);
    let covered = count(LayerVerdict::Covered);
    let compared = record.layers.len() - missing - covered;
    let mut counts = format!("{compared} of {} layers compared", record.layers.len());
    if covered > 0 {
        counts += &format!(", {covered} checked through the next layer");
    }
    if missing > 0 {
        counts += &format!(", {missing} not compared");
    }
    let refused = record.ledger.iter().filter(|e| e.state == ArrayState::Refused).count();
    if refused > 0 {
        let noun = if refused == 1 { "array" } else { "arrays" };
        counts += &format!(", {refused} {noun} refused");
    }
    let untested = record.not_exercised.iter().filter(|mistake| !mistake.at_edge).count();
    if untested > 0 {
        let noun = if untested == 1 { "mistake" } else { "mistakes" };
        counts += &format!("; {untested} known {noun} not exercised");
    }
    let mut lines: Vec<String> = record.preprocessing.iter().flat_map(stage_lines).collect();
    lines.push(format!(
        "rel L2: relative L2 error; /allowed: error / allowed rounding error, passes up to {}",
        record.bound
    ));
    lines.extend(wrapped(&format!("{}  {counts}", painted(record.verdict, true))));
    if let Some(culprit) = &record.culprit {
        let text = wrapped(&printable(&culprit.text));
        lines.extend(text.iter().map(|line| style(line).bold().to_string()));
        lines.extend(culprit.explanation.iter().flat_map(|text| wrapped(&printable(text))));
    }
    if let Some(logits) = &record.logits {
        // The output of a backbone without a head is its pooled features.
        let head = record.layers.iter().any(|layer| layer.name == "fc");
        let output = if head { "logits" } else { "features" };
        let which = if record.quantisation.is_some() { " without the quantisers" } else { "" };
        lines.push(format!(
            "{output}{which}: relative L2 {:.1e}, max |difference| {:.1e}, cosine {:.9}",
            logits.rel_l2, logits.max_abs, logits.cosine
        ));
    }
    lines.extend(record.edge.iter().flat_map(|edge| wrapped(&edge_line(edge))));
    let mut sentences = vec![];
    let (at_edge, untested): (Vec<_>, Vec<_>) =
        record.not_exercised.iter().partition(|mistake| mistake.at_edge);
    sentences.extend(listed(
        "not exercised at this size, only in the second comparison",
        at_edge.into_iter().map(|mistake| mistake.what.clone()),
    ));
    sentences.extend(listed("not exercised", untested.into_iter().map(untried)));
    sentences.extend(record.remarks.iter().cloned());
    sentences.extend(listed("not matched in the dump", record.unmatched.iter().cloned()));
    lines.extend(sentences.iter().flat_map(|sentence| wrapped(&printable(sentence))));
    lines
}

/// A step before the network, with its difference in words.
fn stage_lines(stage: &Stage) -> Vec<String> {
    let (name, detail) = (printable(&stage.name), printable(&stage.detail));
    wrapped(&format!("{name:18} {} ({detail})", paint(stage.verdict)))
}

/// Breaks a sentence into lines of at most [`WIDTH`] columns.
fn wrapped(sentence: &str) -> Vec<String> {
    let options = textwrap::Options::new(WIDTH).subsequent_indent("  ");
    textwrap::wrap(sentence, options).into_iter().map(String::from).collect()
}

/// A sentence on the second, small comparison.
fn edge_line(edge: &Edge) -> String {
    let [height, width] = edge.size;
    let place = match &edge.first_divergent {
        Some(name) => format!(", first at {name}"),
        None => String::new(),
    };
    format!(
        "second comparison, {} of {height}x{width}: {} ({} layers, worst own error / allowed {}{place})",
        reports::count(edge.clips as usize, "clip"),
        painted(edge.verdict, false),
        edge.compared,
        ratio(edge.worst)
    )
}

fn untried(mistake: &NotExercised) -> String {
    match &mistake.try_size {
        Some(size) => format!("{} (--size {size} exercises it)", mistake.what),
        None => mistake.what.clone(),
    }
}

/// A sentence with the first three items of a list; the report has them all.
fn listed(what: &str, items: impl Iterator<Item = String>) -> Option<String> {
    let items: Vec<String> = items.collect();
    let shown = items.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    match items.len() {
        0 => None,
        1..=3 => Some(format!("{what}: {shown}")),
        n => Some(format!("{what}: {shown} and {} more (see the report)", n - 3)),
    }
}
