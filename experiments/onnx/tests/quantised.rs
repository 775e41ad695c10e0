//! Quantised files: our own export, with quantisers put in as ONNX Runtime does.

use checkpoint::Weights;
use onnx::matching::{matched, requantised};
use onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, element};
use onnx::read::{Net, without_quantisers};
use onnx::{Options, Plan};
use prost::Message;
use spec::{Config, Model};

fn model() -> Model {
    let config =
        Config { depth: 10, width: 0.125, size: (64, 64), classes: 7, ..Config::default() };
    Model::new(config).unwrap()
}

fn exported(model: &Model, weights: &Weights) -> ModelProto {
    let bytes = Plan::new(model, Options::PLAIN).unwrap().fill(weights).unwrap();
    ModelProto::decode(bytes.as_slice()).unwrap()
}

fn tensor(name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> TensorProto {
    let dims = dims.iter().map(|&n| n as i64).collect();
    TensorProto { name: name.to_owned(), dims, data_type, raw_data, ..Default::default() }
}

fn scale(name: &str, values: &[f32]) -> TensorProto {
    let dims: &[usize] = if values.len() == 1 { &[] } else { &[values.len()] };
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, dims, element::FLOAT, bytes)
}

fn node(op: &str, inputs: [&str; 3], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

fn along_first_axis(mut node: NodeProto) -> NodeProto {
    node.attribute =
        vec![AttributeProto { name: "axis".to_owned(), i: 0, r#type: 2, ..Default::default() }];
    node
}

/// Rounds the weight of every convolution to int8, with one scale for each output channel, and puts a
/// quantiser of uint8 behind every sigmoid, and in place of every ReLU.
fn quantise(graph: &mut GraphProto) {
    let zero = tensor("zero", &[], element::UINT8, vec![0]);
    graph.initializer.extend([scale("step", &[0.02]), zero]);
    let nodes = std::mem::take(&mut graph.node);
    for mut old in nodes {
        match old.op_type.as_str() {
            "Relu" | "Sigmoid" => {
                let given = old.output[0].clone();
                let read = match old.op_type.as_str() {
                    "Relu" => old.input[0].clone(),
                    _ => format!("{given} float"),
                };
                if old.op_type == "Sigmoid" {
                    old.output[0].clone_from(&read);
                    graph.node.push(old);
                }
                let integers = format!("{given} integers");
                graph.node.extend([
                    node("QuantizeLinear", [&read, "step", "zero"], &integers),
                    node("DequantizeLinear", [&integers, "step", "zero"], &given),
                ]);
                continue;
            }
            "Conv" => graph.node.push(rounded(&mut graph.initializer, &mut old.input[1])),
            _ => {}
        }
        graph.node.push(old);
    }
}

/// The node that converts a weight back from int8; the weight is replaced.
fn rounded(initializers: &mut Vec<TensorProto>, name: &mut String) -> NodeProto {
    let weight = initializers.iter_mut().find(|tensor| tensor.name == *name).unwrap();
    let (words, _) = weight.raw_data.as_chunks();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    let row = values.len() / weight.dims[0] as usize;
    let steps: Vec<f32> =
        values.chunks(row).map(|c| c.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0).collect();
    let integer = |(at, value): (usize, &f32)| (value / steps[at / row]).round_ties_even() as i8;
    weight.raw_data = values.iter().enumerate().map(|v| integer(v).cast_unsigned()).collect();
    weight.data_type = element::INT8;
    let (stored, steps_of) = (name.clone(), format!("{name} steps"));
    initializers.push(scale(&steps_of, &steps));
    *name = format!("{stored} float");
    let mut made = along_first_axis(node("DequantizeLinear", [&stored, &steps_of, ""], name));
    made.input.truncate(2);
    made
}

fn quantised(model: &Model, weights: &Weights) -> ModelProto {
    let mut file = exported(model, weights);
    quantise(file.graph.as_mut().unwrap());
    file
}

fn int8(graph: &mut GraphProto, name: &str) -> usize {
    let found = graph.initializer.iter().position(|tensor| tensor.name == name);
    found.unwrap_or_else(|| panic!("{name} is missing"))
}

#[test]
fn every_module_is_found_and_the_reference_is_rounded_as_the_file_is() {
    let model = model();
    let weights = Weights::formula(model.parameters(), 0);
    let net = Net::new(quantised(&model, &weights)).unwrap();
    let (net, quantisers) = without_quantisers(net).unwrap();
    assert!(!quantisers.is_empty());
    assert!(quantisers.iter().all(|q| q.rectifies() && q.levels() == 256.0));
    let made = requantised(&net, &model, &weights, &|_| None).unwrap();
    assert!(made.quantised > 10_000 && made.beyond == 0, "{} beyond", made.beyond);
    let name = "layer1.0.conv1.temporal_conv.weight";
    let (own, exact) = (made.weights.get(name).unwrap(), weights.get(name).unwrap());
    let distance = own.data.iter().zip(&exact.data).map(|(a, b)| (a - b).abs());
    let largest = exact.data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let distance = distance.fold(0.0, f32::max);
    assert!(distance > 0.0 && distance <= 0.51 * largest / 127.0, "{distance}");
    let found = matched(&net, &model, &made.weights).unwrap();
    let hidden = model.modules().iter().filter(|m| !found.points.contains_key(&m.id)).count();
    assert_eq!(hidden, 0);
    assert_eq!(found.remarks.len(), 1, "{:?}", found.remarks);
}

#[test]
fn an_integer_that_rounding_does_not_explain_is_a_mistake_of_the_file() {
    let model = model();
    let weights = Weights::formula(model.parameters(), 0);
    let mut file = quantised(&model, &weights);
    let graph = file.graph.as_mut().unwrap();
    let name = "layer1.0.conv1.temporal_conv.weight";
    let at = int8(graph, name);
    let wrong = &mut graph.initializer[at].raw_data[5];
    *wrong = wrong.wrapping_add(2);
    let (net, _) = without_quantisers(Net::new(file).unwrap()).unwrap();
    let made = requantised(&net, &model, &weights, &|_| None).unwrap();
    assert_eq!(made.beyond, 1);
    let value = |from: &Weights| from.get(name).unwrap().data[5];
    assert_eq!(value(&made.weights), value(&weights));
}

#[test]
fn a_quantiser_works_as_a_relu_only_where_values_may_be_negative() {
    let model = model();
    let weights = Weights::formula(model.parameters(), 0);
    let (net, _) = without_quantisers(Net::new(quantised(&model, &weights)).unwrap()).unwrap();
    let relus = |net: &Net| net.nodes().filter(|(_, node)| node.op_type == "Relu").count();
    let plain = Net::new(exported(&model, &weights)).unwrap();
    assert_eq!(relus(&net), relus(&plain));
    let (unchanged, none) = without_quantisers(plain).unwrap();
    assert!(none.is_empty() && unchanged.nodes().all(|(_, node)| node.op_type != "Identity"));
}

/// Puts a quantiser of uint8 with zero point 0 and this step behind the first sum with an embedding.
fn quantise_embedded(file: &mut ModelProto, step: f32) {
    let graph = file.graph.as_mut().unwrap();
    let at = graph.node.iter().position(|node| node.name.ends_with("pos_embed.add")).unwrap();
    let given = std::mem::replace(&mut graph.node[at].output[0], "embedded".to_owned());
    graph.initializer.push(scale("embedded step", &[step]));
    let pair = [
        node("QuantizeLinear", ["embedded", "embedded step", "zero"], "embedded integers"),
        node("DequantizeLinear", ["embedded integers", "embedded step", "zero"], &given),
    ];
    graph.node.splice(at + 1..at + 1, pair);
}

#[test]
fn negative_values_that_rounding_brings_to_zero_are_not_cut_off() {
    let model = model();
    let weights = Weights::formula(model.parameters(), 0);
    let embedding = weights.get("layer1.0.conv1.spatial_conv.pos_embed").unwrap();
    let least = embedding.data.iter().fold(0.0f32, |m, v| m.min(*v));
    assert!(least < 0.0);
    let relus = |step: f32| {
        let mut file = quantised(&model, &weights);
        quantise_embedded(&mut file, step);
        let (net, _) = without_quantisers(Net::new(file).unwrap()).unwrap();
        net.nodes().filter(|(_, node)| node.op_type == "Relu").count()
    };
    assert_eq!(relus(-1.9 * least), relus(-2.1 * least) + 1);
}

#[test]
fn a_quantiser_rounds_to_its_integers_and_reports_what_it_cuts_off() {
    let model = model();
    let weights = Weights::formula(model.parameters(), 0);
    let (_, quantisers) =
        without_quantisers(Net::new(quantised(&model, &weights)).unwrap()).unwrap();
    let values = [-1.0, 0.0, 0.011, 0.029, 5.1, 6.0, f64::NAN];
    let after = quantisers[0].apply(&values, &[7]);
    for (found, expected) in after.iter().zip([0.0, 0.0, 0.02, 0.02, 5.1, 5.1]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    assert!(after[6].is_nan());
    let (clipped, used) = quantisers[0].reach(&values[..6], &[6]);
    assert_eq!((clipped, used), (1.0 / 6.0, 1.0));
}

#[test]
fn what_cannot_be_judged_is_refused_in_a_sentence() {
    let model = model();
    let weights = Weights::formula(model.parameters(), 0);
    let refused = |change: &dyn Fn(&mut GraphProto)| {
        let mut file = quantised(&model, &weights);
        change(file.graph.as_mut().unwrap());
        let net = Net::new(file).and_then(without_quantisers);
        net.err().expect("it is refused").to_string()
    };
    let first = |graph: &mut GraphProto, op: &str| {
        graph.node.iter().position(|node| node.op_type == op).unwrap()
    };
    let said = refused(&|graph| {
        let at = first(graph, "Conv");
        graph.node[at].op_type = "QLinearConv".to_owned();
    });
    assert!(said.contains("computes in integers") && said.contains("QDQ"), "{said}");
    let said = refused(&|graph| {
        let step = int8(graph, "step");
        graph.initializer[step] = scale("step", &[f32::NAN]);
    });
    assert!(said.contains("no scale that is constant"), "{said}");
    let said = refused(&|graph| {
        let at = first(graph, "QuantizeLinear");
        let given = graph.node[at].output[0].clone();
        graph.node.iter_mut().filter(|n| n.input[0] == given).for_each(|n| {
            n.op_type = "Cast".to_owned();
        });
    });
    assert!(said.contains("not converted back"), "{said}");
}

/// A quantiser with the zero point 128 in front of every ReLU, and one behind a resize of each embedding, both as
/// ONNX Runtime puts them.
#[test]
fn quantisers_before_relus_and_of_resized_embeddings_are_no_mistakes() {
    let model = model();
    let weights = Weights::formula(model.parameters(), 0);
    let mut file = exported(&model, &weights);
    let graph = file.graph.as_mut().unwrap();
    let middle = tensor("middle", &[], element::UINT8, vec![128]);
    graph.initializer.extend([scale("step", &[0.002]), middle, scale("none", &[1.0; 4])]);
    let is_embedding = |t: &TensorProto| t.dims.len() == 4 && t.dims[0] == 1 && t.dims[1] == 16;
    let found = graph.initializer.iter().filter(|t| is_embedding(t));
    let embeddings: Vec<String> = found.map(|t| t.name.clone()).collect();
    assert!(!embeddings.is_empty());
    let pair = |read: &str, given: &str| {
        let integers = format!("{given} integers");
        [
            node("QuantizeLinear", [read, "step", "middle"], &integers),
            node("DequantizeLinear", [&integers, "step", "middle"], given),
        ]
    };
    let nodes = std::mem::take(&mut graph.node);
    for name in &embeddings {
        graph.node.push(node("Resize", [name, "", "none"], &format!("{name} resized")));
        graph.node.extend(pair(&format!("{name} resized"), &format!("{name} rounded")));
    }
    for mut old in nodes {
        for input in &mut old.input {
            if embeddings.contains(input) {
                *input = format!("{input} rounded");
            }
        }
        if old.op_type == "Relu" {
            let rounded = format!("{} rounded", old.input[0]);
            graph.node.extend(pair(&old.input[0], &rounded));
            old.input[0] = rounded;
        }
        graph.node.push(old);
    }
    let (net, quantisers) = without_quantisers(Net::new(file).unwrap()).unwrap();
    assert!(net.nodes().all(|(_, node)| !node.op_type.ends_with("quantizeLinear")));
    let embeddings = |name: &str| embeddings.iter().any(|e| name.starts_with(e.as_str()));
    assert!(quantisers.iter().all(|q| q.before_relu && !embeddings(net.name(q.value))));
    // From 128 steps below zero on, the values are cut off, and a ReLU does so anyway.
    let (clipped, _) = quantisers[0].reach(&[-1.0, -0.3, 0.1], &[3]);
    assert_eq!(clipped, 0.0);
    let (clipped, _) = quantisers[0].reach(&[-1.0, 0.1, 0.5, 1.0], &[4]);
    assert_eq!(clipped, 0.5);
}
