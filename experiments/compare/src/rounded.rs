//! Makes a half-precision engine from a float32 engine by rounding the weights and every module's
//! output. It is the comparison run for half-precision dumps if the harness is built without libtorch.

use checkpoint::Weights;
use spec::{Data, Engine, EngineError, Flow, ModuleId, Precision, Tap, Tensor};

/// An engine whose module outputs are rounded to a half format before the next module reads them.
pub struct Rounded {
    /// The float32 engine, loaded with the result of [`weights`].
    pub engine: Box<dyn Engine>,
    /// The half format, bf16 or f16.
    pub precision: Precision,
}

/// The same weights, every tensor rounded to a precision.
pub fn weights(weights: &Weights, precision: Precision) -> Weights {
    let mut rounded = weights.clone();
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    for name in names {
        if let Some(param) = rounded.get_mut(&name) {
            param.edit(|shape, values| {
                // Not by way of float64, whose conversions take some values for half-way cases.
                let single = values.iter().map(|value| *value as f32).collect();
                let exact = Tensor { shape: shape.to_vec(), data: Data::F32(single) };
                let coarse = precision.round(exact);
                values.iter_mut().zip(coarse.iter()).for_each(|(slot, value)| *slot = value);
            });
        }
    }
    rounded
}

impl Engine for Rounded {
    fn describe(&self) -> String {
        format!("{}, rounded to {}", self.engine.describe(), self.precision)
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn forward(&mut self, input: &Tensor, tap: &mut dyn Tap) -> Result<Tensor, EngineError> {
        self.engine.forward(input, &mut Rounding { tap, precision: self.precision })
    }
}

/// The tap that rounds: it sits between the engine and the observer's tap.
struct Rounding<'a> {
    tap: &'a mut dyn Tap,
    precision: Precision,
}

impl Tap for Rounding<'_> {
    fn wants(&self, _: ModuleId) -> bool {
        true
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        let value = self.precision.round(value);
        let flow = match self.tap.wants(id) {
            true => self.tap.observe(id, value.clone()),
            false => Flow::Continue,
        };
        if flow == Flow::Continue { Flow::Replace(value) } else { flow }
    }
}
