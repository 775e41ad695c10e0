//! Moves the constants of our own export from node to node, as tf2onnx does with normalisations that are
//! written as operators. The file still computes the same network.

use onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, element};

/// The values of a float32 tensor of the file.
pub fn values(graph: &GraphProto, name: &str) -> Vec<f32> {
    let tensor = graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
    let (words, _) = tensor.raw_data.as_chunks();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// Changes the values of a tensor.
pub fn change(graph: &mut GraphProto, name: &str, to: impl Fn(usize, f32) -> f32) {
    let changed = values(graph, name).into_iter().enumerate().map(|(at, v)| to(at, v));
    let bytes = changed.flat_map(f32::to_le_bytes).collect();
    graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap().raw_data = bytes;
}

fn constant(graph: &mut GraphProto, name: &str, dims: Vec<i64>, values: &[f32]) {
    let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let (data_type, name) = (element::FLOAT, name.to_owned());
    graph.initializer.push(TensorProto { dims, data_type, name, raw_data, ..Default::default() });
}

fn producer(graph: &GraphProto, value: &str) -> Option<usize> {
    graph.node.iter().position(|node| node.output.first().is_some_and(|o| o == value))
}

/// Moves the means of all normalisations that read a convolution or a sum, and what is added to the
/// shortcuts.
pub fn move_constants(file: &mut ModelProto) {
    let graph = file.graph.as_mut().unwrap();
    let norms: Vec<NodeProto> =
        graph.node.iter().filter(|node| node.op_type == "BatchNormalization").cloned().collect();
    for norm in &norms {
        let Some(before) = producer(graph, &norm.input[0]) else { continue };
        let mean = values(graph, &norm.input[3]);
        match graph.node[before].op_type.as_str() {
            "Conv" => into_bias(graph, before, &mean),
            "Add" => before_sum(graph, before, &mean),
            _ => continue,
        }
        change(graph, &norm.input[3], |_, _| 0.0);
    }
    let is_norm = |value: &String| norms.iter().find(|norm| norm.output[0] == *value);
    for sum in graph.node.clone().iter().filter(|node| node.op_type == "Add") {
        if let [Some(own), Some(shortcut)] = [0, 1].map(|at| is_norm(&sum.input[at])) {
            let moved = values(graph, &shortcut.input[2]);
            change(graph, &own.input[2], |at, v| v + moved[at]);
            change(graph, &shortcut.input[2], |_, _| 0.0);
        }
    }
}

fn into_bias(graph: &mut GraphProto, conv: usize, mean: &[f32]) {
    if let Some(bias) = graph.node[conv].input.get(2).cloned() {
        return change(graph, &bias, |at, v| v - mean[at]);
    }
    let name = format!("{} bias", graph.node[conv].output[0]);
    let bias: Vec<f32> = mean.iter().map(|m| -m).collect();
    constant(graph, &name, vec![mean.len() as i64], &bias);
    graph.node[conv].input.push(name);
}

fn before_sum(graph: &mut GraphProto, sum: usize, mean: &[f32]) {
    let summand = graph.node[sum].input[1].clone();
    let [name, less] = ["mean", "less"].map(|what| format!("{summand} {what}"));
    constant(graph, &name, vec![1, mean.len() as i64, 1, 1], mean);
    let node = NodeProto {
        op_type: "Sub".to_owned(),
        input: vec![summand, name],
        output: vec![less.clone()],
        ..Default::default()
    };
    graph.node[sum].input[1] = less;
    graph.node.insert(sum, node);
}
