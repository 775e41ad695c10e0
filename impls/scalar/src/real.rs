//! The two number formats.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Sub};

use spec::weights::Param;
use spec::{Precision, Tensor};

/// What is asked of a number format; `f32` and `f64` have it, and nothing else can.
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
    /// Its name in the engine's description.
    const PRECISION: Precision;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// 0.5.
    const HALF: Self;

    /// Widens to f64, which is exact.
    fn to_f64(self) -> f64;

    /// Rounds to the nearest value of this format.
    fn from_f64(value: f64) -> Self;

    /// An index or a size as a number; exact below 2^24.
    fn from_index(index: usize) -> Self;

    /// self * factor + term, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;

    /// The whole number at or below.
    fn floor(self) -> Self;

    /// The magnitude.
    fn abs(self) -> Self;

    /// Whether this is not a number.
    fn is_nan(self) -> bool;

    /// A tensor of this format.
    fn tensor(shape: Vec<usize>, data: Vec<Self>) -> Tensor;

    /// The values of a tensor, rounded to this format where it is the narrower one.
    fn values(tensor: &Tensor) -> Vec<Self>;

    /// The values of a tensor of weights: float32 as every engine has them, or in f64 those that
    /// the checkpoint stores.
    fn param(param: &Param) -> Vec<Self>;

    /// All values widened to f64; f64 itself is not copied.
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
