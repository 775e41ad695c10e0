//! Messages as bytes.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use spec::{Data, Tensor};

/// The largest length of the line of JSON, in bytes.
const MAX_HEAD: u64 = 16 << 20;

/// The largest number of dimensions of a tensor.
const MAX_RANK: usize = 16;

/// A line of JSON and the tensors that follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The JSON object, with the entry `tensors`.
    pub head: Value,
    /// The tensors, in the order of the entry `tensors`.
    pub tensors: Vec<Tensor>,
}

impl Message {
    /// The text of an entry; empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        self.head[key].as_str().unwrap_or_default()
    }

    /// The error that the message reports, without control characters.
    pub fn error(&self) -> Option<String> {
        self.head.get("error").map(|error| match error.as_str() {
            Some(text) => printable(text),
            None => printable(&error.to_string()),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    F32,
    F64,
}

#[derive(Deserialize)]
struct Described {
    dtype: Format,
    shape: Vec<usize>,
}

impl Described {
    /// The number of bytes; `None` if it does not fit in memory at all.
    fn bytes(&self) -> Option<usize> {
        let count = self.shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent))?;
        count.checked_mul(if self.dtype == Format::F32 { 4 } else { 8 })
    }
}

/// A message as bytes. `head` must be an object; its entry `tensors` is set.
pub fn encode(head: &Value, tensors: &[&Tensor]) -> Vec<u8> {
    let described = tensors.iter().map(|tensor| {
        let dtype = match tensor.data {
            Data::F32(_) => "f32",
            Data::F64(_) => "f64",
        };
        json!({"dtype": dtype, "shape": tensor.shape})
    });
    let mut head = head.clone();
    head["tensors"] = described.collect();
    let mut bytes = head.to_string().into_bytes();
    bytes.push(b'\n');
    for tensor in tensors {
        match &tensor.data {
            Data::F32(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Data::F64(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        }
    }
    bytes
}

/// Reads a message; `None` at the end of the stream. Nothing is allocated for tensors that together have
/// more than `max_bytes`.
///
/// # Errors
///
/// If the stream ends within a message, or the message is malformed or too large.
pub fn decode(from: &mut impl BufRead, max_bytes: usize) -> Result<Option<Message>> {
    let mut line = vec![];
    from.take(MAX_HEAD).read_until(b'\n', &mut line).context("it cannot be read")?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        bail!("its first line has no end within {MAX_HEAD} bytes");
    }
    let head: Value = serde_json::from_slice(&line)
        .with_context(|| format!("`{}` is not JSON", start_of(&line)))?;
    let described = match head.get("tensors") {
        Some(described) => Vec::<Described>::deserialize(described)
            .context("its entry `tensors` does not give dtype (f32 or f64) and shape of each")?,
        None => vec![],
    };
    let mut left = max_bytes;
    for tensor in &described {
        match tensor.bytes().filter(|&bytes| bytes <= left) {
            Some(bytes) if tensor.shape.len() <= MAX_RANK => left -= bytes,
            _ => bail!(
                "its tensors, one of shape {:?}, have more than {max_bytes} bytes",
                &tensor.shape[..tensor.shape.len().min(MAX_RANK)]
            ),
        }
    }
    let tensors = described.into_iter().map(|tensor| values(from, tensor)).collect::<Result<_>>();
    Ok(Some(Message { head, tensors: tensors? }))
}

/// Reads the values of a tensor whose size was checked.
fn values(from: &mut impl BufRead, tensor: Described) -> Result<Tensor> {
    let size = tensor.bytes().context("a tensor is too large")?;
    let mut bytes = vec![0; size];
    from.read_exact(&mut bytes).with_context(|| {
        format!("the stream ended within the {size} bytes of a tensor of shape {:?}", tensor.shape)
    })?;
    Ok(match tensor.dtype {
        Format::F32 => {
            let (words, _) = bytes.as_chunks();
            Tensor::f32(tensor.shape, words.iter().map(|&w| f32::from_le_bytes(w)).collect())
        }
        Format::F64 => {
            let (words, _) = bytes.as_chunks();
            Tensor::f64(tensor.shape, words.iter().map(|&w| f64::from_le_bytes(w)).collect())
        }
    })
}

fn start_of(line: &[u8]) -> String {
    printable(&String::from_utf8_lossy(&line[..line.len().min(80)]))
}

/// Text from outside on one line, without control characters.
pub fn printable(text: &str) -> String {
    let one_line = text.split(['\n', '\r', '\t']).map(str::trim).filter(|part| !part.is_empty());
    one_line.collect::<Vec<_>>().join(" ").replace(char::is_control, "?")
}
