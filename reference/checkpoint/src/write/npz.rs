//! Writes numpy's archives of arrays.

use std::io::{Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{little_endian_bytes, params};
use crate::Weights;

/// Alignment of the values in bytes, as in files that numpy writes.
const ALIGNMENT: usize = 64;

pub(super) fn write(weights: &Weights, out: &mut (impl Write + Seek)) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(out);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, param) in params(weights) {
        zip.start_file(format!("{name}.npy"), options)?;
        zip.write_all(&header(&param.shape))?;
        zip.write_all(&little_endian_bytes(param))?;
    }
    zip.finish()?;
    Ok(())
}

/// The header of an array: magic number, version 1.0, length of the description, description.
fn header(shape: &[usize]) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let mut text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", extents.trim_end());
    let before = 10;
    let end = (before + text.len() + 1).next_multiple_of(ALIGNMENT);
    text.extend(std::iter::repeat_n(' ', end - before - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    // A shape has at most 8 extents of 20 digits, so the length fits into 16 bits.
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}
