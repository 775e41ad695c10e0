//! The number formats of checkpoints, their names in each framework, and their conversion to floats.

use half::{bf16, f16};
use spec::Data;

/// Largest number of dimensions of a tensor that is read. Those of the network have at most four.
pub(super) const MAX_RANK: usize = 8;

/// The byte order of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// A number format of a checkpoint, whether or not weights can have it.
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
    U16,
    U32,
    U64,
    C32,
    C64,
    C128,
    F8E4M3,
    F8E5M2,
    F8E4M3Z,
    F8E5M2Z,
    F8E8M0,
    QI8,
    QU8,
    QI32,
}

/// The names of a format in each framework.
struct Row {
    dtype: DType,
    /// Size of one number in bytes.
    size: usize,
    /// The name in messages and records, which PyTorch uses too.
    name: &'static str,
    /// numpy's type code without the byte order, then other names that numpy accepts.
    numpy: &'static [&'static str],
    /// The storage class of PyTorch, or "" if there is none.
    storage: &'static str,
    safetensors: Option<safetensors::Dtype>,
}

const fn row(
    dtype: DType,
    size: usize,
    name: &'static str,
    numpy: &'static [&'static str],
    storage: &'static str,
    safetensors: Option<safetensors::Dtype>,
) -> Row {
    Row { dtype, size, name, numpy, storage, safetensors }
}

/// All formats, in the order of [`DType`]. `V2` is the code that numpy gives to a bfloat16 of
/// ml_dtypes. Formats other than floats are listed too, so that a file may contain such tensors in
/// addition to the weights.
const ROWS: [Row; 24] = [
    row(
        DType::F64,
        8,
        "float64",
        &["f8", "d", "double", "float"],
        "DoubleStorage",
        Some(safetensors::Dtype::F64),
    ),
    row(
        DType::F32,
        4,
        "float32",
        &["f4", "f", "single"],
        "FloatStorage",
        Some(safetensors::Dtype::F32),
    ),
    row(
        DType::F16,
        2,
        "float16",
        &["f2", "e", "half"],
        "HalfStorage",
        Some(safetensors::Dtype::F16),
    ),
    row(DType::BF16, 2, "bfloat16", &["V2"], "BFloat16Storage", Some(safetensors::Dtype::BF16)),
    row(
        DType::I64,
        8,
        "int64",
        &["i8", "q", "l", "int"],
        "LongStorage",
        Some(safetensors::Dtype::I64),
    ),
    row(DType::I32, 4, "int32", &["i4", "i"], "IntStorage", Some(safetensors::Dtype::I32)),
    row(DType::I16, 2, "int16", &["i2", "h"], "ShortStorage", Some(safetensors::Dtype::I16)),
    row(DType::I8, 1, "int8", &["i1", "b"], "CharStorage", Some(safetensors::Dtype::I8)),
    row(DType::U8, 1, "uint8", &["u1", "B"], "ByteStorage", Some(safetensors::Dtype::U8)),
    row(DType::Bool, 1, "bool", &["b1", "?"], "BoolStorage", Some(safetensors::Dtype::BOOL)),
    row(DType::U16, 2, "uint16", &["u2", "H"], "", Some(safetensors::Dtype::U16)),
    row(DType::U32, 4, "uint32", &["u4", "I"], "", Some(safetensors::Dtype::U32)),
    row(DType::U64, 8, "uint64", &["u8", "Q", "L"], "", Some(safetensors::Dtype::U64)),
    row(DType::C32, 4, "complex32", &[], "ComplexHalfStorage", None),
    row(
        DType::C64,
        8,
        "complex64",
        &["c8", "F"],
        "ComplexFloatStorage",
        Some(safetensors::Dtype::C64),
    ),
    row(DType::C128, 16, "complex128", &["c16", "D"], "ComplexDoubleStorage", None),
    row(DType::F8E4M3, 1, "float8_e4m3fn", &[], "", Some(safetensors::Dtype::F8_E4M3)),
    row(DType::F8E5M2, 1, "float8_e5m2", &[], "", Some(safetensors::Dtype::F8_E5M2)),
    row(DType::F8E4M3Z, 1, "float8_e4m3fnuz", &[], "", None),
    row(DType::F8E5M2Z, 1, "float8_e5m2fnuz", &[], "", None),
    row(DType::F8E8M0, 1, "float8_e8m0fnu", &[], "", Some(safetensors::Dtype::F8_E8M0)),
    row(DType::QI8, 1, "qint8", &[], "QInt8Storage", None),
    row(DType::QU8, 1, "quint8", &[], "QUInt8Storage", None),
    row(DType::QI32, 4, "qint32", &[], "QInt32Storage", None),
];

fn find(matches: impl Fn(&Row) -> bool) -> Option<DType> {
    ROWS.iter().find(|row| matches(row)).map(|row| row.dtype)
}

impl DType {
    /// Finds a format by a name such as `float32`, in any case; MindSpore writes `Float32`.
    pub(super) fn by_name(name: &str) -> Option<DType> {
        find(|row| row.name.eq_ignore_ascii_case(name))
    }

    /// Finds a format by numpy's code without the byte order, such as `f4`; ml_dtypes writes
    /// `bfloat16`.
    pub(super) fn by_code(code: &str) -> Option<DType> {
        find(|row| row.numpy.contains(&code) || row.name == code)
    }

    /// Finds a format by the storage class of PyTorch, such as `FloatStorage`.
    pub(super) fn by_storage(class: &str) -> Option<DType> {
        find(|row| !class.is_empty() && row.storage == class)
    }

    /// Finds a format by the type of the safetensors crate.
    pub(super) fn by_safetensors(dtype: safetensors::Dtype) -> Option<DType> {
        find(|row| row.safetensors == Some(dtype))
    }

    fn row(self) -> &'static Row {
        // ROWS is in the order of the enum, which a test checks.
        &ROWS[self as usize]
    }

    /// Size of one number in bytes.
    pub(super) fn size(self) -> usize {
        self.row().size
    }

    /// The name, such as `float32`.
    pub(super) fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether numbers of this format can be weights. Integers cannot, because they would be quantised
    /// weights whose scale is stored elsewhere.
    pub(super) fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
    }

    /// Whether numbers of this format are floats, integers or bool.
    pub(super) fn is_real(self) -> bool {
        self.is_float() || self.is_whole()
    }

    /// Whether numbers of this format are integers or bool.
    pub(super) fn is_whole(self) -> bool {
        (DType::I64 as usize..=DType::U64 as usize).contains(&(self as usize))
    }

    /// Converts bytes to numbers; an incomplete element at the end is ignored. float64 stays float64,
    /// narrower floats and integers of up to 16 bits become float32, and wider integers become float64.
    /// All of this is exact, except for integers beyond 2^53. Formats that are not real give no values.
    pub(super) fn decode(self, bytes: &[u8], endian: Endian) -> Data {
        let single = |values| Data::F32(values);
        let double = |values| Data::F64(values);
        match self {
            DType::F64 => double(values(bytes, endian, f64::from_le_bytes)),
            DType::F32 => single(values(bytes, endian, f32::from_le_bytes)),
            DType::F16 => single(values(bytes, endian, |b| f16::from_le_bytes(b).to_f32())),
            DType::BF16 => single(values(bytes, endian, |b| bf16::from_le_bytes(b).to_f32())),
            DType::I64 => double(values(bytes, endian, |b| i64::from_le_bytes(b) as f64)),
            DType::I32 => double(values(bytes, endian, |b| i32::from_le_bytes(b).into())),
            DType::I16 => single(values(bytes, endian, |b| i16::from_le_bytes(b).into())),
            DType::I8 => single(values(bytes, endian, |b| i8::from_le_bytes(b).into())),
            DType::U64 => double(values(bytes, endian, |b| u64::from_le_bytes(b) as f64)),
            DType::U32 => double(values(bytes, endian, |b| u32::from_le_bytes(b).into())),
            DType::U16 => single(values(bytes, endian, |b| u16::from_le_bytes(b).into())),
            DType::U8 | DType::Bool => single(values(bytes, endian, |[b]| b.into())),
            _ => single(Vec::new()),
        }
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
            assert!(row.numpy.iter().all(|code| DType::by_code(code) == Some(row.dtype)));
            let storage = DType::by_storage(row.storage);
            assert!(row.storage.is_empty() || storage == Some(row.dtype), "{}", row.name);
            let same = |dtype| DType::by_safetensors(dtype) == Some(row.dtype);
            assert!(row.safetensors.is_none_or(same), "{}", row.name);
        }
    }

    #[test]
    fn every_float_format_decodes_to_the_same_value() {
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
