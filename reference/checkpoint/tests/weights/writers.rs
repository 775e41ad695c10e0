//! Small writers of PyTorch's, numpy's and Flax's files, for files that no correct program would save.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor to write: name, shape, float32 values.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// A zip archive with uncompressed entries.
pub fn stored(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(name.as_str(), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The same archive with every checksum set to 0, as PyTorch writes it with compute_crc32 off.
pub fn without_checksums(mut archive: Vec<u8>) -> Vec<u8> {
    for (sign, place) in [(b"PK\x03\x04", 14), (b"PK\x01\x02", 16)] {
        let mut at = 0;
        while let Some(next) = archive[at..].windows(4).position(|window| window == sign) {
            at += next + 4;
            archive[at - 4 + place..at + place].fill(0);
        }
    }
    archive
}

pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Appends the opcodes of a pickle.
#[derive(Default)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn ops(&mut self, ops: impl AsRef<[u8]>) -> &mut Self {
        self.0.extend(ops.as_ref());
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.ops(b"X").ops((text.len() as u32).to_le_bytes()).ops(text)
    }

    pub fn number(&mut self, n: usize) -> &mut Self {
        self.ops(b"J").ops((n as i32).to_le_bytes())
    }

    fn numbers(&mut self, numbers: &[usize]) -> &mut Self {
        self.ops(b"(");
        for &n in numbers {
            self.number(n);
        }
        self.ops(b"t")
    }

    /// Appends `_rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict(), *more)`.
    pub fn view(
        &mut self,
        class: &str,
        (key, len): (usize, usize),
        offset: usize,
        (shape, strides): (&[usize], &[usize]),
        more: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.ops(b"ctorch._utils\n_rebuild_tensor_v2\n((").text("storage");
        self.ops(format!("ctorch\n{class}\n")).text(&key.to_string()).text("cpu").number(len);
        self.ops(b"tQ").number(offset).numbers(shape).numbers(strides);
        self.ops(b"\x89ccollections\nOrderedDict\n)R").ops(more).ops(b"tR")
    }

    /// Appends a dense float32 tensor in its own storage.
    pub fn tensor(&mut self, key: usize, shape: &[usize]) -> &mut Self {
        let count = shape.iter().product();
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        self.view("FloatStorage", (key, count), 0, (shape, &strides), [])
    }

    /// Appends `{name: tensor, …}`, with storages whose keys are numbered from `first`.
    pub fn state(&mut self, tensors: &[Named], first: usize) -> &mut Self {
        self.ops(b"}(");
        for (at, (name, shape, _)) in tensors.iter().enumerate() {
            self.text(name).tensor(first + at, shape);
        }
        self.ops(b"u")
    }
}

/// The archive that torch.save would make from a pickle of protocol 2 with this body.
pub fn pth(body: &Pickle, storages: &[Vec<u8>]) -> Vec<u8> {
    let program = [b"\x80\x02", body.0.as_slice(), b"."].concat();
    let mut entries = vec![("archive/data.pkl".to_owned(), program)];
    let storage = |(key, bytes): (usize, &Vec<u8>)| (format!("archive/data/{key}"), bytes.clone());
    entries.extend(storages.iter().enumerate().map(storage));
    stored(&entries)
}

/// An archive whose pickle is just a state dict.
pub fn bare_pth(tensors: &[Named]) -> Vec<u8> {
    let mut body = Pickle::default();
    body.state(tensors, 0);
    pth(&body, &storages(tensors))
}

pub fn storages(tensors: &[Named]) -> Vec<Vec<u8>> {
    tensors.iter().map(|(.., values)| bytes(values)).collect()
}

pub fn npz(tensors: &[Named]) -> Vec<u8> {
    let entry = |(name, shape, values): &Named| {
        let extents: String = shape.iter().map(|n| format!("{n},")).collect();
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({extents})}}");
        let mut array = b"\x93NUMPY\x01\x00".to_vec();
        array.extend((header.len() as u16).to_le_bytes());
        array.extend(header.as_bytes());
        array.extend(bytes(values));
        (format!("{name}.npy"), array)
    };
    stored(&tensors.iter().map(entry).collect::<Vec<_>>())
}

/// Appends MessagePack as Flax writes it.
#[derive(Default)]
pub struct Msgpack(pub Vec<u8>);

impl Msgpack {
    pub fn map(&mut self, entries: usize) -> &mut Self {
        self.0.push(0xde);
        self.0.extend((entries as u16).to_be_bytes());
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(0xd9);
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self
    }

    fn number(&mut self, n: usize) -> &mut Self {
        self.0.push(0xce);
        self.0.extend((n as u32).to_be_bytes());
        self
    }

    pub fn array(&mut self, shape: &[usize], dtype: &str, bytes: &[u8]) -> &mut Self {
        let mut content = Msgpack(vec![0x93, 0x90 | shape.len() as u8]);
        for &n in shape {
            content.number(n);
        }
        content.text(dtype).0.push(0xc6);
        content.0.extend((bytes.len() as u32).to_be_bytes());
        content.0.extend(bytes);
        self.0.push(0xc9);
        self.0.extend((content.0.len() as u32).to_be_bytes());
        self.0.push(1);
        self.0.extend(content.0);
        self
    }

    /// Appends an array in chunks of at most `most` values.
    pub fn chunked(&mut self, shape: &[usize], values: &[f32], most: usize) -> &mut Self {
        self.map(3).text("__msgpack_chunked_array__").0.push(0xc3);
        self.text("shape").map(shape.len());
        for (axis, &extent) in shape.iter().enumerate() {
            self.text(&axis.to_string()).number(extent);
        }
        self.text("chunks").map(values.len().div_ceil(most));
        for (at, part) in values.chunks(most).enumerate() {
            self.text(&at.to_string()).array(&[part.len()], "float32", &bytes(part));
        }
        self
    }
}
