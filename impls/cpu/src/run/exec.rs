//! Executes tasks: from a step and the index of a task to kernel calls.

#![allow(unsafe_code, reason = "turns offsets of buffers into pointers")]

use lower::Stage;

use crate::isa::{HasKernels, Kernels};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::gemm::{Gemm, Operand, Rows};
use crate::kernels::import::Import;
use crate::kernels::spatial::{Band, Depthwise, Image, MaxPool, Mean, Resume};
use crate::kernels::winograd::{Input, Output};
use crate::plan::{BufferId, EpilogueSpec, Map, Op, OperandSpec, Winograd};
use crate::run::layout::{Layout, padded_outputs, plane_pitch, workspace_bytes};
use crate::run::split::{self, GemmSplit};

/// Everything that a task needs: the kernels, and the memory of a run with its layout.
///
/// # Safety
/// Whoever makes a context guarantees that its memory has the sizes that the layout gives, and that
/// the tasks of a phase only run after all tasks of the previous one have returned.
pub struct TaskContext<'a, E> {
    /// The kernels of the chosen instruction set.
    pub kernels: &'a Kernels<E>,
    /// The offsets of the buffers, and the sizes of all memory.
    pub layout: &'a Layout,
    /// The memory of all buffers, `layout.bytes` bytes.
    pub base: *mut u8,
    /// The clips, f32 [N, 3 T, H, W].
    pub clip: *const f32,
    /// `layout.widest_pixel` zeros.
    pub zeros: *const E,
    /// The scratch memory of each thread, `layout.scratch` bytes.
    pub scratch: Vec<*mut u8>,
    /// The embedding [H * W, pitch] that a tap put in the place of the step's own, or null.
    pub embedding: *const f32,
}

// SAFETY: concurrent tasks belong to the same phase, and those write to disjoint memory: different
// rows, vectors or tiles of the output, and the scratch memory of their own thread.
unsafe impl<E> Sync for TaskContext<'_, E> {}

/// The stages at which the two results of a step stop.
pub type StopStages = [Stage; 2];

impl<E: HasKernels> TaskContext<'_, E> {
    /// Number of phases of a step; a phase reads what all tasks of the previous one wrote.
    pub fn phases(&self, op: &Op<E>) -> usize {
        match op {
            Op::Winograd(layer) if self.blocks(layer).is_none() => 3,
            _ => 1,
        }
    }

    /// See [`split::blocks`].
    fn blocks(&self, layer: &Winograd<E>) -> Option<usize> {
        let layout = self.layout;
        split::blocks(layer, layout.clips, layout.threads, self.kernels.tile_rows)
    }

    /// Number of tasks of a phase.
    pub fn tasks(&self, op: &Op<E>, phase: usize) -> usize {
        let (clips, threads) = (self.layout.clips, self.layout.threads);
        match op {
            Op::Import { out, .. } => clips * out.size.0,
            Op::Gemm { first, epilogue, .. } => self.product(first, epilogue).tasks(),
            Op::Strassen(layer) => self.strassen_split(layer).tasks(),
            Op::RowWinograd(layer) => self.row_split(layer).tasks(clips),
            Op::Winograd(layer) => {
                let tiles = split::tiles(layer, clips).count();
                match (self.blocks(layer), phase) {
                    (Some(blocks), _) => blocks,
                    (None, 1) => layer.tile.planes(),
                    (None, _) => tiles.div_ceil(split::items_per_task(tiles, threads)),
                }
            }
            Op::Depthwise { epilogue, .. } | Op::MaxPool { epilogue, .. } => {
                clips * epilogue.out.size.0
            }
            Op::Mean { from, .. } => clips * from.channels.div_ceil(self.mean_width()),
        }
    }

    /// Number of channels for each task of a mean: at least a cache line.
    fn mean_width(&self) -> usize {
        self.kernels.lanes.max(32)
    }

    /// Computes one task of a step: item `index` of its phase `phase`, up to the stages that `stops`
    /// names. The scratch memory is that of `thread`.
    ///
    /// # Safety
    /// The contract of [`TaskContext`]; no concurrent task has the same `thread`, which is below
    /// the number of threads of the layout.
    pub unsafe fn task(
        &self,
        op: &Op<E>,
        phase: usize,
        index: usize,
        thread: usize,
        stops: StopStages,
    ) {
        // SAFETY: all pointers below are made from offsets of the layout, for which the maker of
        // the context guarantees the memory. Task indices are below `tasks`, so rows and images are
        // within the maps.
        unsafe {
            match op {
                Op::Import { planes, size, out } => self.import(*planes, *size, out, index),
                Op::Gemm { first, second, epilogue } => {
                    self.gemm(first, second.as_ref(), epilogue, index, thread, stops);
                }
                Op::Strassen(layer) => self.strassen(layer, index, thread, stops[0]),
                Op::RowWinograd(layer) => self.row_winograd(layer, index, thread, stops[0]),
                Op::Winograd(layer) => match self.blocks(layer) {
                    Some(blocks) => self.winograd_block(layer, (index, blocks), thread, stops),
                    None => self.winograd_phase(layer, phase, index, stops),
                },
                Op::Depthwise { from, weights, epilogue: spec } => {
                    let (image, row) = (index / spec.out.size.0, index % spec.out.size.0);
                    (self.kernels.depthwise)(&Depthwise {
                        image: self.image(from, image),
                        weights: weights.as_ptr(),
                        rows: (row, row + 1),
                        width: spec.out.size.1,
                        pixel: image * spec.out.pixels(),
                        vectors: from.vectors(self.kernels.lanes),
                        epilogue: self.epilogue(spec, stops[0]),
                    });
                }
                Op::MaxPool { from, epilogue: spec } => {
                    let (image, row) = (index / spec.out.size.0, index % spec.out.size.0);
                    (self.kernels.max_pool)(&MaxPool {
                        image: self.image(from, image),
                        rows: (row, row + 1),
                        width: spec.out.size.1,
                        vectors: from.vectors(self.kernels.lanes),
                        out: self.at(spec.out.buffer).add(image * spec.out.image()),
                    });
                }
                Op::Mean { from, epilogue: spec } => self.mean(from, spec, index),
            }
        }
    }

    /// Resumes a result that was stopped after stage `from`, up to stage `to`.
    ///
    /// # Safety
    /// The contract of [`TaskContext`]; all tasks of the step have returned.
    pub unsafe fn resume(&self, spec: &EpilogueSpec, from: Stage, to: Stage) {
        let epilogue = Epilogue { from, ..self.epilogue(spec, to) };
        // SAFETY: `epilogue` points into buffers of the layout, which hold all pixels of
        // `spec.out`.
        unsafe {
            (self.kernels.resume)(&Resume {
                epilogue,
                pixels: (0, self.layout.pixels(&spec.out)),
                image: spec.out.pixels(),
                vectors: spec.out.vectors(self.kernels.lanes),
            });
        }
    }

    /// Pointer to the first element of a buffer.
    pub fn at(&self, buffer: BufferId) -> *mut E {
        self.bytes(buffer).cast()
    }

    fn bytes(&self, buffer: BufferId) -> *mut u8 {
        // SAFETY: the offset is below `layout.bytes`, the size of the memory at `base`.
        unsafe { self.base.add(self.layout.offset(buffer)) }
    }

    pub(super) fn image(&self, map: &Map, image: usize) -> Image<E> {
        // SAFETY: the layout gives the buffer the size of all images, and `image` is one of them.
        let data = unsafe { self.at(map.buffer).add(image * map.image()) };
        Image { data, pitch: map.pitch, size: map.size }
    }

    /// Pointer to the gate of an image, or null.
    pub(super) fn gate(&self, gate: Option<Map>, image: usize) -> *const E {
        // SAFETY: the layout gives the buffer the gates of all images, and `image` is one of them.
        gate.map_or(std::ptr::null(), |map| unsafe {
            self.at(map.buffer).add(image * map.pitch).cast_const()
        })
    }

    /// The epilogue with the pointers of this run, to stop after stage `to`.
    pub(super) fn epilogue(&self, spec: &EpilogueSpec, to: Stage) -> Epilogue<E> {
        let buffer = |id: Option<BufferId>| match id {
            Some(id) => self.at(id).cast_const(),
            None => std::ptr::null(),
        };
        let vector = |values: &Option<Vec<f32>>| match values {
            Some(values) => values.as_ptr(),
            None => std::ptr::null(),
        };
        let embedding = match (&spec.embedding, self.embedding.is_null()) {
            (Some((values, _)), true) => values.as_ptr(),
            (Some(_), false) => self.embedding,
            (None, _) => std::ptr::null(),
        };
        Epilogue {
            from: Stage::Start,
            to,
            sum: buffer(spec.sum),
            observed_sum: spec.tap_points.iter().any(|show| show.stage == Stage::Sum),
            scale: vector(&spec.scale),
            bias: vector(&spec.bias),
            residual: buffer(spec.residual),
            activation: spec.activation,
            factor: buffer(spec.factor),
            addend: embedding,
            out: self.at(spec.out.buffer),
            pitch: spec.out.pitch,
        }
    }

    unsafe fn import(&self, planes: usize, size: (usize, usize), out: &Map, index: usize) {
        let (image, row) = (index / out.size.0, index % out.size.0);
        // SAFETY: the clips and the map hold all images of the batch; `index` is below their rows.
        unsafe {
            (self.kernels.import)(&Import {
                clip: self.clip.add(image * planes * size.0 * size.1),
                planes,
                size,
                rows: (row, row + 1),
                out: self.at(out.buffer).add(image * out.image()),
                pitch: out.pitch,
            });
        }
    }

    unsafe fn mean(&self, from: &Map, spec: &EpilogueSpec, index: usize) {
        let width = self.mean_width() / self.kernels.lanes;
        let all = from.vectors(self.kernels.lanes);
        let groups = all.div_ceil(width);
        let (image, group) = (index / groups, index % groups);
        // SAFETY: the maps hold all images of the batch, and the vectors end at `all`.
        unsafe {
            (self.kernels.mean)(&Mean {
                image: self.image(from, image),
                vectors: (group * width, ((group + 1) * width).min(all)),
                out: self.at(spec.out.buffer).add(image * spec.out.pitch),
            });
        }
    }

    fn product(&self, first: &OperandSpec<E>, spec: &EpilogueSpec) -> GemmSplit {
        let (clips, threads) = (self.layout.clips, self.layout.threads);
        GemmSplit::new(first, spec.out.pixels(), clips, threads, self.kernels.tile_rows)
    }

    unsafe fn gemm(
        &self,
        first: &OperandSpec<E>,
        second: Option<&OperandSpec<E>>,
        spec: &EpilogueSpec,
        index: usize,
        thread: usize,
        stops: StopStages,
    ) {
        let product = self.product(first, spec);
        let (image, rows, vectors) = product.task(index, first.weights.vectors);
        // SAFETY: `GemmSplit::task` gives rows and vectors within the map and the weights. The
        // operand is the map, or the band of exactly these rows that `self.band` has just made.
        unsafe {
            let direct = |operand: &OperandSpec<E>| {
                let a = self.at(operand.from.buffer).add(rows.0 * operand.from.pitch).cast_const();
                Operand::rows(
                    a,
                    operand.from.pitch,
                    operand.weights.k,
                    operand.weights.data.as_ptr(),
                )
            };
            let whole = match first.banded() {
                true => self.band(first, image, rows, thread),
                false => direct(first),
            };
            // In a band, the lines are separated by their borders.
            let width = spec.out.size.1;
            let count = match first.kernel > 1 {
                true => Rows { lines: (rows.1 - rows.0) / width, width, gap: first.kernel - 1 },
                false => Rows::dense(rows.1 - rows.0),
            };
            (self.kernels.gemm)(&Gemm {
                first: whole,
                second: second.map(direct),
                rows: count,
                pixel: image * spec.out.pixels() + rows.0,
                image_pixel: rows.0,
                stream: false,
                vectors,
                epilogue: self.epilogue(spec, stops[0]),
            });
        }
    }

    /// Makes the band of the lines that hold `pixels`, with border and gate, and returns it as an
    /// operand.
    unsafe fn band(
        &self,
        operand: &OperandSpec<E>,
        image: usize,
        pixels: (usize, usize),
        thread: usize,
    ) -> Operand<E> {
        let (out, width) = (self.scratch[thread].cast::<E>(), operand.from.size.1);
        // SAFETY: `split::scratch_bytes` counts the largest band of the step, and no other task
        // uses the scratch memory of this thread.
        unsafe {
            (self.kernels.band)(&Band {
                image: self.image(&operand.from, image),
                channels: operand.channels(),
                border: operand.kernel / 2,
                gate: self.gate(operand.gate, image),
                lines: (pixels.0 / width, pixels.1.div_ceil(width)),
                out,
            });
        }
        Operand {
            a: out,
            pitch: operand.channels(),
            k: operand.kernel * operand.channels(),
            parts: operand.kernel,
            part_pitch: operand.line(),
            b: operand.weights.data.as_ptr(),
        }
    }

    /// Takes one block of tiles through all phases of a Winograd layer, in scratch memory.
    unsafe fn winograd_block(
        &self,
        layer: &Winograd<E>,
        (index, blocks): (usize, usize),
        thread: usize,
        stops: StopStages,
    ) {
        let all = split::tiles(layer, self.layout.clips).count();
        let (first, last) = split::tiles_of_block(all, blocks, index);
        let capacity = all.div_ceil(blocks);
        let bytes = workspace_bytes(layer, capacity);
        // SAFETY: `split::scratch_bytes` counts one block of tiles, and no other task uses the
        // scratch memory of this thread.
        unsafe {
            let start = self.scratch[thread];
            let workspace = [start, start.add(bytes[0]), start.add(bytes[0] + bytes[1])];
            let tiles = TileWorkspace { first, last, workspace, capacity };
            self.winograd_inputs(layer, &tiles, tiles.first, tiles.last);
            for plane in 0..layer.tile.planes() {
                self.winograd_plane(layer, &tiles, plane);
            }
            self.winograd_outputs(layer, &tiles, tiles.first, tiles.last, stops);
        }
    }

    /// Runs one task of a phase over all tiles of the batch.
    unsafe fn winograd_phase(
        &self,
        layer: &Winograd<E>,
        phase: usize,
        index: usize,
        stops: StopStages,
    ) {
        let all = split::tiles(layer, self.layout.clips).count();
        let workspace = layer.workspace.map(|buffer| self.bytes(buffer));
        let tiles = TileWorkspace { first: 0, last: all, workspace, capacity: all };
        let share = split::items_per_task(all, self.layout.threads);
        let (first, last) = (index * share, ((index + 1) * share).min(all));
        // SAFETY: the layout gives the three workspace buffers the size for all tiles.
        unsafe {
            match phase {
                0 => self.winograd_inputs(layer, &tiles, first, last),
                1 => self.winograd_plane(layer, &tiles, index),
                _ => self.winograd_outputs(layer, &tiles, first, last, stops),
            }
        }
    }

    unsafe fn winograd_inputs(
        &self,
        layer: &Winograd<E>,
        t: &TileWorkspace,
        first: usize,
        last: usize,
    ) {
        let order = split::tiles(layer, self.layout.clips);
        for at in first..last {
            let (image, row, column) = order.place(at);
            let from = self.image(&layer.from, image);
            let input = Input {
                tile: layer.tile,
                image: from.data,
                pitch: from.pitch,
                size: from.size,
                vectors: layer.from.vectors(self.kernels.lanes),
                zeros: self.zeros,
                gate: self.gate(layer.gate, image),
                out: t.workspace[0].cast(),
                gated: t.workspace[1].cast(),
                tile_pitch: from.pitch,
                plane_pitch: plane_pitch(t.capacity, from.pitch),
            };
            let index = at - t.first;
            // SAFETY: the workspace holds `capacity` tiles, and `index` is below that.
            unsafe {
                (self.kernels.winograd_input)(&input, row, column, index);
            }
        }
    }

    unsafe fn winograd_plane(&self, layer: &Winograd<E>, t: &TileWorkspace, plane: usize) {
        let (pitch, width) = (layer.from.pitch, padded_outputs(layer));
        // The rows of the workspace whose tiles use this plane.
        let (first, last) = split::tiles(layer, self.layout.clips).users(plane);
        let (first, last) = (first.max(t.first), last.min(t.last));
        if first >= last {
            return;
        }
        let (from, rows) = (first - t.first, last - first);
        let gated = if layer.gate.is_some() { t.workspace[1] } else { t.workspace[0] };
        let branches = std::iter::once((&layer.main, t.workspace[0], 0)).chain(
            layer.second.as_ref().map(|branch| (branch, gated, layer.main.epilogue.out.pitch)),
        );
        for (branch, tiles, channel) in branches {
            let matrix = branch.weights.planes[plane];
            // SAFETY: the workspace holds `capacity` tiles in each plane and their products; `from + rows`
            // is at most the number of tiles of this workspace. The tiles were written before.
            unsafe {
                let out = t.workspace[2]
                    .cast::<f32>()
                    .add(plane * plane_pitch(t.capacity, width) + from * width + channel);
                let offset = plane * plane_pitch(t.capacity, pitch) + from * pitch + matrix.channel;
                let a = tiles.cast::<E>().add(offset).cast_const();
                let b = branch.weights.data.as_ptr().add(matrix.offset);
                (self.kernels.gemm_planes)(&Gemm {
                    first: Operand::rows(a, pitch, matrix.k, b),
                    second: None,
                    rows: Rows::dense(rows),
                    pixel: 0,
                    image_pixel: 0,
                    stream: true,
                    vectors: (0, branch.weights.vectors),
                    epilogue: Epilogue::store_only(out, width),
                });
            }
        }
    }

    unsafe fn winograd_outputs(
        &self,
        layer: &Winograd<E>,
        t: &TileWorkspace,
        first: usize,
        last: usize,
        stops: StopStages,
    ) {
        let order = split::tiles(layer, self.layout.clips);
        let width = padded_outputs(layer);
        let branches = std::iter::once((&layer.main, 0))
            .chain(layer.second.as_ref().map(|branch| (branch, layer.main.epilogue.out.pitch)));
        for ((branch, channel), end) in branches.zip(stops) {
            let epilogue = self.epilogue(&branch.epilogue, end);
            for at in first..last {
                let (image, row, column) = order.place(at);
                // SAFETY: the products of these tiles were written before; the maps hold all
                // images.
                unsafe {
                    let output = Output {
                        tile: layer.tile,
                        products: t.workspace[2].cast::<f32>().add(channel),
                        tile_pitch: width,
                        plane_pitch: plane_pitch(t.capacity, width),
                        size: layer.from.size,
                        vectors: branch.weights.vectors,
                        pixel: image * layer.from.pixels(),
                        epilogue,
                    };
                    (self.kernels.winograd_output)(&output, row, column, at - t.first);
                }
            }
        }
    }
}

/// The workspace for a range of Winograd tiles, counted over the batch.
struct TileWorkspace {
    first: usize,
    last: usize,
    /// Pointers to the transformed tiles, the gated tiles and the products.
    workspace: [*mut u8; 3],
    /// Number of tiles in each plane of the workspace.
    capacity: usize,
}
