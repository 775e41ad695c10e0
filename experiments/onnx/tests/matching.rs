//! Files whose names say nothing, as exporters, simplifiers and people make them: each module must be found.
//! The files are our own exports, changed.

mod moving;

use checkpoint::Weights;
use onnx::matching::{Matched, matched};
use onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, element};
use onnx::read::Net;
use onnx::{Options, Plan};
use prost::Message;
use spec::{Config, Kind, Model, Module};

fn model() -> Model {
    let config =
        Config { depth: 18, width: 0.125, size: (64, 64), classes: 7, ..Config::default() };
    Model::new(config).unwrap()
}

fn weights(model: &Model, seed: u64) -> Weights {
    Weights::formula(model.parameters(), seed)
}

/// Our export with formula weights, whose names are replaced by numbers.
fn exported(model: &Model, weights: &Weights) -> ModelProto {
    let bytes = Plan::new(model, Options::PLAIN).unwrap().fill(weights).unwrap();
    let mut file = ModelProto::decode(bytes.as_slice()).unwrap();
    number_names(file.graph.as_mut().unwrap());
    file
}

fn number_names(graph: &mut GraphProto) {
    let mut names: Vec<String> = vec![];
    let mut number = |name: &mut String| {
        let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.clone());
            names.len() - 1
        });
        *name = at.to_string();
    };
    for node in &mut graph.node {
        node.name = String::new();
        node.input.iter_mut().chain(&mut node.output).for_each(&mut number);
    }
    graph.initializer.iter_mut().for_each(|tensor| number(&mut tensor.name));
    graph.input.iter_mut().chain(&mut graph.output).for_each(|info| number(&mut info.name));
}

fn tensor<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    let (words, _) = tensor.raw_data.as_chunks();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

fn set(tensor: &mut TensorProto, values: &[f32]) {
    tensor.raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
}

/// The index of the node at which a module was found.
fn node_of(model: &Model, found: &Matched, name: &str) -> usize {
    found.nodes[&model.find(name).unwrap().id]
}

fn match_it(model: &Model, weights: &Weights, file: ModelProto) -> Matched {
    matched(&Net::new(file).unwrap(), model, weights).unwrap()
}

/// The names of the modules that are not shown.
fn hidden(model: &Model, found: &Matched) -> Vec<String> {
    let missing = model.modules().iter().filter(|m| !found.points.contains_key(&m.id));
    missing.map(|m| m.name.clone()).collect()
}

#[test]
fn every_module_is_found_without_names() {
    let model = model();
    let weights = weights(&model, 0);
    let found = match_it(&model, &weights, exported(&model, &weights));
    assert_eq!(hidden(&model, &found), Vec::<String>::new());
    let summary = &found.remarks[0];
    assert!(summary.ends_with("modules shown") && found.remarks.len() == 1, "{:?}", found.remarks);
}

#[test]
fn each_module_of_our_own_file_is_the_value_with_its_name() {
    let model = model();
    let weights = weights(&model, 0);
    let bytes = Plan::new(&model, Options::PLAIN).unwrap().fill(&weights).unwrap();
    let net = Net::new(ModelProto::decode(bytes.as_slice()).unwrap()).unwrap();
    let found = matched(&net, &model, &weights).unwrap();
    let mut checked = 0;
    // The clip is seen as channels, and the mean over all pixels flattened.
    let named =
        |m: &&Module| m.kind != Kind::Input && m.id != model.avgpool && net.find(&m.name).is_some();
    for module in model.modules().iter().filter(named) {
        let value = found.points[&module.id];
        assert_eq!(net.name(value), module.name);
        checked += 1;
    }
    // The others are ReLUs, whose names in the file are those of their inputs, the clip and the logits.
    assert!(checked * 10 > model.modules().len() * 8, "{checked} of {}", model.modules().len());
}

/// Writes every mean as a sum over the pixels and a division, as jax2onnx does.
fn sum_and_divide(graph: &mut GraphProto) {
    let mut count =
        TensorProto { data_type: element::FLOAT, name: "count".to_owned(), ..Default::default() };
    set(&mut count, &[9.0]);
    graph.initializer.push(count);
    for mut node in std::mem::take(&mut graph.node) {
        if node.op_type != "GlobalAveragePool" {
            graph.node.push(node);
            continue;
        }
        let sum = format!("{} sum", node.output[0]);
        let mean = std::mem::replace(&mut node.output[0], sum.clone());
        node.op_type = "ReduceSum".to_owned();
        let divide = NodeProto {
            op_type: "Div".to_owned(),
            input: vec![sum, "count".to_owned()],
            output: vec![mean],
            ..Default::default()
        };
        graph.node.extend([node, divide]);
    }
}

#[test]
fn a_mean_may_be_a_sum_and_a_division() {
    let model = model();
    let weights = weights(&model, 0);
    let bytes = Plan::new(&model, Options::PLAIN).unwrap().fill(&weights).unwrap();
    let mut file = ModelProto::decode(bytes.as_slice()).unwrap();
    sum_and_divide(file.graph.as_mut().unwrap());
    let net = Net::new(file).unwrap();
    let found = matched(&net, &model, &weights).unwrap();
    let blocks = model.blocks.iter().map(|block| block.id);
    for id in blocks.chain([model.maxpool]) {
        assert_eq!(net.name(found.points[&id]), model.module(id).name);
    }
    assert_eq!(hidden(&model, &found), Vec::<String>::new());
}

/// Folds every normalisation that directly follows a convolution into it, in float32, as exporters do.
fn fold(graph: &mut GraphProto) {
    let nodes = std::mem::take(&mut graph.node);
    let mut kept: Vec<NodeProto> = vec![];
    for mut node in nodes {
        let before = node.input[0].clone();
        let conv = kept.iter_mut().find(|n| n.op_type == "Conv" && n.output[0] == before);
        let Some(conv) = conv.filter(|_| node.op_type == "BatchNormalization") else {
            kept.push(node);
            continue;
        };
        let vector = |graph: &mut GraphProto, at: usize| floats(tensor(graph, &node.input[at]));
        let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|at| vector(graph, at));
        let bias = conv.input.get(2).cloned();
        let bias = bias.map_or(vec![0.0; gamma.len()], |name| floats(tensor(graph, &name)));
        let weight = tensor(graph, &conv.input[1]);
        let row = weight.raw_data.len() / 4 / gamma.len();
        let mut values = floats(weight);
        let mut shift = vec![];
        for (c, row) in values.chunks_mut(row).enumerate() {
            let scale = gamma[c] / (variance[c] + 1e-5).sqrt();
            row.iter_mut().for_each(|value| *value *= scale);
            shift.push((bias[c] - mean[c]) * scale + beta[c]);
        }
        set(weight, &values);
        let name = format!("folded{}", kept_name(&conv.output[0]));
        let mut folded = TensorProto {
            dims: vec![shift.len() as i64],
            data_type: element::FLOAT,
            name: name.clone(),
            ..Default::default()
        };
        set(&mut folded, &shift);
        graph.initializer.push(folded);
        conv.input.truncate(2);
        conv.input.push(name);
        conv.output[0] = std::mem::take(&mut node.output[0]);
    }
    graph.node = kept;
}

fn kept_name(name: &str) -> String {
    format!("_{name}")
}

#[test]
fn folded_normalisations_are_found_in_their_convolutions() {
    let model = model();
    let weights = weights(&model, 0);
    let mut file = exported(&model, &weights);
    fold(file.graph.as_mut().unwrap());
    let found = match_it(&model, &weights, file);
    let hidden = hidden(&model, &found);
    assert!(!hidden.is_empty());
    for name in &hidden {
        assert_eq!(model.find(name).unwrap().kind, Kind::Conv, "{name}");
    }
    assert!(found.remarks[0].contains("are folded into the convolutions"), "{:?}", found.remarks);
    assert_eq!(found.remarks.len(), 1, "{:?}", found.remarks);
}

#[test]
fn what_the_file_returns_is_compared_whatever_computes_it() {
    let model = model();
    let weights = weights(&model, 0);
    let fc = model.fc.as_ref().unwrap().id;
    // A second classifier computes the output, and nobody reads the right one.
    let mut file = exported(&model, &weights);
    let graph = file.graph.as_mut().unwrap();
    let right = graph.node.iter().find(|node| node.op_type == "Gemm").unwrap().clone();
    let mut wrong = right.clone();
    wrong.output = vec!["wrong".to_owned()];
    graph.node.push(wrong);
    graph.output[0].name = "wrong".to_owned();
    let net = Net::new(file.clone()).unwrap();
    assert_eq!(net.name(matched(&net, &model, &weights).unwrap().points[&fc]), "wrong");
    // The file returns both: the first is compared, and the user learns of the other.
    let graph = file.graph.as_mut().unwrap();
    let mut second = graph.output[0].clone();
    second.name = right.output[0].clone();
    graph.output.push(second);
    let net = Net::new(file).unwrap();
    let found = matched(&net, &model, &weights).unwrap();
    assert_eq!(net.name(found.points[&fc]), "wrong");
    let told = |remark: &String| remark.contains("returns 2 values with 7 columns");
    assert!(found.remarks.iter().any(told), "{:?}", found.remarks);
}

#[test]
fn stored_transposed_is_the_same_weight() {
    let model = model();
    let weights = weights(&model, 0);
    let mut file = exported(&model, &weights);
    let graph = file.graph.as_mut().unwrap();
    // Gemm(x, W, b, transB = 1) becomes x * Transpose(W) + b.
    let at = graph.node.iter().position(|node| node.op_type == "Gemm").unwrap();
    let gemm = graph.node.remove(at);
    let made = |op: &str, input: &[&str], output: &str| NodeProto {
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: op.to_owned(),
        ..Default::default()
    };
    let mut turned = made("Transpose", &[&gemm.input[1]], "turned");
    turned.attribute.push(AttributeProto {
        name: "perm".to_owned(),
        ints: vec![1, 0],
        r#type: 7,
        ..Default::default()
    });
    graph.node.push(turned);
    graph.node.push(made("MatMul", &[&gemm.input[0], "turned"], "product"));
    graph.node.push(made("Add", &["product", &gemm.input[2]], &gemm.output[0]));
    let found = match_it(&model, &weights, file);
    assert_eq!(hidden(&model, &found), Vec::<String>::new());
    assert_eq!(found.remarks.len(), 1, "{:?}", found.remarks);
}

#[test]
fn swapped_weights_are_found_by_the_neighbours() {
    let model = model();
    let weights = weights(&model, 0);
    let right = match_it(&model, &weights, exported(&model, &weights));
    let mut file = exported(&model, &weights);
    let names = ["layer1.0.conv1.param_conv.1", "layer1.0.conv1.param_conv.4"];
    let nodes = names.map(|name| node_of(&model, &right, name));
    let graph = file.graph.as_mut().unwrap();
    let inputs = nodes.map(|at| graph.node[at].input[1].clone());
    let values = inputs.clone().map(|name| tensor(graph, &name).raw_data.clone());
    tensor(graph, &inputs[0]).raw_data = values[1].clone();
    tensor(graph, &inputs[1]).raw_data = values[0].clone();
    let found = match_it(&model, &weights, file);
    assert_eq!(names.map(|name| node_of(&model, &found, name)), nodes);
    let said = format!("which stands at {}, has the weights of {}", names[0], names[1]);
    assert!(found.remarks.iter().any(|r| r.contains(&said)), "{:?}", found.remarks);
}

#[test]
fn weights_in_another_order_are_named() {
    let model = model();
    let weights = weights(&model, 0);
    let right = match_it(&model, &weights, exported(&model, &weights));
    let name = "layer2.0.conv2.spatial_conv.short_conv";
    let node = node_of(&model, &right, name);
    let mut file = exported(&model, &weights);
    let graph = file.graph.as_mut().unwrap();
    let input = graph.node[node].input[1].clone();
    let weight = tensor(graph, &input);
    let mut values = floats(weight);
    values.chunks_mut(9).for_each(<[f32]>::reverse);
    set(weight, &values);
    let found = match_it(&model, &weights, file);
    assert_eq!(node_of(&model, &found, name), node);
    let said =
        format!("which stands at {name}, has its weights with the kernel rotated by 180 degrees");
    assert!(found.remarks.iter().any(|r| r.contains(&said)), "{:?}", found.remarks);
    assert!(found.contradiction.is_some_and(|first| first.contains(&said)));
    assert_eq!(right.contradiction, None);
}

#[test]
fn a_file_of_another_training_or_size_is_refused_in_one_sentence() {
    let model = model();
    let ours = weights(&model, 0);
    let refused = |file: ModelProto| {
        let net = Net::new(file).unwrap();
        format!("{:#}", matched(&net, &model, &ours).err().unwrap())
    };
    let other = refused(exported(&model, &weights(&model, 1)));
    assert!(other.starts_with("0 of the ") && other.contains("the nearest are"), "{other}");
    assert!(other.ends_with("Give its checkpoint with --weights"), "{other}");

    let config = Config { width: 0.25, ..model.config.clone() };
    let wide = Model::new(config).unwrap();
    let wider = refused(exported(&wide, &weights(&wide, 0)));
    assert!(wider.contains("check --depth, --width, --frames and --classes"), "{wider}");
}

#[test]
fn a_short_branch_that_reads_what_was_gated_is_not_taken_for_the_block_before() {
    let model = model();
    let weights = weights(&model, 0);
    let bytes = Plan::new(&model, Options::PLAIN).unwrap().fill(&weights).unwrap();
    let right = ModelProto::decode(bytes.as_slice()).unwrap();
    let mut wrong = right.clone();
    let (conv, gated) = ("layer2.1.conv1.spatial_conv.short_conv", "layer2.1.conv1.gated");
    let nodes = &mut wrong.graph.as_mut().unwrap().node;
    let short = nodes.iter().position(|node| node.name == conv).unwrap();
    nodes[short].input[0] = gated.to_owned();
    // The gate is computed after the short branch reads it.
    let short = nodes.remove(short);
    let gate = nodes.iter().position(|node| node.output[0] == gated).unwrap();
    nodes.insert(gate + 1, short);
    let shown = |file: ModelProto| {
        let net = Net::new(file).unwrap();
        let found = matched(&net, &model, &weights).unwrap();
        net.name(found.points[&model.find("layer2.0").unwrap().id]).to_owned()
    };
    assert_eq!(shown(wrong), shown(right));
}

/// Our export with the names of modules and moved constants.
fn with_moved_constants(model: &Model, weights: &Weights) -> ModelProto {
    let bytes = Plan::new(model, Options::PLAIN).unwrap().fill(weights).unwrap();
    let mut file = ModelProto::decode(bytes.as_slice()).unwrap();
    moving::move_constants(&mut file);
    file
}

/// The modules whose values in the file have an offset.
fn off(model: &Model, found: &Matched) -> Vec<String> {
    let points = found.points.iter();
    let points = points.filter(|(_, value)| found.offsets.contains_key(value));
    points.map(|(id, _)| model.module(*id).name.clone()).collect()
}

#[test]
fn constants_that_were_moved_are_offsets_and_no_mistakes() {
    let model = model();
    let weights = weights(&model, 0);
    let net = Net::new(with_moved_constants(&model, &weights)).unwrap();
    let found = matched(&net, &model, &weights).unwrap();
    assert_eq!(hidden(&model, &found), Vec::<String>::new());
    assert_eq!(found.remarks.len(), 2, "{:?}", found.remarks);
    assert!(found.remarks[1].contains("nodes have constants that other nodes make up for"));
    let off = off(&model, &found);
    // Convolutions before a normalisation, CTLs before one, and both summands of a block with a shortcut.
    for module in model.modules() {
        let name = &module.name;
        let parts: Vec<&str> = name.split('.').collect();
        let sums = matches!(parts[..], [_, "0", "bn2"] | [_, "0", "shortcut_conv", "1"])
            && !name.starts_with("layer1");
        let before_norm = module.kind == Kind::Ctl
            || (module.kind == Kind::Conv
                && !name.ends_with("temporal_conv")
                && !name.ends_with("short_conv")
                && !name.ends_with("param_conv.4")
                && !name.ends_with("glo_conv.6"));
        assert_eq!(off.contains(name), sums || before_norm, "{name}");
    }
    for (value, offset) in &found.offsets {
        assert!(offset.iter().any(|v| *v != 0.0), "{}", net.name(*value));
    }
}

#[test]
fn a_mean_that_is_subtracted_twice_is_not_taken_off() {
    let model = model();
    let weights = weights(&model, 0);
    let mut file = with_moved_constants(&model, &weights);
    let graph = file.graph.as_mut().unwrap();
    let mean = "layer2.0.conv1.spatial_conv.glo_conv.1.running_mean";
    let own = weights.get(mean).unwrap().data.clone();
    moving::change(graph, mean, |at, _| own[at]);
    let found = matched(&Net::new(file).unwrap(), &model, &weights).unwrap();
    let off = off(&model, &found);
    assert!(off.contains(&"layer2.0.conv2.spatial_conv.glo_conv.0".to_owned()), "{off:?}");
    assert!(!off.contains(&"layer2.0.conv1.spatial_conv.glo_conv.0".to_owned()), "{off:?}");
    let said = "layer2.0.conv1.spatial_conv.glo_conv.0, has another bias";
    assert!(found.remarks.iter().any(|r| r.ends_with(said)), "{:?}", found.remarks);
}

#[test]
fn a_mistake_among_moved_constants_is_not_taken_off() {
    let model = model();
    let weights = weights(&model, 0);
    let right =
        matched(&Net::new(with_moved_constants(&model, &weights)).unwrap(), &model, &weights);
    let right = off(&model, &right.unwrap());
    // The wrong constant, and the modules whose values are shown as they are.
    let cases = [
        ("layer2.0.conv1.spatial_conv.glo_conv.1.bias", vec![]),
        ("layer2.0.conv1.spatial_conv.glo_conv.1.running_var", vec![]),
        (
            "layer2.0.conv1.spatial_conv.glo_conv.0.bias",
            vec!["layer2.0.conv1.spatial_conv.glo_conv.0"],
        ),
        ("layer2.1.bn1.weight", vec![]),
    ];
    for (name, shown) in cases {
        let mut file = with_moved_constants(&model, &weights);
        moving::change(file.graph.as_mut().unwrap(), name, |_, v| 1.5 * v + 0.01);
        let found = matched(&Net::new(file).unwrap(), &model, &weights).unwrap();
        let off = off(&model, &found);
        let gone: Vec<&String> = right.iter().filter(|name| !off.contains(name)).collect();
        assert_eq!(gone, shown.iter().collect::<Vec<_>>(), "{name}");
        assert!(found.remarks.iter().any(|r| r.starts_with("weights: ")), "{:?}", found.remarks);
    }
}
