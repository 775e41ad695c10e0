//! The memory-bound kernels between the products: bands, depthwise convolution, pooling, means, and
//! the resumption of an epilogue.
//!
//! Maps are [height, width, pitch] for one image. Every kernel goes over pixels and, for each
//! pixel, over vectors of channels; sums are f32. None has a register block beyond one vector of
//! sums (the mean has four), because memory bandwidth limits them.

use crate::element::Element;
use crate::kernels::epilogue::Epilogue;
use crate::simd::Simd;

/// The map of one image, [height, width, pitch].
#[derive(Clone, Copy)]
pub struct Image<E> {
    /// Pointer to pixel 0.
    pub data: *const E,
    /// Elements from one pixel to the next.
    pub pitch: usize,
    /// Height and width in pixels.
    pub size: (usize, usize),
}

/// Copies lines of a map into a band, which has a border of zeros and no padding between pixels. In
/// a band, the inputs of a k x k convolution for one output pixel are k parts of k * channels
/// elements: implicit im2col.
#[derive(Clone, Copy)]
pub struct Band<E> {
    /// The input map.
    pub image: Image<E>,
    /// Channels of a pixel of the band, a multiple of the format's GROUP.
    pub channels: usize,
    /// Width of the border on each side, in pixels.
    pub border: usize,
    /// One factor for each channel, or null.
    pub gate: *const E,
    /// The lines of the input that the band is made for, without its border (half-open).
    pub lines: (usize, usize),
    /// The band, [lines + 2 border, width + 2 border, channels].
    pub out: *mut E,
}

/// Fills the band.
///
/// # Safety
/// The contract of [`Simd`]. The image and the gate are valid for whole vectors of channels, and
/// `out` for the band and one more vector.
#[inline(always)]
pub unsafe fn band<S: Simd, E: Element>(b: &Band<E>) {
    let (height, width) = b.image.size;
    let (edge, line) = (b.border * b.channels, (width + 2 * b.border) * b.channels);
    for (at, y) in (b.lines.0..b.lines.1 + 2 * b.border).enumerate() {
        // SAFETY: line `y - border` lies within the map, and the caller guarantees that `out` is
        // valid for the band and one more vector. The last vector of a pixel may write beyond its
        // channels; the next pixel overwrites that.
        unsafe {
            let to = b.out.add(at * line);
            if !(b.border..height + b.border).contains(&y) {
                to.write_bytes(0, line);
                continue;
            }
            let from = b.image.data.add((y - b.border) * width * b.image.pitch);
            to.write_bytes(0, edge);
            for x in 0..width {
                let (from, to) = (from.add(x * b.image.pitch), to.add(edge + x * b.channels));
                for c in (0..b.channels).step_by(S::LANES) {
                    if b.gate.is_null() {
                        E::copy::<S>(from.add(c), to.add(c));
                        continue;
                    }
                    let v = S::mul(E::load::<S>(from.add(c)), E::load::<S>(b.gate.add(c)));
                    E::store::<S>(to.add(c), v);
                }
            }
            to.add(line - edge).write_bytes(0, edge);
        }
    }
}

/// A depthwise 2x2 convolution of stride 2 without padding: out[y, x, c] = epilogue(sum over the
/// 2x2 window of in * weight), summed in f32 in the order of the taps.
#[derive(Clone, Copy)]
pub struct Depthwise<E> {
    /// The input map.
    pub image: Image<E>,
    /// Weights [4, pitch], one row for each tap.
    pub weights: *const f32,
    /// The rows of the output to compute (half-open).
    pub rows: (usize, usize),
    /// Width of the output.
    pub width: usize,
    /// Pixel 0 of this image in the output, counted over the whole batch.
    pub pixel: usize,
    /// Number of vectors of channels.
    pub vectors: usize,
    /// What is done with the sums.
    pub epilogue: Epilogue<E>,
}

/// Computes all rows.
///
/// # Safety
/// The contract of [`Simd`]. The image, the weights and the epilogue's pointers are valid for whole
/// vectors of channels, and the image has lines 0 to 2 * rows.1 - 1 and columns 0 to 2 * width - 1.
#[inline(always)]
pub unsafe fn depthwise<S: Simd, E: Element>(d: &Depthwise<E>) {
    let pitch = d.image.pitch;
    for y in d.rows.0..d.rows.1 {
        for x in 0..d.width {
            let image_pixel = y * d.width + x;
            let corner = (2 * y * d.image.size.1 + 2 * x) * pitch;
            for vector in 0..d.vectors {
                let c = vector * S::LANES;
                // SAFETY: the caller guarantees that pixel (2 y + 1, 2 x + 1) lies within the map.
                unsafe {
                    let mut sum = S::splat(0.0);
                    for tap in 0..4 {
                        let at = corner + (tap / 2 * d.image.size.1 + tap % 2) * pitch + c;
                        let weight = S::load(d.weights.add(tap * pitch + c));
                        sum = S::fma(E::load::<S>(d.image.data.add(at)), weight, sum);
                    }
                    d.epilogue.apply::<S>(sum, d.pixel + image_pixel, image_pixel, c);
                }
            }
        }
    }
}

/// A 3x3 max-pool of stride 2 and padding 1 of ReLU(x). The ReLU costs nothing: the maximum starts
/// at 0.
#[derive(Clone, Copy)]
pub struct MaxPool<E> {
    /// The input map.
    pub image: Image<E>,
    /// The rows of the output to compute (half-open).
    pub rows: (usize, usize),
    /// Width of the output.
    pub width: usize,
    /// Number of vectors of channels.
    pub vectors: usize,
    /// Pixel 0 of this image in the output, whose pitch is that of the input.
    pub out: *mut E,
}

/// Computes all rows. A NaN anywhere in the window gives NaN.
///
/// # Safety
/// The contract of [`Simd`]. The image and `out` are valid for whole vectors of channels.
#[inline(always)]
pub unsafe fn max_pool<S: Simd, E: Element>(p: &MaxPool<E>) {
    let (height, width) = p.image.size;
    let around = |at: usize, end: usize| (2 * at).saturating_sub(1)..(2 * at + 2).min(end);
    for y in p.rows.0..p.rows.1 {
        for x in 0..p.width {
            for vector in 0..p.vectors {
                let c = vector * S::LANES;
                // SAFETY: `around` clips the window to the map, for which the caller guarantees the
                // image; the caller guarantees `out` for this row.
                unsafe {
                    let mut most = S::splat(0.0);
                    for sy in around(y, height) {
                        for sx in around(x, width) {
                            let from = p.image.data.add((sy * width + sx) * p.image.pitch + c);
                            most = S::max_nan(E::load::<S>(from), most);
                        }
                    }
                    E::store::<S>(p.out.add((y * p.width + x) * p.image.pitch + c), most);
                }
            }
        }
    }
}

/// The mean over the pixels of a map, for each channel.
#[derive(Clone, Copy)]
pub struct Mean<E> {
    /// The input map.
    pub image: Image<E>,
    /// The vectors of channels to compute (half-open).
    pub vectors: (usize, usize),
    /// The means of all channels, `[pitch]`.
    pub out: *mut E,
}

/// Computes the means. Four independent sums hide the latency of the additions; each takes every
/// fourth pixel.
///
/// # Safety
/// The contract of [`Simd`]. The image and `out` are valid for these vectors of channels.
#[inline(always)]
pub unsafe fn mean<S: Simd, E: Element>(m: &Mean<E>) {
    let pixels = m.image.size.0 * m.image.size.1;
    for vector in m.vectors.0..m.vectors.1 {
        let c = vector * S::LANES;
        // SAFETY: `pixel` is below `pixels`, for which the caller guarantees the image.
        unsafe {
            let mut sums = [S::splat(0.0); 4];
            let load = |pixel: usize| E::load::<S>(m.image.data.add(pixel * m.image.pitch + c));
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

/// Resumes an epilogue that was stopped for a tap: the stages after `from` up to `to`, in place on
/// the stored values.
#[derive(Clone, Copy)]
pub struct Resume<E> {
    /// The epilogue, whose `out` is also the input.
    pub epilogue: Epilogue<E>,
    /// The pixels to process, counted over the whole batch (half-open).
    pub pixels: (usize, usize),
    /// Number of pixels of one image.
    pub image: usize,
    /// Number of vectors of channels.
    pub vectors: usize,
}

/// Processes all pixels.
///
/// # Safety
/// The contract of [`Simd`]. Every pointer of the epilogue is null or valid for all pixels.
#[inline(always)]
pub unsafe fn resume<S: Simd, E: Element>(r: &Resume<E>) {
    for pixel in r.pixels.0..r.pixels.1 {
        for vector in 0..r.vectors {
            let c = vector * S::LANES;
            // SAFETY: the caller guarantees the epilogue's pointers for this pixel and these
            // channels.
            unsafe {
                let v = E::load::<S>(r.epilogue.out.add(pixel * r.epilogue.pitch + c));
                r.epilogue.apply::<S>(v, pixel, pixel % r.image, c);
            }
        }
    }
}
