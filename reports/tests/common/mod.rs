//! Records for the tests. Their numbers follow rules; none comes from a run.

// Each test binary uses only a part of this module.
#![allow(dead_code)]

use std::collections::BTreeMap;

use record::*;

pub mod bench;
pub mod browser;
pub mod gpu;
pub mod look;
pub mod null;
pub mod study;

/// Number of blocks, output channels and side of the map for each stage of depth 50.
const STAGES: [(usize, u64, u64); 4] = [(3, 256, 56), (4, 512, 28), (6, 1024, 14), (3, 2048, 7)];

/// The modules of one block with their kinds.
const MODULES: [(&str, LayerKind); 25] = [
    ("conv1", LayerKind::Conv),
    ("bn1", LayerKind::Bn),
    ("relu1", LayerKind::Relu),
    ("conv2.gate.pool", LayerKind::Pool),
    ("conv2.gate.fc1", LayerKind::Conv),
    ("conv2.gate.bn", LayerKind::Bn),
    ("conv2.gate.relu", LayerKind::Relu),
    ("conv2.gate.fc2", LayerKind::Conv),
    ("conv2.gate.sigmoid", LayerKind::Sigmoid),
    ("conv2.temporal_conv", LayerKind::Conv),
    ("conv2.spatial_conv.short_conv", LayerKind::Conv),
    ("conv2.spatial_conv.glo_conv.0", LayerKind::Conv),
    ("conv2.spatial_conv.glo_conv.1", LayerKind::Bn),
    ("conv2.spatial_conv.glo_conv.2", LayerKind::Relu),
    ("conv2.spatial_conv.pos_embed", LayerKind::PosEmbed),
    ("conv2.spatial_conv.glo_conv.3", LayerKind::Conv),
    ("conv2.spatial_conv.glo_conv.4", LayerKind::Bn),
    ("conv2.spatial_conv.glo_conv.5", LayerKind::Relu),
    ("conv2.spatial_conv.glo_conv.6", LayerKind::Conv),
    ("conv2.spatial_conv", LayerKind::SpatialConv),
    ("conv2", LayerKind::Ctl),
    ("bn2", LayerKind::Bn),
    ("conv3", LayerKind::Conv),
    ("bn3", LayerKind::Bn),
    ("", LayerKind::Block),
];

/// A reproducible number between 0 and 1 that looks random.
pub fn noise(seed: usize) -> f64 {
    let x = (seed as f64 * 12.9898).sin() * 43_758.545_3;
    x - x.floor()
}

/// Finite errors with the given error ratio.
pub fn errors(ratio: f64, e_ref: f64) -> Errors {
    Errors {
        rel_l2: ratio * e_ref,
        max_abs: 6.0 * ratio * e_ref,
        max_rel: 5.0 * ratio * e_ref,
        ulp: (ratio * 9.0) as u64,
        cosine: 1.0 - (ratio * e_ref).powi(2) / 2.0,
        ratio,
        e_ref,
        nan: 0,
        inf: 0,
    }
}

/// Errors with `value` in every float and the largest possible counts.
pub fn broken(value: f64) -> Errors {
    Errors {
        rel_l2: value,
        max_abs: value,
        max_rel: value,
        ulp: u64::MAX,
        cosine: value,
        ratio: value,
        e_ref: value,
        nan: u64::MAX,
        inf: u64::MAX,
    }
}

pub fn layer(name: &str, kind: LayerKind, block: &str, depth: usize) -> Layer {
    Layer {
        name: name.into(),
        alias: None,
        kind,
        block: block.into(),
        shape: vec![64, 112, 112],
        params: 1_000 * depth as u64,
        macs: 37_000 * depth as u64,
        n: 8.0,
        introduced: Some(errors(0.4 + 0.9 * noise(depth), 1.2e-7)),
        inherited: Some(errors(0.5 + 1.1 * noise(depth + 999), 2e-7 + 2e-9 * depth as f64)),
        verdict: LayerVerdict::Pass,
        covered_by: None,
        note: None,
    }
}

pub fn run(kind: &str) -> Run {
    Run {
        command: ["harness", kind, "--weights", "formula:0"].map(String::from).to_vec(),
        git: Some(Git { revision: "be56d14c0ffee".into(), dirty: true }),
        machine: Machine {
            cpu: "Xeon".into(),
            extensions: ["avx2", "fma"].map(String::from).to_vec(),
            gpu: None,
            cores: 2,
            memory_gib: 23.4,
            os: "Debian 12".into(),
        },
        versions: BTreeMap::from([
            ("harness".into(), "0.1.0".into()),
            ("libtorch".into(), "2.11.0".into()),
        ]),
        started: "2026-11-23T07:01:02Z".into(),
        seconds: 12.3,
        seeds: BTreeMap::from([("weights".into(), 0)]),
        candidate: "scalar f32 on cpu".into(),
        reference: "libtorch f64 on cpu".into(),
        yardstick: "libtorch f32 on cpu".into(),
        weights: "formula:0".into(),
        input: "formula:0".into(),
        model: Model {
            depth: 50,
            width: 1.0,
            frames: 16,
            size: [224, 224],
            classes: 400,
            pos_dim: vec![56, 28, 14, 7],
            more: BTreeMap::new(),
        },
    }
}

fn block_layers(layers: &mut Vec<Layer>, block: &str, ctl: usize, shape: &[u64]) {
    for (module, kind) in MODULES {
        let name = format!("{block}.{module}");
        let mut new = layer(name.trim_end_matches('.'), kind, block, layers.len());
        new.shape = shape.to_vec();
        new.alias = (kind == LayerKind::Ctl).then(|| format!("ctl{ctl}"));
        layers.push(new);
    }
}

fn network() -> Vec<Layer> {
    let mut layers = Vec::new();
    for (name, kind) in [
        ("input", LayerKind::Input),
        ("conv1", LayerKind::Conv),
        ("bn1", LayerKind::Bn),
        ("relu", LayerKind::Relu),
        ("maxpool", LayerKind::Pool),
    ] {
        let depth = layers.len();
        layers.push(layer(name, kind, "stem", depth));
    }
    let mut ctl = 0;
    for (stage, (blocks, channels, side)) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            ctl += 1;
            let name = format!("layer{}.{block}", stage + 1);
            block_layers(&mut layers, &name, ctl, &[channels, side, side]);
        }
    }
    let depth = layers.len();
    let mut pool = layer("avgpool", LayerKind::Pool, "head", depth);
    pool.shape = vec![2048];
    let mut fc = layer("fc", LayerKind::Linear, "head", depth + 1);
    fc.shape = vec![400];
    layers.extend([pool, fc]);
    layers
}

/// Depth 50 and additional layers up to 450, all within the bound.
fn file(path: &str) -> SourceFile {
    let sha256 = "0123456789abcdef".repeat(4);
    SourceFile { role: "weights".into(), path: path.into(), bytes: 115_698_432, sha256 }
}

pub fn passing() -> DiffRecord {
    let mut layers = network();
    for extra in layers.len()..450 {
        layers.push(layer(&format!("head.extra.{extra}"), LayerKind::Relu, "head", extra));
    }
    DiffRecord {
        verdict: Verdict::Pass,
        first_divergent: None,
        cause: None,
        explanation: None,
        next: None,
        culprit: None,
        logits: Some(errors(0.9, 3e-7)),
        bound: 4.0,
        layers,
        unmatched: Vec::new(),
        ledger: vec![],
        remarks: vec![],
        not_exercised: vec![],
        edge: None,
        clips: None,
        quantisation: None,
        preprocessing: vec![],
        heatmap: None,
        files: vec![file("checkpoint.pth")],
        run: run("diff"),
    }
}

const FAULTY: &str = "layer4.0.conv2.spatial_conv.pos_embed";

/// One layer is wrong, and its error is in the accumulated error of all later layers.
pub fn diverged() -> DiffRecord {
    let mut record = passing();
    record.layers = network();
    let mut after_fault = false;
    for layer in &mut record.layers {
        if after_fault {
            layer.inherited = layer.inherited.map(|e| errors(e.ratio * 900.0, e.e_ref));
            layer.verdict = LayerVerdict::Inherited;
        }
        if layer.name == FAULTY {
            after_fault = true;
            layer.introduced = Some(errors(7_300.0, 1.2e-7));
            layer.inherited = layer.introduced;
            layer.verdict = LayerVerdict::Diverged;
        }
    }
    record.verdict = Verdict::Diverged;
    record.first_divergent = Some(FAULTY.into());
    record.culprit = Some(culprit());
    record.logits = Some(errors(412.0, 3e-7));
    record.heatmap = Some(heatmap(28, 28));
    record
}

fn culprit() -> Culprit {
    let hypothesis = |what: &str, ratio, fits| Hypothesis { what: what.into(), ratio, fits };
    Culprit {
        name: FAULTY.into(),
        alias: Some("ctl14".into()),
        composite: Some("layer4.0.conv2.spatial_conv".into()),
        text: "first goes wrong at layer4.0.conv2.spatial_conv (ctl14): pos_embed".into(),
        after: None,
        unseen: vec![],
        explanation: Some("The embedding looks resized with align_corners off.".into()),
        hypotheses: vec![
            hypothesis("align_corners off", 0.7, true),
            hypothesis("no positional embedding", 880.0, false),
        ],
    }
}

/// A map whose error grows towards the border, as after a wrong resize.
pub fn heatmap(height: usize, width: usize) -> Heatmap {
    let value = |index: usize| {
        let (y, x) = ((index / width) as f64, (index % width) as f64);
        let (dy, dx) = (y / height as f64 - 0.5, x / width as f64 - 0.5);
        1e-6 + 8e-4 * (dy * dy + dx * dx) * (0.6 + 0.4 * noise(index))
    };
    Heatmap {
        layer: FAULTY.into(),
        what: ErrorKind::Introduced,
        height,
        width,
        values: (0..height * width).map(value).collect(),
    }
}

/// Some layers are checked through others, some were not compared, some names have no module.
pub fn incomplete() -> DiffRecord {
    let mut record = passing();
    record.layers = network();
    for layer in &mut record.layers {
        let missing = layer.block.starts_with("layer3.4") || layer.block == "layer3.5";
        if missing || layer.kind == LayerKind::Relu {
            layer.introduced = None;
            layer.inherited = None;
            layer.verdict = LayerVerdict::Covered;
            layer.covered_by = Some("the layer around".into());
        }
        if missing {
            layer.verdict = LayerVerdict::NotCompared;
            layer.covered_by = None;
        }
    }
    record.verdict = Verdict::Incomplete;
    record.logits = None;
    record.unmatched = vec!["backbone.extra.weight".into(), "Conv_7".into()];
    record
}

/// NaN, infinity, zero and other extreme values in place of all floats.
pub fn extreme() -> DiffRecord {
    let mut record = diverged();
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, 5e-324, -3.0];
    for (index, layer) in record.layers.iter_mut().enumerate() {
        layer.introduced = Some(broken(values[index % values.len()]));
        layer.inherited = Some(broken(values[(index / 3) % values.len()]));
        layer.n = values[index % values.len()];
        (layer.params, layer.macs) = (u64::MAX, u64::MAX);
    }
    if let Some(map) = &mut record.heatmap {
        let count = values.len();
        map.values.iter_mut().enumerate().for_each(|(i, v)| *v = values[i % count]);
    }
    record.logits = Some(broken(f64::NAN));
    record.run.seconds = f64::INFINITY;
    record.run.machine.memory_gib = f64::NAN;
    record
}

/// A record without layers.
pub fn empty() -> DiffRecord {
    DiffRecord { layers: Vec::new(), logits: None, verdict: Verdict::Incomplete, ..passing() }
}

/// Text that would run a script or load an image if it were not escaped.
pub const HOSTILE: &str =
    "</script><script>document.title='taken'</script>\"'><img src=x onerror=alert(1)>{{7*7}}&";

/// Markup in place of all texts.
pub fn hostile() -> DiffRecord {
    let mut record = diverged();
    for layer in record.layers.iter_mut().take(60) {
        layer.name = format!("{HOSTILE}{}", layer.name);
        layer.block = format!("{HOSTILE}{}", layer.block);
        layer.alias = Some(HOSTILE.into());
        layer.note = Some(HOSTILE.into());
        layer.covered_by = Some(HOSTILE.into());
    }
    let text = || HOSTILE.to_owned();
    record.first_divergent = Some(text());
    record.unmatched = vec![text()];
    record.files = vec![file(HOSTILE)];
    if let Some(culprit) = &mut record.culprit {
        (culprit.text, culprit.explanation) = (text(), Some(text()));
        culprit.hypotheses[0].what = text();
    }
    if let Some(map) = &mut record.heatmap {
        map.layer = text();
    }
    let run = &mut record.run;
    run.command.push(text());
    (run.candidate, run.reference, run.yardstick) = (text(), text(), text());
    (run.weights, run.input, run.started) = (text(), text(), text());
    (run.machine.cpu, run.machine.os) = (text(), text());
    run.versions.insert(text(), text());
    run.seeds.insert(text(), 1);
    run.model.more.insert(text(), serde_json::json!({ HOSTILE: HOSTILE }));
    record
}

/// Three kinds of faults, one of which was missed twice.
pub fn selftest() -> SelftestRecord {
    let fault = |name: &str, detected: usize, named: usize| Fault {
        fault: name.into(),
        injected: 20,
        detected: detected as u64,
        named: named as u64,
        places: (0..20).map(|i| place(i, i < detected, i < named)).collect(),
    };
    let faults = vec![
        fault("swapped weights", 20, 20),
        fault("eps 1e-3", 20, 19),
        fault("bf16 in one layer", 18, 17),
    ];
    let confusion = [
        confusion("swapped weights", true, [20, 0, 0, 0]),
        confusion("eps 1e-3", true, [18, 2, 0, 0]),
        confusion("bf16 in one layer", true, [17, 0, 1, 2]),
        confusion("one layer scaled by 1.01", false, [0, 0, 20, 0]),
    ];
    SelftestRecord {
        faults,
        mutations: vec![],
        confusion: confusion.concat(),
        run: run("selftest"),
    }
}

fn mutation() -> Mutation {
    Mutation { made: 12, noticed: 8, covered: 4, ..Mutation::new("dump", "dropped") }
}

/// Entries with the same counts for an engine and for a dump.
fn confusion(planted: &str, known: bool, counts: [u64; 4]) -> Vec<Confusion> {
    let [itself, another, located, missed] = counts;
    let others = (another > 0).then(|| ("eps 0 <instead> of 1e-5".to_owned(), another));
    ["engine", "dump"]
        .map(|setting| Confusion {
            planted: planted.into(),
            known,
            setting: setting.into(),
            itself,
            another,
            located,
            missed,
            others: others.clone().into_iter().collect(),
        })
        .to_vec()
}

fn place(index: usize, detected: bool, right: bool) -> Place {
    let module = format!("layer{}.0.bn{}", 1 + index % 4, 1 + index % 3);
    let named = if right { module.clone() } else { "fc".to_owned() };
    Place {
        named: detected.then_some(named),
        module,
        detected,
        setting: "engine".into(),
        size: "72x88".into(),
        explanation: (index == 0).then(|| "the bias is missing".to_owned()),
        ratio: if index == 3 { f64::NAN } else { 1e3 * noise(index) },
    }
}

/// All records of this module, by name.
pub fn all() -> Vec<(&'static str, Record)> {
    let diff = |record: DiffRecord| Record::Diff(Box::new(record));
    vec![
        ("pass", diff(passing())),
        ("diverged", diff(diverged())),
        ("incomplete", diff(incomplete())),
        ("extreme", diff(extreme())),
        ("empty", diff(empty())),
        ("hostile", diff(hostile())),
        ("selftest", Record::Selftest(Box::new(selftest()))),
        ("eval", Record::Eval(Box::new(study::eval()))),
        ("train", Record::Train(Box::new(study::train()))),
        ("ablate", Record::Ablate(Box::new(study::ablate()))),
        ("bench", Record::Bench(Box::new(bench::bench()))),
        ("bench-hostile", Record::Bench(Box::new(bench::hostile()))),
        ("bench-empty", Record::Bench(Box::new(bench::empty()))),
        ("gpu", Record::Gpu(Box::new(gpu::checked()))),
        ("gpu-hostile", Record::Gpu(Box::new(gpu::hostile()))),
        ("null", Record::Null(Box::new(null::healthy()))),
        ("null-stopped", Record::Null(Box::new(null::stopped()))),
        ("null-hostile", Record::Null(Box::new(null::hostile()))),
    ]
}
