//! Reads MindSpore checkpoints, which are a protobuf message of tensors:
//!
//! ```text
//! Checkpoint  { repeated Value value = 1 }
//! Value       { string tag = 1; TensorProto tensor = 2 }
//! TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3 }
//! ```
//!
//! Source: `checkpoint.proto` in MindSpore's repository.

use super::Checkpoint;
use crate::cursor::Cursor;
use crate::dtype::{DType, Endian};
use crate::error::{Failure, quoted};
use crate::tensor::{Bytes, Number, RawTensor, View};

/// The marker that `save_checkpoint(crc_check=True)` appends; 10 bytes with the big-endian checksum
/// follow it.
const CHECKSUM: &[u8] = b"crc_num";
const CHECKSUM_BYTES: usize = 10;

pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint<'_>, Failure> {
    let mut tensors = Vec::new();
    let mut message = Message::new(verified(bytes)?);
    while let Some((number, field)) = message.next()? {
        if let (1, Field::Bytes(value)) = (number, field) {
            tensors.push(tensor(value)?);
        }
    }
    match tensors.is_empty() {
        true => Err(Failure::damaged("it has no tensors")),
        false => Ok(Checkpoint::of(tensors)),
    }
}

/// Verifies the checksum, if there is one, and returns the bytes without it.
fn verified(bytes: &[u8]) -> Result<&[u8], Failure> {
    let split = bytes.split_last_chunk::<CHECKSUM_BYTES>();
    let Some((rest, stated)) =
        split.and_then(|(rest, sum)| Some((rest.strip_suffix(CHECKSUM)?, sum)))
    else {
        return Ok(bytes);
    };
    let stated = stated.iter().fold(0u128, |sum, &byte| sum << 8 | u128::from(byte));
    match stated == u128::from(crc32fast::hash(rest)) {
        true => Ok(rest),
        false => Err(Failure::damaged("the trailing checksum does not match")),
    }
}

fn tensor(value: &[u8]) -> Result<RawTensor<'_>, Failure> {
    let (mut tag, mut body) = (None, None);
    let mut message = Message::new(value);
    while let Some(field) = message.next()? {
        match field {
            (1, Field::Bytes(text)) => tag = Some(text),
            (2, Field::Bytes(bytes)) => body = Some(bytes),
            _ => {}
        }
    }
    let (Some(tag), Some(body)) = (tag, body) else {
        return Err(Failure::damaged("a value has no name or no tensor"));
    };
    let name = String::from_utf8_lossy(tag);
    let body = Body::parse(body).map_err(|failure| failure.in_tensor(&name))?;
    let view = View::row_major(&body.dims).map_err(|failure| failure.in_tensor(&name))?;
    let word = String::from_utf8_lossy(body.dtype);
    let number = match DType::by_name(&word) {
        Some(dtype) => Number::Known(dtype, Endian::Little),
        None => Number::Other(quoted(&word)),
    };
    RawTensor::new(&name, number, view, Bytes::Slice(body.content))
}

#[derive(Debug, Default)]
struct Body<'a> {
    dims: Vec<usize>,
    dtype: &'a [u8],
    content: &'a [u8],
}

impl<'a> Body<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Failure> {
        let mut body = Body::default();
        let mut message = Message::new(bytes);
        while let Some(field) = message.next()? {
            match field {
                (1, Field::Varint(extent)) => body.dims.push(extent_of(extent)?),
                // Protobuf 3 packs repeated numbers into one field.
                (1, Field::Bytes(packed)) => {
                    let mut packed = Cursor::new(packed);
                    while !packed.rest().is_empty() {
                        body.dims.push(extent_of(varint(&mut packed)?)?);
                    }
                }
                (2, Field::Bytes(text)) => body.dtype = text,
                (3, Field::Bytes(content)) => body.content = content,
                _ => {}
            }
        }
        Ok(body)
    }
}

fn extent_of(varint: u64) -> Result<usize, Failure> {
    let negative = || Failure::damaged("an extent is negative or too large");
    i64::try_from(varint).ok().and_then(|n| usize::try_from(n).ok()).ok_or_else(negative)
}

/// The value of one field of a protobuf message.
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A number of fixed size, which MindSpore does not use.
    Fixed,
}

/// Reads the fields of a protobuf message one after the other.
struct Message<'a>(Cursor<'a>);

impl<'a> Message<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Message(Cursor::new(bytes))
    }

    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Failure> {
        if self.0.rest().is_empty() {
            return Ok(None);
        }
        let key = varint(&mut self.0)?;
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut self.0)?),
            1 => self.0.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).unwrap_or(usize::MAX);
                Field::Bytes(self.0.take(length)?)
            }
            5 => self.0.take(4).map(|_| Field::Fixed)?,
            wire => {
                return Err(Failure::damaged(format!("the protobuf wire type {wire} is invalid")));
            }
        };
        Ok(Some((key >> 3, field)))
    }
}

fn varint(cursor: &mut Cursor<'_>) -> Result<u64, Failure> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = cursor.byte()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Failure::damaged("a number has more than 64 bits"))
}
