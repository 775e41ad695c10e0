//! How the walk is observed.

use spec::{EngineError, Flow, Model, ModuleId, Tap};

use crate::map::Map;
use crate::real::Real;

/// Stands between the walk and an observer, and hands over copies in the shapes of the model.
pub struct Probe<'a> {
    model: &'a Model,
    tap: &'a mut dyn Tap,
}

impl<'a> Probe<'a> {
    /// Observes runs of a model.
    pub fn new(model: &'a Model, tap: &'a mut dyn Tap) -> Self {
        Probe { model, tap }
    }

    /// Shows the output of a module to the observer if it wants it, and returns what the walk goes
    /// on with: the same value, or the one that the observer put in its place.
    pub fn observe<T: Real>(&mut self, id: ModuleId, value: Map<T>) -> Result<Map<T>, EngineError> {
        if !self.tap.wants(id) {
            return Ok(value);
        }
        let module = self.model.module(id);
        // A positional embedding is one for all clips, and `batch_shape` knows it.
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
