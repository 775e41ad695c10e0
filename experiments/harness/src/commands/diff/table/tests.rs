use record::{Culprit, Git, LayerKind, Machine, Model as Configuration, Run};
use spec::{Config, Model};

use super::*;

/// What errors may look like, from a good layer to a broken one.
const VALUES: [f64; 9] =
    [0.0, 6.5e-8, 1.2e-310, 0.999_99, 999.999, 1e9, f64::MAX, f64::NAN, f64::INFINITY];

const VERDICTS: [LayerVerdict; 5] = [
    LayerVerdict::Pass,
    LayerVerdict::Diverged,
    LayerVerdict::Inherited,
    LayerVerdict::Covered,
    LayerVerdict::NotCompared,
];

fn errors(value: f64) -> Option<Errors> {
    let (nan, inf) = (u64::from(value.is_nan()), u64::from(value.is_infinite()));
    Some(Errors {
        rel_l2: value,
        max_abs: value,
        max_rel: value,
        ulp: u64::MAX,
        cosine: 1.0,
        ratio: value,
        e_ref: value,
        nan,
        inf,
    })
}

/// The layers of a network of depth 101, whose errors and verdicts take all values in turn.
fn layers() -> Vec<Layer> {
    let config = Config { depth: 101, ..Config::default() };
    let model = Model::new(config).unwrap();
    let layer = |(at, m): (usize, &spec::Module)| Layer {
        name: m.name.clone(),
        alias: m.alias.clone(),
        kind: LayerKind::Conv,
        block: m.name.split('.').take(2).collect::<Vec<_>>().join("."),
        shape: vec![[1, 128, 99_999][at % 3], 2048, 1000, 1000],
        params: 0,
        macs: 0,
        n: 1.0,
        introduced: errors(VALUES[at % VALUES.len()]),
        inherited: errors(VALUES[at / 7 % VALUES.len()]),
        verdict: VERDICTS[at / 3 % VERDICTS.len()],
        covered_by: None,
        note: None,
    };
    model.modules().iter().enumerate().map(layer).collect()
}

fn record(layers: Vec<Layer>) -> DiffRecord {
    let long = "a/very/long/path/".repeat(12);
    let machine = Machine {
        cpu: String::new(),
        extensions: vec![],
        gpu: None,
        cores: 1,
        memory_gib: 1.0,
        os: String::new(),
    };
    let git = Some(Git { revision: String::new(), dirty: false });
    let mistake =
        |_| NotExercised { what: long.clone(), try_size: Some("57x65".into()), at_edge: false };
    let stage = Stage {
        name: "video.resized".into(),
        verdict: LayerVerdict::Inherited,
        detail: format!("\u{1b}[2J{long}"),
    };
    let culprit = Culprit {
        name: long.clone(),
        alias: None,
        composite: None,
        text: format!("first goes wrong at {long}"),
        after: None,
        unseen: vec![],
        explanation: Some(format!("{long} {}", "word ".repeat(40))),
        hypotheses: vec![],
    };
    let edge = Edge {
        clips: 2,
        size: [57, 65],
        verdict: Verdict::Diverged,
        compared: u64::MAX,
        worst: f64::NAN,
        first_divergent: Some(long.clone()),
        culprit: None,
        not_exercised: vec![],
        seconds: 1.0,
    };
    let model = Configuration {
        depth: 101,
        width: 1.0,
        frames: 16,
        size: [224, 224],
        classes: 400,
        pos_dim: vec![],
        more: Default::default(),
    };
    let run = Run {
        command: vec![],
        git,
        machine,
        versions: Default::default(),
        started: String::new(),
        seconds: 1.0,
        seeds: Default::default(),
        candidate: String::new(),
        reference: String::new(),
        yardstick: String::new(),
        weights: String::new(),
        input: String::new(),
        model,
    };
    DiffRecord {
        verdict: Verdict::Diverged,
        first_divergent: Some(long.clone()),
        cause: None,
        explanation: None,
        next: None,
        culprit: Some(culprit),
        logits: errors(f64::NAN),
        bound: 4.0,
        layers,
        unmatched: vec![long.clone(), format!("\u{1b}[31m{long}")],
        ledger: vec![],
        remarks: vec![long.clone(), "word ".repeat(60)],
        not_exercised: (0..12).map(mistake).collect(),
        edge: Some(edge),
        clips: None,
        quantisation: None,
        preprocessing: vec![stage],
        heatmap: None,
        files: vec![],
        run,
    }
}

#[track_caller]
fn assert_fits(table: &str) {
    assert!(table.lines().count() > 10);
    for line in table.lines() {
        let columns = console::measure_text_width(line);
        assert!(columns <= WIDTH, "{columns} columns: {line}");
    }
}

#[test]
fn no_line_is_wider_than_100_columns() {
    let all = layers();
    assert_fits(&table(&record(all.clone())));
    // A short list is shown whole, and a layer that is alone in its block by its whole path.
    let deep = all.iter().filter(|l| l.name.ends_with("glo_conv.3")).take(40);
    assert_fits(&table(&record(deep.cloned().collect())));
    // No block at all.
    let one_block = all.into_iter().map(|l| Layer { block: "stem".into(), ..l });
    assert_fits(&table(&record(one_block.collect())));
}

#[test]
fn columns_stand_below_their_headers() {
    let text = console::strip_ansi_codes(&table(&record(layers()))).into_owned();
    let mut lines = text.lines().skip_while(|line| !line.contains("own error"));
    let (above, header) = (lines.next().unwrap(), lines.next().unwrap());
    let block = lines.find(|line| line.contains(" diverged")).unwrap();
    // Shapes may end in an ellipsis, which is one column of three bytes.
    let start = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
    let end = |line: &str, word: &str| start(line, word).map(|at| at + word.len());
    assert_eq!(end(above, "own error"), end(header, "rel L2 /allowed"));
    assert_eq!(end(above, "accumulated"), start(header, " layers"));
    assert_eq!(start(header, "verdict"), start(block, "diverged"), "{header}\n{block}");
}

#[test]
fn a_layer_alone_in_its_block_keeps_the_end_of_its_path() {
    let name = "layer1.2.conv2.spatial_conv.glo_conv.3";
    let one = layers().into_iter().filter(|layer| layer.name == name);
    let text = table(&record(one.collect()));
    assert!(
        text.contains("\nlayer1.2") && text.contains("  conv2.spatial_conv.glo_conv.3 "),
        "{text}"
    );
}

#[test]
fn names_from_outside_cannot_steer_the_terminal() {
    let text = table(&record(layers()));
    assert!(!text.contains("\u{1b}[2J") && !text.contains("\u{1b}[31ma/very"), "{text}");
}
