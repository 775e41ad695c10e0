//! Learned values as bytes for the device.

use half::{bf16, f16};
use spec::Precision;

/// A place among the constants, in bytes from their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constant(pub usize);

/// Every constant begins at a multiple of this.
const ALIGN: usize = 256;

/// All constants of a network.
pub struct Constants {
    precision: Precision,
    bytes: Vec<u8>,
}

/// To 10 bits of fraction, to nearest, ties away from zero, as `cvt.rna.tf32` does.
fn round_tf32(value: f32) -> f32 {
    match value.is_finite() {
        true => f32::from_bits(value.to_bits().wrapping_add(0x1000) & !0x1fff),
        false => value,
    }
}

impl Constants {
    /// None yet, for a precision.
    pub fn new(precision: Precision) -> Self {
        Constants { precision, bytes: vec![] }
    }

    fn begin(&mut self) -> Constant {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        Constant(self.bytes.len())
    }

    /// Adds float32 values.
    pub fn wide(&mut self, values: impl IntoIterator<Item = f64>) -> Constant {
        let constant = self.begin();
        self.bytes.extend(values.into_iter().flat_map(|value| (value as f32).to_le_bytes()));
        constant
    }

    /// Adds factors of products, in the format of the precision.
    pub fn stored(&mut self, values: impl Iterator<Item = f64>) -> Constant {
        let constant = self.begin();
        let bytes = &mut self.bytes;
        match self.precision {
            Precision::Bf16 => bytes.extend(values.flat_map(|v| bf16::from_f64(v).to_le_bytes())),
            Precision::F16 => bytes.extend(values.flat_map(|v| f16::from_f64(v).to_le_bytes())),
            Precision::Tf32 => {
                bytes.extend(values.flat_map(|v| round_tf32(v as f32).to_le_bytes()));
            }
            _ => bytes.extend(values.flat_map(|v| (v as f32).to_le_bytes())),
        }
        constant
    }

    /// All bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
