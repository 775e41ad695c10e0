//! The resize of the positional embedding with libtorch's bilinear interpolation. It is public so
//! that tests can compare the resize functions of the crate `scalar` with it.

use spec::{EngineError, PosEmbed, Tensor};

use crate::Device;
use crate::tensors::{failed, from_torch, to_torch};

/// Resizes a tensor [N, C, h, w] to [N, C, H, W] in the way in which the positional embedding is
/// resized, in the precision of the tensor. `Off` gives zeros; if the sizes are equal, the result is
/// the input.
pub fn resize(
    input: &Tensor,
    size: (usize, usize),
    semantics: PosEmbed,
) -> Result<Tensor, EngineError> {
    let kind = match input.data {
        spec::Data::F32(_) => tch::Kind::Float,
        spec::Data::F64(_) => tch::Kind::Double,
    };
    let embedding = to_torch(input, kind, Device::Cpu)?;
    from_torch(&embed(&embedding, size, semantics)?)
}

/// Resizes the positional embedding [1, 16, p, p] to the size of the map, [1, 16, H, W].
pub(crate) fn embed(
    embedding: &tch::Tensor,
    size: (usize, usize),
    semantics: PosEmbed,
) -> Result<tch::Tensor, EngineError> {
    let shape = embedding.size();
    let (from, to) = ((shape[2], shape[3]), (size.0 as i64, size.1 as i64));
    let zeros = || {
        tch::Tensor::f_zeros(
            [shape[0], shape[1], to.0, to.1],
            (embedding.kind(), embedding.device()),
        )
    };
    let bilinear = |align_corners| {
        embedding.f_upsample_bilinear2d([to.0, to.1], align_corners, None::<f64>, None::<f64>)
    };
    let resized = match semantics {
        PosEmbed::Off => zeros(),
        _ if from == to => Ok(embedding.shallow_clone()),
        PosEmbed::AlignCorners => bilinear(true),
        PosEmbed::HalfPixel => bilinear(false),
        // The port scales by (out - 1) / (in - 1). For an input of 1 pixel this is undefined. For an
        // output of 1 pixel it is 0: every sample falls outside the image, and the result is 0.
        PosEmbed::Flax if from.0 == 1 || from.1 == 1 => {
            let message = format!(
                "the Flax port divides by zero when it resizes an embedding of {}x{} to {}x{}",
                from.0, from.1, to.0, to.1
            );
            return Err(EngineError::Backend { engine: "pos_embed=flax", message });
        }
        PosEmbed::Flax if to.0 == 1 || to.1 == 1 => zeros(),
        PosEmbed::Flax => bilinear(true),
    };
    resized.map_err(failed)
}
