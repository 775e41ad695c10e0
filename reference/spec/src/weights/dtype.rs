//! Number formats that checkpoints come in. All become float32 but float64, which a dump keeps.

use half::{bf16, f16};

use crate::tensor::Data;

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dtype {
    kind: Kind,
    big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// Every format with its size, numpy's code and PyTorch's storage.
const KINDS: [(Kind, usize, &str, &str, &str); 10] = [
    (Kind::F64, 8, "f8", "DoubleStorage", "float64"),
    (Kind::F32, 4, "f4", "FloatStorage", "float32"),
    (Kind::F16, 2, "f2", "HalfStorage", "float16"),
    (Kind::Bf16, 2, "V2", "BFloat16Storage", "bfloat16"),
    (Kind::I64, 8, "i8", "LongStorage", "int64"),
    (Kind::I32, 4, "i4", "IntStorage", "int32"),
    (Kind::I16, 2, "i2", "ShortStorage", "int16"),
    (Kind::I8, 1, "i1", "CharStorage", "int8"),
    (Kind::U8, 1, "u1", "ByteStorage", "uint8"),
    (Kind::Bool, 1, "b1", "BoolStorage", "bool"),
];

impl Dtype {
    /// float32, little-endian.
    pub const F32: Dtype = Dtype { kind: Kind::F32, big_endian: false };
    /// float64, little-endian.
    pub const F64: Dtype = Dtype { kind: Kind::F64, big_endian: false };
    /// float16, little-endian.
    pub const F16: Dtype = Dtype { kind: Kind::F16, big_endian: false };
    /// bfloat16, little-endian.
    pub const BF16: Dtype = Dtype { kind: Kind::Bf16, big_endian: false };

    /// From numpy's description: `<f4`, `>f8`, `|b1`; `V2` is what numpy makes of bfloat16.
    pub fn from_numpy(descr: &str) -> Result<Dtype, String> {
        let big_endian = descr.starts_with('>');
        let code = descr.trim_start_matches(['<', '>', '|', '=']);
        let code = if code == "bfloat16" { "V2" } else { code };
        let found = KINDS.iter().find(|(_, _, numpy, ..)| *numpy == code);
        found.map(|&(kind, ..)| Dtype { kind, big_endian }).ok_or_else(|| {
            format!("dtype {descr:?} is no number format of a tensor; save it as float32")
        })
    }

    /// From a PyTorch storage class: `FloatStorage`.
    pub fn from_storage(class: &str) -> Option<Dtype> {
        let found = KINDS.iter().find(|(.., storage, _)| *storage == class);
        found.map(|&(kind, ..)| Dtype { kind, big_endian: false })
    }

    /// From a word such as `float32`, in any case.
    pub fn from_word(word: &str) -> Option<Dtype> {
        let found = KINDS.iter().find(|(.., name)| name.eq_ignore_ascii_case(word));
        found.map(|&(kind, ..)| Dtype { kind, big_endian: false })
    }

    /// The same format with the other byte order.
    pub fn with_big_endian(self, big_endian: bool) -> Dtype {
        Dtype { big_endian, ..self }
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or(1, |&(_, size, ..)| size)
    }

    /// `float32`.
    pub fn word(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or("?", |&(.., word)| word)
    }

    /// The values of whole elements; a rest of less than one is left out.
    pub fn decode(self, bytes: &[u8]) -> Data {
        match self.kind {
            Kind::F64 => Data::F64(self.values(bytes, f64::from_le_bytes)),
            Kind::F32 => Data::F32(self.values(bytes, f32::from_le_bytes)),
            Kind::F16 => Data::F32(self.values(bytes, |b| f16::from_le_bytes(b).to_f32())),
            Kind::Bf16 => Data::F32(self.values(bytes, |b| bf16::from_le_bytes(b).to_f32())),
            Kind::I64 => Data::F32(self.values(bytes, |b| i64::from_le_bytes(b) as f32)),
            Kind::I32 => Data::F32(self.values(bytes, |b| i32::from_le_bytes(b) as f32)),
            Kind::I16 => Data::F32(self.values(bytes, |b| f32::from(i16::from_le_bytes(b)))),
            Kind::I8 => Data::F32(self.values(bytes, |b| f32::from(i8::from_le_bytes(b)))),
            Kind::U8 => Data::F32(self.values(bytes, |[b]| f32::from(b))),
            Kind::Bool => Data::F32(self.values(bytes, |[b]| f32::from(u8::from(b != 0)))),
        }
    }

    fn values<const N: usize, T>(self, bytes: &[u8], one: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (elements, _) = bytes.as_chunks::<N>();
        let order = |mut bytes: [u8; N]| {
            if self.big_endian {
                bytes.reverse();
            }
            bytes
        };
        elements.iter().map(|&element| one(order(element))).collect()
    }
}
