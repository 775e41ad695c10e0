//! What happens to a sum before it is stored: everything that surrounds a convolution.

use crate::element::Element;
use crate::simd::Simd;

/// The function after scale and bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// None.
    Identity,
    /// max(x, 0); NaN stays.
    Relu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
}

/// Ends of the stages of an epilogue. A run may be stopped there to be observed, and taken up again;
/// that it gives the same bits, the value is rounded to the storage format wherever a later stage
/// does not commute with rounding.
pub mod stage {
    /// Nothing was done.
    pub const START: u8 = 0;
    /// `sum` was added.
    pub const SUM: u8 = 1;
    /// Scaled, and bias and residual were added.
    pub const LINEAR: u8 = 2;
    /// The activation was applied.
    pub const ACTIVATION: u8 = 3;
    /// Multiplied by `factor`.
    pub const PRODUCT: u8 = 4;
    /// `post` was added.
    pub const END: u8 = 5;
}

/// out = activation((x + sum) * scale + bias + residual) * factor + post. Null pointers leave a part
/// out. Maps are [pixels, stride] and share the stride of `out`; `scale` and `bias` hold one f32 for
/// each channel, `post` is f32 [pixels of one image, stride].
#[derive(Clone, Copy)]
pub struct Epilogue<O> {
    /// Stages done already.
    pub from: u8,
    /// Stages done at the end.
    pub to: u8,
    /// Added first.
    pub sum: *const O,
    /// Whether the sum may be observed.
    pub observed_sum: bool,
    /// Scale of each channel.
    pub scale: *const f32,
    /// Bias of each channel.
    pub bias: *const f32,
    /// Added after the bias.
    pub residual: *const O,
    /// The function.
    pub activation: Activation,
    /// Multiplied by, after the function.
    pub factor: *const O,
    /// Added last.
    pub post: *const f32,
    /// The result.
    pub out: *mut O,
    /// Elements from one pixel to the next.
    pub stride: usize,
}

impl<O> Epilogue<O> {
    /// Stores what comes.
    pub fn store(out: *mut O, stride: usize) -> Self {
        let null = std::ptr::null();
        Epilogue {
            from: stage::START,
            to: stage::START,
            sum: null,
            observed_sum: false,
            scale: null.cast(),
            bias: null.cast(),
            residual: null,
            activation: Activation::Identity,
            factor: null,
            post: null.cast(),
            out,
            stride,
        }
    }

    /// Whether the value is stored as it comes.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.from == self.to
    }
}

impl<O: Element> Epilogue<O> {
    /// Takes a vector of `pixel` (of all images; `place` is its index in its own image) from
    /// `channel` on through the stages and stores it.
    ///
    /// # Safety
    /// The contract of [`Simd`]; every pointer that is not null holds LANES values there.
    #[inline(always)]
    pub unsafe fn finish<S: Simd>(&self, v: S::V, pixel: usize, place: usize, channel: usize) {
        // SAFETY: the caller's.
        unsafe { self.finish_with::<S>(v, self.affine::<S>(channel), pixel, place, channel) }
    }

    /// Asks for what the epilogue will read and write at an element, and so many vectors on.
    ///
    /// # Safety
    /// The contract of [`Simd`].
    #[inline(always)]
    pub unsafe fn prefetch<S: Simd>(&self, at: usize, vectors: usize) {
        for p in [self.residual, self.sum, self.out.cast_const()] {
            if !p.is_null() {
                for byte in (0..vectors * S::LANES * size_of::<O>()).step_by(64) {
                    // SAFETY: the caller's; a prefetch of any address is harmless.
                    unsafe { S::prefetch(p.wrapping_add(at).cast::<u8>().wrapping_add(byte)) };
                }
            }
        }
    }

    /// Scale and bias of a vector of channels.
    ///
    /// # Safety
    /// The contract of [`Simd`]; both pointers hold LANES values there, or are null.
    #[inline(always)]
    pub unsafe fn affine<S: Simd>(&self, channel: usize) -> [S::V; 2] {
        // SAFETY: the caller's.
        unsafe {
            let or = |p: *const f32, other: f32| match p.is_null() {
                true => S::splat(other),
                false => S::load(p.add(channel)),
            };
            [or(self.scale, 1.0), or(self.bias, 0.0)]
        }
    }

    /// As [`Epilogue::finish`], with scale and bias loaded before.
    ///
    /// # Safety
    /// As [`Epilogue::finish`].
    #[inline(always)]
    pub unsafe fn finish_with<S: Simd>(
        &self,
        v: S::V,
        affine: [S::V; 2],
        pixel: usize,
        place: usize,
        channel: usize,
    ) {
        let at = pixel * self.stride + channel;
        let post = place * self.stride + channel;
        // SAFETY: the caller says that pointers are valid at this pixel and channel.
        unsafe {
            let v = if self.from == stage::START && self.to == stage::END {
                let v = self.step::<S>(stage::SUM, v, affine, at, post);
                let v = self.step::<S>(stage::LINEAR, v, affine, at, post);
                let v = self.step::<S>(stage::ACTIVATION, v, affine, at, post);
                let v = self.step::<S>(stage::PRODUCT, v, affine, at, post);
                self.step::<S>(stage::END, v, affine, at, post)
            } else {
                let mut v = v;
                for step in self.from + 1..=self.to {
                    v = self.step::<S>(step, v, affine, at, post);
                }
                v
            };
            O::store::<S>(self.out.add(at), v);
        }
    }

    #[inline(always)]
    unsafe fn step<S: Simd>(
        &self,
        step: u8,
        v: S::V,
        [scale, bias]: [S::V; 2],
        at: usize,
        post: usize,
    ) -> S::V {
        // SAFETY: the caller says that pointers are valid at this pixel and channel.
        unsafe {
            let add = |v, p: *const O| match p.is_null() {
                true => v,
                false => S::add(v, O::load::<S>(p.add(at))),
            };
            let round = |v, wanted: bool| if wanted { O::round::<S>(v) } else { v };
            match step {
                stage::SUM => round(add(v, self.sum), self.observed_sum),
                stage::LINEAR => {
                    let v = add(S::fma(v, scale, bias), self.residual);
                    round(v, self.activation == Activation::Sigmoid)
                }
                stage::ACTIVATION => {
                    let v = match self.activation {
                        Activation::Identity => v,
                        // max(0, -0) is -0, and a small negative number that was stored to be
                        // observed may have become -0: adding 0 makes both 0.
                        Activation::Relu => S::add(S::max(S::splat(0.0), v), S::splat(0.0)),
                        Activation::Sigmoid => sigmoid::<S>(v),
                    };
                    round(v, !self.factor.is_null() || !self.post.is_null())
                }
                stage::PRODUCT if !self.factor.is_null() => {
                    let v = S::mul(v, O::load::<S>(self.factor.add(at)));
                    round(v, !self.post.is_null())
                }
                stage::END if !self.post.is_null() => S::add(v, S::load(self.post.add(post))),
                _ => v,
            }
        }
    }
}

/// 1 / (1 + exp(-x)), within 2.5 ulp for x > -87, and within 2e-38 below; NaN stays.
///
/// # Safety
/// The contract of [`Simd`].
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller keeps the contract.
    unsafe {
        let one = S::splat(1.0);
        let e = exp::<S>(S::sub(S::splat(0.0), x));
        S::div(one, S::add(one, e))
    }
}

/// exp(x) for x clamped to where it is a normal number: 2^n times a polynomial of the rest (Cephes'
/// coefficients).
#[inline(always)]
unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // SAFETY: the caller keeps the contract.
    unsafe {
        // The second operand is what comes back for NaN.
        let x = S::min(S::splat(88.0), S::max(S::splat(-87.0), x));
        let shifted = S::fma(x, S::splat(std::f32::consts::LOG2_E), S::splat(SHIFT));
        let n = S::sub(shifted, S::splat(SHIFT));
        let r = S::fnma(n, S::splat(LN2_LOW), S::fnma(n, S::splat(LN2_HIGH), x));
        let mut p = S::splat(POLYNOMIAL[0]);
        for c in &POLYNOMIAL[1..] {
            p = S::fma(p, r, S::splat(*c));
        }
        let p = S::add(S::fma(S::mul(r, r), p, r), S::splat(1.0));
        S::mul(p, S::pow2(shifted))
    }
}
