//! The clip that the networks are given.

use anyhow::{Result, bail};
use spec::{Model, Tensor};

use crate::cli::InputSource;
use crate::dump;

/// Values that a clip batch may have: 4 GiB in float32.
const MOST: usize = 1 << 30;

/// Makes or reads a clip batch [N, 3, T, H, W].
pub fn load(source: &InputSource, model: &Model, batch: usize) -> Result<Tensor> {
    match source {
        InputSource::File(path) => dump::read_input(path, model),
        InputSource::Formula(seed) => {
            let shape = model.input_shape(batch);
            let count = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
            let Some(count) = count.filter(|&count| count <= MOST) else {
                bail!(
                    "a batch of {batch} clips {:?} has more than {MOST} values; use a smaller \
                     --batch-size",
                    &shape[1..]
                );
            };
            Ok(Tensor::f32(shape, spec::weights::formula::input(count, *seed)))
        }
    }
}
