//! The trait [`Real`], which makes the engine generic over f32 and f64.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Sub};

use checkpoint::Param;
use spec::{Precision, Tensor};

/// A floating-point format that the engine can compute in. The trait is sealed: only `f32` and `f64`
/// implement it.
pub trait Real:
    Copy
    + Debug
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + sealed::Sealed
    + 'static
{
    /// The precision that the engine reports.
    const PRECISION: Precision;
    /// The value 0.
    const ZERO: Self;
    /// The value 1.
    const ONE: Self;
    /// The value 0.5.
    const HALF: Self;

    /// Widens to f64, which is exact.
    fn to_f64(self) -> f64;

    /// Rounds to the nearest value of this format.
    fn from_f64(value: f64) -> Self;

    /// Converts an index or a size; exact below 2^24.
    fn from_index(index: usize) -> Self;

    /// self * factor + term, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;

    /// Rounds down to a whole number.
    fn floor(self) -> Self;

    /// The absolute value.
    fn abs(self) -> Self;

    /// Whether the value is a NaN.
    fn is_nan(self) -> bool;

    /// Makes a tensor of this format from a shape and its values.
    fn tensor(shape: Vec<usize>, data: Vec<Self>) -> Tensor;

    /// The values of a tensor, rounded to this format if the tensor is wider.
    fn values(tensor: &Tensor) -> Vec<Self>;

    /// The values of a weight tensor. For `f32` they are the float32 values that every engine uses;
    /// for `f64` they are the values that the checkpoint stores.
    fn param(param: &Param) -> Vec<Self>;

    /// Widens all values to f64; values that are f64 already are not copied.
    fn widen(values: &[Self]) -> Cow<'_, [f64]>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Real for f32 {
    const PRECISION: Precision = Precision::F32;
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const HALF: f32 = 0.5;

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn from_f64(value: f64) -> f32 {
        value as f32
    }

    fn from_index(index: usize) -> f32 {
        index as f32
    }

    fn mul_add(self, factor: f32, term: f32) -> f32 {
        f32::mul_add(self, factor, term)
    }

    fn floor(self) -> f32 {
        f32::floor(self)
    }

    fn abs(self) -> f32 {
        f32::abs(self)
    }

    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }

    fn tensor(shape: Vec<usize>, data: Vec<f32>) -> Tensor {
        Tensor::f32(shape, data)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.to_f32()
    }

    fn param(param: &Param) -> Vec<f32> {
        param.data.clone()
    }

    fn widen(values: &[f32]) -> Cow<'_, [f64]> {
        Cow::Owned(values.iter().map(|&x| f64::from(x)).collect())
    }
}

impl Real for f64 {
    const PRECISION: Precision = Precision::F64;
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const HALF: f64 = 0.5;

    fn to_f64(self) -> f64 {
        self
    }

    fn from_f64(value: f64) -> f64 {
        value
    }

    fn from_index(index: usize) -> f64 {
        index as f64
    }

    fn mul_add(self, factor: f64, term: f64) -> f64 {
        f64::mul_add(self, factor, term)
    }

    fn floor(self) -> f64 {
        f64::floor(self)
    }

    fn abs(self) -> f64 {
        f64::abs(self)
    }

    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }

    fn tensor(shape: Vec<usize>, data: Vec<f64>) -> Tensor {
        Tensor::f64(shape, data)
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.to_f64()
    }

    fn param(param: &Param) -> Vec<f64> {
        param.to_f64()
    }

    fn widen(values: &[f64]) -> Cow<'_, [f64]> {
        Cow::Borrowed(values)
    }
}
