//! From a step and a task's number to calls of kernels.

#![allow(unsafe_code, reason = "turns offsets into pointers")]

use crate::isa::{Kernels, Tabled};
use crate::kernels::epilogue::{Epilogue, stage};
use crate::kernels::gemm::{Gemm, Operand};
use crate::kernels::import::Import;
use crate::kernels::spatial::{Band, Depthwise, Image, MaxPool, Mean, Resume};
use crate::kernels::winograd::{Input, Output};
use crate::plan::{BufferId, Finish, Map, Op, Source, Winograd};
use crate::run::layout::{Layout, outputs, plane_stride, room};
use crate::run::split::{self, Product};

/// Everything a task needs: the memory of a run and how it is laid out.
///
/// # Safety
/// Whoever makes one gives memory of the sizes that the layout says, and runs the tasks of a phase
/// only after those of the one before.
pub struct Frame<'a, E> {
    /// The kernels of the chosen instruction set.
    pub kernels: &'a Kernels<E>,
    /// Offsets.
    pub layout: &'a Layout,
    /// Buffers.
    pub base: *mut u8,
    /// The clips, f32 [N, 3 T, H, W].
    pub clip: *const f32,
    /// `layout.widest` zeros.
    pub zeros: *const E,
    /// Scratch memory of each thread.
    pub scratch: Vec<*mut u8>,
    /// The embedding that an observer put in the place of a step's own, or null.
    pub post: *const f32,
}

// SAFETY: tasks of one phase write to places of their own: other rows, vectors or tiles of the
// output, and the scratch memory of their thread.
unsafe impl<E> Sync for Frame<'_, E> {}

/// Stages at which the results of a step stop.
pub type Ends = [u8; 2];

impl<E: Tabled> Frame<'_, E> {
    /// Phases of a step: tasks of one need all of the one before.
    pub fn phases(&self, op: &Op<E>) -> usize {
        match op {
            Op::Winograd(layer) if !self.in_blocks(layer) => 3,
            _ => 1,
        }
    }

    fn in_blocks(&self, layer: &Winograd<E>) -> bool {
        let layout = self.layout;
        split::in_blocks(layer, layout.clips, layout.threads, self.kernels.rows)
    }

    /// How many tasks a phase has.
    pub fn tasks(&self, op: &Op<E>, phase: usize) -> usize {
        let (clips, threads) = (self.layout.clips, self.layout.threads);
        match op {
            Op::Import { out, .. } => clips * out.size.0,
            Op::Gemm { first, finish, .. } => self.product(first, finish).tasks(),
            Op::Winograd(layer) => {
                let tiles = split::tiles(layer, clips);
                match (self.in_blocks(layer), phase) {
                    (true, _) => tiles.div_ceil(split::block(self.kernels.rows)),
                    (false, 1) => layer.tile.planes(),
                    (false, _) => tiles.div_ceil(split::share(tiles, threads)),
                }
            }
            Op::Depthwise { finish, .. } | Op::MaxPool { finish, .. } => clips * finish.out.size.0,
            Op::Mean { from, .. } => clips * from.channels.div_ceil(self.mean_width()),
        }
    }

    /// Channels that a task of a mean takes: a cache line or more.
    fn mean_width(&self) -> usize {
        self.kernels.lanes.max(32)
    }

    /// Runs a task.
    ///
    /// # Safety
    /// See [`Frame`]; `thread` is this thread's own number.
    pub unsafe fn task(&self, op: &Op<E>, phase: usize, index: usize, thread: usize, ends: Ends) {
        // SAFETY: the maker of the frame gives memory as the layout says, from which all pointers
        // below are made.
        unsafe {
            match op {
                Op::Import { planes, size, out } => self.import(*planes, *size, out, index),
                Op::Gemm { first, second, finish } => {
                    self.gemm(first, second.as_ref(), finish, index, thread, ends);
                }
                Op::Winograd(layer) => match (self.in_blocks(layer), phase) {
                    (true, _) => self.winograd_block(layer, index, thread, ends),
                    (false, _) => self.winograd_phase(layer, phase, index, ends),
                },
                Op::Depthwise { from, weights, finish } => {
                    let (image, row) = (index / finish.out.size.0, index % finish.out.size.0);
                    (self.kernels.depthwise)(&Depthwise {
                        image: self.image(from, image),
                        weights: weights.as_ptr(),
                        rows: (row, row + 1),
                        width: finish.out.size.1,
                        pixel: image * finish.out.pixels(),
                        vectors: from.vectors(self.kernels.lanes),
                        epilogue: self.epilogue(finish, ends[0]),
                    });
                }
                Op::MaxPool { from, finish } => {
                    let (image, row) = (index / finish.out.size.0, index % finish.out.size.0);
                    (self.kernels.max_pool)(&MaxPool {
                        image: self.image(from, image),
                        rows: (row, row + 1),
                        width: finish.out.size.1,
                        vectors: from.vectors(self.kernels.lanes),
                        out: self.at(finish.out.buffer).add(image * finish.out.image()),
                    });
                }
                Op::Mean { from, finish } => self.mean(from, finish, index),
            }
        }
    }

    /// Takes up a result that was stopped at `from`, up to `to`.
    ///
    /// # Safety
    /// See [`Frame`]; all tasks of the step are done.
    pub unsafe fn resume(&self, finish: &Finish, from: u8, to: u8) {
        let epilogue = Epilogue { from, ..self.epilogue(finish, to) };
        // SAFETY: pointers are made from the layout.
        unsafe {
            (self.kernels.resume)(&Resume {
                epilogue,
                pixels: (0, self.layout.pixels(&finish.out)),
                image: finish.out.pixels(),
                vectors: finish.out.vectors(self.kernels.lanes),
            });
        }
    }

    /// The first element of a buffer.
    pub fn at(&self, buffer: BufferId) -> *mut E {
        self.bytes(buffer).cast()
    }

    fn bytes(&self, buffer: BufferId) -> *mut u8 {
        // SAFETY: the layout's offsets lie in the memory.
        unsafe { self.base.add(self.layout.offset(buffer)) }
    }

    fn image(&self, map: &Map, image: usize) -> Image<E> {
        // SAFETY: the buffer holds all images of the batch.
        let data = unsafe { self.at(map.buffer).add(image * map.image()) };
        Image { data, stride: map.stride, size: map.size }
    }

    /// The gate of an image, or null.
    fn gate(&self, gate: Option<Map>, image: usize) -> *const E {
        // SAFETY: the buffer holds the gates of all images.
        gate.map_or(std::ptr::null(), |map| unsafe {
            self.at(map.buffer).add(image * map.stride).cast_const()
        })
    }

    fn epilogue(&self, finish: &Finish, to: u8) -> Epilogue<E> {
        let buffer = |id: Option<BufferId>| match id {
            Some(id) => self.at(id).cast_const(),
            None => std::ptr::null(),
        };
        let vector = |values: &Option<Vec<f32>>| match values {
            Some(values) => values.as_ptr(),
            None => std::ptr::null(),
        };
        let post = match (&finish.post, self.post.is_null()) {
            (Some((values, _)), true) => values.as_ptr(),
            (Some(_), false) => self.post,
            (None, _) => std::ptr::null(),
        };
        Epilogue {
            from: stage::START,
            to,
            sum: buffer(finish.sum),
            observed_sum: finish.shows.iter().any(|show| show.stage == stage::SUM),
            scale: vector(&finish.scale),
            bias: vector(&finish.bias),
            residual: buffer(finish.residual),
            activation: finish.activation,
            factor: buffer(finish.factor),
            post,
            out: self.at(finish.out.buffer),
            stride: finish.out.stride,
        }
    }

    unsafe fn import(&self, planes: usize, size: (usize, usize), out: &Map, index: usize) {
        let (image, row) = (index / out.size.0, index % out.size.0);
        // SAFETY: the clip holds all images of the batch.
        unsafe {
            (self.kernels.import)(&Import {
                clip: self.clip.add(image * planes * size.0 * size.1),
                planes,
                size,
                rows: (row, row + 1),
                out: self.at(out.buffer).add(image * out.image()),
                stride: out.stride,
            });
        }
    }

    unsafe fn mean(&self, from: &Map, finish: &Finish, index: usize) {
        let width = self.mean_width() / self.kernels.lanes;
        let all = from.vectors(self.kernels.lanes);
        let groups = all.div_ceil(width);
        let (image, group) = (index / groups, index % groups);
        // SAFETY: the layout's.
        unsafe {
            (self.kernels.mean)(&Mean {
                image: self.image(from, image),
                vectors: (group * width, ((group + 1) * width).min(all)),
                out: self.at(finish.out.buffer).add(image * finish.out.stride),
            });
        }
    }

    fn product(&self, first: &Source<E>, finish: &Finish) -> Product {
        let (clips, threads) = (self.layout.clips, self.layout.threads);
        Product::new(first, finish.out.pixels(), clips, threads, self.kernels.rows)
    }

    unsafe fn gemm(
        &self,
        first: &Source<E>,
        second: Option<&Source<E>>,
        finish: &Finish,
        index: usize,
        thread: usize,
        ends: Ends,
    ) {
        let product = self.product(first, finish);
        let (image, rows, vectors) = product.task(index, first.weights.vectors);
        // SAFETY: the layout's; rows lie in the map, or in the band that was made just before.
        unsafe {
            let direct = |source: &Source<E>| {
                let a = self.at(source.from.buffer).add(rows.0 * source.from.stride).cast_const();
                Operand::rows(a, source.from.stride, source.weights.k, source.weights.data.as_ptr())
            };
            let whole = match first.banded() {
                true => self.band(first, image, rows, thread),
                false => direct(first),
            };
            // Between the lines of a band lies its border.
            let (count, line) = match first.kernel > 1 {
                true => (finish.out.size.1, first.line()),
                false => (rows.1 - rows.0, 0),
            };
            for (at, from) in (rows.0..rows.1).step_by(count.max(1)).enumerate() {
                (self.kernels.gemm)(&Gemm {
                    first: Operand { a: whole.a.add(at * line), ..whole },
                    second: second.map(direct),
                    rows: count,
                    pixel: image * finish.out.pixels() + from,
                    place: from,
                    stream: false,
                    vectors,
                    epilogue: self.epilogue(finish, ends[0]),
                });
            }
        }
    }

    /// The lines of some pixels, with their border and gate.
    unsafe fn band(
        &self,
        source: &Source<E>,
        image: usize,
        pixels: (usize, usize),
        thread: usize,
    ) -> Operand<E> {
        let (out, width) = (self.scratch[thread].cast::<E>(), source.from.size.1);
        // SAFETY: the layout gives scratch memory for the largest band.
        unsafe {
            (self.kernels.band)(&Band {
                image: self.image(&source.from, image),
                channels: source.channels(),
                border: source.kernel / 2,
                gate: self.gate(source.gate, image),
                lines: (pixels.0 / width, pixels.1.div_ceil(width)),
                out,
            });
        }
        Operand {
            a: out,
            stride: source.channels(),
            k: source.kernel * source.channels(),
            parts: source.kernel,
            part: source.line(),
            b: source.weights.data.as_ptr(),
        }
    }

    /// Some tiles through all of a Winograd layer, in scratch memory.
    unsafe fn winograd_block(&self, layer: &Winograd<E>, index: usize, thread: usize, ends: Ends) {
        let block = split::block(self.kernels.rows);
        let all = split::tiles(layer, self.layout.clips);
        let (first, last) = (index * block, ((index + 1) * block).min(all));
        let bytes = room(layer, block);
        // SAFETY: the layout gives scratch memory for a block.
        unsafe {
            let start = self.scratch[thread];
            let places = [start, start.add(bytes[0]), start.add(bytes[0] + bytes[1])];
            let tiles = Tiles { first, last, room: places, capacity: block };
            self.winograd_inputs(layer, &tiles, tiles.first, tiles.last);
            for plane in 0..layer.tile.planes() {
                self.winograd_plane(layer, &tiles, plane);
            }
            self.winograd_outputs(layer, &tiles, tiles.first, tiles.last, ends);
        }
    }

    /// A share of one phase over all tiles.
    unsafe fn winograd_phase(&self, layer: &Winograd<E>, phase: usize, index: usize, ends: Ends) {
        let all = split::tiles(layer, self.layout.clips);
        let room = layer.room.map(|buffer| self.bytes(buffer));
        let tiles = Tiles { first: 0, last: all, room, capacity: all };
        let share = split::share(all, self.layout.threads);
        let (first, last) = (index * share, ((index + 1) * share).min(all));
        // SAFETY: the layout gives room for all tiles.
        unsafe {
            match phase {
                0 => self.winograd_inputs(layer, &tiles, first, last),
                1 => self.winograd_plane(layer, &tiles, index),
                _ => self.winograd_outputs(layer, &tiles, first, last, ends),
            }
        }
    }

    unsafe fn winograd_inputs(&self, layer: &Winograd<E>, t: &Tiles, first: usize, last: usize) {
        let (rows, columns) = split::grid(layer);
        for at in first..last {
            let (image, place) = (at / (rows * columns), at % (rows * columns));
            let from = self.image(&layer.from, image);
            let input = Input {
                tile: layer.tile,
                image: from.data,
                stride: from.stride,
                size: from.size,
                vectors: layer.from.vectors(self.kernels.lanes),
                zeros: self.zeros,
                gate: self.gate(layer.gate, image),
                out: t.room[0].cast(),
                gated: t.room[1].cast(),
                tile_stride: from.stride,
                plane_stride: plane_stride(t.capacity, from.stride),
            };
            let index = at - t.first;
            // SAFETY: room for the tile is there.
            unsafe {
                (self.kernels.winograd_input)(&input, place / columns, place % columns, index);
            }
        }
    }

    unsafe fn winograd_plane(&self, layer: &Winograd<E>, t: &Tiles, plane: usize) {
        let (stride, width) = (layer.from.stride, outputs(layer));
        let gated = if layer.gate.is_some() { t.room[1] } else { t.room[0] };
        let arms = std::iter::once((&layer.main, t.room[0], 0))
            .chain(layer.second.as_ref().map(|arm| (arm, gated, layer.main.finish.out.stride)));
        for (arm, tiles, channel) in arms {
            let matrix = arm.weights.planes[plane];
            // SAFETY: room for the tiles and their products is there.
            unsafe {
                let out =
                    t.room[2].cast::<f32>().add(plane * plane_stride(t.capacity, width) + channel);
                let place = plane * plane_stride(t.capacity, stride) + matrix.channel;
                let a = tiles.cast::<E>().add(place).cast_const();
                let b = arm.weights.data.as_ptr().add(matrix.offset);
                (self.kernels.gemm_planes)(&Gemm {
                    first: Operand::rows(a, stride, matrix.k, b),
                    second: None,
                    rows: t.last - t.first,
                    pixel: 0,
                    place: 0,
                    stream: true,
                    vectors: (0, arm.weights.vectors),
                    epilogue: Epilogue::store(out, width),
                });
            }
        }
    }

    unsafe fn winograd_outputs(
        &self,
        layer: &Winograd<E>,
        t: &Tiles,
        first: usize,
        last: usize,
        ends: Ends,
    ) {
        let (rows, columns) = split::grid(layer);
        let width = outputs(layer);
        let arms = std::iter::once((&layer.main, 0))
            .chain(layer.second.as_ref().map(|arm| (arm, layer.main.finish.out.stride)));
        for ((arm, channel), end) in arms.zip(ends) {
            let epilogue = self.epilogue(&arm.finish, end);
            for at in first..last {
                let (image, place) = (at / (rows * columns), at % (rows * columns));
                // SAFETY: the products are there.
                unsafe {
                    let output = Output {
                        tile: layer.tile,
                        products: t.room[2].cast::<f32>().add(channel),
                        tile_stride: width,
                        plane_stride: plane_stride(t.capacity, width),
                        size: layer.from.size,
                        vectors: arm.weights.vectors,
                        pixel: image * layer.from.pixels(),
                        epilogue,
                    };
                    let (row, column) = (place / columns, place % columns);
                    (self.kernels.winograd_output)(&output, row, column, at - t.first);
                }
            }
        }
    }
}

/// Tiles that lie together in memory.
struct Tiles {
    first: usize,
    last: usize,
    room: [*mut u8; 3],
    /// Tiles from one plane to the next.
    capacity: usize,
}
