//! Where every buffer lies for a batch of some clips.

use std::ops::Range;

use crate::element::Element;
use crate::memory::{Need, lay_out};
use crate::plan::{BufferId, Map, Op, Plan, Winograd};
use crate::run::split;

/// Offsets of all buffers and sizes of the rest.
pub struct Layout {
    /// Clips.
    pub clips: usize,
    /// Threads.
    pub threads: usize,
    /// Offset in bytes of each buffer.
    offsets: Vec<usize>,
    /// Bytes of all buffers together.
    pub bytes: usize,
    /// Bytes of scratch memory that each thread needs.
    pub scratch: usize,
    /// Elements of the widest pixel, so many zeros surround a map.
    pub widest: usize,
}

impl Layout {
    /// Lays a plan out. `rows` is the height of a GEMM tile.
    pub fn new<E: Element>(plan: &Plan<E>, clips: usize, threads: usize, rows: usize) -> Self {
        let unused = Need { bytes: 0, steps: Range { start: usize::MAX, end: 0 } };
        let mut needs = vec![unused; plan.buffers];
        let mut touch = |buffer: BufferId, step: usize, bytes: usize| {
            let need = &mut needs[buffer.0];
            need.bytes = need.bytes.max(bytes);
            need.steps = need.steps.start.min(step)..need.steps.end.max(step + 1);
        };
        let (mut scratch, mut widest) = (0, 0);
        for (at, step) in plan.steps.iter().enumerate() {
            for map in step.op.writes() {
                touch(map.buffer, at, clips * map.image() * size_of::<E>());
                widest = widest.max(map.stride);
            }
            for buffer in step.op.reads() {
                touch(buffer, at, 0);
            }
            if let Op::Winograd(layer) = &step.op
                && !split::in_blocks(layer, clips, threads, rows)
            {
                let tiles = split::tiles(layer, clips);
                for (buffer, bytes) in layer.room.iter().zip(room(layer, tiles)) {
                    touch(*buffer, at, bytes);
                }
            }
            scratch = scratch.max(split::scratch(&step.op, clips, threads, rows));
        }
        // The output outlives the steps.
        touch(plan.output.buffer, plan.steps.len(), 0);
        for need in &mut needs {
            if need.steps.start > need.steps.end {
                need.steps = 0..0;
            }
        }
        let (offsets, bytes) = lay_out(&needs);
        Layout { clips, threads, offsets, bytes, scratch, widest }
    }

    /// Offset of a buffer in bytes.
    pub fn offset(&self, buffer: BufferId) -> usize {
        self.offsets[buffer.0]
    }

    /// Pixels of all images.
    pub fn pixels(&self, map: &Map) -> usize {
        self.clips * map.pixels()
    }
}

/// Bytes of transformed tiles, gated tiles and products of so many tiles.
pub fn room<E: Element>(layer: &Winograd<E>, tiles: usize) -> [usize; 3] {
    let planes = layer.tile.planes();
    let inputs = planes * plane_stride(tiles, layer.from.stride) * size_of::<E>();
    let gated = if layer.gate.is_some() { inputs } else { 0 };
    let products = planes * plane_stride(tiles, outputs(layer)) * size_of::<f32>();
    [inputs, gated, products].map(|bytes| bytes.next_multiple_of(crate::memory::ALIGN))
}

/// Elements from one plane of tiles to the next: not a power of two, for all planes are written
/// together and must not meet in one set of the cache.
pub fn plane_stride(tiles: usize, stride: usize) -> usize {
    tiles * stride + 2 * crate::plan::LINE
}

/// Output channels of both arms, padded to vectors.
pub fn outputs<E>(layer: &Winograd<E>) -> usize {
    let second = layer.second.as_ref().map_or(0, |arm| arm.finish.out.stride);
    layer.main.finish.out.stride + second
}
