//! The layout of the workspace: the offset of every buffer for a batch of a given size.

use lower::arena::{Buffer, place};

use crate::element::Element;
use crate::memory::ALIGN;
use crate::plan::{BufferId, Map, Op, Plan, Winograd};
use crate::run::split;

/// The offsets of all buffers, and the sizes of the other memory that a run needs.
pub struct Layout {
    /// Number of clips in the batch.
    pub clips: usize,
    /// Number of threads that work on the batch.
    pub threads: usize,
    /// Offset of each buffer in bytes.
    offsets: Vec<usize>,
    /// Size of all buffers together, in bytes.
    pub bytes: usize,
    /// Size of the scratch memory of each thread, in bytes.
    pub scratch: usize,
    /// Elements in a pixel of the widest map: the number of zeros that kernels read beyond a map.
    pub widest_pixel: usize,
}

impl Layout {
    /// Assigns offsets to the buffers of a plan. `tile_rows` is the height of the largest GEMM
    /// tile.
    pub fn new<E: Element>(plan: &Plan<E>, clips: usize, threads: usize, tile_rows: usize) -> Self {
        let mut buffers = vec![Buffer::default(); plan.buffers];
        let mut touch = |buffer: BufferId, step: usize, bytes: usize| {
            buffers[buffer.0].touch(step, bytes);
        };
        let (mut scratch, mut widest_pixel) = (0, 0);
        for (at, step) in plan.steps.iter().enumerate() {
            for map in step.op.writes() {
                touch(map.buffer, at, clips * map.image() * size_of::<E>());
                widest_pixel = widest_pixel.max(map.pitch);
            }
            for buffer in step.op.reads() {
                touch(buffer, at, 0);
            }
            if let Op::Winograd(layer) = &step.op
                && split::blocks(layer, clips, threads, tile_rows).is_none()
            {
                let tiles = split::tiles(layer, clips).count();
                for (buffer, bytes) in layer.workspace.iter().zip(workspace_bytes(layer, tiles)) {
                    touch(*buffer, at, bytes);
                }
            }
            scratch = scratch.max(split::scratch_bytes(&step.op, clips, threads, tile_rows));
        }
        // The output is read after the last step.
        touch(plan.output.buffer, plan.steps.len(), 0);
        let (offsets, bytes) = place(&buffers, ALIGN);
        Layout { clips, threads, offsets, bytes, scratch, widest_pixel }
    }

    /// Offset of a buffer, in bytes.
    pub fn offset(&self, buffer: BufferId) -> usize {
        self.offsets[buffer.0]
    }

    /// Number of pixels of a map over the whole batch.
    pub fn pixels(&self, map: &Map) -> usize {
        self.clips * map.pixels()
    }
}

/// Sizes in bytes of the transformed tiles, the gated tiles and the products, for a number of
/// tiles.
pub fn workspace_bytes<E: Element>(layer: &Winograd<E>, tiles: usize) -> [usize; 3] {
    let planes = layer.tile.planes();
    let inputs = planes * plane_pitch(tiles, layer.from.pitch) * size_of::<E>();
    let gated = if layer.gate.is_some() { inputs } else { 0 };
    let products = planes * plane_pitch(tiles, padded_outputs(layer)) * size_of::<f32>();
    [inputs, gated, products].map(|bytes| bytes.next_multiple_of(ALIGN))
}

/// Elements from one plane of tiles to the next. It is not a power of two: all planes are written
/// at the same time, and must not map to the same set of the cache.
pub fn plane_pitch(tiles: usize, tile_pitch: usize) -> usize {
    tiles * tile_pitch + 2 * crate::plan::LINE
}

/// Output channels of all convolutions of the layer, with the padding of their maps.
pub fn padded_outputs<E>(layer: &Winograd<E>) -> usize {
    let second = layer.second.as_ref().map_or(0, |branch| branch.epilogue.out.pitch);
    layer.main.epilogue.out.pitch + second
}
