//! Executes a 7x7 convolution by Winograd's algorithm along the rows: some lines go through the transforms
//! and products in the scratch memory of one thread.

#![allow(unsafe_code, reason = "turns offsets of buffers into pointers")]

use lower::Stage;

use crate::element::Element;
use crate::isa::HasKernels;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::gemm::{Gemm, Operand, Rows};
use crate::kernels::rows::{Input, KERNEL, Output, POINTS, parts, tiles};
use crate::memory::ALIGN;
use crate::plan::{LINE, RowWinograd};
use crate::run::exec::TaskContext;
use crate::run::split::items_per_task;

/// Most lines of a task, so that its scratch memory stays in the L2 cache; every task transforms
/// KERNEL - 1 lines that others transform, too.
const LINES: usize = 14;

/// How a step is cut into tasks, and their scratch memory: transformed tiles, then products.
pub struct RowSplit {
    /// Lines of a task, except the last ones of an image.
    lines: usize,
    /// Tasks for each image.
    tasks: usize,
    /// Elements from one transformed line to the next.
    line: usize,
    /// Elements from one point to the next, in transformed tiles.
    tiles: usize,
    /// The same in products.
    products: usize,
    /// Bytes of all transformed tiles.
    tiles_bytes: usize,
}

impl RowSplit {
    /// The split for `clips` clips on `threads` threads.
    pub fn new<E: Element>(layer: &RowWinograd<E>, clips: usize, threads: usize) -> Self {
        let (height, width) = layer.from.size;
        let lines = items_per_task(clips * height, threads).clamp(4, LINES).min(height);
        let line = (tiles(width) + 1) * layer.from.channels;
        let point = (lines + KERNEL - 1) * line + LINE;
        let bytes = POINTS * point * size_of::<E>();
        RowSplit {
            lines,
            tasks: height.div_ceil(lines),
            line,
            tiles: point,
            products: lines * tiles(width) * layer.epilogue.out.pitch + LINE,
            tiles_bytes: bytes.next_multiple_of(ALIGN),
        }
    }

    /// Number of tasks for `clips` clips.
    pub fn tasks(&self, clips: usize) -> usize {
        clips * self.tasks
    }

    /// Size of the scratch memory in bytes.
    pub fn scratch_bytes(&self) -> usize {
        self.tiles_bytes + POINTS * self.products * size_of::<f32>()
    }
}

impl<E: HasKernels> TaskContext<'_, E> {
    /// The split of a step into tasks.
    pub(super) fn row_split(&self, layer: &RowWinograd<E>) -> RowSplit {
        RowSplit::new(layer, self.layout.clips, self.layout.threads)
    }

    /// Computes one task: some lines of an image.
    ///
    /// # Safety
    /// That of [`TaskContext::task`].
    pub(super) unsafe fn row_winograd(
        &self,
        layer: &RowWinograd<E>,
        index: usize,
        thread: usize,
        stop: Stage,
    ) {
        let split = self.row_split(layer);
        let (image, first) = (index / split.tasks, index % split.tasks * split.lines);
        let (from, out, size) = (layer.from, layer.epilogue.out, layer.from.size);
        let lines = (first, (first + split.lines).min(size.0));
        // SAFETY: `RowSplit::scratch_bytes` counts the lines of the largest task, and no other task uses the
        // scratch memory of this thread. The maps hold all images.
        unsafe {
            let transformed = self.scratch[thread].cast::<E>();
            let products = self.scratch[thread].add(split.tiles_bytes).cast::<f32>();
            let map = self.image(&from, image);
            (self.kernels.rows_input)(&Input {
                image: map.data,
                pitch: map.pitch,
                size,
                lines: (lines.0, lines.1 + KERNEL - 1),
                vectors: from.channels / self.kernels.lanes,
                zeros: self.zeros,
                out: transformed,
                point_pitch: split.tiles,
            });
            for (point, weights) in layer.weights.iter().enumerate() {
                (self.kernels.gemm_planes)(&Gemm {
                    first: Operand {
                        a: transformed.add(point * split.tiles),
                        pitch: from.channels,
                        k: parts(point) * from.channels,
                        parts: KERNEL,
                        part_pitch: split.line,
                        b: weights.data.as_ptr(),
                    },
                    second: None,
                    rows: Rows { lines: lines.1 - lines.0, width: tiles(size.1), gap: 1 },
                    pixel: 0,
                    image_pixel: 0,
                    stream: false,
                    vectors: (0, weights.vectors),
                    epilogue: Epilogue::store_only(products.add(point * split.products), out.pitch),
                });
            }
            (self.kernels.rows_output)(&Output {
                products,
                tile_pitch: out.pitch,
                point_pitch: split.products,
                size,
                lines,
                vectors: layer.weights[0].vectors,
                pixel: image * out.pixels(),
                epilogue: self.epilogue(&layer.epilogue, stop),
            });
        }
    }
}
