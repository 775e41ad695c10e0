//! [`Probe`], through which the forward pass shows its activations to a tap.

use spec::{EngineError, Flow, Model, ModuleId, Tap};

use crate::map::Map;
use crate::real::Real;

/// Connects a forward pass to a tap, and hands the tap copies of the activations in the shapes that
/// the model states.
pub struct Probe<'a> {
    model: &'a Model,
    tap: &'a mut dyn Tap,
}

impl<'a> Probe<'a> {
    /// Lets `tap` observe a forward pass of `model`.
    pub fn new(model: &'a Model, tap: &'a mut dyn Tap) -> Self {
        Probe { model, tap }
    }

    /// Shows the output of a module to the tap if the tap wants it. Returns the value that the forward
    /// pass continues with: the same one, or the tap's replacement. Fails if the tap stops the pass or
    /// if the replacement has another shape.
    pub fn observe<T: Real>(&mut self, id: ModuleId, value: Map<T>) -> Result<Map<T>, EngineError> {
        if !self.tap.wants(id) {
            return Ok(value);
        }
        let module = self.model.module(id);
        // All clips share one positional embedding; `batch_shape` accounts for that.
        let shape = module.batch_shape(value.n);
        match self.tap.observe(id, T::tensor(shape.clone(), value.data.clone())) {
            Flow::Continue => Ok(value),
            Flow::Stop => Err(EngineError::Stopped),
            Flow::Replace(other) if other.shape == shape => {
                Ok(Map::new(value.shape(), T::values(&other)))
            }
            Flow::Replace(other) => Err(EngineError::Shape {
                what: format!("the value that replaces {}", module.name),
                expected: shape,
                got: other.shape,
            }),
        }
    }
}
