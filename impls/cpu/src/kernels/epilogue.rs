//! The epilogue: what happens to the sums of a tile before they are stored.
//!
//! It computes `activation((x + sum) * scale + bias + residual) * factor + addend` on vectors of
//! channels, so that everything that surrounds a convolution (batch normalisation, shortcut, ReLU,
//! the gate's sigmoid, the product and the positional embedding of the IOI branch) costs no pass
//! over memory of its own. Maps are [pixels, pitch] in the storage format; `scale` and `bias` are
//! f32 `[channels]`; `addend` is f32 [pixels of one image, pitch]. Each part can be left out.
//!
//! An epilogue can stop after any [`Stage`] so that a tap can observe the value, and be resumed
//! later ([`super::spatial::Resume`]). An epilogue that runs without a stop rounds to the storage
//! format at the same places, as far as a later stage could make a difference, so that both give the
//! same bits.

use lower::{Activation, Stage};

use crate::element::Element;
use crate::simd::Simd;

/// Runs `$body` with `$name` bound to an epilogue. The usual epilogues have copies of the body of their own,
/// in which the compiler knows which parts there are: deciding it for each vector takes longer than the
/// arithmetic.
macro_rules! for_usual {
    ($epilogue:expr, |$name:ident| $body:block) => {{
        let all = $epilogue;
        // A part is left out only where its pointer is null.
        let relu = all.with_activation(Activation::Relu);
        let usual = all.is_whole() && all.activation == Activation::Relu;
        let (sum, residual) = (all.sum, all.residual);
        match (usual, sum.is_null(), residual.is_null()) {
            (true, true, true) => {
                let $name = relu;
                $body
            }
            (true, false, true) => {
                let $name = Epilogue { sum, ..relu };
                $body
            }
            (true, true, false) => {
                let $name = Epilogue { residual, ..relu };
                $body
            }
            _ => {
                let $name = all;
                $body
            }
        }
    }};
}
pub(super) use for_usual;

/// out = activation((x + sum) * scale + bias + residual) * factor + addend. A null pointer leaves
/// its part out. All maps have the pitch of `out`; the module's documentation gives their shapes.
#[derive(Clone, Copy)]
pub struct Epilogue<O> {
    /// The stage at which `x` already is.
    pub from: Stage,
    /// The stage to stop after.
    pub to: Stage,
    /// The map that is added first, or null.
    pub sum: *const O,
    /// Whether a tap may observe the value after [`Stage::Sum`], so that it must be rounded there.
    pub observed_sum: bool,
    /// Scale of each channel, or null for 1.
    pub scale: *const f32,
    /// Bias of each channel, or null for 0.
    pub bias: *const f32,
    /// The map that is added after the bias, or null.
    pub residual: *const O,
    /// The activation function.
    pub activation: Activation,
    /// The map that multiplies the activation, or null.
    pub factor: *const O,
    /// What is added last, the positional embedding, or null.
    pub addend: *const f32,
    /// The map that the result is stored to.
    pub out: *mut O,
    /// Elements from one pixel to the next, in every map.
    pub pitch: usize,
}

impl<O> Epilogue<O> {
    /// An epilogue that stores the sums as they are.
    pub fn store_only(out: *mut O, pitch: usize) -> Self {
        let null = std::ptr::null();
        Epilogue {
            from: Stage::Start,
            to: Stage::Start,
            sum: null,
            observed_sum: false,
            scale: null.cast(),
            bias: null.cast(),
            residual: null,
            activation: Activation::Identity,
            factor: null,
            addend: null.cast(),
            out,
            pitch,
        }
    }

    /// Whether the sums are stored as they are.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.from == self.to
    }
}

impl<O: Element> Epilogue<O> {
    /// Applies the stages to the LANES sums that begin at `channel` of a pixel, and stores the
    /// result. `pixel` counts over the whole batch, `image_pixel` within the pixel's own image.
    ///
    /// # Safety
    /// The contract of [`Simd`]; every pointer that is not null is valid for LANES values there.
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(&self, v: S::V, pixel: usize, image_pixel: usize, channel: usize) {
        // SAFETY: the caller guarantees that all pointers are valid at this pixel and channel.
        unsafe { self.apply_with::<S>(v, self.affine::<S>(channel), pixel, image_pixel, channel) }
    }

    /// Prefetches what the epilogue will read and write for `vectors` vectors of `pixels` pixels, from
    /// element `at` on.
    ///
    /// # Safety
    /// The contract of [`Simd`].
    #[inline(always)]
    pub unsafe fn prefetch<S: Simd>(&self, at: usize, pixels: usize, vectors: usize) {
        let out = self.out.cast_const();
        let request = |map: *const O| {
            for i in 0..pixels {
                let pixel = map.wrapping_add(at + i * self.pitch).cast::<u8>();
                for byte in (0..vectors * S::LANES * size_of::<O>()).step_by(64) {
                    // SAFETY: the caller has the instruction set, and a prefetch of any address is
                    // harmless.
                    unsafe { S::prefetch(pixel.wrapping_add(byte)) };
                }
            }
        };
        request(out);
        // A sum or a residual often lies where the result is stored.
        for map in [self.residual, self.sum] {
            if !map.is_null() && map != out {
                request(map);
            }
        }
    }

    /// Loads scale and bias of the LANES channels that begin at `channel`.
    ///
    /// # Safety
    /// The contract of [`Simd`]; `scale` and `bias` are null or valid for LANES values there.
    #[inline(always)]
    pub unsafe fn affine<S: Simd>(&self, channel: usize) -> [S::V; 2] {
        // SAFETY: the caller guarantees that a pointer which is not null is valid for LANES values.
        unsafe {
            let load_or = |p: *const f32, default: f32| match p.is_null() {
                true => S::splat(default),
                false => S::load(p.add(channel)),
            };
            [load_or(self.scale, 1.0), load_or(self.bias, 0.0)]
        }
    }

    /// Applies the stages to LANES channels of `pixels` pixels that follow each other, whose sums lie
    /// `sums_pitch` elements apart. `first` is the first pixel, counted over the batch and within its
    /// image.
    ///
    /// # Safety
    /// The contract of [`Epilogue::apply`] for every pixel; the sums are valid.
    #[inline(always)]
    pub unsafe fn apply_pixels<S: Simd>(
        &self,
        sums: *const f32,
        sums_pitch: usize,
        pixels: usize,
        first: [usize; 2],
        channel: usize,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            for_usual!(*self, |epilogue| {
                let affine = epilogue.affine::<S>(channel);
                for i in 0..pixels {
                    let v = S::load(sums.add(i * sums_pitch));
                    epilogue.apply_with::<S>(v, affine, first[0] + i, first[1] + i, channel);
                }
            });
        }
    }

    /// Whether it runs from the first stage to the last, and no part follows the activation.
    #[inline(always)]
    pub(super) fn is_whole(&self) -> bool {
        let ends = (self.from, self.to) == (Stage::Start, Stage::End);
        ends && self.factor.is_null() && self.addend.is_null()
    }

    /// The epilogue of a whole step that reads no map.
    #[inline(always)]
    pub(super) fn with_activation(&self, activation: Activation) -> Self {
        Epilogue {
            from: Stage::Start,
            to: Stage::End,
            sum: std::ptr::null(),
            residual: std::ptr::null(),
            activation,
            factor: std::ptr::null(),
            addend: std::ptr::null(),
            ..*self
        }
    }

    /// The same epilogue, for the compiler to know that it is only scale and bias; None if it is more.
    #[inline(always)]
    pub fn affine_only(&self) -> Option<Self> {
        let only = self.is_whole()
            && self.activation == Activation::Identity
            && self.sum.is_null()
            && self.residual.is_null();
        only.then(|| self.with_activation(Activation::Identity))
    }

    /// Like [`Epilogue::apply`], with the result of [`Epilogue::affine`] for the same channels.
    ///
    /// # Safety
    /// The contract of [`Epilogue::apply`].
    #[inline(always)]
    pub unsafe fn apply_with<S: Simd>(
        &self,
        v: S::V,
        affine: [S::V; 2],
        pixel: usize,
        image_pixel: usize,
        channel: usize,
    ) {
        let at = pixel * self.pitch + channel;
        let addend_at = image_pixel * self.pitch + channel;
        // SAFETY: the caller guarantees that all pointers are valid at this pixel and channel.
        unsafe {
            let v = if self.from == Stage::Start && self.to == Stage::End {
                let v = self.step::<S>(Stage::Sum, v, affine, at, addend_at);
                let v = self.step::<S>(Stage::Linear, v, affine, at, addend_at);
                let v = self.step::<S>(Stage::Activation, v, affine, at, addend_at);
                let v = self.step::<S>(Stage::Product, v, affine, at, addend_at);
                self.step::<S>(Stage::End, v, affine, at, addend_at)
            } else {
                let mut v = v;
                for stage in self.from.up_to(self.to) {
                    v = self.step::<S>(*stage, v, affine, at, addend_at);
                }
                v
            };
            O::store::<S>(self.out.add(at), v);
        }
    }

    #[inline(always)]
    unsafe fn step<S: Simd>(
        &self,
        stage: Stage,
        v: S::V,
        [scale, bias]: [S::V; 2],
        at: usize,
        addend_at: usize,
    ) -> S::V {
        // SAFETY: the caller guarantees that all pointers are valid at this pixel and channel.
        unsafe {
            let add = |v, p: *const O| match p.is_null() {
                true => v,
                false => S::add(v, O::load::<S>(p.add(at))),
            };
            let round = |v, wanted: bool| if wanted { O::round::<S>(v) } else { v };
            match stage {
                Stage::Sum => round(add(v, self.sum), self.observed_sum),
                Stage::Linear => {
                    let v = add(S::fma(v, scale, bias), self.residual);
                    round(v, self.activation == Activation::Sigmoid)
                }
                Stage::Activation => {
                    let v = match self.activation {
                        Activation::Identity => v,
                        // max(0, -0) is -0. A small negative value may have been rounded to -0 when
                        // it was stored for a tap. Adding 0 turns -0 into 0, so the bits agree.
                        Activation::Relu => S::add(S::max(S::splat(0.0), v), S::splat(0.0)),
                        Activation::Sigmoid => sigmoid::<S>(v),
                    };
                    round(v, !self.factor.is_null() || !self.addend.is_null())
                }
                Stage::Product if !self.factor.is_null() => {
                    let v = S::mul(v, O::load::<S>(self.factor.add(at)));
                    round(v, !self.addend.is_null())
                }
                Stage::End if !self.addend.is_null() => {
                    S::add(v, S::load(self.addend.add(addend_at)))
                }
                _ => v,
            }
        }
    }
}

/// sigmoid(x) = 1 / (1 + exp(-x)).
///
/// The relative error is below 2.5 * 2^-23 for x > -87. Below that, where the result is hardly a
/// normal number, the absolute error is below 2e-38. NaN stays NaN.
///
/// The bound: the error of e = exp(-x) (below 0.875 * 2^-23, see `exp`) enters with a factor below
/// 1, namely e / (1 + e). The addition and the division each add at most 0.5 * 2^-23. The sum is below
/// 1.875 * 2^-23. The largest error that was measured over all f32 in (-87, 90] is 1.24 * 2^-23,
/// with and without fused multiply-adds. A test in `tests/kernels/products.rs` checks the bounds
/// 2.5 * 2^-23 and 2e-38 over [-200, 200] in steps of 1e-3.
///
/// # Safety
/// The contract of [`Simd`].
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller has the instruction set; only registers are used.
    unsafe {
        let one = S::splat(1.0);
        let e = exp::<S>(S::sub(S::splat(0.0), x));
        S::div(one, S::add(one, e))
    }
}

/// exp(x), for x clamped to [-87, 88], where the result is a normal number. The relative error is
/// below 0.875 * 2^-23. NaN stays NaN.
///
/// # Method
///
/// The method and the coefficients are those of `expf` in the Cephes library (Moshier,
/// `single/expf.c`).
///
/// 1. Range reduction: exp(x) = 2^n exp(r) with n = round(x / ln 2) and r = x - n ln 2. So |r| is at
///    most ln(2) / 2, or slightly more because x / ln 2 is rounded: |r| < 0.34658. The rounding to an
///    integer is done by adding 1.5 * 2^23, where the spacing of f32 is 1. It leaves n in the low bits
///    of the sum, where [`Simd::pow2`] finds it.
/// 2. ln 2 is split into two constants (Cody and Waite, "Software Manual for the Elementary
///    Functions", 1980): LN2_HIGH = 355 / 512, and LN2_LOW, which is the rest within 1.7e-12. As
///    LN2_HIGH has 9 bits and |n| <= 127 has 7, the product n * LN2_HIGH is exact. The difference
///    x - n * LN2_HIGH is exact too: for n = 0 it is x, and otherwise |x| > 0.34, so that the
///    difference is a multiple of 2^-25 and below 0.5 in size, which takes at most 24 bits.
/// 3. exp(r) = 1 + r + r^2 p(r) with a polynomial p of degree 5. The error of this approximation
///    relative to exp(r) is at most 2.7e-9 = 0.05 * 2^-24 over |r| < 0.34658.
/// 4. The product with 2^n is exact, because -127 < n < 128 and the result is a normal number.
///
/// # Rounding errors
///
/// Upper bounds in units of 2^-24, relative to exp(r), which lies in (0.707, 1.415). The first
/// column is for r > 0, the second for r < 0. Both include the additional roundings of products
/// where there is no fused multiply-add.
///
/// ```text
/// r: its last rounding, that of n * LN2_LOW, the split of ln 2    0.27   0.27
/// r^2: one rounding, times p                                      0.03   0.04
/// p: Horner's scheme, times r^2                                   0.06   0.06
/// r + r^2 p, and the product r^2 p                                0.23   0.40
/// 1 + (r + r^2 p): half an ulp of exp(r)                          1.00   0.71
/// truncation of the polynomial                                    0.05   0.05
/// sum                                                             1.64   1.53
/// ```
///
/// Both are below 1.75 * 2^-24 = 0.875 * 2^-23. The largest error that was measured over all f32 in
/// [-87, 88] (above 2^-29 in size, with a C copy of this function against the float64 `exp`) is
/// 0.71 * 2^-23 with fused multiply-adds and 0.69 * 2^-23 without. No test checks `exp` alone: the
/// test of [`sigmoid`] does.
///
/// # Safety
/// The contract of [`Simd`].
#[inline(always)]
unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // SAFETY: the caller has the instruction set; only registers are used.
    unsafe {
        // `min` and `max` return their second operand for NaN, so that NaN stays NaN.
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
