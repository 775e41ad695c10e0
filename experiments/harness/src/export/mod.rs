//! `harness export`: the network in ONNX, for phones and for the peers of the bench.

mod graph;
pub mod proto;

use anyhow::{Result, bail};
use prost::Message;
use spec::Model;
use spec::weights::Weights;

use proto::{
    ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};

/// What can be chosen about the file.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Version of the operators, 17 or later.
    pub opset: i64,
    /// Ends in probabilities.
    pub softmax: bool,
    /// Begins with frames as they are decoded: uint8 RGB [N, T, H, W, 3].
    pub preprocess: bool,
}

/// Protocol buffers end at 2 GiB.
const LARGEST: u64 = (2 << 30) - (1 << 20);

/// IR version that goes with opset 17.
const IR_VERSION: i64 = 8;

/// The network as the bytes of an ONNX file.
pub fn onnx(model: &Model, weights: &Weights, source: &str, options: Options) -> Result<Vec<u8>> {
    let values: u64 =
        model.parameters().iter().map(|p| p.shape.iter().product::<usize>() as u64).sum();
    if 4 * values > LARGEST {
        bail!(
            "the weights take {:.1} GiB, and an ONNX file holds less than 2; use a smaller --width \
             or --depth",
            4.0 * values as f64 / f64::from(1 << 30)
        );
    }
    let graph = graph::graph(model, weights, options)?;
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
    let file = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "harness".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: options.opset }],
        metadata_props: vec![
            entry("model", "SqueezeTime (arXiv 2405.08344)".to_owned()),
            entry("config", serde_json::to_string(&model.config)?),
            entry("weights", source.to_owned()),
        ],
    };
    Ok(file.encode_to_vec())
}

/// An input or output; the first extent is the batch.
fn value(name: &str, elem_type: i32, shape: &[usize]) -> ValueInfoProto {
    let batch = proto::Extent::Param("batch".to_owned());
    let rest = shape.iter().map(|&extent| proto::Extent::Value(extent as i64));
    let extents = std::iter::once(batch).chain(rest);
    let dim = extents.map(|value| proto::DimensionProto { value: Some(value) }).collect();
    let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}

#[cfg(test)]
mod tests {
    use spec::Config;

    use super::proto::GraphProto;

    use super::*;

    fn exported(config: Config, options: Options) -> (Model, Weights, GraphProto) {
        let model = Model::new(config).unwrap();
        let weights = Weights::formula(model.parameters(), 0);
        let bytes = onnx(&model, &weights, "formula:0", options).unwrap();
        let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
        (model, weights, graph)
    }

    const PLAIN: Options = Options { opset: 17, softmax: false, preprocess: false };

    fn small(depth: usize) -> Config {
        let (width, size) = (0.0625, (40, 33));
        Config { depth, width, size, frames: 2, classes: 5, ..Config::default() }
    }

    #[test]
    fn every_depth_has_all_weights_and_values_that_exist() {
        for (depth, ..) in spec::config::DEPTHS {
            let (model, weights, graph) = exported(small(depth), PLAIN);
            for parameter in model.parameters() {
                // The embedding is stored at the size of the map.
                if parameter.name.ends_with("pos_embed") {
                    continue;
                }
                let found = graph.initializer.iter().find(|t| t.name == parameter.name);
                let found = found.unwrap_or_else(|| panic!("{} is missing", parameter.name));
                let dims: Vec<i64> = parameter.shape.iter().map(|&d| d as i64).collect();
                assert_eq!(found.dims, dims);
                let data = &weights.get(&parameter.name).unwrap().data;
                let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
                assert_eq!(found.raw_data, bytes);
            }
            let mut known: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
            known.extend(graph.input.iter().map(|v| v.name.as_str()));
            for node in &graph.node {
                for input in &node.input {
                    assert!(known.contains(&input.as_str()), "{}: {input}", node.name);
                }
                known.extend(node.output.iter().map(String::as_str));
            }
            assert!(known.contains(&"logits"));
        }
    }

    #[test]
    fn inputs_and_outputs_are_as_asked_for() {
        let (_, _, graph) = exported(small(18), PLAIN);
        assert_eq!(graph.input[0], value("input", proto::element::FLOAT, &[3, 2, 40, 33]));
        assert_eq!(graph.output[0], value("logits", proto::element::FLOAT, &[5]));
        let options = Options { softmax: true, preprocess: true, ..PLAIN };
        let (_, _, graph) = exported(small(18), options);
        assert_eq!(graph.input[0], value("frames", proto::element::UINT8, &[2, 40, 33, 3]));
        assert_eq!(graph.output[0], value("probabilities", proto::element::FLOAT, &[5]));
    }

    #[test]
    fn what_is_off_is_left_out() {
        for (setting, gone) in [("tfc=off", "param_conv"), ("ioi=off", "spatial_conv")] {
            let mut config = small(50);
            config.semantics.set(setting).unwrap();
            let (_, _, graph) = exported(config, PLAIN);
            assert!(graph.node.iter().all(|node| !node.name.contains(gone)), "{setting}");
        }
    }
}
