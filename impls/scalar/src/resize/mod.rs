//! What four published programs mean by a bilinear resize. SqueezeTime's positional embedding is
//! resized to the feature map, and ports easily differ here without anybody noticing.
//!
//! Each function is one definition with its source, and computes in the format of its values, as
//! the programs do. All are separable: first along rows, then along columns. [`planes`] resizes
//! many planes of the same size with one [`Method`].

mod jax;
mod torch;

use std::error::Error;
use std::fmt;

pub use jax::{flax_emulation, jax_image_resize};
pub use torch::{align_corners, half_pixel};

use crate::real::Real;

/// Height and width in pixels.
pub type Size = (usize, usize);

/// One of the four definitions of a bilinear resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// PyTorch with `align_corners=True`: [`align_corners`].
    AlignCorners,
    /// PyTorch with `align_corners=False`: [`half_pixel`].
    HalfPixel,
    /// JAX: [`jax_image_resize`].
    JaxImageResize,
    /// The Flax port of SqueezeTime: [`flax_emulation`].
    FlaxEmulation,
}

impl Method {
    /// All four methods.
    pub const ALL: [Method; 4] =
        [Method::AlignCorners, Method::HalfPixel, Method::JaxImageResize, Method::FlaxEmulation];

    /// Resizes one plane [h, w] to [out_h, out_w]; only [`Method::FlaxEmulation`] can fail.
    pub fn plane<T: Real>(self, plane: &[T], from: Size, to: Size) -> Result<Vec<T>, ResizeError> {
        match self {
            Method::AlignCorners => Ok(align_corners(plane, from, to)),
            Method::HalfPixel => Ok(half_pixel(plane, from, to)),
            Method::JaxImageResize => Ok(jax_image_resize(plane, from, to)),
            Method::FlaxEmulation => flax_emulation(plane, from, to),
        }
    }
}

/// A resize for which the Flax port's emulation divides by zero and raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeError {
    /// Height and width of the input plane.
    pub from: Size,
    /// Height and width of the requested output.
    pub to: Size,
}

impl fmt::Display for ResizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResizeError { from, to } = self;
        write!(
            f,
            "the Flax emulation of align_corners divides by zero when a side is 1 pixel long: \
             {}x{} to {}x{}",
            from.0, from.1, to.0, to.1
        )
    }
}

impl Error for ResizeError {}

/// Resizes every plane of `values` [..., h, w] to [..., out_h, out_w].
pub fn planes<T: Real>(
    method: Method,
    values: &[T],
    from: Size,
    to: Size,
) -> Result<Vec<T>, ResizeError> {
    let mut out = Vec::with_capacity(values.len() / (from.0 * from.1) * to.0 * to.1);
    for plane in values.chunks(from.0 * from.1) {
        out.extend(method.plane(plane, from, to)?);
    }
    Ok(out)
}

fn check<T>(plane: &[T], from: Size, to: Size) {
    let sides = [from.0, from.1, to.0, to.1];
    let positive = sides.iter().all(|&side| side > 0);
    assert!(positive, "cannot resize {from:?} to {to:?}: every side must be at least 1 pixel");
    assert_eq!(plane.len(), from.0 * from.1, "number of values of a plane of {from:?} pixels");
}
