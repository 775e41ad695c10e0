//! The constants of a file. Names and shapes are known from the model alone, so that a file which
//! would be too large is refused before there are any weights.

use anyhow::{Context, Result, bail};
use scalar::resize::{self, Method};
use spec::weights::{Param, Weights};

use super::proto::{TensorProto, element};

/// A constant.
#[derive(Debug)]
pub struct Constant {
    /// Its name; that of a weight is the official one.
    pub name: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// Where its values come from.
    pub values: Values,
}

/// Where values come from.
#[derive(Debug)]
pub enum Values {
    /// A tensor of the state dict as it is.
    Weight,
    /// A positional embedding of the state dict, resized to the map.
    Embedding {
        /// How.
        method: Method,
        /// Its side in the state dict.
        side: usize,
    },
    /// These, as float32.
    Floats(Vec<f32>),
    /// These, as int64.
    Integers(Vec<i64>),
}

impl Values {
    /// A few fixed numbers.
    pub fn floats<const N: usize>(values: [f32; N]) -> Self {
        Values::Floats(values.to_vec())
    }
}

impl Constant {
    /// How much its values take in the file.
    pub fn bytes(&self) -> u64 {
        let each = if matches!(self.values, Values::Integers(_)) { 8 } else { 4 };
        self.shape.iter().fold(each, |bytes: u64, &extent| bytes.saturating_mul(extent as u64))
    }

    /// The constant as it stands in the file.
    pub fn tensor(&self, weights: &Weights) -> Result<TensorProto> {
        let (data_type, raw_data) = match &self.values {
            Values::Weight => (element::FLOAT, bytes_of(&self.weight(weights, &self.shape)?.data)),
            Values::Embedding { method, side } => {
                (element::FLOAT, bytes_of(&self.resized(weights, *method, *side)?))
            }
            Values::Floats(values) => (element::FLOAT, bytes_of(values)),
            Values::Integers(values) => {
                (element::INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
        };
        let dims = self.shape.iter().map(|&extent| extent as i64).collect();
        Ok(TensorProto { dims, data_type, name: self.name.clone(), raw_data })
    }

    /// The tensor of the state dict, which has this shape.
    fn weight<'w>(&self, weights: &'w Weights, shape: &[usize]) -> Result<&'w Param> {
        let name = &self.name;
        let found = weights.get(name).with_context(|| format!("the weights lack {name}"))?;
        if found.shape != shape {
            bail!("{name}: its shape is {:?}, and the network needs {shape:?}", found.shape);
        }
        Ok(found)
    }

    fn resized(&self, weights: &Weights, method: Method, side: usize) -> Result<Vec<f32>> {
        let [_, channels, height, width] = self.shape[..] else {
            bail!("{}: an embedding has four extents, not {:?}", self.name, self.shape);
        };
        let learned = &self.weight(weights, &[1, channels, side, side])?.data;
        if (side, side) == (height, width) {
            return Ok(learned.clone());
        }
        let learned: Vec<f64> = learned.iter().map(|&v| f64::from(v)).collect();
        let resized = resize::planes(method, &learned, (side, side), (height, width))
            .with_context(|| format!("{}: cannot be resized", self.name))?;
        Ok(resized.iter().map(|&v| v as f32).collect())
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * values.len());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}
