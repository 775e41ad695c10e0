//! The small steps between the products: bands with a border, pooling, depthwise convolution.

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

/// Copies lines of a map of one image into a band with a border of zeros: what a convolution reads for
/// an output pixel is then one stretch of channels for each line of its kernel.
#[derive(Clone, Copy)]
pub struct Band<E> {
    /// The input.
    pub image: Image<E>,
    /// Channels of a pixel of the band, a multiple of the element's group.
    pub channels: usize,
    /// Pixels of the border on each side.
    pub border: usize,
    /// The gate of each channel, or null.
    pub gate: *const E,
    /// First and last + 1 output line: the input's, without the border.
    pub lines: (usize, usize),
    /// [lines + 2 border, width + 2 border, channels].
    pub out: *mut E,
}

/// Fills the band.
///
/// # Safety
/// The contract of [`Simd`]; pointers hold what [`Band`] says, the image and the gate whole vectors of
/// channels, and `out` one vector more.
#[inline(always)]
pub unsafe fn band<S: Simd, E: Element>(b: &Band<E>) {
    let (height, width) = b.image.size;
    let (edge, line) = (b.border * b.channels, (width + 2 * b.border) * b.channels);
    for (at, y) in (b.lines.0..b.lines.1 + 2 * b.border).enumerate() {
        // SAFETY: the source lies in the map; the caller gives room for the lines. What a copy writes
        // beyond its channels, the next writes over.
        unsafe {
            let to = b.out.add(at * line);
            if !(b.border..height + b.border).contains(&y) {
                to.write_bytes(0, line);
                continue;
            }
            let from = b.image.data.add((y - b.border) * width * b.image.stride);
            to.write_bytes(0, edge);
            for x in 0..width {
                let (from, to) = (from.add(x * b.image.stride), to.add(edge + x * b.channels));
                for c in (0..b.channels).step_by(S::LANES) {
                    let v = E::load::<S>(from.add(c));
                    let gated = !b.gate.is_null();
                    let v = if gated { S::mul(v, E::load::<S>(b.gate.add(c))) } else { v };
                    E::store::<S>(to.add(c), v);
                }
            }
            to.add(line - edge).write_bytes(0, edge);
        }
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
