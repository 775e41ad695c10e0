//! The values of constant tensors.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use half::{bf16, f16};
use spec::Precision;

use super::printable;
use crate::proto::{TensorProto, element};

/// A value that does not depend on the clip.
#[derive(Debug, Clone)]
pub struct Constant {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major; shared by everything that only renames or reshapes it.
    pub values: Arc<Vec<f64>>,
    /// The coarsest number format that they were rounded to; None for integers.
    pub format: Option<Precision>,
    /// The number format of its type; None for integers.
    pub element: Option<Precision>,
    /// The smallest and the largest integer of its type; None for other types than integers.
    pub integers: Option<(f64, f64)>,
    /// The tensor of the file that it is made of.
    pub from: String,
    /// If it is made of integers and scales (DequantizeLinear): for each value the distance to the next
    /// number that its integer could have stood for.
    pub steps: Option<Arc<Vec<f64>>>,
}

/// The number format of an element type; None if it is not a floating-point format.
pub fn format_of(data_type: i32) -> Option<Precision> {
    match data_type {
        element::FLOAT => Some(Precision::F32),
        element::FLOAT16 => Some(Precision::F16),
        element::BFLOAT16 => Some(Precision::Bf16),
        element::DOUBLE => Some(Precision::F64),
        _ => None,
    }
}

/// The smallest and the largest integer of an element type that quantised values may have.
fn integers_of(data_type: i32) -> Option<(f64, f64)> {
    match data_type {
        element::UINT8 => Some((0.0, 255.0)),
        element::INT8 => Some((-128.0, 127.0)),
        element::UINT16 => Some((0.0, 65535.0)),
        element::INT16 => Some((-32768.0, 32767.0)),
        element::INT32 => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        _ => None,
    }
}

/// The size of one element in bytes.
pub(super) fn element_bytes(data_type: i32) -> Result<usize> {
    Ok(match data_type {
        element::UINT8 | element::INT8 | element::BOOL => 1,
        element::FLOAT16 | element::BFLOAT16 | element::UINT16 | element::INT16 => 2,
        element::FLOAT | element::INT32 => 4,
        element::DOUBLE | element::INT64 => 8,
        other => bail!("the element type {other} is not supported here"),
    })
}

/// The number of elements that the shape states.
pub(super) fn count(tensor: &TensorProto) -> Result<usize> {
    let product = tensor
        .dims
        .iter()
        .try_fold(1usize, |product, &extent| product.checked_mul(usize::try_from(extent).ok()?));
    product.with_context(|| {
        format!("tensor `{}` has the impossible shape {:?}", printable(&tensor.name), tensor.dims)
    })
}

/// Whether the values of tensors of this element type can be read here; other constants are passed on
/// to the runtime as they are.
pub(super) fn is_readable(data_type: i32) -> bool {
    element_bytes(data_type).is_ok()
}

/// Reads the values of a tensor.
///
/// # Errors
///
/// If the number of values is not what the shape states.
pub(super) fn constant(tensor: &TensorProto) -> Result<Constant> {
    let wanted = count(tensor)?;
    let values = match tensor.raw_data.is_empty() {
        false => raw(tensor, wanted)?,
        true => typed(tensor),
    };
    if values.len() != wanted {
        bail!(
            "tensor `{}` has {} values, but its shape {:?} needs {wanted}; the file is damaged",
            printable(&tensor.name),
            values.len(),
            tensor.dims
        );
    }
    Ok(Constant {
        shape: tensor.dims.iter().map(|&extent| extent as usize).collect(),
        values: Arc::new(values),
        format: format_of(tensor.data_type),
        element: format_of(tensor.data_type),
        integers: integers_of(tensor.data_type),
        from: tensor.name.clone(),
        steps: None,
    })
}

fn raw(tensor: &TensorProto, wanted: usize) -> Result<Vec<f64>> {
    let each = element_bytes(tensor.data_type)?;
    let bytes = &tensor.raw_data;
    if Some(bytes.len()) != wanted.checked_mul(each) {
        bail!(
            "tensor `{}` has {} bytes, but its shape {:?} needs {wanted} values of {each} bytes; the \
             file is damaged",
            printable(&tensor.name),
            bytes.len(),
            tensor.dims
        );
    }
    Ok(match tensor.data_type {
        element::FLOAT => each_of(bytes, |b| f64::from(f32::from_le_bytes(b))),
        element::DOUBLE => each_of(bytes, f64::from_le_bytes),
        element::FLOAT16 => each_of(bytes, |b| f16::from_le_bytes(b).to_f64()),
        element::BFLOAT16 => each_of(bytes, |b| bf16::from_le_bytes(b).to_f64()),
        element::INT32 => each_of(bytes, |b| f64::from(i32::from_le_bytes(b))),
        element::INT64 => each_of(bytes, |b| i64::from_le_bytes(b) as f64),
        element::INT8 => each_of(bytes, |b| f64::from(i8::from_le_bytes(b))),
        element::UINT16 => each_of(bytes, |b| f64::from(u16::from_le_bytes(b))),
        element::INT16 => each_of(bytes, |b| f64::from(i16::from_le_bytes(b))),
        _ => each_of(bytes, |b| f64::from(u8::from_le_bytes(b))),
    })
}

fn each_of<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
}

/// The values of a tensor that stores them as numbers instead of bytes.
fn typed(tensor: &TensorProto) -> Vec<f64> {
    let bits = |v: &i32| *v as u16;
    match tensor.data_type {
        element::FLOAT => tensor.float_data.iter().map(|&v| f64::from(v)).collect(),
        element::DOUBLE => tensor.double_data.clone(),
        element::INT64 => tensor.int64_data.iter().map(|&v| v as f64).collect(),
        element::FLOAT16 => {
            tensor.int32_data.iter().map(|v| f16::from_bits(bits(v)).to_f64()).collect()
        }
        element::BFLOAT16 => {
            tensor.int32_data.iter().map(|v| bf16::from_bits(bits(v)).to_f64()).collect()
        }
        _ => tensor.int32_data.iter().map(|&v| f64::from(v)).collect(),
    }
}
