//! The small steps between the products: gathering, pooling, depthwise convolution.

use crate::element::Element;
use crate::kernels::epilogue::Epilogue;
use crate::simd::Simd;

/// A map of one image, [height, width, stride].
#[derive(Clone, Copy)]
pub struct Image<E> {
    /// Pixel 0.
    pub data: *const E,
    /// Elements from one pixel to the next.
    pub stride: usize,
    /// Height and width.
    pub size: (usize, usize),
}

/// Gathers what a convolution reads for some output pixels of one image (im2col): rows of
/// [kernel * kernel, channels].
#[derive(Clone, Copy)]
pub struct Gather<E> {
    /// The input.
    pub image: Image<E>,
    /// Channels of a tap, a multiple of the element's group.
    pub channels: usize,
    /// Side of the kernel; stride 1, padded to keep the size.
    pub kernel: usize,
    /// The gate of each channel, or null.
    pub gate: *const E,
    /// First and last + 1 output pixel.
    pub pixels: (usize, usize),
    /// [pixels, row]; a row is padded to whole vectors.
    pub out: *mut E,
    /// Elements of a row.
    pub row: usize,
}

/// Gathers all rows.
///
/// # Safety
/// The contract of [`Simd`]; pointers hold what [`Gather`] says, the image and the gate whole
/// vectors of channels, and `out` one vector more.
#[inline(always)]
pub unsafe fn gather<S: Simd, E: Element>(g: &Gather<E>) {
    let (height, width) = g.image.size;
    let pad = g.kernel / 2;
    for pixel in g.pixels.0..g.pixels.1 {
        let (y, x) = (pixel / width, pixel % width);
        let mut at = (pixel - g.pixels.0) * g.row;
        for ky in 0..g.kernel {
            for kx in 0..g.kernel {
                let (sy, sx) = (y + ky, x + kx);
                let inside = (pad..height + pad).contains(&sy) && (pad..width + pad).contains(&sx);
                // SAFETY: the source lies in the map; the caller gives room for the row.
                unsafe {
                    let to = g.out.add(at);
                    if inside {
                        let from = (sy - pad) * width + sx - pad;
                        tap::<S, E>(g, g.image.data.add(from * g.image.stride), to);
                    } else {
                        to.write_bytes(0, g.channels);
                    }
                }
                at += g.channels;
            }
        }
    }
}

/// Whole vectors are copied, beyond the tap's channels: the next tap writes over the rest.
#[inline(always)]
unsafe fn tap<S: Simd, E: Element>(g: &Gather<E>, from: *const E, to: *mut E) {
    let mut c = 0;
    while c < g.channels {
        // SAFETY: the caller's.
        unsafe {
            let v = E::load::<S>(from.add(c));
            let v = if g.gate.is_null() { v } else { S::mul(v, E::load::<S>(g.gate.add(c))) };
            E::store::<S>(to.add(c), v);
        }
        c += S::LANES;
    }
}

/// A depthwise 2x2 convolution of stride 2 without padding.
#[derive(Clone, Copy)]
pub struct Depthwise<E> {
    /// The input.
    pub image: Image<E>,
    /// Weights [4, stride].
    pub weights: *const f32,
    /// Rows of the output to compute, of all that there are.
    pub rows: (usize, usize),
    /// Width of the output.
    pub width: usize,
    /// Pixel 0 of the output, of all images.
    pub pixel: usize,
    /// Vectors of channels.
    pub vectors: usize,
    /// What becomes of the sums.
    pub epilogue: Epilogue<E>,
}

/// Computes all rows.
///
/// # Safety
/// The contract of [`Simd`]; pointers hold what [`Depthwise`] says.
#[inline(always)]
pub unsafe fn depthwise<S: Simd, E: Element>(d: &Depthwise<E>) {
    let stride = d.image.stride;
    for y in d.rows.0..d.rows.1 {
        for x in 0..d.width {
            let place = y * d.width + x;
            let corner = (2 * y * d.image.size.1 + 2 * x) * stride;
            for vector in 0..d.vectors {
                let c = vector * S::LANES;
                // SAFETY: the caller's; 2 y + 1 and 2 x + 1 lie in the map.
                unsafe {
                    let mut sum = S::splat(0.0);
                    for tap in 0..4 {
                        let at = corner + (tap / 2 * d.image.size.1 + tap % 2) * stride + c;
                        let weight = S::load(d.weights.add(tap * stride + c));
                        sum = S::fma(E::load::<S>(d.image.data.add(at)), weight, sum);
                    }
                    d.epilogue.finish::<S>(sum, d.pixel + place, place, c);
                }
            }
        }
    }
}

/// A max-pool 3x3 of stride 2 and padding 1 over max(x, 0).
#[derive(Clone, Copy)]
pub struct MaxPool<E> {
    /// The input.
    pub image: Image<E>,
    /// Rows of the output to compute.
    pub rows: (usize, usize),
    /// Width of the output.
    pub width: usize,
    /// Vectors of channels.
    pub vectors: usize,
    /// Pixel 0 of this image in the output.
    pub out: *mut E,
}

/// Computes all rows. NaN anywhere in the window gives NaN.
///
/// # Safety
/// The contract of [`Simd`]; pointers hold what [`MaxPool`] says.
#[inline(always)]
pub unsafe fn max_pool<S: Simd, E: Element>(p: &MaxPool<E>) {
    let (height, width) = p.image.size;
    let around = |at: usize, end: usize| (2 * at).saturating_sub(1)..(2 * at + 2).min(end);
    for y in p.rows.0..p.rows.1 {
        for x in 0..p.width {
            for vector in 0..p.vectors {
                let c = vector * S::LANES;
                // SAFETY: the caller's; the window is clipped to the map.
                unsafe {
                    let mut most = S::splat(0.0);
                    for sy in around(y, height) {
                        for sx in around(x, width) {
                            let from = p.image.data.add((sy * width + sx) * p.image.stride + c);
                            most = S::max_nan(E::load::<S>(from), most);
                        }
                    }
                    E::store::<S>(p.out.add((y * p.width + x) * p.image.stride + c), most);
                }
            }
        }
    }
}

/// The mean over a map.
#[derive(Clone, Copy)]
pub struct Mean<E> {
    /// The input.
    pub image: Image<E>,
    /// First and last + 1 vector of channels.
    pub vectors: (usize, usize),
    /// [stride]
    pub out: *mut E,
}

/// Four sums run side by side, each over every fourth pixel.
///
/// # Safety
/// The contract of [`Simd`]; pointers hold what [`Mean`] says.
#[inline(always)]
pub unsafe fn mean<S: Simd, E: Element>(m: &Mean<E>) {
    let pixels = m.image.size.0 * m.image.size.1;
    for vector in m.vectors.0..m.vectors.1 {
        let c = vector * S::LANES;
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [S::splat(0.0); 4];
            let load = |pixel: usize| E::load::<S>(m.image.data.add(pixel * m.image.stride + c));
            let mut pixel = 0;
            while pixel + 4 <= pixels {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    *sum = S::add(*sum, load(pixel + lane));
                }
                pixel += 4;
            }
            for lane in 0..pixels - pixel {
                sums[lane] = S::add(sums[lane], load(pixel + lane));
            }
            let sum = S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3]));
            E::store::<S>(m.out.add(c), S::div(sum, S::splat(pixels as f32)));
        }
    }
}

/// Takes up an epilogue that was stopped to be observed: stages `from` to `to` on what is stored.
#[derive(Clone, Copy)]
pub struct Resume<E> {
    /// The stages.
    pub epilogue: Epilogue<E>,
    /// First and last + 1 pixel, of all images.
    pub pixels: (usize, usize),
    /// Pixels of one image.
    pub image: usize,
    /// Vectors of channels.
    pub vectors: usize,
}

/// Goes over all pixels.
///
/// # Safety
/// The contract of [`Simd`]; the epilogue's pointers hold all pixels.
#[inline(always)]
pub unsafe fn resume<S: Simd, E: Element>(r: &Resume<E>) {
    for pixel in r.pixels.0..r.pixels.1 {
        for vector in 0..r.vectors {
            let c = vector * S::LANES;
            // SAFETY: the caller's.
            unsafe {
                let v = E::load::<S>(r.epilogue.out.add(pixel * r.epilogue.stride + c));
                r.epilogue.finish::<S>(v, pixel, pixel % r.image, c);
            }
        }
    }
}
