//! Writes PyTorch's zip archive as `torch.save({'state_dict': …})` does: a pickle of protocol 2 and one
//! entry for each storage, not compressed.

use std::io::{Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{little_endian_bytes, params};
use crate::Weights;

pub(super) fn write(weights: &Weights, out: &mut (impl Write + Seek)) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(out);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let entries = [("data.pkl", pickle(weights)), ("byteorder", b"little".to_vec())];
    for (name, bytes) in entries {
        zip.start_file(format!("archive/{name}"), options)?;
        zip.write_all(&bytes)?;
    }
    for (key, (_, param)) in params(weights).enumerate() {
        // PyTorch can map the file into memory, for which the values must be aligned.
        zip.start_file(format!("archive/data/{key}"), options.with_alignment(64))?;
        zip.write_all(&little_endian_bytes(param))?;
    }
    zip.start_file("archive/version", options)?;
    zip.write_all(b"3\n")?;
    zip.finish()?;
    Ok(())
}

/// The pickle of `{'state_dict': OrderedDict(name = tensor, …)}`.
fn pickle(weights: &Weights) -> Vec<u8> {
    let mut out = Pickler(b"\x80\x02}".to_vec());
    out.text("state_dict");
    out.class("collections", "OrderedDict");
    out.ops(b")R(");
    for (key, (name, param)) in params(weights).enumerate() {
        out.text(name);
        out.tensor(key, &param.shape, param.data.len());
    }
    out.ops(b"us.");
    out.0
}

/// Appends the opcodes that a state dict needs.
struct Pickler(Vec<u8>);

impl Pickler {
    fn ops(&mut self, ops: &[u8]) {
        self.0.extend(ops);
    }

    fn text(&mut self, text: &str) {
        self.ops(b"X");
        // Names are shorter than 4 GiB, so the length fits into 32 bits.
        self.ops(&(text.len() as u32).to_le_bytes());
        self.ops(text.as_bytes());
    }

    fn class(&mut self, module: &str, name: &str) {
        self.ops(format!("c{module}\n{name}\n").as_bytes());
    }

    /// Appends an integer of 8 bytes, which is enough for any extent of a tensor.
    fn number(&mut self, n: usize) {
        self.ops(b"\x8a\x08");
        self.ops(&(n as u64).to_le_bytes());
    }

    fn tuple(&mut self, numbers: &[usize]) {
        self.ops(b"(");
        numbers.iter().for_each(|&n| self.number(n));
        self.ops(b"t");
    }

    /// Appends `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`.
    fn tensor(&mut self, key: usize, shape: &[usize], count: usize) {
        self.class("torch._utils", "_rebuild_tensor_v2");
        self.ops(b"((");
        self.text("storage");
        self.class("torch", "FloatStorage");
        self.text(&key.to_string());
        self.text("cpu");
        self.number(count);
        self.ops(b"tQ");
        self.number(0);
        self.tuple(shape);
        self.tuple(&strides(shape));
        self.ops(b"\x89");
        self.class("collections", "OrderedDict");
        self.ops(b")RtR");
    }
}

/// The strides of a row-major tensor, in values.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}
