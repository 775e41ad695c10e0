//! The exchange of values with a tap.

use std::borrow::Cow;

use spec::{Data, EngineError, Flow, Model, ModuleId, Tap, Tensor};

use crate::Stage;

/// A stage of an epilogue after which a tap can observe the activation of a module.
#[derive(Debug, Clone, Copy)]
pub struct TapPoint {
    /// The stage.
    pub stage: Stage,
    /// The module.
    pub module: ModuleId,
}

/// The number of clips in an input. Fails with [`EngineError::Shape`] if its shape is not the
/// model's.
pub fn clips(model: &Model, input: &Tensor) -> Result<usize, EngineError> {
    let clips = input.shape.first().copied().unwrap_or(0);
    let expected = model.input_shape(clips);
    match input.shape == expected {
        true => Ok(clips),
        false => {
            let (what, got) = ("input".to_owned(), input.shape.clone());
            Err(EngineError::Shape { what, expected, got })
        }
    }
}

/// The number of clips in an input, and its values in f32. A tap that wants the input observes it
/// first and can replace it. Fails as [`clips`] and [`observe`] do.
pub fn input<'a>(
    model: &Model,
    tap: &mut dyn Tap,
    input: &'a Tensor,
) -> Result<(usize, Cow<'a, [f32]>), EngineError> {
    let clips = clips(model, input)?;
    if tap.wants(model.input)
        && let Some(other) = observe(model, tap, model.input, clips, input.to_f32())?
    {
        return Ok((clips, Cow::Owned(other)));
    }
    let values = match &input.data {
        Data::F32(values) => Cow::Borrowed(values.as_slice()),
        Data::F64(_) => Cow::Owned(input.to_f32()),
    };
    Ok((clips, values))
}

/// Hands an activation to the tap. Returns the value that the tap replaces it with, if it does.
/// Fails with [`EngineError::Stopped`] if the tap stops the run, and with [`EngineError::Shape`] if
/// the replacement has another shape.
pub fn observe(
    model: &Model,
    tap: &mut dyn Tap,
    id: ModuleId,
    clips: usize,
    value: Vec<f32>,
) -> Result<Option<Vec<f32>>, EngineError> {
    let module = model.module(id);
    let shape = module.batch_shape(clips);
    match tap.observe(id, Tensor::f32(shape.clone(), value)) {
        Flow::Continue => Ok(None),
        Flow::Stop => Err(EngineError::Stopped),
        Flow::Replace(other) if other.shape == shape => Ok(Some(other.to_f32())),
        Flow::Replace(other) => Err(EngineError::Shape {
            what: format!("the value that replaces {}", module.name),
            expected: shape,
            got: other.shape,
        }),
    }
}

/// Where the values [images, channels, pixels] lie in a map [images, pixels, pitch], in their
/// order: taps see the first layout, and the engines compute in the second.
pub fn positions(
    images: usize,
    channels: usize,
    pixels: usize,
    pitch: usize,
) -> impl Iterator<Item = usize> {
    let planes = (0..images).flat_map(move |image| (0..channels).map(move |c| (image, c)));
    planes.flat_map(move |(image, channel)| {
        (0..pixels).map(move |pixel| (image * pixels + pixel) * pitch + channel)
    })
}
