//! numpy's format of one array, for checkpoints and for dumps alike.
//!
//! Whatever `numpy.load` reads without pickles is understood: versions 1.0, 2.0 and 3.0, headers of
//! any length and alignment, the shapes of Python 2 (`(3L, 4L)`), any order of keys and kind of
//! quotes, both orders of bytes and of dimensions. Numbers are bool, integers, float16, float32,
//! float64, and bfloat16 as ml_dtypes stores it (`V2` or `bfloat16`). Nothing is allocated before
//! the bytes for it are there.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

mod literal;

use std::fmt;

use self::literal::Literal;
use super::cursor::Cursor;
use super::dtype::{DType, Endian};
use super::error::{Fault, quoted};
use super::tensor::{Number, View};
use crate::tensor::{Data, Tensor};

/// How every array begins.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Bytes that tell how long a header is.
pub const START: usize = 12;

/// Bytes of the longest header that is read. numpy itself asks before it reads more than 10 000.
pub const LONGEST_HEADER: usize = 1 << 16;

/// Why an array cannot be read: one sentence, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NpyError(Fault);

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence())
    }
}

impl From<NpyError> for Fault {
    fn from(error: NpyError) -> Fault {
        error.0
    }
}

/// What stands before an array's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Extent of each dimension; none for a scalar.
    pub shape: Vec<usize>,
    /// The number format: `float32`, or what the header says where it is none that is read.
    pub dtype: String,
    /// Whether the first extent runs fastest (`fortran_order`).
    pub fortran: bool,
    /// Where the values begin.
    pub end: usize,
    pub(super) number: Number,
}

impl Header {
    /// How many bytes the header takes with what is before it, from the first [`START`] bytes of an
    /// array; fails where these are no array's or announce more than [`LONGEST_HEADER`].
    pub fn length(start: &[u8]) -> Result<usize, NpyError> {
        let (text, before) = announced(&mut Cursor::new(start)).map_err(NpyError)?;
        Ok(before + text)
    }

    /// Reads the header of an array, whose values need not be among the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Header, NpyError> {
        parse(bytes).map_err(NpyError)
    }

    /// How many values there are; fails where no machine could address them.
    pub fn count(&self) -> Result<usize, NpyError> {
        self.view().and_then(|view| view.count()).map_err(NpyError)
    }

    /// How many bytes the values take; fails where the format is none that is read.
    pub fn size(&self) -> Result<usize, NpyError> {
        let (dtype, _) = self.known()?;
        let whole = self.count()?.checked_mul(dtype.size());
        whole.ok_or_else(|| NpyError(Fault::damaged("its shape has no end")))
    }

    /// Whether the values are floats of a format that is read.
    pub fn is_float(&self) -> bool {
        matches!(&self.number, Number::Known(dtype, _) if dtype.is_float())
    }

    pub(super) fn view(&self) -> Result<View, Fault> {
        match self.fortran {
            true => View::column_major(&self.shape),
            false => View::row_major(&self.shape),
        }
    }

    fn known(&self) -> Result<(DType, Endian), NpyError> {
        match self.number {
            Number::Known(dtype, endian) if dtype.is_real() => Ok((dtype, endian)),
            _ => Err(self.refused("whose values are not read")),
        }
    }

    fn refused(&self, why: &str) -> NpyError {
        let what = format!("its dtype is {}, {why}", quoted(&self.dtype));
        NpyError(Fault::new(what, "save it as float32 or float64"))
    }
}

/// An array that has been read.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Extent of each dimension; none for a scalar.
    pub shape: Vec<usize>,
    /// The number format in the file: `bfloat16`.
    pub dtype: String,
    /// The values, row-major whatever the order in the file.
    pub values: Data,
}

impl Array {
    /// As a tensor.
    pub fn into_tensor(self) -> Tensor {
        Tensor { shape: self.shape, data: self.values }
    }
}

/// Reads a whole array of floats, of at most `limit` values. float64 stays float64, narrower formats
/// become float32, which is exact. Integers and bool are refused by name.
pub fn decode(bytes: &[u8], limit: usize) -> Result<Array, NpyError> {
    let header = Header::parse(bytes)?;
    match header.is_float() {
        true => values(header, bytes, limit),
        false => Err(header.refused("which is no float")),
    }
}

/// As [`decode`], and integers and bool too, which become float32 where that is exact for every
/// value of their format (up to 16 bits) and float64 elsewhere (exact up to 2^53).
pub fn decode_any(bytes: &[u8], limit: usize) -> Result<Array, NpyError> {
    values(Header::parse(bytes)?, bytes, limit)
}

fn values(header: Header, bytes: &[u8], limit: usize) -> Result<Array, NpyError> {
    let (dtype, endian) = header.known()?;
    let count = header.count()?;
    if count > limit {
        let what =
            format!("its shape {:?} has more than the {limit} values expected", header.shape);
        return Err(NpyError(Fault::new(what, "check that it is the right array")));
    }
    let (needed, there) = (header.size()?, bytes.len().saturating_sub(header.end));
    let body = bytes.get(header.end..).filter(|body| body.len() == needed);
    let gathered =
        body.and_then(|body| header.view().ok()?.gather(body, dtype.size())).ok_or_else(|| {
            let (shape, name) = (&header.shape, dtype.name());
            NpyError(Fault::damaged(format!(
                "the shape {shape:?} in {name} needs {needed} bytes and {there} are there"
            )))
        })?;
    let values = dtype.decode(&gathered, endian);
    Ok(Array { values, shape: header.shape, dtype: header.dtype })
}

/// Bytes of the description, and of what is before it.
fn announced(cursor: &mut Cursor<'_>) -> Result<(usize, usize), Fault> {
    if cursor.array()? != *MAGIC {
        return Err(Fault::damaged("it is no npy array"));
    }
    let version: [u8; 2] = cursor.array()?;
    let length = match version {
        [1, 0] => cursor.length::<2>()?,
        [2 | 3, 0] => cursor.length::<4>()?,
        [major, minor] => {
            return Err(Fault::new(
                format!("its npy format has the version {major}.{minor}, and 1.0 to 3.0 are read"),
                "save it with numpy.save",
            ));
        }
    };
    match length > LONGEST_HEADER {
        true => Err(Fault::damaged(format!(
            "a header of {length} bytes is announced, and none has more than {LONGEST_HEADER}"
        ))),
        false => Ok((length, cursor.position())),
    }
}

fn parse(bytes: &[u8]) -> Result<Header, Fault> {
    let mut cursor = Cursor::new(bytes);
    let (length, _) = announced(&mut cursor)?;
    let text = String::from_utf8_lossy(cursor.take(length)?);
    let odd = |what: &str| Fault::damaged(format!("its header has no valid {what}"));
    let Some(Literal::Dict(entries)) = literal::parse(&text) else {
        return Err(odd("description"));
    };
    // As in Python, the last of several entries with one key counts.
    let entry = |key: &str| entries.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value);
    let number = number(entry("descr").ok_or_else(|| odd("dtype"))?);
    let Some(Literal::Bool(fortran)) = entry("fortran_order") else { return Err(odd("order")) };
    let shape = entry("shape").and_then(extents).ok_or_else(|| odd("shape"))?;
    let dtype = number.name().to_owned();
    Ok(Header { shape, dtype, fortran: *fortran, end: cursor.position(), number })
}

/// What a `descr` means; what is no plain number (records, objects) stays a name.
fn number(descr: &Literal) -> Number {
    match descr {
        Literal::Text(code) => Number::by_code(code),
        _ => Number::Other("records".to_owned()),
    }
}

fn extents(shape: &Literal) -> Option<Vec<usize>> {
    let Literal::Tuple(items) = shape else { return None };
    let extent = |item: &Literal| match item {
        Literal::Int(n) => usize::try_from(*n).ok(),
        _ => None,
    };
    items.iter().map(extent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(version: u8, text: &str, values: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &[version, 0]].concat();
        match version {
            1 => bytes.extend((text.len() as u16).to_le_bytes()),
            _ => bytes.extend((text.len() as u32).to_le_bytes()),
        }
        [bytes.as_slice(), text.as_bytes(), values].concat()
    }

    fn described(descr: &str, fortran: &str, shape: &str) -> Vec<u8> {
        let text = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}");
        npy(1, &text, &[])
    }

    #[test]
    fn headers_say_what_they_hold() {
        let header = Header::parse(&described("'>f8'", "True", "(2, 3)")).unwrap();
        assert_eq!(header.number, Number::Known(DType::F64, Endian::Big));
        assert!(header.fortran && header.shape == [2, 3] && header.size().unwrap() == 48);
        let header = Header::parse(&described("'|V2'", "False", "()")).unwrap();
        assert_eq!(header.number, Number::Known(DType::BF16, Endian::Little));
        assert!(header.shape.is_empty() && header.dtype == "bfloat16");
        let header = Header::parse(&described("[('a', '<f4')]", "False", "(1,)")).unwrap();
        assert_eq!(header.number, Number::Other("records".into()));
        for (descr, shape) in [("'|O'", "(1,)"), ("'<U8'", "(1,)"), ("'<f16'", "(1,)")] {
            let header = Header::parse(&described(descr, "False", shape)).unwrap();
            assert!(matches!(header.number, Number::Other(_)), "{descr}");
            assert!(decode_any(&described(descr, "False", shape), 9).is_err(), "{descr}");
        }
        for shape in ["(-1,)", "(1.5,)", "7", "(7)", "[7]", "(1", "(99999999999999999999,)"] {
            assert!(Header::parse(&described("'<f4'", "False", shape)).is_err(), "{shape}");
        }
    }

    #[test]
    fn headers_that_numpy_reads_are_read() {
        let texts = [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L), }   \n",
            "{'shape': (3, 4), 'fortran_order': False, 'descr': '<f4'}",
            "{\"descr\": \"<f4\", \"fortran_order\": False, \"shape\": (3, 4)}\n",
            "{'descr':'float32','fortran_order':False,'shape':(3,4)}",
            " {u'descr' :\t'f' ,\n 'fortran_order': False, 'shape': ( 3 , 4 , ) , }",
            "{'descr': 'single', 'fortran_order': False, 'shape': (0x3, +4)}",
            "{b'descr': '=f4', 'fortran_order': False, 'shape': (3, 4), 'descr': '\\x3cf4'}",
        ];
        for text in texts {
            for version in 1..=3 {
                // Not aligned to anything, and the values follow at once.
                let values: Vec<u8> = (0..12).flat_map(|n| (n as f32).to_le_bytes()).collect();
                let array = decode(&npy(version, text, &values), 12);
                let array = array.unwrap_or_else(|why| panic!("{text}: {why}"));
                assert_eq!((array.shape, array.dtype.as_str()), (vec![3, 4], "float32"), "{text}");
                assert_eq!(array.values, Data::F32((0..12).map(|n| n as f32).collect()), "{text}");
            }
        }
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}";
        for version in [0, 4, 255] {
            assert!(decode(&npy(version, text, &[0; 4]), 9).is_err(), "version {version}");
        }
    }

    fn as_is(descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Result<Array, NpyError> {
        let text = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}");
        decode_any(&npy(1, &text, values), 6)
    }

    #[test]
    fn values_come_in_row_major_order_and_without_loss() {
        let wide: Vec<u8> = (0..6).flat_map(|n| (f64::from(n) / 3.0).to_be_bytes()).collect();
        let array = as_is("'>f8'", "True", "(2, 3)", &wide).unwrap();
        let expected = [0.0, 2.0, 4.0, 1.0, 3.0, 5.0].map(|n: f64| n / 3.0).to_vec();
        assert_eq!(array.values, Data::F64(expected));
        for (descr, bytes) in
            [("'>f2'", [0x3c, 0x00]), ("'<f2'", [0, 0x3c]), ("'V2'", [0x80, 0x3f])]
        {
            assert_eq!(as_is(descr, "False", "()", &bytes).unwrap().values, Data::F32(vec![1.0]));
        }
        let bytes = as_is("'|u1'", "False", "(2,)", &[7, 255]).unwrap();
        assert_eq!(bytes.values, Data::F32(vec![7.0, 255.0]));
        let long = as_is("'<i8'", "False", "(1,)", &(-1i64 << 40).to_le_bytes()).unwrap();
        assert_eq!(long.values, Data::F64(vec![-((1i64 << 40) as f64)]));
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_allocated() {
        for (shape, values) in [("(2,)", 4), ("(2,)", 12), ("(7,)", 28), ("(0, 9)", 1)] {
            assert!(as_is("'<f4'", "False", shape, &vec![0; values]).is_err(), "{shape}");
        }
        let endless = "(99999999999, 99999999999)";
        let text = as_is("'<f4'", "False", endless, &[]).unwrap_err().to_string();
        assert!(text.contains("has no end"), "{text}");
        let text = "{'descr': '<i4', 'fortran_order': False, 'shape': (1,)}";
        let text = decode(&npy(1, text, &[0; 4]), 1).unwrap_err().to_string();
        assert!(text.contains("int32, which is no float"), "{text}");
        assert!(Header::length(b"\x93NUMPY\x02\x00\xff\xff\xff\x00").is_err());
        assert_eq!(Header::length(&described("'<f4'", "False", "()")[..START]).unwrap(), 65);
    }
}
