//! The clip that the networks are given.

use std::path::Path;

use anyhow::{Result, bail};
use spec::{Model, Tensor};
use video::crop::Crops;
use video::decode::Limits;
use video::ffmpeg::Ffmpeg;
use video::protocol::Protocol;
use video::views::Views;

use crate::cli::InputSource;
use crate::dump;

/// Values that a clip batch may have: 4 GiB in float32.
const MOST: usize = 1 << 30;

/// Makes or reads a clip batch [N, 3, T, H, W].
pub fn load(source: &InputSource, model: &Model, batch: usize) -> Result<Tensor> {
    match source {
        InputSource::File(path) => match views(source, model)? {
            Some(views) => Ok(of_views(&views, model)),
            None => dump::read_input(path, model),
        },
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

fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz"))
}

/// One clip from the middle of a video, by the official protocol's `val`: at 224 pixels the shorter
/// side is 256, at other sizes in the same proportion.
fn protocol(model: &Model) -> Result<Protocol> {
    let (height, width) = model.config.size;
    if height != width {
        bail!(
            "--input VIDEO makes square clips, and the model takes {height}x{width}; give an npz"
        );
    }
    Ok(Protocol {
        clips: 1,
        frames: model.config.frames,
        interval: 4,
        short_side: (height * 256).div_ceil(224),
        crop: height,
        crops: Crops::Center,
    })
}

/// The views of a source that is a video.
pub fn views(source: &InputSource, model: &Model) -> Result<Option<Views>> {
    let InputSource::File(path) = source else { return Ok(None) };
    if is_npz(path) {
        return Ok(None);
    }
    let protocol = protocol(model)?;
    let views = video::views::load(&Ffmpeg::find()?, path, &protocol, Limits::default())?;
    if let Some(warning) = &views.warning {
        eprintln!("{}: decoded, with a complaint: {warning}", path.display());
    }
    Ok(Some(views))
}

/// The clip that the network gets of a video.
pub fn of_views(views: &Views, model: &Model) -> Tensor {
    Tensor::f32(model.input_shape(1), views.input())
}
