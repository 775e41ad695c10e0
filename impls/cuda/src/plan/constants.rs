//! The learned values of a network as one block of bytes, which is copied to the device once.

use half::{bf16, f16};
use spec::Precision;

/// Offset of a constant in bytes from the start of [`Constants`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constant(pub usize);

/// Alignment of every constant, in bytes.
const ALIGN: usize = 256;

/// The constants of a network while they are collected.
pub struct Constants {
    precision: Precision,
    bytes: Vec<u8>,
}

/// Rounds to the 10 fraction bits of TF32, to nearest, ties away from zero, as `cvt.rna.tf32` does.
fn round_tf32(value: f32) -> f32 {
    match value.is_finite() {
        true => f32::from_bits(value.to_bits().wrapping_add(0x1000) & !0x1fff),
        false => value,
    }
}

impl Constants {
    /// An empty collection, whose [`Constants::stored`] values are in the format of `precision`.
    pub fn new(precision: Precision) -> Self {
        Constants { precision, bytes: vec![] }
    }

    fn begin(&mut self) -> Constant {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        Constant(self.bytes.len())
    }

    /// Adds a constant in float32, rounded once from float64.
    pub fn wide(&mut self, values: impl IntoIterator<Item = f64>) -> Constant {
        let constant = self.begin();
        self.bytes.extend(values.into_iter().flat_map(|value| (value as f32).to_le_bytes()));
        constant
    }

    /// Adds the weights of a convolution, in the storage format of the precision, rounded to TF32
    /// where that is the precision.
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

    /// The bytes of all constants.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
