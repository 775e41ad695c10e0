//! What four published programs mean by a bilinear resize. SqueezeTime's positional embedding is
//! resized to the feature map, and here ports differ without anybody noticing.
//!
//! Each function is one definition with its source, and computes in the format of its values, as
//! the programs do. All are separable: first along rows, then along columns. [`planes`] resizes
//! many planes of one size by one [`Method`].

mod jax;
mod torch;

use std::error::Error;
use std::fmt;

pub use jax::{flax_emulation, jax_image_resize};
pub use torch::{align_corners, half_pixel};

use crate::real::Real;

/// Height and width.
pub type Size = (usize, usize);

/// One of the four definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// [`align_corners`].
    AlignCorners,
    /// [`half_pixel`].
    HalfPixel,
    /// [`jax_image_resize`].
    JaxImageResize,
    /// [`flax_emulation`].
    FlaxEmulation,
}

impl Method {
    /// Every definition.
    pub const ALL: [Method; 4] =
        [Method::AlignCorners, Method::HalfPixel, Method::JaxImageResize, Method::FlaxEmulation];

    /// Resizes one plane [h, w].
    pub fn plane<T: Real>(self, plane: &[T], from: Size, to: Size) -> Result<Vec<T>, ResizeError> {
        match self {
            Method::AlignCorners => Ok(align_corners(plane, from, to)),
            Method::HalfPixel => Ok(half_pixel(plane, from, to)),
            Method::JaxImageResize => Ok(jax_image_resize(plane, from, to)),
            Method::FlaxEmulation => flax_emulation(plane, from, to),
        }
    }
}

/// The sizes for which the Flax port's emulation divides by zero and raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeError {
    /// Height and width of the plane.
    pub from: Size,
    /// Height and width asked for.
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

/// Resizes every plane of [..., h, w] to [..., out_h, out_w].
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
    assert!(sides.iter().all(|&side| side > 0), "a resize of {from:?} to {to:?} pixels");
    assert_eq!(plane.len(), from.0 * from.1, "values for a plane of {from:?} pixels");
}
