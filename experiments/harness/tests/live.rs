//! Live candidates: `python:FILE:FUNCTION`. PyTorch and Flax run in environments that `scripts/test` makes;
//! HARNESS_TORCH_PYTHON and HARNESS_FLAX_PYTHON name their interpreters.

mod common;

use common::{Harness, Run};
use serde_json::Value;
use skip::skip;

const SMALL: [&str; 6] = ["--width", "0.125", "--classes", "7", "--frames", "8"];

struct Ports {
    harness: Harness,
    python: String,
    file: String,
}

impl Ports {
    /// The ports in PyTorch; `None` if there is no PyTorch, which is reported.
    fn torch() -> Option<Ports> {
        let python = std::env::var("HARNESS_TORCH_PYTHON").ok();
        if python.is_none() {
            skip!(Pytorch, "live PyTorch models");
        }
        Some(Ports::new(python?, "torch_ports.py"))
    }

    /// The ports in Flax; `None` if there is no Flax, which is reported.
    fn flax() -> Option<Ports> {
        let python = std::env::var("HARNESS_FLAX_PYTHON").ok();
        if python.is_none() {
            skip!(Flax, "live Flax models");
        }
        Some(Ports::new(python?, "flax_ports.py"))
    }

    fn new(python: String, file: &str) -> Ports {
        let file = format!("{}/tests/live/{file}", env!("CARGO_MANIFEST_DIR"));
        Ports { harness: Harness::new(), python, file }
    }

    /// Compares a port of depth 10 on frames of 64 x 64.
    fn diff(&self, function: &str, more: &[&str]) -> Run {
        self.diff_at(function, "10", "64", more)
    }

    fn diff_at(&self, function: &str, depth: &str, size: &str, more: &[&str]) -> Run {
        let candidate = format!("python:{}:{function}", self.file);
        let fixed = ["--candidate", &candidate, "--python", &self.python];
        let model = ["--depth", depth, "--size", size];
        self.harness.diff(&[&fixed, &model, &SMALL[..], more].concat())
    }
}

fn compared(record: &Value) -> usize {
    let layers = record["layers"].as_array().unwrap();
    layers.iter().filter(|layer| !layer["introduced"].is_null()).count()
}

#[track_caller]
fn remark(record: &Value, words: &str) {
    let remarks = record["remarks"].as_array().unwrap();
    let found = remarks.iter().any(|remark| remark.as_str().unwrap().contains(words));
    assert!(found, "no {words:?} in {remarks:#?}");
}

#[test]
fn a_right_port_passes_with_every_module_fed() {
    let Some(ports) = Ports::torch() else { return };
    let record = ports.diff("right", &[]).passes();
    // Only the positional embeddings and the mean before the classifier are not modules of this port.
    let layers = record["layers"].as_array().unwrap().len();
    assert_eq!(compared(&record), layers - 8 - 1, "of {layers}");
    assert_eq!(record["edge"]["verdict"], "pass");
    ports.diff_at("right", "18", "64", &[]).passes();
    remark(&record, "two runs of the candidate gave the same bits");
    remark(&record, "tensors are those of formula:0");
}

#[test]
fn a_port_may_be_wrapped_or_take_a_checkpoint_or_compute_in_place() {
    let Some(ports) = Ports::torch() else { return };
    let record = ports.diff("prefixed", &["--no-edge"]).passes();
    remark(&record, "model.eval() was called");
    ports.diff("from_checkpoint", &["--no-edge"]).passes();
    remark(&ports.diff("half", &["--no-edge"]).passes(), "bf16 on cpu");
    let record = ports.diff("channels_last", &["--no-edge"]).passes();
    remark(&record, "the clip was given as nthwc");
    assert!(compared(&ports.diff("in_place", &["--no-edge"]).passes()) > 100);
}

#[test]
fn inference_mode_float32_logits_and_square_frames_are_no_mistakes() {
    let Some(ports) = Ports::torch() else { return };
    ports.diff("inference", &["--no-edge"]).passes();
    let record = ports.diff("double", &[]).passes();
    remark(&record, "the float64 model is judged in f32");
    remark(&record, "the second comparison at 57x65 could not be run (--no-edge leaves it out)");
    assert!(!record["next"].as_str().unwrap().contains("57x65"), "{}", record["next"]);
}

#[test]
fn a_mistake_is_found_where_it_is() {
    let Some(ports) = Ports::torch() else { return };
    for (function, module, word) in [
        ("align_corners", "layer1.0.conv1.spatial_conv.pos_embed", "align_corners"),
        ("eps", "layer2.0.bn1", "eps"),
        ("missing_relu", "layer2.0.conv2.param_conv.0", "ReLU"),
        ("transposed", "layer1.0.conv2.temporal_conv", "channels of the kernel are swapped"),
        ("tfc_off", "layer3.0.conv1", "the temporal branch is missing"),
        ("softmax", "fc", "softmax"),
    ] {
        let record = ports.diff(function, &["--no-edge"]).fails();
        let explained = record["culprit"]["explanation"].as_str().unwrap_or_default();
        println!("{function}: {} {explained}", record["first_divergent"]);
        assert_eq!(record["first_divergent"], module, "{function}: {explained}");
        assert!(explained.contains(word), "{function}: {explained}");
    }
}

/// One clip cannot show it, so the second comparison has two.
#[test]
fn clips_that_depend_on_each_other_are_found() {
    let Some(ports) = Ports::torch() else { return };
    let record = ports.diff("mixed", &[]).fails();
    assert_eq!(record["edge"]["first_divergent"], "layer2.0.conv1.param_conv.0");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("of 2 clips of 57x65, shows it"), "{explanation}");
    assert!(record["next"].as_str().unwrap().contains("--batch-size 2"), "{}", record["next"]);
    let unseen = |record: &Value| {
        let mistakes = record["not_exercised"].as_array().unwrap();
        let about = |m: &&Value| m["what"].as_str().unwrap().starts_with("clips that depend");
        mistakes.iter().find(about).cloned()
    };
    assert_eq!(unseen(&record).unwrap()["at_edge"], true);
    let record = ports.diff("one_at_a_time", &[]).passes();
    assert_eq!(record["edge"]["verdict"], "pass");
    assert_eq!(unseen(&record).unwrap()["at_edge"], false);
    let record = ports.diff("right", &["--batch-size", "2", "--no-edge"]).passes();
    assert_eq!(unseen(&record), None);
}

#[test]
fn a_relu_that_has_moved_behind_a_module_is_not_called_missing() {
    let Some(ports) = Ports::torch() else { return };
    let record = ports.diff("pooled_first", &["--no-edge"]).fails();
    assert_eq!(
        (&record["first_divergent"], &record["cause"]),
        (&"maxpool".into(), &"recording".into())
    );
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("may have moved behind it"), "{explanation}");
    let record = ports.diff("missing_relu", &["--no-edge"]).fails();
    assert_eq!(record["cause"], "port");
}

/// None of the modules that read the changed value is to blame.
#[test]
fn a_value_that_is_changed_between_modules_is_named() {
    let Some(ports) = Ports::torch() else { return };
    let record = ports.diff("rectified", &["--no-edge"]).fails();
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("layer2.0.downsample.1 is right: something"), "{explanation}");
}

#[test]
fn a_model_that_keeps_something_from_clip_to_clip_does_not_pass() {
    let Some(ports) = Ports::torch() else { return };
    let record = ports.diff("blended", &[]).fails();
    assert_eq!(record["verdict"], "incomplete");
    let explanation = record["explanation"].as_str().unwrap();
    assert!(explanation.contains("keeps something from one clip to the next"), "{explanation}");
}

#[test]
fn other_weights_are_named_before_anything_is_compared() {
    let Some(ports) = Ports::torch() else { return };
    let record = ports.diff("transposed", &["--no-edge"]).fails();
    remark(&record, "layer1.0.conv2.temporal_conv.weight differs (relative L2 1.");
    ports
        .diff("right", &["--weights", "formula:1", "--kwargs", "{\"seed\": 0}"])
        .refuses(&["right() got an unexpected keyword argument 'seed'"]);
    ports.diff("right", &["--weights", "formula:1"]).refuses(&[
        "the model's weights are not those of formula:1: conv1.weight differs",
        "--weights FILE",
    ]);
}

#[test]
fn a_model_that_is_not_deterministic_is_named() {
    let Some(ports) = Ports::torch() else { return };
    let run = ports.diff("random", &["--no-edge"]);
    assert!(
        run.stdout.contains("not deterministic: two runs on the same clip, with another one"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_failure_is_one_sentence() {
    let Some(ports) = Ports::torch() else { return };
    for (function, words) in [
        ("raises", "RuntimeError: the weights are lost (torch_ports.py, line "),
        ("raises_later", "has no attribute 'no_such_method' (torch_ports.py, line "),
        ("dies", "was ended by SIGSEGV"),
        ("nothing", "nothing returned a NoneType; return a torch.nn.Module"),
        ("needs", "needs the argument `secret`"),
        ("no_such_function", "has no function 'no_such_function'"),
    ] {
        ports.diff(function, &[]).refuses(&[words]);
    }
    ports
        .diff("right", &["--kwargs", "{\"classes\": 9}"])
        .refuses(&["[1, 9], expected [1, 7]", "--classes"]);
    let record = ports.diff("right", &["--no-edge", "--kwargs", "{\"depth\": 18}"]).fails();
    remark(&record, "check --depth");
    ports.diff("right", &["--inject", "eps"]).refuses(&["the candidate is a live model"]);
}

#[test]
fn flax_models_are_live_too() {
    let Some(ports) = Ports::flax() else { return };
    let record = ports.diff("right", &[]).passes();
    assert!(compared(&record) > 80, "{}", compared(&record));
    let record = ports.diff_at("lost_embedding", "10", "57x65", &["--no-edge"]).fails();
    assert!(record["first_divergent"].as_str().unwrap().ends_with("pos_embed"));
    let record = ports.diff_at("own_names", "10", "57x65", &["--suggest-map", "--no-edge"]).fails();
    assert!(record["first_divergent"].as_str().unwrap().ends_with("pos_embed"));
    assert!(record["culprit"]["explanation"].as_str().unwrap().contains("dropped on 1-pixel maps"));
    remark(&record, "tensors are those of formula:0");
    remark(&record, "by value");
    ports.diff("without_variables", &[]).refuses(&["return (module, variables)"]);
}

#[test]
fn what_is_missing_is_named_without_python() {
    let h = Harness::new();
    let port = h.path("port.py");
    std::fs::write(&port, "import no_such_package\ndef make():\n    pass\n").unwrap();
    let candidate = format!("python:{port}:make");
    let diff = |more: &[&str]| h.diff(&[&["--candidate", &candidate], &SMALL[..], more].concat());
    diff(&[]).refuses(&["No module named", "--python PATH"]);
    diff(&["--python", "/nowhere/python"]).refuses(&["there is no Python at /nowhere/python"]);
    let reference = ["--reference", &candidate];
    h.diff(&reference).refuses(&["make it the candidate"]);
    h.run(&["dump", "--engine", &candidate, "--out", "x.npz"]).code(2);
}
