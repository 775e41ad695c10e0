//! The constants of an ONNX file (its initializers). Their names and shapes follow from the model alone,
//! so that a file that would be too large is refused before any weights are loaded.

use anyhow::{Context, Result, bail};
use checkpoint::{Param, Weights};
use half::{bf16, f16};
use scalar::resize::{self, Method};

use super::proto::{TensorProto, element};

/// One constant of the file.
#[derive(Debug)]
pub struct Constant {
    /// Its name. Weights and embeddings have their name in the state dict.
    pub name: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// The source of its values.
    pub values: Values,
    /// The element type in which floating-point values are stored.
    pub element: i32,
}

/// The source of a constant's values.
#[derive(Debug)]
pub enum Values {
    /// The tensor of this name in the state dict, unchanged.
    Weight,
    /// The positional embedding of this name in the state dict, resized to the size of the map.
    Embedding {
        /// How it is resized.
        method: Method,
        /// Its height and width in the state dict.
        side: usize,
    },
    /// Fixed numbers.
    Floats(Vec<f32>),
    /// Fixed numbers, stored as int64.
    Integers(Vec<i64>),
}

impl Values {
    /// A source of fixed float32 numbers.
    pub fn floats<const N: usize>(values: [f32; N]) -> Self {
        Values::Floats(values.to_vec())
    }
}

impl Constant {
    /// The size of its values in the file, in bytes.
    pub fn bytes(&self) -> u64 {
        let each = match (&self.values, self.element) {
            (Values::Integers(_), _) => 8,
            (_, element::FLOAT) => 4,
            _ => 2,
        };
        self.shape.iter().fold(each, |bytes: u64, &extent| bytes.saturating_mul(extent as u64))
    }

    /// The constant as an ONNX initializer.
    ///
    /// # Errors
    ///
    /// If the weights lack the tensor, or have it in another shape.
    pub fn tensor(&self, weights: &Weights) -> Result<TensorProto> {
        let (data_type, raw_data) = match &self.values {
            Values::Weight => self.stored(&self.weight(weights, &self.shape)?.data),
            Values::Embedding { method, side } => {
                self.stored(&self.resized(weights, *method, *side)?)
            }
            Values::Floats(values) => self.stored(values),
            Values::Integers(values) => {
                (element::INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
        };
        let dims = self.shape.iter().map(|&extent| extent as i64).collect();
        Ok(TensorProto { dims, data_type, name: self.name.clone(), raw_data, ..Default::default() })
    }

    /// The element type and the bytes of floating-point values.
    fn stored(&self, values: &[f32]) -> (i32, Vec<u8>) {
        let half = |round: fn(f32) -> [u8; 2]| values.iter().flat_map(|&v| round(v)).collect();
        let bytes = match self.element {
            element::FLOAT16 => half(|v| f16::from_f32(v).to_le_bytes()),
            element::BFLOAT16 => half(|v| bf16::from_f32(v).to_le_bytes()),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        (self.element, bytes)
    }

    /// The tensor of this constant's name in the state dict, which must have this shape.
    fn weight<'w>(&self, weights: &'w Weights, shape: &[usize]) -> Result<&'w Param> {
        let name = &self.name;
        let found =
            weights.get(name).with_context(|| format!("the weights have no tensor `{name}`"))?;
        if found.shape != shape {
            bail!("tensor `{name}` has shape {:?}, but the model needs {shape:?}", found.shape);
        }
        Ok(found)
    }

    fn resized(&self, weights: &Weights, method: Method, side: usize) -> Result<Vec<f32>> {
        let [_, channels, height, width] = self.shape[..] else {
            bail!(
                "embedding `{}` needs four dimensions, but its shape is {:?}",
                self.name,
                self.shape
            );
        };
        let learned = &self.weight(weights, &[1, channels, side, side])?.data;
        if (side, side) == (height, width) {
            return Ok(learned.clone());
        }
        let learned: Vec<f64> = learned.iter().map(|&v| f64::from(v)).collect();
        let resized = resize::planes(method, &learned, (side, side), (height, width))
            .with_context(|| format!("embedding `{}` cannot be resized", self.name))?;
        Ok(resized.iter().map(|&v| v as f32).collect())
    }
}
