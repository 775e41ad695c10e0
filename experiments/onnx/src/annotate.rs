//! Writes the results of a comparison onto a file's own graph: as metadata of its nodes for Netron, and as
//! node data for Model Explorer.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use serde_json::{Value, json};

use crate::matching::Matched;
use crate::proto::StringStringEntryProto;
use crate::read::{Net, NodeId};
use prost::Message;
use spec::Model;

/// What is known about one module.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The error ratio of the module's own error, if the module was compared.
    pub ratio: Option<f64>,
    /// The verdict in a word.
    pub verdict: String,
}

/// The results of the modules by name.
pub type Results = HashMap<String, Judged>;

/// The modules whose value each node computes, by the node's index.
fn by_node(net: &Net, matched: &Matched, model: &Model) -> BTreeMap<NodeId, Vec<String>> {
    let mut found: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    for (id, value) in &matched.points {
        if let Some(node) = net.producer(*value) {
            found.entry(node).or_default().push(model.module(*id).name.clone());
        }
    }
    found
}

/// The node data that Model Explorer reads: a number for each node, with colours by the bound 4. A node
/// without a name has the name that Model Explorer's adapter for ONNX gives it.
pub fn model_explorer(net: &Net, matched: &Matched, model: &Model, results: &Results) -> Value {
    let mut data = serde_json::Map::new();
    for (node, modules) in by_node(net, matched, model) {
        let ratios = modules.iter().filter_map(|name| results.get(name)?.ratio);
        let worst = ratios.reduce(|a, b| if b.is_nan() || b > a { b } else { a });
        let Some(worst) = worst else { continue };
        let name = match net.node(node).name.as_str() {
            "" => format!("<node_{}>", node.0),
            name => name.to_owned(),
        };
        // JSON has no NaN; a value beyond every bound takes its place.
        let shown = if worst.is_finite() { worst } else { f64::MAX };
        data.insert(name, json!({ "value": shown }));
    }
    let graph = match net.graph().name.as_str() {
        "" => "<main>",
        name => name,
    };
    let thresholds = json!([
        {"value": 1.0, "bgColor": "#2e7d32", "textColor": "#ffffff"},
        {"value": 4.0, "bgColor": "#c5e1a5"},
        {"value": f64::MAX, "bgColor": "#c62828", "textColor": "#ffffff"},
    ]);
    json!({ graph: {"results": data, "thresholds": thresholds} })
}

/// The file with an entry of metadata for each node that was compared. Everything else stays as it is, byte
/// for byte, also what this program does not know.
///
/// # Errors
///
/// If the bytes are not an ONNX file.
pub fn annotated(
    bytes: &[u8],
    net: &Net,
    matched: &Matched,
    model: &Model,
    results: &Results,
) -> Result<Vec<u8>> {
    const GRAPH: u32 = 7;
    const NODE: u32 = 1;
    let modules = by_node(net, matched, model);
    let mut file = Vec::with_capacity(bytes.len());
    each_field(bytes, |tag, wire, content, whole| {
        if (tag, wire) != (GRAPH, WireType::LengthDelimited) {
            file.extend_from_slice(whole);
            return Ok(());
        }
        let mut graph = Vec::with_capacity(content.len());
        let mut at = 0;
        each_field(content, |tag, wire, node, whole| {
            if (tag, wire) != (NODE, WireType::LengthDelimited) {
                graph.extend_from_slice(whole);
                return Ok(());
            }
            let mut node = node.to_vec();
            for name in modules.get(&NodeId(at)).into_iter().flatten() {
                note(&mut node, name, results.get(name));
            }
            at += 1;
            append(&mut graph, NODE, &node);
            Ok(())
        })?;
        append(&mut file, GRAPH, &graph);
        Ok(())
    })?;
    Ok(file)
}

/// Adds an entry to a node's `metadata_props`.
fn note(node: &mut Vec<u8>, module: &str, result: Option<&Judged>) {
    const METADATA: u32 = 9;
    let Some(result) = result else { return };
    let ratio = result.ratio.map_or(String::new(), |ratio| format!(", error ratio {ratio:.2}"));
    let entry = StringStringEntryProto {
        key: format!("harness {module}"),
        value: format!("{}{ratio}", result.verdict),
    };
    append(node, METADATA, &entry.encode_to_vec());
}

fn append(to: &mut Vec<u8>, tag: u32, content: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, to);
    encode_varint(content.len() as u64, to);
    to.extend_from_slice(content);
}

/// Calls `see` with the number, the wire type, the content and all bytes of each field of a message.
fn each_field(
    bytes: &[u8],
    mut see: impl FnMut(u32, WireType, &[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let start = rest;
        let (tag, wire) = decode_key(&mut rest).context("the file is not an ONNX file")?;
        let size = match wire {
            WireType::Varint => {
                let before = rest;
                decode_varint(&mut rest).context("the file is not an ONNX file")?;
                rest = before;
                before.iter().position(|b| b & 0x80 == 0).map_or(before.len(), |at| at + 1)
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                usize::try_from(decode_varint(&mut rest).context("the file is not an ONNX file")?)?
            }
            _ => bail!("the file has groups, which ONNX does not use"),
        };
        let Some((content, after)) = rest.split_at_checked(size) else {
            bail!("the file ends within a field");
        };
        let whole = &start[..start.len() - after.len()];
        see(tag, wire, content, whole)?;
        rest = after;
    }
    Ok(())
}
