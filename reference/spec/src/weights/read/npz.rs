//! numpy's archive of arrays (`numpy.savez`, `numpy.savez_compressed`).
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::cell::RefCell;

use super::Checkpoint;
use super::archive::Archive;
use crate::weights::cursor::Cursor;
use crate::weights::dtype::{DType, Endian};
use crate::weights::error::{Fault, quoted};
use crate::weights::tensor::{Bytes, Number, RawTensor, View};

/// Bytes that are read in search of a header. numpy pads headers to a multiple of 64; that of a
/// plain array takes 128.
const HEADER: usize = 4096;

pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint<'_>, Fault> {
    let mut archive = Archive::open(bytes)?;
    let names: Vec<String> = archive.names().map(|name| name.into_owned()).collect();
    let mut tensors = Vec::new();
    for name in names {
        let Some(tensor) = name.strip_suffix(".npy") else { continue };
        tensors.push(array(&mut archive, &name, tensor).map_err(|fault| fault.of(tensor))?);
    }
    match tensors.is_empty() {
        true => Err(Fault::new("the npz holds no arrays", "save it again with numpy.savez")),
        false => Ok(Checkpoint { tensors, section: None, archive: Some(RefCell::new(archive)) }),
    }
}

fn array<'a>(archive: &mut Archive<'a>, entry: &str, tensor: &str) -> Result<RawTensor<'a>, Fault> {
    let missing = || Fault::damaged("its entry is missing");
    let index = archive.index(entry).ok_or_else(missing)?;
    let header = Header::parse(&archive.start(index, HEADER)?)?;
    let len = archive.announced(index)?.checked_sub(header.end);
    let len = len.ok_or_else(|| Fault::damaged("its header reaches beyond its end"))?;
    let view = match header.fortran {
        true => View::column_major(&header.shape)?,
        false => View::row_major(&header.shape)?,
    };
    if let Number::Known(dtype, _) = &header.number {
        let needed = view.count()?.checked_mul(dtype.size());
        if needed != Some(len) {
            let shape = &header.shape;
            return Err(Fault::damaged(format!(
                "its shape {shape:?} does not fit its {len} bytes"
            )));
        }
    }
    RawTensor::new(tensor, header.number, view, Bytes::Entry { index, skip: header.end, len })
}

/// What stands before an array's values.
#[derive(Debug)]
struct Header {
    number: Number,
    fortran: bool,
    shape: Vec<usize>,
    /// Where the values begin.
    end: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Header, Fault> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array()? != *b"\x93NUMPY" {
            return Err(Fault::damaged("it is no npy array"));
        }
        let [major, _minor] = cursor.array()?;
        let length = match major {
            1 => cursor.length::<2>()?,
            _ => cursor.length::<4>()?,
        };
        let text = String::from_utf8_lossy(cursor.take(length)?);
        let odd = |what: &str| Fault::damaged(format!("its header has no valid {what}"));
        let descr = value(&text, "descr").ok_or_else(|| odd("dtype"))?;
        let fortran = value(&text, "fortran_order").ok_or_else(|| odd("order"))?;
        let shape = value(&text, "shape").and_then(tuple).ok_or_else(|| odd("shape"))?;
        Ok(Header {
            number: number(descr),
            fortran: fortran.starts_with("True"),
            shape,
            end: cursor.position(),
        })
    }
}

/// What follows a key in the dictionary of a header.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("'{key}':"))?;
    Some(rest.trim_start())
}

/// `'<f4', …`; what is no plain number (records, objects) stays a name.
fn number(descr: &str) -> Number {
    let Some(code) = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next()) else {
        return Number::Other("records".to_owned());
    };
    let endian = if code.starts_with('>') { Endian::Big } else { Endian::Little };
    match DType::by_code(code.trim_start_matches(['<', '>', '|', '='])) {
        Some(dtype) => Number::Known(dtype, endian),
        None => Number::Other(quoted(code)),
    }
}

/// `(1, 64, 56)`, `(8,)` or `()`.
fn tuple(text: &str) -> Option<Vec<usize>> {
    let (inner, _) = text.strip_prefix('(')?.split_once(')')?;
    let extents = inner.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    extents.map(|extent| extent.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, fortran: &str, shape: &str) -> Vec<u8> {
        let text = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn headers_say_what_they_hold() {
        let header = Header::parse(&npy("'>f8'", "True", "(2, 3)")).unwrap();
        assert_eq!(header.number, Number::Known(DType::F64, Endian::Big));
        assert!(header.fortran && header.shape == [2, 3]);
        let header = Header::parse(&npy("'|V2'", "False", "()")).unwrap();
        assert_eq!(header.number, Number::Known(DType::BF16, Endian::Little));
        assert!(header.shape.is_empty());
        let header = Header::parse(&npy("[('a', '<f4')]", "False", "(1,)")).unwrap();
        assert_eq!(header.number, Number::Other("records".into()));
        for (descr, shape) in [("'|O'", "(1,)"), ("'<U8'", "(1,)"), ("'<c16'", "(1,)")] {
            let header = Header::parse(&npy(descr, "False", shape)).unwrap();
            assert!(matches!(header.number, Number::Other(_)), "{descr}");
        }
        for shape in ["(-1,)", "(1.5,)", "7", "(1", "(99999999999999999999,)"] {
            assert!(Header::parse(&npy("'<f4'", "False", shape)).is_err(), "{shape}");
        }
    }
}
