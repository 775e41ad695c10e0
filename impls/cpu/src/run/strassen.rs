//! Executes a 1x1 convolution by Strassen's algorithm: a block of pairs of pixels goes through all sums and
//! products in the scratch memory of one thread.

#![allow(unsafe_code, reason = "turns offsets of buffers into pointers")]

use lower::Stage;

use crate::element::Element;
use crate::isa::HasKernels;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::gemm::{Gemm, Operand, Rows};
use crate::kernels::strassen::{COPIES, Input, Output, PRODUCTS};
use crate::memory::ALIGN;
use crate::plan::{LINE, OutputGroup, Strassen};
use crate::run::exec::TaskContext;
use crate::run::split::GemmSplit;

/// The scratch memory of a task: the first factors of all products, then the products of a group of outputs.
pub struct Scratch {
    /// Elements from one factor to the next.
    factor: usize,
    /// Elements from one product to the next.
    product: usize,
    /// Bytes of all factors.
    factors: usize,
}

impl Scratch {
    /// The layout for the tasks of `split`.
    pub fn new<E: Element>(layer: &Strassen<E>, split: &GemmSplit) -> Self {
        let pairs = split.largest_block();
        // Not a multiple of a page, so that they do not map to the same sets of the cache.
        let (factor, product) = (pairs * layer.pitch + LINE, pairs * layer.width + LINE);
        let factors = (PRODUCTS * factor * size_of::<E>()).next_multiple_of(ALIGN);
        Scratch { factor, product, factors }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.factors + PRODUCTS * self.product * size_of::<f32>()
    }
}

/// The pairs of one image out of a range that may have those of several.
struct Piece {
    image: usize,
    /// Within the image (half-open).
    pairs: (usize, usize),
    /// Index of the first of them in the range.
    at: usize,
}

/// Cuts a range of pairs, counted over the batch, at the ends of images of `each` pairs.
fn pieces((from, to): (usize, usize), each: usize) -> impl Iterator<Item = Piece> + Clone {
    (from / each..to.div_ceil(each)).map(move |image| {
        let first = image * each;
        let pairs = (from.max(first) - first, to.min(first + each) - first);
        Piece { image, pairs, at: from.max(first) - from }
    })
}

impl<E: HasKernels> TaskContext<'_, E> {
    /// The split of a step into tasks.
    pub(super) fn strassen_split(&self, layer: &Strassen<E>) -> GemmSplit {
        let (clips, threads) = (self.layout.clips, self.layout.threads);
        GemmSplit::pairs(layer, clips, threads, self.kernels.tile_rows)
    }

    /// Computes one task: some pairs of pixels, and some groups of outputs.
    ///
    /// # Safety
    /// That of [`TaskContext::task`].
    pub(super) unsafe fn strassen(
        &self,
        layer: &Strassen<E>,
        index: usize,
        thread: usize,
        stop: Stage,
    ) {
        let split = self.strassen_split(layer);
        let (_, pairs, (first, last)) = split.task(index, layer.groups.len());
        let scratch = Scratch::new(layer, &split);
        // SAFETY: `split::scratch_bytes` counts the memory of the largest block, and no other task uses the
        // scratch memory of this thread. The factors are made before the products, the products of a group
        // before its results.
        unsafe {
            let factors = self.scratch[thread].cast::<E>();
            let products = self.scratch[thread].add(scratch.factors).cast::<f32>();
            self.strassen_factors(layer, pairs, factors, &scratch);
            for group in &layer.groups[first..last] {
                let results = self.strassen_results(layer, group, pairs, products, &scratch, stop);
                for (product, weights) in group.weights.iter().enumerate() {
                    results.clone().for_each(|r| (self.kernels.strassen_prefetch)(&r, product));
                    let (a, pitch) = match self.block_of_map(layer, product, pairs.0) {
                        Some(block) => block,
                        None => (factors.add(product * scratch.factor).cast_const(), layer.pitch),
                    };
                    let out = products.add(product * scratch.product);
                    (self.kernels.gemm_planes)(&Gemm {
                        first: Operand::rows(a, pitch, weights.k, weights.data.as_ptr()),
                        second: None,
                        rows: Rows::dense(pairs.1 - pairs.0),
                        pixel: 0,
                        image_pixel: 0,
                        stream: true,
                        vectors: (0, weights.vectors),
                        epilogue: Epilogue::store_only(out, layer.width),
                    });
                }
                results.for_each(|r| (self.kernels.strassen_output)(&r));
            }
        }
    }

    /// A block of the map itself, if it is the first factor of a product, and the elements from one pair to
    /// the next.
    fn block_of_map(
        &self,
        layer: &Strassen<E>,
        product: usize,
        pair: usize,
    ) -> Option<(*const E, usize)> {
        let (_, [row, half]) = COPIES.into_iter().find(|(copy, _)| *copy == product)?;
        let map = layer.whole_map()?;
        let offset = (2 * pair + row) * map.pitch + half * map.channels / 2;
        // SAFETY: the map holds both pixels of each pair of the batch.
        Some((unsafe { self.at(map.buffer).add(offset) }, 2 * map.pitch))
    }

    /// Makes the first factors of all products.
    unsafe fn strassen_factors(
        &self,
        layer: &Strassen<E>,
        pairs: (usize, usize),
        out: *mut E,
        scratch: &Scratch,
    ) {
        let mut channel = 0;
        for map in &layer.from {
            for piece in pieces(pairs, layer.pairs()) {
                let image = self.image(map, piece.image);
                // SAFETY: the maps hold all images, and `out` a row of `pitch` elements for each pair.
                unsafe {
                    (self.kernels.strassen_input)(&Input {
                        image: image.data,
                        pitch: image.pitch,
                        pixels: map.pixels(),
                        pairs: piece.pairs,
                        vectors: map.channels / 2 / self.kernels.lanes,
                        zeros: self.zeros,
                        gate: self.gate(layer.gate, piece.image),
                        copies: layer.whole_map().is_none(),
                        out: out.add(piece.at * layer.pitch + channel),
                        pair_pitch: layer.pitch,
                        product_pitch: scratch.factor,
                    });
                }
            }
            channel += map.channels / 2;
        }
    }

    /// The results of a group of outputs, image by image.
    fn strassen_results(
        &self,
        layer: &Strassen<E>,
        group: &OutputGroup<E>,
        pairs: (usize, usize),
        products: *const f32,
        scratch: &Scratch,
        stop: Stage,
    ) -> impl Iterator<Item = Output<E>> + Clone {
        let out = layer.epilogue.out;
        let (vectors, product_pitch, pair_pitch) = (group.vectors(), scratch.product, layer.width);
        let channels = [group.output, out.channels / 2 + group.output];
        let epilogue = self.epilogue(&layer.epilogue, stop);
        pieces(pairs, layer.pairs()).map(move |piece| Output {
            products: products.wrapping_add(piece.at * pair_pitch),
            pair_pitch,
            product_pitch,
            pairs: piece.pairs,
            pixels: out.pixels(),
            pixel: piece.image * out.pixels(),
            vectors,
            channels,
            epilogue,
        })
    }
}
