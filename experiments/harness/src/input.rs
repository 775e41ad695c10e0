//! The clip that the networks are given.

use std::path::Path;
use std::sync::Once;

use anyhow::{Result, bail};
use spec::{Model, Tensor};
use video::crop::Crops;
use video::decode::Limits;
use video::ffmpeg::Ffmpeg;
use video::protocol::Protocol;
use video::views::Views;

use crate::flags::InputSource;
use compare::dump;
use video::decord::Counting;

/// The largest number of values in a batch of clips: 4 GiB in float32.
const MAX_VALUES: usize = 1 << 30;

/// Makes or reads a batch of clips [N, 3, T, H, W].
pub fn load(source: &InputSource, model: &Model, batch: usize) -> Result<Tensor> {
    match source {
        InputSource::File(path) => match views(source, model)? {
            Some(views) => Ok(of_views(&views, model)),
            None => dump::read_input(path, model),
        },
        InputSource::Formula(seed) => {
            let shape = model.input_shape(batch);
            let count = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
            let Some(count) = count.filter(|&count| count <= MAX_VALUES) else {
                bail!(
                    "a batch of {batch} clips {:?} has more than {MAX_VALUES} values; use a smaller \
                     --batch-size",
                    &shape[1..]
                );
            };
            Ok(Tensor::f32(shape, checkpoint::formula::input(count, *seed)))
        }
    }
}

fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz"))
}

/// The protocol that takes one clip from the middle of a video, as the official `val` does. For frames
/// of 224 pixels the shorter side is resized to 256, and for other sizes in the same proportion.
fn protocol(model: &Model) -> Result<Protocol> {
    let (height, width) = model.config.size;
    if height != width {
        bail!(
            "--input VIDEO makes square clips, but the model takes {height}x{width}; give an npz file"
        );
    }
    Ok(Protocol {
        clips: 1,
        frames: model.config.frames,
        interval: 4,
        short_side: (height * 256).div_ceil(224),
        crop: height,
        crops: Crops::Center,
        counting: Counting::Decord,
    })
}

/// The views of a source that is a video; `None` for another source.
pub fn views(source: &InputSource, model: &Model) -> Result<Option<Views>> {
    let InputSource::File(path) = source else { return Ok(None) };
    if is_npz(path) {
        return Ok(None);
    }
    let protocol = protocol(model)?;
    let views = video::views::load_whole(&find_ffmpeg()?, path, &protocol, Limits::default())?;
    let shown = files::printable(&path.display().to_string());
    if let Some(warning) = &views.warning {
        announce!("{shown}: decoded, but ffmpeg warns: {warning}");
    }
    if let Some(promised) = views.promised {
        let came = views.came;
        announce!("{shown}: damaged: the file promises {promised} frames, and {came} came");
    }
    if let Some(remark) = &views.remark {
        announce!("{shown}: decord takes other frames of this file, since {}", remark.why);
    }
    Ok(Some(views))
}

/// Finds ffmpeg, and says why another one that was found is not used.
pub fn find_ffmpeg() -> Result<Ffmpeg> {
    static TOLD: Once = Once::new();
    let ffmpeg = Ffmpeg::find()?;
    if let Some(why) = &ffmpeg.passed_over {
        TOLD.call_once(|| announce!("{why}"));
    }
    Ok(ffmpeg)
}

/// The clip [1, 3, T, H, W] that the network is given for a video.
pub fn of_views(views: &Views, model: &Model) -> Tensor {
    Tensor::f32(model.input_shape(1), views.input())
}
