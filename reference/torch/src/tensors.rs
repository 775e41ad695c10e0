//! Conversions between our tensors and libtorch's.

use checkpoint::Param;
use spec::{Data, EngineError, Frames, Precision, Tensor};
use tch::{Kind, TchError};

use crate::Device;

/// Converts an exception of libtorch to an error. Only its first line is kept, because a C++ stack
/// trace follows.
pub(crate) fn failed(error: TchError) -> EngineError {
    let text = error.to_string();
    let message = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("").to_owned();
    EngineError::Backend { engine: "libtorch", message }
}

/// The libtorch type of the activations in a precision.
pub(crate) fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::F32 | Precision::Tf32 => Kind::Float,
        Precision::F64 => Kind::Double,
        Precision::Bf16 => Kind::BFloat16,
        Precision::F16 => Kind::Half,
    }
}

fn extents(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&extent| extent as i64).collect()
}

/// Copies float32 values to the device, converted to `kind`.
pub(crate) fn upload(
    shape: &[usize],
    data: &[f32],
    kind: Kind,
    device: Device,
) -> Result<tch::Tensor, EngineError> {
    tch::Tensor::f_from_slice(data)
        .and_then(|t| t.f_view(extents(shape).as_slice()))
        .and_then(|t| t.f_to_device(device.into()))
        .and_then(|t| t.f_to_kind(kind))
        .map_err(failed)
}

/// Copies a weight tensor to the device. For float64 these are the values that the checkpoint stores,
/// before they are rounded to float32.
pub(crate) fn of_param(
    param: &Param,
    kind: Kind,
    device: Device,
) -> Result<tch::Tensor, EngineError> {
    match kind {
        Kind::Double if param.is_double() => {
            to_torch(&Tensor::f64(param.shape.clone(), param.to_f64()), kind, device)
        }
        _ => upload(&param.shape, &param.data, kind, device),
    }
}

/// Copies one of our tensors to the device, converted to `kind`.
pub(crate) fn to_torch(
    tensor: &Tensor,
    kind: Kind,
    device: Device,
) -> Result<tch::Tensor, EngineError> {
    match &tensor.data {
        Data::F32(values) => upload(&tensor.shape, values, kind, device),
        Data::F64(values) => tch::Tensor::f_from_slice(values)
            .and_then(|t| t.f_view(extents(&tensor.shape).as_slice()))
            .and_then(|t| t.f_to_device(device.into()))
            .and_then(|t| t.f_to_kind(kind))
            .map_err(failed),
    }
}

/// Copies clips to the device as float32, or as float64 for an engine in that precision.
pub(crate) fn staged(
    clips: &Tensor,
    precision: Precision,
    device: Device,
) -> Result<tch::Tensor, EngineError> {
    let kind = if precision == Precision::F64 { Kind::Double } else { Kind::Float };
    to_torch(clips, kind, device)
}

/// Converts staged clips to the precision of the activations.
pub(crate) fn converted(
    clips: &tch::Tensor,
    precision: Precision,
) -> Result<tch::Tensor, EngineError> {
    clips.f_to_kind(kind(precision)).map_err(failed)
}

/// Normalises frames [N, T, H, W, 3] to the network's input [N, 3, T, H, W]: (x - mean) / std in
/// float32, then converted to the precision.
pub(crate) fn normalised(
    frames: &Frames<'_>,
    precision: Precision,
    device: Device,
) -> Result<tch::Tensor, EngineError> {
    let [n, t, h, w] = frames.shape;
    let colours = |values: [f32; 3]| tch::Tensor::from_slice(&values).to_device(device.into());
    tch::Tensor::f_from_slice(frames.rgb)
        .and_then(|rgb| rgb.f_view(extents(&[n, t, h, w, 3]).as_slice()))
        .and_then(|rgb| rgb.f_to_device(device.into()))
        .and_then(|rgb| rgb.f_to_kind(Kind::Float))
        .and_then(|rgb| rgb.f_sub(&colours(frames.mean)))
        .and_then(|rgb| rgb.f_div(&colours(frames.std)))
        .and_then(|rgb| rgb.f_permute([0, 4, 1, 2, 3]))
        .and_then(|clip| clip.f_contiguous())
        .and_then(|clip| clip.f_to_kind(kind(precision)))
        .map_err(failed)
}

/// Copies a libtorch tensor to one of ours. float64 stays float64; every other type becomes float32,
/// which is exact.
pub(crate) fn from_torch(tensor: &tch::Tensor) -> Result<Tensor, EngineError> {
    let shape: Vec<usize> = tensor.size().iter().map(|&extent| extent as usize).collect();
    let count: usize = shape.iter().product();
    let flat = |kind| {
        tensor
            .f_to_device(tch::Device::Cpu)
            .and_then(|t| t.f_to_kind(kind))
            .and_then(|t| t.f_contiguous())
            .and_then(|t| t.f_view([-1]))
            .map_err(failed)
    };
    if count == 0 {
        // `view([-1])` fails for a tensor without values.
        return Ok(match tensor.kind() {
            Kind::Double => Tensor::f64(shape, vec![]),
            _ => Tensor::f32(shape, vec![]),
        });
    }
    match tensor.kind() {
        Kind::Double => {
            Ok(Tensor::f64(shape, Vec::try_from(&flat(Kind::Double)?).map_err(failed)?))
        }
        _ => Ok(Tensor::f32(shape, Vec::try_from(&flat(Kind::Float)?).map_err(failed)?)),
    }
}
