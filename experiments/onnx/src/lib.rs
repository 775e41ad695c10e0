//! ONNX out and in. Out: the network as an ONNX file, for phones and for the peers of `bench` ([`Plan`]).
//! In: a foreign file of the network ([`read`]), whose nodes are matched with the modules by weights
//! ([`matching`]), and cut into parts that a runtime computes ([`cut`]).

pub mod annotate;
mod constants;
pub mod cut;
mod graph;
pub mod matching;
pub mod proto;
pub mod read;

use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result, bail};
use checkpoint::{Provenance, Weights};
use prost::Message;
use spec::{Model, Precision};

use constants::Constant;
use proto::{
    ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};

/// The options of an ONNX file.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Version of the operator set, 17 to 23.
    pub opset: i64,
    /// Whether the output is probabilities instead of logits.
    pub softmax: bool,
    /// Whether the input is decoded frames, uint8 RGB [N, T, H, W, 3], instead of the clip.
    pub preprocess: bool,
    /// The format of weights and activations: f32, f16 or bf16. Input and output are float32 in any case.
    pub precision: Precision,
}

impl Options {
    /// The options that every runtime supports: a clip in, logits out.
    pub const PLAIN: Options =
        Options { opset: 17, softmax: false, preprocess: false, precision: Precision::F32 };
}

/// The opsets whose operators were checked to mean the same, each with the IR version that was released
/// with it (`onnx.helper.VERSION_TABLE`).
const VERSIONS: [(RangeInclusive<i64>, i64); 4] =
    [(17..=18, 8), (19..=20, 9), (21..=22, 10), (23..=23, 11)];

/// The element type of a format, which must be one that every operator takes in this opset.
fn element_of(precision: Precision, opset: i64) -> Result<i32> {
    // Convolution and pooling take bfloat16 since opset 22.
    const BF16_SINCE: i64 = 22;
    match precision {
        Precision::F32 => Ok(proto::element::FLOAT),
        Precision::F16 => Ok(proto::element::FLOAT16),
        Precision::Bf16 if opset >= BF16_SINCE => Ok(proto::element::BFLOAT16),
        Precision::Bf16 => bail!(
            "--precision bf16 needs --opset {BF16_SINCE} or later, because convolutions of opset {opset} take no \
             bfloat16"
        ),
        other => bail!("--precision {other}: ONNX files are exported in f32, f16 or bf16"),
    }
}

fn ir_version(opset: i64) -> Result<i64> {
    let found = VERSIONS.iter().find(|(opsets, _)| opsets.contains(&opset));
    let (_, version) = found.with_context(|| {
        format!("--opset {opset} is not supported; choose a version from 17 to 23")
    })?;
    Ok(*version)
}

/// The largest ONNX file: protocol buffers store their size in an i32.
const LARGEST: u64 = i32::MAX as u64;

fn refuse_large(bytes: u64) -> Result<()> {
    if bytes > LARGEST {
        bail!(
            "the ONNX file would take {:.1} GiB, but the format is limited to 2 GiB; use a smaller \
             --width, --depth, --size or --classes",
            bytes as f64 / f64::from(1 << 30)
        );
    }
    Ok(())
}

/// An ONNX file without its weights.
pub struct Plan {
    file: ModelProto,
    constants: Vec<Constant>,
}

impl Plan {
    /// Plans a file.
    ///
    /// # Errors
    ///
    /// If the opset is not supported, or if the file would be larger than the format allows.
    pub fn new(model: &Model, options: Options) -> Result<Self> {
        let ir_version = ir_version(options.opset)?;
        let element = element_of(options.precision, options.opset)?;
        let (graph, constants) = graph::graph(model, options, element);
        let file = ModelProto {
            ir_version,
            producer_name: "harness".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: options.opset,
            }],
            metadata_props: vec![
                entry("model", "SqueezeTime (arXiv 2405.08344)".to_owned()),
                entry("config", serde_json::to_string(&model.config)?),
                entry("precision", options.precision.to_string()),
            ],
            functions: vec![],
        };
        let values = constants.iter().map(Constant::bytes).fold(0, u64::saturating_add);
        refuse_large(values.saturating_add(file.encoded_len() as u64))?;
        Ok(Plan { file, constants })
    }

    /// Adds the weights, and returns the bytes of the file.
    ///
    /// # Errors
    ///
    /// If the weights do not fit the model, or if the file would be larger than the format allows.
    pub fn fill(self, weights: &Weights) -> Result<Vec<u8>> {
        let Plan { mut file, constants } = self;
        file.metadata_props.push(entry("weights", origin(weights.provenance())));
        if let Some(graph) = &mut file.graph {
            graph.initializer =
                constants.iter().map(|c| c.tensor(weights)).collect::<Result<_>>()?;
        }
        // The names and shapes of the constants are not part of the estimate in `new`.
        refuse_large(file.encoded_len() as u64)?;
        Ok(file.encode_to_vec())
    }
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: key.to_owned(), value }
}

/// The source of the weights, without the folder, which is private to the machine.
fn origin(from: &Provenance) -> String {
    let Some(sha256) = &from.sha256 else { return from.source.clone() };
    let name = Path::new(&from.source).file_name().unwrap_or_default().to_string_lossy();
    format!("{name} sha256:{sha256}")
}

/// An input or output of the graph. `shape` is that of one clip; the batch is added as a dynamic axis.
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
        let bytes = Plan::new(&model, options).unwrap().fill(&weights).unwrap();
        let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
        (model, weights, graph)
    }

    const PLAIN: Options = Options::PLAIN;

    fn small(depth: usize) -> Config {
        let (width, size) = (0.0625, (40, 33));
        Config { depth, width, size, frames: 2, classes: 5, ..Config::default() }
    }

    #[test]
    fn every_depth_has_all_weights_and_values_that_exist() {
        for (depth, ..) in spec::config::DEPTHS {
            let (model, weights, graph) = exported(small(depth), PLAIN);
            for parameter in model.parameters() {
                // The embedding is stored at the size of the map, not as in the state dict.
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
    fn inputs_and_outputs_follow_the_options() {
        let (_, _, graph) = exported(small(18), PLAIN);
        assert_eq!(graph.input[0], value("input", proto::element::FLOAT, &[3, 2, 40, 33]));
        assert_eq!(graph.output[0], value("logits", proto::element::FLOAT, &[5]));
        let options = Options { softmax: true, preprocess: true, ..PLAIN };
        let (_, _, graph) = exported(small(18), options);
        assert_eq!(graph.input[0], value("frames", proto::element::UINT8, &[2, 40, 33, 3]));
        assert_eq!(graph.output[0], value("probabilities", proto::element::FLOAT, &[5]));
    }

    #[test]
    fn half_formats_are_stored_and_input_and_output_stay_float32() {
        for (precision, opset, stored) in [
            (Precision::F16, 17, proto::element::FLOAT16),
            (Precision::Bf16, 22, proto::element::BFLOAT16),
        ] {
            let (model, weights, graph) =
                exported(small(18), Options { precision, opset, softmax: true, ..PLAIN });
            assert_eq!(graph.input[0], value("input", proto::element::FLOAT, &[3, 2, 40, 33]));
            assert_eq!(graph.output[0], value("probabilities", proto::element::FLOAT, &[5]));
            let casts: Vec<&str> = graph
                .node
                .iter()
                .filter(|node| node.op_type == "Cast")
                .map(|node| node.name.as_str())
                .collect();
            assert_eq!(casts, ["input.cast", "logits.cast"]);
            let name = &model.parameters()[0].name;
            let tensor = graph.initializer.iter().find(|tensor| tensor.name == *name).unwrap();
            assert_eq!(tensor.data_type, stored);
            let values = &weights.get(name).unwrap().data;
            assert_eq!(tensor.raw_data.len(), 2 * values.len());
            let rounded = precision.round(spec::Tensor::f32([1], vec![values[3]])).at(0);
            let bits = u16::from_le_bytes([tensor.raw_data[6], tensor.raw_data[7]]);
            let read = match precision {
                Precision::F16 => half::f16::from_bits(bits).to_f64(),
                _ => half::bf16::from_bits(bits).to_f64(),
            };
            assert_eq!(read, rounded);
        }
        let model = Model::new(small(18)).unwrap();
        let refused = |precision, opset| {
            let options = Options { precision, opset, ..PLAIN };
            Plan::new(&model, options).err().unwrap().to_string()
        };
        assert!(refused(Precision::Bf16, 17).contains("--opset 22"));
        assert!(refused(Precision::Tf32, 17).contains("f32, f16 or bf16"));
    }

    #[test]
    fn branches_that_are_off_are_left_out() {
        for (setting, gone) in [("tfc=off", "param_conv"), ("ioi=off", "spatial_conv")] {
            let mut config = small(50);
            config.semantics.set(setting).unwrap();
            let (_, _, graph) = exported(config, PLAIN);
            assert!(graph.node.iter().all(|node| !node.name.contains(gone)), "{setting}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_without_weights() {
        let config = Config { depth: 200, width: 8.0, ..Config::default() };
        let error = Plan::new(&Model::new(config).unwrap(), PLAIN).err().unwrap().to_string();
        assert!(error.contains("GiB") && error.contains("--width"), "{error}");
        assert!(refuse_large(LARGEST).is_ok() && refuse_large(LARGEST + 1).is_err());
    }

    #[test]
    fn folders_are_not_written_to_the_file() {
        let of = |source: &str, sha256: Option<&str>| {
            let (source, sha256) = (source.to_owned(), sha256.map(str::to_owned));
            origin(&Provenance { source, sha256, ..Provenance::default() })
        };
        assert_eq!(of("formula:3", None), "formula:3");
        assert_eq!(of("/folder/w.pth", Some("ab")), "w.pth sha256:ab");
        assert_eq!(of("../w.pth", Some("ab")), "w.pth sha256:ab");
    }
}
