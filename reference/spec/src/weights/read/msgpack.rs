//! What `flax.serialization.to_bytes` writes: MessagePack with numpy arrays as extensions.
//!
//! An array is extension 1, whose content is again MessagePack: `[shape, dtype, bytes]`, row-major
//! and little-endian. One beyond 1 GiB is a map with the key `__msgpack_chunked_array__`, its shape
//! and its parts, both as maps from `"0"`, `"1"`, … Other extensions are numbers, of no interest.
//!
//! Source: `flax/serialization.py`; <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use super::Checkpoint;
use super::choose::Wanted;
use super::state_dict;
use crate::weights::cursor::Cursor;
use crate::weights::dtype::Endian;
use crate::weights::error::Fault;
use crate::weights::pickle::{Array, Obj, Pickle, Value};

/// Maps and lists inside each other.
const MAX_DEPTH: usize = 32;
/// Values in a file. The largest network has 5 000 arrays, an optimiser twice as many.
const MAX_VALUES: usize = 1 << 20;
/// Dimensions of an array.
const MAX_RANK: usize = crate::weights::dtype::MAX_RANK;
/// The extension of arrays.
const ARRAY: u8 = 1;
/// What marks an array in parts.
const CHUNKED: &str = "__msgpack_chunked_array__";

pub(super) fn read<'a>(bytes: &'a [u8], wanted: &Wanted<'_>) -> Result<Checkpoint<'a>, Fault> {
    state_dict::read_values(&parse(bytes)?, wanted)
}

fn parse(bytes: &[u8]) -> Result<Pickle<'_>, Fault> {
    let mut reader =
        Reader { input: Cursor::new(bytes), objects: Vec::new(), values: 0, whole: bytes.len() };
    let root = reader.value(0)?;
    let end = reader.input.position();
    match end == bytes.len() {
        true => Ok(Pickle::of(reader.objects, root, end)),
        false => Err(Fault::damaged(format!("{} bytes follow its end", bytes.len() - end))),
    }
}

struct Reader<'a> {
    input: Cursor<'a>,
    objects: Vec<Obj<'a>>,
    values: usize,
    /// Bytes of the file: no more are copied for arrays in parts.
    whole: usize,
}

/// What a first byte announces.
enum Kind {
    Int(i128),
    Text(usize),
    Bytes(usize),
    List(usize),
    Map(usize),
    /// Of this many bytes, after one that tells which.
    Extension(usize),
    Value(Value<'static>),
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Fault> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(Fault::new(
                "its values nest deeper, or are more, than a checkpoint of this network needs",
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

    /// The lists grow with what is there, not with what is announced.
    fn list(&mut self, n: usize, depth: usize) -> Result<Vec<Value<'a>>, Fault> {
        (0..n).map(|_| self.value(depth + 1)).collect()
    }

    fn map(&mut self, n: usize, depth: usize) -> Result<Vec<(Value<'a>, Value<'a>)>, Fault> {
        (0..n).map(|_| Ok((self.value(depth + 1)?, self.value(depth + 1)?))).collect()
    }

    /// An array in parts.
    fn joined(&mut self, entries: &[(Value<'a>, Value<'a>)]) -> Result<Obj<'a>, Fault> {
        let odd = || Fault::damaged("an array in parts has no valid shape or parts");
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
        let shape = numbered("shape").filter(|shape| shape.len() <= MAX_RANK).ok_or_else(odd)?;
        let shape = shape.iter().map(|n| n.size()).collect::<Option<Vec<_>>>().ok_or_else(odd)?;
        let (mut code, mut data) = (None, Vec::new());
        for part in numbered("chunks").filter(|parts| parts.len() <= 4096).ok_or_else(odd)? {
            let Value::Ref(index) = part else { return Err(odd()) };
            let Some(Obj::Array(part)) = self.objects.get(*index) else { return Err(odd()) };
            let Value::Bytes(bytes) = part.data else { return Err(odd()) };
            if *code.get_or_insert(part.code) != part.code || data.len() > self.whole {
                return Err(odd());
            }
            data.extend_from_slice(bytes);
        }
        let data = Value::Decoded(data.into());
        let code = code.ok_or_else(odd)?;
        Ok(Obj::Array(Array { shape, code, endian: Endian::Little, fortran: false, data }))
    }
}

/// `[shape, dtype, bytes]`.
fn array(content: &[u8]) -> Result<Array<'_>, Fault> {
    let odd = || Fault::damaged("an array is not made of a shape, a number format and bytes");
    let mut input = Cursor::new(content);
    let Kind::List(3) = kind(&mut input)? else { return Err(odd()) };
    let rank = match kind(&mut input)? {
        Kind::List(rank) if rank <= MAX_RANK => rank,
        _ => return Err(odd()),
    };
    let mut shape = Vec::with_capacity(rank);
    for _ in 0..rank {
        let Kind::Int(extent) = kind(&mut input)? else { return Err(odd()) };
        shape.push(usize::try_from(extent).map_err(|_| odd())?);
    }
    let Kind::Text(n) = kind(&mut input)? else { return Err(odd()) };
    let code = text(input.take(n)?)?;
    let (Kind::Bytes(n) | Kind::Text(n)) = kind(&mut input)? else { return Err(odd()) };
    let data = Value::Bytes(input.take(n)?);
    match input.rest() {
        [] => Ok(Array { shape, code, endian: Endian::Little, fortran: false, data }),
        _ => Err(odd()),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::damaged("a text in it is no valid UTF-8"))
}

/// Lengths and numbers are big-endian.
fn kind(input: &mut Cursor<'_>) -> Result<Kind, Fault> {
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
        0xc1 => return Err(Fault::damaged("it has a byte that MessagePack does not use")),
        0xe0..=0xff => Kind::Int(i128::from(byte as i8)),
    })
}

fn length<const N: usize>(input: &mut Cursor<'_>) -> Result<usize, Fault> {
    let bytes: [u8; N] = input.array()?;
    Ok(bytes.iter().fold(0, |n, &byte| n << 8 | usize::from(byte)))
}
