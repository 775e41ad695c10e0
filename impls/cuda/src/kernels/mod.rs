//! The kernels: each `.cu` file next to the `.rs` file that declares its arguments and its grid.

pub mod args;
pub mod average_pool;
pub mod bands;
pub mod conv;
pub mod ctl;
pub mod ctl_cluster;
pub mod dense;
pub mod depthwise;
pub mod fields;
pub mod hopper_conv;
pub mod hopper_ctl;
pub mod hopper_pair;
pub mod hopper_stem;
pub mod import;
pub mod maxpool;
pub mod measured;
pub mod normalize;
pub mod scale;
pub mod split_k_reduce;
pub mod tile;
pub mod tile_sums;
pub mod windows;

use std::borrow::Cow;

use bands::{BandEnd, BandTile};
use sha2::{Digest, Sha256};
use spec::Precision;

pub use tile::{Machine, Tile};

/// Name and text of the files that the kernels include on a GPU.
pub const HEADERS: [(&str, &str); 10] = [
    ("bands.cuh", include_str!("bands.cuh")),
    ("ctl.cuh", include_str!("ctl.cuh")),
    ("device.cuh", include_str!("device.cuh")),
    ("epilogue.cuh", include_str!("epilogue.cuh")),
    ("hopper.cuh", include_str!("hopper.cuh")),
    ("loader.cuh", include_str!("loader.cuh")),
    ("mainloop.cuh", include_str!("mainloop.cuh")),
    ("results.cuh", include_str!("results.cuh")),
    ("tile.cuh", include_str!("tile.cuh")),
    ("tile_sums.cuh", include_str!("tile_sums.cuh")),
];

/// A `.cu` file, which holds one kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum File {
    /// Global average pool in one pass.
    AveragePool,
    /// Convolution, or the sum of two.
    Conv,
    /// The end of a channel-time learning block.
    Ctl,
    /// The same with tiles that clusters share.
    CtlCluster,
    /// Dense layer, with the second pass of a global average pool before it.
    Dense,
    /// Depthwise 2x2 convolution.
    Depthwise,
    /// Convolution on sm_90a, or the sum of some.
    HopperConv,
    /// The end of a channel-time learning block on sm_90a.
    HopperCtl,
    /// Two 1x1 convolutions on sm_90a, of which the second reads what the first stores.
    HopperPair,
    /// The stem on sm_90a, which reads the clip.
    HopperStem,
    /// From the planes of the input to channels-last pixels.
    Import,
    /// ReLU and max-pool of the stem.
    MaxPool,
    /// From decoded frames to the network's input.
    Normalize,
    /// A map multiplied by its gate.
    Scale,
    /// Reduction of a split-K convolution, or the rest of an epilogue.
    SplitKReduce,
    /// First pass of a global average pool: sums over tiles of a map.
    TileSums,
}

/// A row of the table of kernels.
struct Entry {
    file: File,
    /// Name of the file, under which `gpu-check` records its digest.
    file_name: &'static str,
    /// Name of the kernel's entry point.
    kernel: &'static str,
    source: &'static str,
    /// Size of the kernel's one argument.
    args_bytes: usize,
    /// The offset of each number in the argument, by its path in C++.
    offsets: fn() -> Vec<(String, usize)>,
}

/// A row of the table for the kernel `$name` in `$name.cu`, whose arguments the module `$name`
/// declares.
macro_rules! entry {
    ($file:ident, $name:ident) => {
        Entry {
            file: File::$file,
            file_name: concat!(stringify!($name), ".cu"),
            kernel: stringify!($name),
            source: include_str!(concat!(stringify!($name), ".cu")),
            args_bytes: size_of::<$name::Args>(),
            offsets: fields::offsets::<$name::Args>,
        }
    };
}

const FILES: [Entry; 16] = [
    entry!(AveragePool, average_pool),
    entry!(Conv, conv),
    entry!(Ctl, ctl),
    entry!(CtlCluster, ctl_cluster),
    entry!(Dense, dense),
    entry!(Depthwise, depthwise),
    entry!(HopperConv, hopper_conv),
    entry!(HopperCtl, hopper_ctl),
    entry!(HopperPair, hopper_pair),
    entry!(HopperStem, hopper_stem),
    entry!(Import, import),
    entry!(MaxPool, maxpool),
    entry!(Normalize, normalize),
    entry!(Scale, scale),
    entry!(SplitKReduce, split_k_reduce),
    entry!(TileSums, tile_sums),
];

/// Name of each kernel's file, and the SHA-256 over it and all headers that it may include.
/// `gpu-check` records it, so that a report can tell whether a kernel has changed since.
pub fn digests() -> Vec<(&'static str, String)> {
    let digest = |source: &str| {
        let mut hash = Sha256::new();
        hash.update(source);
        HEADERS.iter().for_each(|(_, text)| hash.update(text));
        files::hex(&hash.finalize())
    };
    FILES.iter().map(|entry| (entry.file_name, digest(entry.source))).collect()
}

/// Threads in a block of a kernel without tiles.
pub const THREADS: u32 = 256;

/// A kernel as it is compiled: a file for one precision and, for convolutions, for one tile and
/// with or without a gate on the input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant {
    file: File,
    precision: Precision,
    tile: Option<Tile>,
    gated: bool,
    bands: Option<BandTile>,
}

impl Variant {
    /// A kernel that has no tile.
    pub fn new(file: File, precision: Precision) -> Self {
        Variant { file, precision, tile: None, gated: false, bands: None }
    }

    /// A convolution or a CTL block.
    pub fn tiled(file: File, precision: Precision, tile: Tile, gated: bool) -> Self {
        Variant { file, precision, tile: Some(tile), gated, bands: None }
    }

    /// A convolution or a CTL block on sm_90a.
    pub fn in_bands(file: File, precision: Precision, tile: BandTile) -> Self {
        Variant { bands: Some(tile), ..Variant::new(file, precision) }
    }

    /// Every kernel that the engine can use in a precision, where a block can have `shared_bytes`
    /// of shared memory, except those in bands ([`Variant::all_in_bands`]).
    pub fn all(precision: Precision, shared_bytes: usize) -> Vec<Variant> {
        let plain = FILES.iter().map(|entry| entry.file);
        let tiled = [File::Conv, File::Ctl, File::CtlCluster];
        let other = [File::HopperConv, File::HopperCtl, File::HopperPair, File::HopperStem];
        let plain = plain.filter(|file| !tiled.contains(file) && !other.contains(file));
        let mut all: Vec<Variant> = plain.map(|file| Variant::new(file, precision)).collect();
        let within = |tiles: &[Tile]| -> Vec<Tile> {
            tiles.iter().filter_map(|tile| tile.within(shared_bytes)).collect()
        };
        let in_cluster = ctl_cluster::tiles(shared_bytes).collect();
        let tiles = [within(&tile::TILES), within(&tile::CTL_TILES), in_cluster];
        for (file, tiles) in tiled.into_iter().zip(tiles) {
            let each = tiles.into_iter().flat_map(|tile| [(tile, false), (tile, true)]);
            all.extend(each.map(|(tile, gated)| Variant::tiled(file, precision, tile, gated)));
        }
        all
    }

    /// Every kernel in bands that the engine can use in a precision on sm_90a.
    pub fn all_in_bands(precision: Precision) -> Vec<Variant> {
        // Warpgroups along the outputs, and whether pixels are the rows of products.
        const WIDE: &[(usize, bool)] = &[(1, false), (2, false)];
        const ALL: &[(usize, bool)] = &[(1, false), (2, false), (1, true)];
        let of = |file, end, shapes: &'static [(usize, bool)]| {
            let tiles = bands::COLUMNS.iter().flat_map(move |&columns| {
                shapes.iter().flat_map(move |&(output_groups, narrow)| {
                    [false, true].map(|gated| BandTile {
                        columns,
                        output_groups,
                        narrow,
                        end,
                        gated,
                    })
                })
            });
            tiles.map(move |tile| Variant::in_bands(file, precision, tile))
        };
        let all = of(File::HopperConv, BandEnd::Epilogue, ALL)
            .chain(of(File::HopperConv, BandEnd::Addend, &[(1, false), (1, true)]))
            .chain(of(File::HopperConv, BandEnd::Sums, ALL))
            .chain(of(File::HopperConv, BandEnd::Halved, ALL))
            .chain(of(File::HopperCtl, BandEnd::Epilogue, WIDE));
        // A fused block has no registers for more columns; a map that is halved has no gate.
        let used = |v: &Variant| {
            let most = if v.file == File::HopperCtl { bands::FUSED_COLUMNS } else { 256 };
            v.bands.is_some_and(|tile| {
                tile.columns <= most
                    && !(tile.gated && tile.end == BandEnd::Halved)
                    && (!tile.narrow || tile.columns.is_multiple_of(64))
            })
        };
        let stem = [false, true].map(|sums| hopper_stem::variant(precision, sums));
        all.filter(used).chain(stem).chain(hopper_pair::variants(precision)).collect()
    }

    /// The registers of each thread with which a kernel in bands must start, so that those that it
    /// then moves between its warpgroups are all there. With fewer it would wait for them for ever.
    pub fn registers(&self) -> Option<u32> {
        self.bands.filter(|_| self.file != File::HopperStem).map(|_| bands::REGISTERS)
    }

    fn entry(&self) -> &'static Entry {
        let found = FILES.iter().find(|entry| entry.file == self.file);
        found.expect("FILES has a row for every File")
    }

    /// Name of the `.cu` file.
    pub fn file(&self) -> &'static str {
        self.entry().file_name
    }

    /// Name of the kernel's entry point.
    pub fn name(&self) -> &'static str {
        self.entry().kernel
    }

    /// Text of the `.cu` file.
    pub fn source(&self) -> &'static str {
        self.entry().source
    }

    /// Name and text of every file that the kernel may include on a GPU.
    pub fn headers(&self) -> Vec<(&'static str, Cow<'static, str>)> {
        let written = HEADERS.map(|(name, text)| (name, Cow::Borrowed(text)));
        let products = self.bands.map(|tile| Cow::Owned(tile.products(self.precision)));
        written.into_iter().chain(products.map(|text| ("products.cuh", text))).collect()
    }

    /// Size of the kernel's one argument in bytes.
    pub fn args_bytes(&self) -> usize {
        self.entry().args_bytes
    }

    /// The offset in bytes of each number in the kernel's one argument, by its path in C++ such as
    /// `sources[1].x`.
    pub fn offsets(&self) -> Vec<(String, usize)> {
        (self.entry().offsets)()
    }

    /// Threads in a block.
    pub fn threads(&self) -> u32 {
        match (self.file, self.tile) {
            (File::HopperStem, _) => hopper_stem::THREADS,
            (File::HopperConv | File::HopperCtl | File::HopperPair, _) => bands::THREADS,
            (_, tile) => tile.map_or(THREADS, |tile| tile.threads()),
        }
    }

    /// Bytes of dynamic shared memory of a block.
    pub fn shared_bytes(&self) -> u32 {
        if self.bands.is_some() {
            return bands::SHARED_BYTES as u32;
        }
        match (self.tile, self.file) {
            (Some(tile), File::CtlCluster) => ctl_cluster::shared_bytes(tile),
            (Some(tile), _) => tile.shared_bytes(),
            (None, File::AveragePool) => THREADS * average_pool::SHARED_PER_THREAD,
            (None, File::Dense) => dense::SHARED_BYTES,
            (None, File::SplitKReduce) => THREADS * split_k_reduce::SHARED_PER_THREAD,
            (None, _) => 0,
        }
    }

    /// Blocks for which the registers of a multiprocessor must suffice (`__launch_bounds__`), so
    /// that one block computes while another waits. Of 128 threads, two can have 255 registers
    /// each, and four 128. Plain float32 holds more operands in registers than tensor cores do.
    fn resident(&self) -> u32 {
        let Some(tile) = self.tile else { return if self.file == File::Dense { 2 } else { 1 } };
        match (tile.pixels, tile.outputs) {
            (32, _) => 6,
            (128, 64..) => 2,
            _ if is_half(self.precision) || self.precision == Precision::Tf32 => 4,
            _ => 2,
        }
    }

    /// The `-D` options that the compiler gets; `device.cuh` lists their meaning.
    pub fn defines(&self) -> Vec<String> {
        let mut defines = vec![
            format!("-DPRECISION_{}", self.precision.to_string().to_uppercase()),
            format!("-DARGS_BYTES={}", self.args_bytes()),
            format!("-DSHARED_BYTES={}", self.shared_bytes()),
            format!("-DRESIDENT={}", self.resident()),
        ];
        if let Some(tile) = self.tile {
            defines.extend([
                format!("-DBM={}", tile.pixels),
                format!("-DBN={}", tile.outputs),
                format!("-DWARPS_M={}", tile.warps.0),
                format!("-DWARPS_N={}", tile.warps.1),
                format!("-DSLOTS={}", tile.slots),
                format!("-DGATED={}", self.gated),
            ]);
        }
        if let Some(tile) = self.bands {
            defines.extend([
                format!("-DCOLUMNS={}", tile.columns),
                format!("-DOUTPUT_GROUPS={}", tile.output_groups),
                format!("-DNARROW={}", tile.narrow),
                format!("-DSUMS={}", tile.end == BandEnd::Sums),
                format!("-DADDEND={}", tile.end == BandEnd::Addend),
                format!("-DHALVED={}", tile.end == BandEnd::Halved),
                format!("-DGATED={}", tile.gated),
            ]);
        }
        defines
    }

    /// Name, precision, tile and gate in words, for messages.
    pub fn describe(&self) -> String {
        let tile = self.tile.map_or(String::new(), |t| format!(" {}x{}", t.pixels, t.outputs));
        let gated = if self.gated { " gated" } else { "" };
        let bands = self.bands.map_or(String::new(), |t| {
            let gated = if t.gated { " gated" } else { "" };
            format!(" {} columns x {}{gated} {:?}", t.columns, t.outputs(), t.end)
        });
        format!("{} {}{tile}{gated}{bands}", self.name(), self.precision)
    }
}

/// Whether a precision stores values in 16 bits.
pub fn is_half(precision: Precision) -> bool {
    matches!(precision, Precision::Bf16 | Precision::F16)
}

/// Stored values in a vector of 16 bytes. The channels of maps are padded to whole vectors.
pub fn vector(precision: Precision) -> usize {
    if is_half(precision) { 8 } else { 4 }
}

/// Blocks that cover `items`, `each` in a block.
fn blocks(items: usize, each: usize) -> u32 {
    u32::try_from(items.div_ceil(each)).expect("a grid of fewer than 2^32 blocks")
}
