//! Number formats that checkpoints come in, and their way to floats.

use half::{bf16, f16};

use crate::tensor::Data;

/// Most dimensions that a tensor is read with. The network's have at most four.
pub(super) const MAX_RANK: usize = 8;

/// Order of the bytes of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// What each framework calls a format.
struct Row {
    dtype: DType,
    size: usize,
    name: &'static str,
    numpy: &'static str,
    storage: &'static str,
    safetensors: safetensors::Dtype,
}

const fn row(
    dtype: DType,
    size: usize,
    name: &'static str,
    numpy: &'static str,
    storage: &'static str,
    safetensors: safetensors::Dtype,
) -> Row {
    Row { dtype, size, name, numpy, storage, safetensors }
}

/// `V2` is what numpy makes of a bfloat16 of ml_dtypes.
const ROWS: [Row; 10] = [
    row(DType::F64, 8, "float64", "f8", "DoubleStorage", safetensors::Dtype::F64),
    row(DType::F32, 4, "float32", "f4", "FloatStorage", safetensors::Dtype::F32),
    row(DType::F16, 2, "float16", "f2", "HalfStorage", safetensors::Dtype::F16),
    row(DType::BF16, 2, "bfloat16", "V2", "BFloat16Storage", safetensors::Dtype::BF16),
    row(DType::I64, 8, "int64", "i8", "LongStorage", safetensors::Dtype::I64),
    row(DType::I32, 4, "int32", "i4", "IntStorage", safetensors::Dtype::I32),
    row(DType::I16, 2, "int16", "i2", "ShortStorage", safetensors::Dtype::I16),
    row(DType::I8, 1, "int8", "i1", "CharStorage", safetensors::Dtype::I8),
    row(DType::U8, 1, "uint8", "u1", "ByteStorage", safetensors::Dtype::U8),
    row(DType::Bool, 1, "bool", "b1", "BoolStorage", safetensors::Dtype::BOOL),
];

fn find(matches: impl Fn(&Row) -> bool) -> Option<DType> {
    ROWS.iter().find(|row| matches(row)).map(|row| row.dtype)
}

impl DType {
    /// From a word such as `float32`, in any case; MindSpore writes `Float32`.
    pub(super) fn by_name(name: &str) -> Option<DType> {
        find(|row| row.name.eq_ignore_ascii_case(name))
    }

    /// From numpy's code without its order of bytes: `f4`; ml_dtypes writes `bfloat16`.
    pub(super) fn by_code(code: &str) -> Option<DType> {
        find(|row| row.numpy == code || row.name == code)
    }

    /// From a storage class of PyTorch.
    pub(super) fn by_storage(class: &str) -> Option<DType> {
        find(|row| row.storage == class)
    }

    /// From the safetensors crate.
    pub(super) fn by_safetensors(dtype: safetensors::Dtype) -> Option<DType> {
        find(|row| row.safetensors == dtype)
    }

    fn row(self) -> &'static Row {
        // ROWS is in the order of the enum; a test holds them together.
        &ROWS[self as usize]
    }

    /// Bytes of one number.
    pub(super) fn size(self) -> usize {
        self.row().size
    }

    /// `float32`.
    pub(super) fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether numbers of this format can be weights. Integers cannot: they would be quantised
    /// ones, whose scale is elsewhere.
    pub(super) fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
    }

    /// The numbers of whole elements: float64 as they are, narrower ones as float32, which is
    /// exact; none for integers.
    pub(super) fn decode(self, bytes: &[u8], endian: Endian) -> Data {
        Data::F32(match self {
            DType::F64 => return Data::F64(values(bytes, endian, f64::from_le_bytes)),
            DType::F32 => values(bytes, endian, f32::from_le_bytes),
            DType::F16 => values(bytes, endian, |b| f16::from_le_bytes(b).to_f32()),
            DType::BF16 => values(bytes, endian, |b| bf16::from_le_bytes(b).to_f32()),
            _ => Vec::new(),
        })
    }
}

fn values<T, const N: usize>(bytes: &[u8], endian: Endian, one: fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    match endian {
        Endian::Little => elements.iter().map(|&bytes| one(bytes)).collect(),
        Endian::Big => elements
            .iter()
            .map(|&(mut bytes)| {
                bytes.reverse();
                one(bytes)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(row.dtype as usize, at, "{}", row.name);
            assert_eq!(DType::by_name(row.name), Some(row.dtype));
            assert_eq!(DType::by_code(row.numpy), Some(row.dtype));
            assert_eq!(DType::by_storage(row.storage), Some(row.dtype));
            assert_eq!(DType::by_safetensors(row.safetensors), Some(row.dtype));
        }
    }

    #[test]
    fn every_float_becomes_the_same_float32() {
        for x in [0.0f32, -1.5, 0.15625, 240.0] {
            let f64s = f64::from(x).to_le_bytes();
            assert_eq!(DType::F64.decode(&f64s, Endian::Little), Data::F64(vec![x.into()]));
            let single = Data::F32(vec![x]);
            assert_eq!(DType::F32.decode(&x.to_be_bytes(), Endian::Big), single);
            assert_eq!(DType::F16.decode(&f16::from_f32(x).to_le_bytes(), Endian::Little), single);
            assert_eq!(DType::BF16.decode(&bf16::from_f32(x).to_be_bytes(), Endian::Big), single);
        }
        assert_eq!(DType::F32.decode(&[0; 7], Endian::Little), Data::F32(vec![0.0]));
    }
}
