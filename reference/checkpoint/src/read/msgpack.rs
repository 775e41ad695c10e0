//! Reads the files that `flax.serialization.to_bytes` writes: MessagePack with numpy arrays as
//! extensions.
//!
//! An array is an extension of type 1, whose content is again MessagePack: `[shape, dtype, bytes]`,
//! row-major and little-endian. An array of more than 1 GiB is a map with the key
//! `__msgpack_chunked_array__`, its shape and its chunks; the latter two are maps from `"0"`, `"1"`, …
//! Other extensions are single numbers and are skipped.
//!
//! Source: `flax/serialization.py`; <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use super::Checkpoint;
use super::choose::Wanted;
use super::state_dict;
use crate::cursor::Cursor;
use crate::dtype::Endian;
use crate::error::Failure;
use crate::pickle::{Array, Obj, Pickle, Value};

/// Largest depth of nested maps and lists.
const MAX_DEPTH: usize = 32;
/// Largest number of values in a file. The largest network has 5 000 arrays, and the state of an
/// optimiser twice as many.
const MAX_VALUES: usize = 1 << 20;
/// Largest number of dimensions of an array.
const MAX_RANK: usize = crate::dtype::MAX_RANK;
/// The extension type of arrays.
const ARRAY: u8 = 1;
/// The key that marks an array in chunks.
const CHUNKED: &str = "__msgpack_chunked_array__";

pub(super) fn read<'a>(bytes: &'a [u8], wanted: &Wanted<'_>) -> Result<Checkpoint<'a>, Failure> {
    state_dict::read_values(&parse(bytes)?, wanted)
}

fn parse(bytes: &[u8]) -> Result<Pickle<'_>, Failure> {
    let mut reader =
        Reader { input: Cursor::new(bytes), objects: Vec::new(), values: 0, whole: bytes.len() };
    let root = reader.value(0)?;
    let end = reader.input.position();
    match end == bytes.len() {
        true => Ok(Pickle::of(reader.objects, root, end)),
        false => Err(Failure::damaged(format!("{} bytes follow the end", bytes.len() - end))),
    }
}

struct Reader<'a> {
    input: Cursor<'a>,
    objects: Vec<Obj<'a>>,
    values: usize,
    /// Size of the file in bytes, which limits the copies for arrays in chunks.
    whole: usize,
}

/// The kind of a value, from its first byte, with the length that follows.
enum Kind {
    Int(i128),
    Text(usize),
    Bytes(usize),
    List(usize),
    Map(usize),
    /// An extension with this many bytes of content, which follow a byte for the extension type.
    Extension(usize),
    Value(Value<'static>),
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Failure> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(Failure::new(
                "its values are more, or nest deeper, than in any checkpoint of this network",
                "get the checkpoint from another source",
            ));
        }
        Ok(match kind(&mut self.input)? {
            Kind::Int(n) => Value::Int(n),
            Kind::Text(n) => Value::Str(text(self.input.take(n)?)?),
            Kind::Bytes(n) => Value::Bytes(self.input.take(n)?),
            Kind::List(n) => {
                let items = self.list(n, depth)?;
                self.object(Obj::List(items))
            }
            Kind::Map(n) => {
                let entries = self.map(n, depth)?;
                let object = match entries.first() {
                    Some((Value::Str(CHUNKED), _)) => self.joined(&entries)?,
                    _ => Obj::Dict(entries),
                };
                self.object(object)
            }
            Kind::Extension(n) => match self.input.byte()? {
                ARRAY => {
                    let array = array(self.input.take(n)?)?;
                    self.object(Obj::Array(array))
                }
                _ => self.input.take(n).map(|_| Value::Other)?,
            },
            Kind::Value(value) => value,
        })
    }

    fn object(&mut self, object: Obj<'a>) -> Value<'a> {
        self.objects.push(object);
        Value::Ref(self.objects.len() - 1)
    }

    /// Reads a list of `n` values. It grows with the bytes that are there and not with the stated length.
    fn list(&mut self, n: usize, depth: usize) -> Result<Vec<Value<'a>>, Failure> {
        (0..n).map(|_| self.value(depth + 1)).collect()
    }

    fn map(&mut self, n: usize, depth: usize) -> Result<Vec<(Value<'a>, Value<'a>)>, Failure> {
        (0..n).map(|_| Ok((self.value(depth + 1)?, self.value(depth + 1)?))).collect()
    }

    /// Joins the chunks of an array.
    fn joined(&mut self, entries: &[(Value<'a>, Value<'a>)]) -> Result<Obj<'a>, Failure> {
        let malformed = || Failure::damaged("an array in chunks has no valid shape or chunks");
        let numbered = |key: &str| -> Option<Vec<&Value<'a>>> {
            let (_, map) = entries.iter().find(|(k, _)| k.text() == Some(key))?;
            let Value::Ref(index) = map else { return None };
            let Obj::Dict(items) = self.objects.get(*index)? else { return None };
            (0..items.len())
                .map(|place| {
                    let place = place.to_string();
                    items.iter().find(|(k, _)| k.text() == Some(&place)).map(|(_, item)| item)
                })
                .collect()
        };
        let shape =
            numbered("shape").filter(|shape| shape.len() <= MAX_RANK).ok_or_else(malformed)?;
        let shape =
            shape.iter().map(|n| n.size()).collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
        let (mut code, mut data) = (None, Vec::new());
        for part in numbered("chunks").filter(|parts| parts.len() <= 4096).ok_or_else(malformed)? {
            let Value::Ref(index) = part else { return Err(malformed()) };
            let Some(Obj::Array(part)) = self.objects.get(*index) else { return Err(malformed()) };
            let Value::Bytes(bytes) = part.data else { return Err(malformed()) };
            if *code.get_or_insert(part.code) != part.code || data.len() > self.whole {
                return Err(malformed());
            }
            data.extend_from_slice(bytes);
        }
        let data = Value::Decoded(data.into());
        let code = code.ok_or_else(malformed)?;
        Ok(Obj::Array(Array { shape, code, endian: Endian::Little, fortran: false, data }))
    }
}

/// Reads the content `[shape, dtype, bytes]` of an array.
fn array(content: &[u8]) -> Result<Array<'_>, Failure> {
    let malformed =
        || Failure::damaged("an array does not consist of a shape, a number format and bytes");
    let mut input = Cursor::new(content);
    let Kind::List(3) = kind(&mut input)? else { return Err(malformed()) };
    let rank = match kind(&mut input)? {
        Kind::List(rank) if rank <= MAX_RANK => rank,
        _ => return Err(malformed()),
    };
    let mut shape = Vec::with_capacity(rank);
    for _ in 0..rank {
        let Kind::Int(extent) = kind(&mut input)? else { return Err(malformed()) };
        shape.push(usize::try_from(extent).map_err(|_| malformed())?);
    }
    let Kind::Text(n) = kind(&mut input)? else { return Err(malformed()) };
    let code = text(input.take(n)?)?;
    let (Kind::Bytes(n) | Kind::Text(n)) = kind(&mut input)? else { return Err(malformed()) };
    let data = Value::Bytes(input.take(n)?);
    match input.rest() {
        [] => Ok(Array { shape, code, endian: Endian::Little, fortran: false, data }),
        _ => Err(malformed()),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(bytes).map_err(|_| Failure::damaged("a string is not valid UTF-8"))
}

/// Reads the kind of the next value, with its length; small numbers are read completely. Lengths and
/// numbers are big-endian.
fn kind(input: &mut Cursor<'_>) -> Result<Kind, Failure> {
    let byte = input.byte()?;
    Ok(match byte {
        0x00..=0x7f => Kind::Int(byte.into()),
        0x80..=0x8f => Kind::Map(usize::from(byte & 0x0f)),
        0x90..=0x9f => Kind::List(usize::from(byte & 0x0f)),
        0xa0..=0xbf => Kind::Text(usize::from(byte & 0x1f)),
        0xc0 => Kind::Value(Value::None),
        0xc2 | 0xc3 => Kind::Value(Value::Bool(byte == 0xc3)),
        0xc4 => Kind::Bytes(length::<1>(input)?),
        0xc5 => Kind::Bytes(length::<2>(input)?),
        0xc6 => Kind::Bytes(length::<4>(input)?),
        0xc7 => Kind::Extension(length::<1>(input)?),
        0xc8 => Kind::Extension(length::<2>(input)?),
        0xc9 => Kind::Extension(length::<4>(input)?),
        0xca => input.take(4).map(|_| Kind::Value(Value::Other))?,
        0xcb => input.take(8).map(|_| Kind::Value(Value::Other))?,
        0xcc => Kind::Int(length::<1>(input)? as i128),
        0xcd => Kind::Int(length::<2>(input)? as i128),
        0xce => Kind::Int(length::<4>(input)? as i128),
        0xcf => Kind::Int(u64::from_be_bytes(input.array()?).into()),
        0xd0 => Kind::Int(i8::from_be_bytes(input.array()?).into()),
        0xd1 => Kind::Int(i16::from_be_bytes(input.array()?).into()),
        0xd2 => Kind::Int(i32::from_be_bytes(input.array()?).into()),
        0xd3 => Kind::Int(i64::from_be_bytes(input.array()?).into()),
        0xd4..=0xd8 => Kind::Extension(1 << (byte - 0xd4)),
        0xd9 => Kind::Text(length::<1>(input)?),
        0xda => Kind::Text(length::<2>(input)?),
        0xdb => Kind::Text(length::<4>(input)?),
        0xdc => Kind::List(length::<2>(input)?),
        0xdd => Kind::List(length::<4>(input)?),
        0xde => Kind::Map(length::<2>(input)?),
        0xdf => Kind::Map(length::<4>(input)?),
        0xc1 => return Err(Failure::damaged("it has a byte that MessagePack does not use")),
        0xe0..=0xff => Kind::Int(i128::from(byte as i8)),
    })
}

fn length<const N: usize>(input: &mut Cursor<'_>) -> Result<usize, Failure> {
    let bytes: [u8; N] = input.array()?;
    Ok(bytes.iter().fold(0, |n, &byte| n << 8 | usize::from(byte)))
}
