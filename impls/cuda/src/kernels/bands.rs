//! Convolutions on sm_90a (`bands.cuh`): how their pixels are divided into tiles, and
//! the arguments that describe it.

use bytemuck::{Pod, Zeroable};
use spec::{EngineError, Precision};

use super::fields::fields;
use super::tile::Machine;
use super::windows::{Shape, Window};
use crate::device::{Device, Tensor};

/// Channels of a band, which are a row of 128 bytes in shared memory.
pub const CHUNK: usize = 64;

/// Values of K that a product takes at a time.
pub const STEP: usize = 16;

/// Pixels of the tiles that a convolution sums for an average pool.
pub const SUM_PIXELS: usize = 64;

/// Threads in a block: two warpgroups that multiply and one that loads.
pub const THREADS: u32 = 384;

/// Registers of each thread when a kernel starts: the multiple of 8 below 65536 / [`THREADS`]. Then
/// the loading warpgroup gives its own to the others (`bands.cuh`).
pub const REGISTERS: u32 = 168;

const ROW_BYTES: usize = 2 * CHUNK;

/// A tensor map as the driver encodes it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct TensorMap {
    /// Opaque to everybody but the device.
    pub words: [u64; 16],
}

fields!(TensorMap { words });

/// `BandSource` of the kernels: one input of a convolution.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Source {
    /// Stored [images, height, width, channels], in boxes of a band.
    pub pixels: TensorMap,
    /// Stored [outputs, K] in the order of [`super::windows::Window::positions`], in boxes of 64
    /// values for the outputs of a tile.
    pub weights: TensorMap,
    /// The first channel in a pixel of the map.
    pub first: i32,
    /// Channels with padding.
    pub channels: i32,
    /// Rows of the window.
    pub rows: i32,
    /// Columns of the window.
    pub columns: i32,
    /// Rows of the window above the pixel of the result.
    pub above: i32,
    /// Columns of the window to the left of the pixel of the result.
    pub left: i32,
    /// Steps of K.
    pub steps: i32,
    /// Values from one image to the next in the gate.
    pub gate_pitch: i32,
    /// f32 [images, gate_pitch], multiplies the pixels where the variant is gated; 0: no gate. The
    /// map must not be taken as one row of pixels then ([`Division::flat`]).
    pub gate: u64,
    /// Alignment.
    pub unused: [i32; 6],
}

fields!(Source {
    pixels,
    weights,
    first,
    channels,
    rows,
    columns,
    above,
    left,
    steps,
    gate_pitch,
    gate,
    unused
});

/// Where an input of a convolution lies on a device.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Address of the map, [images, height, width, channels], in groups for a stride of more than 1.
    pub pixels: u64,
    /// Address of the weights: for each window of the shape, [outputs, K].
    pub weights: u64,
    /// Number of outputs.
    pub outputs: usize,
    /// Its channels and its window.
    pub shape: Shape,
    /// Address of a gate, f32 [images, pitch], and its pitch; or zeros.
    pub gate: (u64, usize),
}

/// `Bands` of the kernels, which documents the fields: how a map is divided into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "documented in bands.cuh")]
pub struct Bands {
    pub tiles: i32,
    pub output_tiles: i32,
    pub across: i32,
    pub down: i32,
    pub tile_x: i32,
    pub tile_y: i32,
    pub tile_images: i32,
    pub group_x: i32,
    pub group_y: i32,
    pub group_images: i32,
    pub group_row: i32,
    pub halo: i32,
    pub pitch: i32,
    pub image_rows: i32,
    pub rows: i32,
    pub band_images: i32,
    pub result_pixels: i32,
    pub width: i32,
    pub height: i32,
    pub images: i32,
    pub band_bytes: i32,
    pub band_slots: i32,
    pub weight_slots: i32,
    pub unused: i32,
}

fields!(Bands {
    tiles,
    output_tiles,
    across,
    down,
    tile_x,
    tile_y,
    tile_images,
    group_x,
    group_y,
    group_images,
    group_row,
    halo,
    pitch,
    image_rows,
    rows,
    band_images,
    result_pixels,
    width,
    height,
    images,
    band_bytes,
    band_slots,
    weight_slots,
    unused
});

/// Bytes of shared memory of a block: all that one can have on sm_90.
pub const SHARED_BYTES: usize = 227 << 10;

/// Columns that a product can have here. There are few, so that few kernels are compiled.
pub const COLUMNS: [usize; 11] = [64, 112, 128, 176, 192, 208, 224, 232, 240, 248, 256];

/// The most columns for which a fused block has registers.
pub const FUSED_COLUMNS: usize = 232;

/// The outputs of a product whose rows are pixels.
pub const NARROW_OUTPUTS: usize = 16;

/// What the compiler of a kernel must know of a division.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BandTile {
    /// Columns of a product, one of [`COLUMNS`]: at least the pixels of a warpgroup's part, with the
    /// border between them.
    pub columns: usize,
    /// Warpgroups along the outputs, 1 or 2.
    pub output_groups: usize,
    /// Whether pixels are the rows of products, and 16 outputs at most their columns.
    pub narrow: bool,
    /// What the kernel does with the sums.
    pub end: BandEnd,
    /// Whether an input has a gate.
    pub gated: bool,
}

/// Whether one of the inputs has a gate.
pub fn gated(sources: &[Source]) -> bool {
    sources.iter().any(|source| source.gate != 0)
}

/// What a kernel does with the sums of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BandEnd {
    /// Applies an epilogue without addend.
    Epilogue,
    /// Applies an epilogue with an addend.
    Addend,
    /// Stores them, so that another kernel applies the epilogue.
    Sums,
    /// Applies an epilogue without addend, and halves the result.
    Halved,
}

impl BandTile {
    /// Outputs of a tile.
    pub fn outputs(&self) -> usize {
        if self.narrow { NARROW_OUTPUTS } else { 64 * self.output_groups }
    }

    /// Bands and rows of weights for which shared memory has slots, as `bands.cuh` divides it; more
    /// than four gain nothing. The weights have as many rows as a product has pixels, so that a
    /// step that does not exist can read them, and no product reads beyond shared memory. None where
    /// fewer fit than a load needs to run beside a product.
    fn slots(&self, band_bytes: usize) -> Option<(usize, usize)> {
        let rest = SHARED_BYTES - 2 * (self.columns + 8) * ROW_BYTES - 2048;
        let weights = self.outputs() * ROW_BYTES;
        let pixels = if self.narrow { 64 } else { self.columns };
        let fits = |(bands, rows): &(usize, usize)| {
            bands * band_bytes + rows * weights <= rest && rows * weights >= pixels * ROW_BYTES
        };
        [(4, 4), (3, 4), (3, 3), (2, 4), (2, 3)].into_iter().find(fits)
    }

    /// The text of `products.cuh` for this tile: `start_product` with every register by name.
    pub fn products(&self, precision: Precision) -> String {
        let columns = if self.narrow { NARROW_OUTPUTS } else { self.columns };
        let count = columns / 2;
        let list =
            |item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
        let (names, registers) = (list(&|i| format!("%{i}")), list(&|i| format!("\"+f\"(d[{i}])")));
        let (a, b, add) = (count, count + 1, count + 2);
        format!(
            "// Starts d += a * b for 64 rows of a and {columns} of b, over 16 values of K; without `add`, \
             d = a * b.\n\
             template <int>\n\
             DEVICE void start_product(float (&d)[{count}], u64 a, u64 b, bool add) {{\n    \
             asm volatile(\n        \
             \"{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{add}, 0;\\n\"\n        \
             \"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{precision}.{precision} \"\n        \
             \"{{{names}}}, %{a}, %{b}, p, 1, 1, 0, 0;\\n}}\"\n        \
             : {registers}\n        \
             : \"l\"(a), \"l\"(b), \"r\"(static_cast<int>(add)));\n}}\n"
        )
    }
}

/// How a convolution is divided among blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// What the kernel is compiled for.
    pub tile: BandTile,
    /// What it is told at run time.
    pub bands: Bands,
    /// Steps of K of all inputs.
    pub steps: usize,
    /// Bands that are loaded for a tile.
    pub loads: usize,
    /// Whether the map is taken as one row of all its pixels, because no window needs a border.
    pub flat: bool,
}

/// A convolution, or several that share their tiles.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Number of images.
    pub images: usize,
    /// Height and width of the result.
    pub size: (usize, usize),
    /// Channels of the result.
    pub outputs: usize,
    /// Pixels of the border that the largest window needs.
    pub halo: usize,
    /// Steps of K of all inputs.
    pub steps: usize,
    /// Bands that are loaded for a tile.
    pub loads: usize,
    /// The most columns.
    pub most_columns: usize,
    /// In a map without a border, the pixels of a warpgroup's part are a multiple of this.
    pub group: usize,
    /// Whether pixels are the rows of products, and outputs their columns.
    pub narrow: bool,
}

/// A part of the map that a warpgroup computes: rows of pixels of some images, or, of a map without
/// a border, pixels in a row.
#[derive(Debug, Clone, Copy)]
struct Part {
    pixels: usize,
    rows: usize,
    images: usize,
}

impl Product {
    /// The product of inputs with these shapes and a result of `outputs` channels.
    pub fn new(images: usize, size: (usize, usize), outputs: usize, shapes: &[Shape]) -> Self {
        let sum = |of: fn(Shape) -> usize| shapes.iter().map(|shape| of(*shape)).sum();
        let halo = shapes.iter().map(|shape| shape.halo()).max().unwrap_or(0);
        let (steps, loads) = (sum(Shape::steps), sum(Shape::loads));
        let (most_columns, group, narrow) = (256, SUM_PIXELS, outputs <= NARROW_OUTPUTS);
        Product { images, size, outputs, halo, steps, loads, most_columns, group, narrow }
    }

    /// The product of a fused block, which also holds a gate in registers.
    pub fn fused(self) -> Self {
        Product { most_columns: FUSED_COLUMNS, narrow: false, ..self }
    }

    /// The product of which every warpgroup's part is whole pairs of rows, so that it can halve its
    /// results. None where a map has an odd side, or a border.
    pub fn halved(self) -> Option<Self> {
        let (height, width) = self.size;
        let whole = self.halo == 0 && height.is_multiple_of(2) && width.is_multiple_of(2);
        whole.then_some(Product { group: 2 * width, ..self })
    }

    /// The division with the least estimated time. None where the map is too wide for a band.
    pub fn division(&self, machine: Machine) -> Option<Division> {
        let all = self.divisions().into_iter();
        all.min_by_key(|division| self.cost(division, machine.multiprocessors))
    }

    /// Every division that fits into shared memory and registers.
    pub fn divisions(&self) -> Vec<Division> {
        let groups: &[usize] = if self.outputs > 64 { &[1, 2] } else { &[1] };
        let of = |part: Part| groups.iter().filter_map(move |g| self.divide(part, *g));
        self.parts().into_iter().flat_map(of).collect()
    }

    /// Pixels of a row of the band.
    fn pitch(&self, part: Part) -> usize {
        part.pixels + 2 * self.halo
    }

    /// The parts whose columns fit into a product.
    fn parts(&self) -> Vec<Part> {
        let (height, width) = self.size;
        if self.halo == 0 {
            let groups = (1..=self.most_columns / self.group).rev();
            return groups.map(|n| Part { pixels: n * self.group, rows: 1, images: 1 }).collect();
        }
        let rows = (1..=height).map(|rows| Part { pixels: width, rows, images: 1 });
        let images = (2..=self.images).map(|images| Part { pixels: width, rows: height, images });
        let fits = |part: &Part| self.columns(*part).is_some();
        rows.take_while(fits).chain(images.take_while(fits)).collect()
    }

    /// Columns of a product for a part: at least those from its first pixel to its last. None where
    /// a product cannot have so many.
    fn columns(&self, part: Part) -> Option<usize> {
        let pitch = self.pitch(part);
        let before = (part.images - 1) * (part.rows + 2 * self.halo) + part.rows - 1;
        let wanted = before * pitch + part.pixels;
        let whole = |columns: &usize| !self.narrow || columns.is_multiple_of(64);
        let mut all = COLUMNS.into_iter().filter(|columns| *columns <= self.most_columns);
        all.find(|columns| *columns >= wanted && whole(columns))
    }

    fn divide(&self, part: Part, output_groups: usize) -> Option<Division> {
        let flat = self.halo == 0;
        let (height, width) = self.size;
        let (images, height, width) =
            if flat { (1, 1, self.images * height * width) } else { (self.images, height, width) };
        let pitch = self.pitch(part);
        // A second warpgroup has more pixels, more images or more rows.
        let two = 3 - output_groups;
        let (along, many) = (if flat { two } else { 1 }, if part.images > 1 { two } else { 1 });
        let high = two / along / many;
        let (tile_x, tile_y, tile_images) =
            (part.pixels * along, part.rows * high, part.images * many);
        let image_rows = tile_y + 2 * self.halo;
        let band_pitch = pitch * along;
        if band_pitch > 256 || image_rows > 256 || tile_images > 256 {
            return None;
        }
        let apart = |on: usize, by: usize| if on > 1 { by } else { 0 };
        let group_row = match (along, high, many) {
            (2, ..) => part.pixels,
            (_, 2, _) => part.rows * pitch,
            (_, _, 2) => part.images * image_rows * pitch,
            _ => 0,
        };
        let band_bytes = (band_pitch * image_rows * tile_images * ROW_BYTES).next_multiple_of(1024);
        let end = BandEnd::Epilogue;
        let (columns, narrow) = (self.columns(part)?, self.narrow);
        let tile = BandTile { columns, output_groups, narrow, end, gated: false };
        let (band_slots, weight_slots) = tile.slots(band_bytes)?;
        let (across, down) =
            (if flat { width.div_ceil(tile_x) } else { 1 }, height.div_ceil(tile_y));
        let output_tiles = self.outputs.div_ceil(tile.outputs());
        let tiles = across * down * images.div_ceil(tile_images) * output_tiles;
        let int = |value: usize| i32::try_from(value).ok();
        let bands = Bands {
            tiles: int(tiles)?,
            output_tiles: int(output_tiles)?,
            across: int(across)?,
            down: int(down)?,
            tile_x: int(tile_x)?,
            tile_y: int(tile_y)?,
            tile_images: int(tile_images)?,
            group_x: int(apart(along, part.pixels))?,
            group_y: int(apart(high, part.rows))?,
            group_images: int(apart(many, part.images))?,
            group_row: int(group_row)?,
            halo: int(self.halo)?,
            pitch: int(band_pitch)?,
            image_rows: int(image_rows)?,
            rows: int(part.rows)?,
            band_images: int(part.images)?,
            result_pixels: int(part.images * part.rows * if flat { part.pixels } else { pitch })?,
            width: int(width)?,
            height: int(height)?,
            images: int(images)?,
            band_bytes: int(band_bytes)?,
            band_slots: int(band_slots)?,
            weight_slots: int(weight_slots)?,
            unused: 0,
        };
        Some(Division { tile, bands, steps: self.steps, loads: self.loads, flat })
    }

    /// Estimated time in cycles.
    fn cost(&self, division: &Division, multiprocessors: usize) -> usize {
        let work = division.work();
        (division.bands.tiles as usize).div_ceil(multiprocessors) * work.cycles()
    }
}

/// What a tile takes of a multiprocessor, by a model that no GPU has confirmed.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Cycles of the tensor cores: half a cycle for each column of a product.
    pub products: usize,
    /// Cycles in which products read shared memory, 128 bytes each: 16 for the rows and a quarter
    /// for each column.
    pub reads: usize,
    /// Rows of 128 bytes that are loaded, each of which takes shared memory a cycle, too.
    pub loaded: usize,
}

impl Work {
    /// Cycles of a tile: the larger of the two limits, and 1500 for its end, which is a guess.
    pub fn cycles(&self) -> usize {
        self.products.max(self.reads + self.loaded) + 1500
    }
}

impl Division {
    /// What each tile takes.
    pub fn work(&self) -> Work {
        let Division { tile, bands, steps, loads, .. } = self;
        let weights = steps.div_ceil(CHUNK / STEP) * tile.outputs();
        let of_bands = loads * bands.band_bytes as usize / ROW_BYTES;
        // Products of both warpgroups, and the columns of each.
        let (products, columns) = match tile.narrow {
            true => (steps * 2 * tile.columns / 64, NARROW_OUTPUTS),
            false => (steps * 2, tile.columns),
        };
        Work {
            products: products * columns / 2,
            reads: products * (16 + columns / 4),
            loaded: weights + of_bands,
        }
    }

    /// Blocks, which work through the tiles.
    pub fn blocks(&self, multiprocessors: usize) -> u32 {
        (self.bands.tiles as u32).min(multiprocessors as u32)
    }

    /// An input of the kernel for each window of a shape.
    pub fn sources(&self, device: &dyn Device, place: Place) -> Result<Vec<Source>, EngineError> {
        let Place { pixels, weights, outputs, shape, gate } = place;
        let pixels = self.tensor(pixels, shape.channels * shape.stride * shape.stride, false);
        let pixels = device.tensor_map(&pixels)?;
        let mut weights = weights;
        let source = |window: Window| {
            let steps = window.steps();
            let values = device.tensor_map(&self.weights(weights, outputs, steps))?;
            weights += (outputs * steps * STEP * 2) as u64;
            Ok(Source {
                pixels,
                weights: values,
                first: window.first as i32,
                channels: window.channels as i32,
                rows: window.size.0 as i32,
                columns: window.size.1 as i32,
                above: window.before.0 as i32,
                left: window.before.1 as i32,
                steps: steps as i32,
                gate_pitch: gate.1 as i32,
                gate: gate.0,
                unused: [0; 6],
            })
        };
        shape.windows().map(source).collect()
    }

    /// A map of `pitch` channels as a tensor whose boxes are bands, or with `result`, a
    /// warpgroup's part of the result.
    pub fn tensor(&self, address: u64, pitch: usize, result: bool) -> Tensor {
        let b = &self.bands;
        let [width, height, images] = [b.width, b.height, b.images].map(|v| v as u64);
        let row = pitch as u64 * 2;
        let boxes = match (result, self.flat) {
            (false, _) => [b.pitch, b.image_rows, b.tile_images],
            (true, true) => [b.result_pixels, 1, 1],
            (true, false) => [b.pitch, b.rows, b.band_images],
        };
        let [x, y, n] = boxes.map(|side| side as u64);
        Tensor {
            address,
            dims: [pitch as u64, width, height, images],
            strides: [row, row * width, row * width * height],
            boxes: [CHUNK as u64, x, y, n],
        }
    }

    /// The weights [outputs, steps * 16] as a tensor whose boxes are 64 values for all outputs of a
    /// tile.
    fn weights(&self, address: u64, outputs: usize, steps: usize) -> Tensor {
        let (row, outputs) = ((steps * STEP * 2) as u64, outputs as u64);
        Tensor {
            address,
            dims: [(steps * STEP) as u64, outputs, 1, 1],
            strides: [row, row * outputs, row * outputs],
            boxes: [CHUNK as u64, self.tile.outputs() as u64, 1, 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tile::BandSupport;

    /// The last row that a product reads lies behind the last band slot by the columns that have no
    /// pixel; the weights there must be as long.
    #[test]
    fn no_product_reads_beyond_shared_memory() {
        let machine = Machine {
            multiprocessors: 132,
            shared_bytes: 227 << 10,
            bands: BandSupport::Shifted,
            clusters: true,
            pairs: true,
        };
        let mut checked = 0;
        for side in [1, 2, 7, 8, 9, 14, 15, 18, 28, 36, 56, 72, 160, 250] {
            for (kernel, outputs) in [(1, 256), (3, 64), (3, 16), (3, 512), (7, 16)] {
                for images in [1, 2, 5, 26, 67, 256] {
                    let shape = Shape { channels: 64, kernel, stride: 1 };
                    let product = Product::new(images, (side, side), outputs, &[shape]);
                    assert!(product.division(machine).is_some() || side > 72, "{product:?}");
                    for Division { tile, bands, .. } in product.divisions() {
                        let [bytes, slots, weights] =
                            [bands.band_bytes, bands.band_slots, bands.weight_slots]
                                .map(|value| value as usize);
                        let results = 2 * (tile.columns + 8) * ROW_BYTES + 2048;
                        let weights = weights * tile.outputs() * ROW_BYTES;
                        assert!(results + slots * bytes + weights <= SHARED_BYTES);
                        let pixels = if tile.narrow { 64 } else { tile.columns };
                        assert!(pixels * ROW_BYTES <= weights);
                        // The shift of the last window pixel, and the second warpgroup's part.
                        let group = if tile.output_groups == 1 { bands.group_row } else { 0 };
                        let shift = 2 * bands.halo * (bands.pitch + 1);
                        let end = (group + shift) as usize + tile.columns;
                        assert!(end * ROW_BYTES <= bytes + weights, "{product:?} {bands:?}");
                        checked += 1;
                    }
                }
            }
        }
        assert!(checked > 1000);
    }
}
