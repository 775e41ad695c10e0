//! Reads Hugging Face safetensors. The crate checks that the tensors fill the file without gaps or
//! overlaps.

use safetensors::SafeTensors;

use super::Checkpoint;
use crate::dtype::{DType, Endian};
use crate::error::{Failure, quoted};
use crate::tensor::{Bytes, Number, RawTensor, View};

pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint<'_>, Failure> {
    let file = SafeTensors::deserialize(bytes).map_err(|why| {
        Failure::damaged(format!(
            "its safetensors header is not valid ({})",
            quoted(&why.to_string())
        ))
    })?;
    // The crate returns the tensors in the order of a hash table; their addresses give the file's order.
    let mut views = file.tensors();
    views.sort_by_key(|(_, view)| view.data().as_ptr().addr());
    let tensors = views.into_iter().map(|(name, view)| {
        let number = match DType::by_safetensors(view.dtype()) {
            Some(dtype) => Number::Known(dtype, Endian::Little),
            None => Number::Other(view.dtype().to_string()),
        };
        let shape = View::row_major(view.shape()).map_err(|failure| failure.in_tensor(&name))?;
        RawTensor::new(&name, number, shape, Bytes::Slice(view.data()))
    });
    Ok(Checkpoint::of(tensors.collect::<Result<_, _>>()?))
}
