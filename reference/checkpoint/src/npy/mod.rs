//! The npy format, which holds one numpy array; used for checkpoints and for dumps.
//!
//! Everything that `numpy.load` reads without pickles is supported: versions 1.0, 2.0 and 3.0, headers
//! of any length and alignment, the shapes of Python 2 (`(3L, 4L)`), any order of keys and kind of
//! quotes, both byte orders, row-major and column-major arrays. Numbers are bool, integers, float16,
//! float32, float64, and bfloat16 as ml_dtypes stores it (`V2` or `bfloat16`). Memory is allocated
//! only for bytes that are there.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

mod literal;

use std::fmt;

use spec::{Data, Tensor};

use self::literal::Literal;
use super::cursor::Cursor;
use super::dtype::{DType, Endian};
use super::error::{Failure, quoted};
use super::tensor::{Number, View};

/// The first bytes of every npy array.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Number of bytes from which [`Header::length`] can read the length of the header.
pub const START: usize = 12;

/// Length in bytes of the longest header that is read. numpy itself refuses more than 10 000 unless it
/// is told otherwise.
pub const LONGEST_HEADER: usize = 1 << 16;

/// Why an array cannot be read and what to do about it, as one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NpyError(Failure);

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence())
    }
}

impl From<NpyError> for Failure {
    fn from(error: NpyError) -> Failure {
        error.0
    }
}

/// The header of an array, which precedes its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The extent of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// The number format, such as `float32`; for an unsupported format, the text of the header.
    pub dtype: String,
    /// Whether the array is column-major (`fortran_order`).
    pub fortran: bool,
    /// Length of the header in bytes, which is the offset of the values.
    pub end: usize,
    pub(super) number: Number,
}

impl Header {
    /// The length in bytes of the whole header, from the first [`START`] bytes of an array. Fails if
    /// these are not the start of an array, or if the header is longer than [`LONGEST_HEADER`].
    pub fn length(start: &[u8]) -> Result<usize, NpyError> {
        let (text, before) = description_length(&mut Cursor::new(start)).map_err(NpyError)?;
        Ok(before + text)
    }

    /// Parses the header of an array. The values need not be among the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Header, NpyError> {
        parse(bytes).map_err(NpyError)
    }

    /// The number of values; fails if it overflows.
    pub fn count(&self) -> Result<usize, NpyError> {
        self.view().and_then(|view| view.count()).map_err(NpyError)
    }

    /// The size of the values in bytes; fails if it overflows or if the format is not supported.
    pub fn size(&self) -> Result<usize, NpyError> {
        let (dtype, _) = self.known()?;
        let whole = self.count()?.checked_mul(dtype.size());
        let overflow = || {
            Failure::damaged(format!("the element count of the shape {:?} overflows", self.shape))
        };
        whole.ok_or_else(|| NpyError(overflow()))
    }

    /// Whether the values are floats of a supported format.
    pub fn is_float(&self) -> bool {
        matches!(&self.number, Number::Known(dtype, _) if dtype.is_float())
    }

    pub(super) fn view(&self) -> Result<View, Failure> {
        match self.fortran {
            true => View::column_major(&self.shape),
            false => View::row_major(&self.shape),
        }
    }

    fn known(&self) -> Result<(DType, Endian), NpyError> {
        match self.number {
            Number::Known(dtype, endian) if dtype.is_real() => Ok((dtype, endian)),
            _ => Err(self.refused("which is not supported")),
        }
    }

    fn refused(&self, why: &str) -> NpyError {
        let what = format!("its dtype is {}, {why}", quoted(&self.dtype));
        NpyError(Failure::new(what, "save it as float32 or float64"))
    }
}

/// An array that has been read.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The extent of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// The number format in the file, such as `bfloat16`.
    pub dtype: String,
    /// The values in row-major order, whatever the order in the file is.
    pub values: Data,
}

impl Array {
    /// Converts the array to a tensor and drops the number format.
    pub fn into_tensor(self) -> Tensor {
        Tensor { shape: self.shape, data: self.values }
    }
}

/// Reads an array of at most `limit` floats. float64 stays float64 and narrower formats become float32,
/// which is exact. Fails for integers and bool, and names the format.
pub fn decode(bytes: &[u8], limit: usize) -> Result<Array, NpyError> {
    let header = Header::parse(bytes)?;
    match header.is_float() {
        true => values(header, bytes, limit),
        false => Err(header.refused("which is not a float")),
    }
}

/// Like [`decode`], but also reads integers and bool. Those of up to 16 bits become float32, which is
/// exact; wider ones become float64, which is exact up to 2^53.
pub fn decode_any(bytes: &[u8], limit: usize) -> Result<Array, NpyError> {
    values(Header::parse(bytes)?, bytes, limit)
}

fn values(header: Header, bytes: &[u8], limit: usize) -> Result<Array, NpyError> {
    let (dtype, endian) = header.known()?;
    let count = header.count()?;
    if count > limit {
        let what =
            format!("its shape {:?} has more values than the {limit} expected", header.shape);
        return Err(NpyError(Failure::new(what, "check that it is the right array")));
    }
    let (needed, there) = (header.size()?, bytes.len().saturating_sub(header.end));
    let body = bytes.get(header.end..).filter(|body| body.len() == needed);
    let gathered =
        body.and_then(|body| header.view().ok()?.gather(body, dtype.size())).ok_or_else(|| {
            let (shape, name) = (&header.shape, dtype.name());
            NpyError(Failure::damaged(format!(
                "the shape {shape:?} in {name} needs {needed} bytes, but there are {there}"
            )))
        })?;
    let values = dtype.decode(&gathered, endian);
    Ok(Array { values, shape: header.shape, dtype: header.dtype })
}

/// Reads the length of the header's description, and returns it with the number of bytes before it.
fn description_length(cursor: &mut Cursor<'_>) -> Result<(usize, usize), Failure> {
    if cursor.array()? != *MAGIC {
        return Err(Failure::damaged("it is not an npy array"));
    }
    let version: [u8; 2] = cursor.array()?;
    let length = match version {
        [1, 0] => cursor.length::<2>()?,
        [2 | 3, 0] => cursor.length::<4>()?,
        [major, minor] => {
            return Err(Failure::new(
                format!("its npy version is {major}.{minor}, but only 1.0 to 3.0 are supported"),
                "save it with numpy.save",
            ));
        }
    };
    match length > LONGEST_HEADER {
        true => Err(Failure::damaged(format!(
            "its header should have {length} bytes, but at most {LONGEST_HEADER} are allowed"
        ))),
        false => Ok((length, cursor.position())),
    }
}

fn parse(bytes: &[u8]) -> Result<Header, Failure> {
    let mut cursor = Cursor::new(bytes);
    let (length, _) = description_length(&mut cursor)?;
    let text = String::from_utf8_lossy(cursor.take(length)?);
    let malformed = |what: &str| Failure::damaged(format!("its header has no valid {what}"));
    let Some(Literal::Dict(entries)) = literal::parse(&text) else {
        return Err(malformed("description"));
    };
    // As in Python, the last of several entries with the same key counts.
    let entry = |key: &str| entries.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value);
    let number = number(entry("descr").ok_or_else(|| malformed("dtype"))?);
    let Some(Literal::Bool(fortran)) = entry("fortran_order") else {
        return Err(malformed("order"));
    };
    let shape = entry("shape").and_then(extents).ok_or_else(|| malformed("shape"))?;
    let dtype = number.name().to_owned();
    Ok(Header { shape, dtype, fortran: *fortran, end: cursor.position(), number })
}

/// The number format of a `descr`. One that is not a plain number (records, objects) is kept as text.
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
    fn headers_are_parsed() {
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
                // The header is not padded to any alignment.
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
    fn wrong_sizes_are_refused_before_memory_is_allocated() {
        for (shape, values) in [("(2,)", 4), ("(2,)", 12), ("(7,)", 28), ("(0, 9)", 1)] {
            assert!(as_is("'<f4'", "False", shape, &vec![0; values]).is_err(), "{shape}");
        }
        let endless = "(99999999999, 99999999999)";
        let text = as_is("'<f4'", "False", endless, &[]).unwrap_err().to_string();
        assert!(text.contains("overflows"), "{text}");
        let text = "{'descr': '<i4', 'fortran_order': False, 'shape': (1,)}";
        let text = decode(&npy(1, text, &[0; 4]), 1).unwrap_err().to_string();
        assert!(text.contains("int32, which is not a float"), "{text}");
        assert!(Header::length(b"\x93NUMPY\x02\x00\xff\xff\xff\x00").is_err());
        assert_eq!(Header::length(&described("'<f4'", "False", "()")[..START]).unwrap(), 65);
    }
}
