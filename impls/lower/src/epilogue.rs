//! An epilogue is what happens to the sums of a step before they are stored. It has stages, after
//! each of which a tap can observe the value.

/// The stages of an epilogue, each named by what has been done at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Nothing has been done.
    Start = 0,
    /// The sum is complete.
    Sum = 1,
    /// Scale, bias and residual were applied.
    Linear = 2,
    /// The activation was applied.
    Activation = 3,
    /// The value was multiplied by a factor.
    Product = 4,
    /// The positional embedding was added: the value is the result.
    End = 5,
}

impl Stage {
    /// The stages after which a value can be observed, in their order.
    pub const OBSERVABLE: [Stage; 5] =
        [Stage::Sum, Stage::Linear, Stage::Activation, Stage::Product, Stage::End];

    /// The stages after this one, up to `last`.
    #[inline]
    pub fn up_to(self, last: Stage) -> &'static [Stage] {
        Stage::OBSERVABLE.get(self as usize..last as usize).unwrap_or_default()
    }
}

/// The activation function of an epilogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x.
    Identity = 0,
    /// max(x, 0); keeps NaN.
    Relu = 1,
    /// 1 / (1 + exp(-x)).
    Sigmoid = 2,
}
