//! The kernels: each `.cu` beside the `.rs` file that launches it.

pub mod args;
pub mod combine;
pub mod conv;
pub mod ctl;
pub mod dense;
pub mod depthwise;
pub mod finish;
pub mod import;
pub mod maxpool;
pub mod mean;
pub mod normalize;
pub mod pool;
pub mod tile;

use sha2::{Digest, Sha256};
use spec::Precision;

pub use tile::{Machine, Tile};

/// What the kernels include.
pub const HEADERS: [(&str, &str); 6] = [
    ("device.cuh", include_str!("device.cuh")),
    ("emulate.hpp", include_str!("emulate.hpp")),
    ("epilogue.cuh", include_str!("epilogue.cuh")),
    ("mainloop.cuh", include_str!("mainloop.cuh")),
    ("pool.cuh", include_str!("pool.cuh")),
    ("tile.cuh", include_str!("tile.cuh")),
];

/// One `.cu` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum File {
    /// The mean from sums over tiles.
    Combine,
    /// Convolution.
    Conv,
    /// The end of a channel-time learning block.
    Ctl,
    /// Dense layer.
    Dense,
    /// Depthwise convolution.
    Depthwise,
    /// Sums in memory through an epilogue.
    Finish,
    /// The clip to pixels.
    Import,
    /// Max-pool.
    MaxPool,
    /// Mean over the map.
    Mean,
    /// Decoded frames to the clip.
    Normalize,
    /// Sums over tiles of a map.
    Pool,
}

/// Name of the file and of the kernel in it, text, bytes of its argument.
type Entry = (File, &'static str, &'static str, &'static str, usize);

const FILES: [Entry; 11] = [
    (
        File::Combine,
        "combine.cu",
        "combine",
        include_str!("combine.cu"),
        size_of::<combine::Args>(),
    ),
    (File::Conv, "conv.cu", "conv", include_str!("conv.cu"), size_of::<conv::Args>()),
    (File::Ctl, "ctl.cu", "ctl", include_str!("ctl.cu"), size_of::<ctl::Args>()),
    (File::Dense, "dense.cu", "dense", include_str!("dense.cu"), size_of::<dense::Args>()),
    (
        File::Depthwise,
        "depthwise.cu",
        "depthwise",
        include_str!("depthwise.cu"),
        size_of::<depthwise::Args>(),
    ),
    (
        File::Finish,
        "finish.cu",
        "finish_sums",
        include_str!("finish.cu"),
        size_of::<finish::Args>(),
    ),
    (File::Import, "import.cu", "import", include_str!("import.cu"), size_of::<import::Args>()),
    (
        File::MaxPool,
        "maxpool.cu",
        "maxpool",
        include_str!("maxpool.cu"),
        size_of::<maxpool::Args>(),
    ),
    (File::Mean, "mean.cu", "mean", include_str!("mean.cu"), size_of::<mean::Args>()),
    (
        File::Normalize,
        "normalize.cu",
        "normalize",
        include_str!("normalize.cu"),
        size_of::<normalize::Args>(),
    ),
    (File::Pool, "pool.cu", "pool_map", include_str!("pool.cu"), size_of::<pool::Args>()),
];

/// Each kernel's file with the SHA-256 over it and all that it may include on a GPU: whether a kernel
/// is still the one that was checked.
pub fn digests() -> Vec<(&'static str, String)> {
    let headers = HEADERS.iter().filter(|(name, _)| name.ends_with(".cuh"));
    let digest = |source: &str| {
        let mut hash = Sha256::new();
        hash.update(source);
        headers.clone().for_each(|(_, text)| hash.update(text));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    FILES.iter().map(|entry| (entry.1, digest(entry.3))).collect()
}

/// Threads of a block of the kernels without tiles.
pub const THREADS: u32 = 256;

/// A kernel as it is compiled: a file, a number format, and for convolutions a tile and whether the
/// input is gated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant {
    file: File,
    precision: Precision,
    tile: Option<Tile>,
    gated: bool,
}

impl Variant {
    /// A kernel without tiles.
    pub fn new(file: File, precision: Precision) -> Self {
        Variant { file, precision, tile: None, gated: false }
    }

    /// A kernel with tiles.
    pub fn tiled(file: File, precision: Precision, tile: Tile, gated: bool) -> Self {
        Variant { file, precision, tile: Some(tile), gated }
    }

    /// Every kernel that the engine can ask for in a precision.
    pub fn all(precision: Precision) -> Vec<Variant> {
        let plain = FILES.iter().map(|entry| entry.0);
        let plain = plain.filter(|file| !matches!(file, File::Conv | File::Ctl));
        let mut all: Vec<Variant> = plain.map(|file| Variant::new(file, precision)).collect();
        let tiled = |file, tiles: &[Tile]| -> Vec<Variant> {
            let each = tiles.iter().flat_map(|tile| [(*tile, false), (*tile, true)]);
            each.map(|(tile, gated)| Variant::tiled(file, precision, tile, gated)).collect()
        };
        all.extend(tiled(File::Conv, &tile::TILES));
        all.extend(tiled(File::Ctl, &tile::CTL_TILES));
        all
    }

    fn entry(&self) -> &'static Entry {
        let found = FILES.iter().find(|entry| entry.0 == self.file);
        found.expect("every file is in the table")
    }

    /// Name of its file.
    pub fn file(&self) -> &'static str {
        self.entry().1
    }

    /// Name of the kernel in it.
    pub fn name(&self) -> &'static str {
        self.entry().2
    }

    /// Text of its file.
    pub fn source(&self) -> &'static str {
        self.entry().3
    }

    /// Bytes of its argument.
    pub fn args_bytes(&self) -> usize {
        self.entry().4
    }

    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.tile.map_or(THREADS, |tile| tile.threads())
    }

    /// Dynamic shared memory of a block.
    pub fn shared_bytes(&self) -> u32 {
        match (self.tile, self.file) {
            (Some(tile), _) => tile.shared_bytes(),
            (None, File::Mean) => THREADS * mean::SHARED_PER_THREAD,
            (None, _) => 0,
        }
    }

    /// Blocks for which a multiprocessor's registers must suffice, so that one computes while another
    /// waits. Plain float32 needs them all for its sums, a gated input for what it holds back.
    fn resident(&self) -> u32 {
        match self.threads() {
            64 => 6,
            256 if self.tile.is_some() && !self.gated && self.precision != Precision::F32 => 2,
            _ => 1,
        }
    }

    /// The options -D of its compilation.
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
                format!("-DSTEPS={}", tile.steps),
                format!("-DGATED={}", self.gated),
            ]);
        }
        defines
    }

    /// In words, for tables.
    pub fn describe(&self) -> String {
        let tile = self.tile.map_or(String::new(), |t| format!(" {}x{}", t.pixels, t.outputs));
        let gated = if self.gated { " gated" } else { "" };
        format!("{} {}{tile}{gated}", self.name(), self.precision)
    }
}

/// Whether numbers are stored in 16 bits.
pub fn is_half(precision: Precision) -> bool {
    matches!(precision, Precision::Bf16 | Precision::F16)
}

/// Stored numbers in 16 bytes: channels are padded to whole vectors.
pub fn vector(precision: Precision) -> usize {
    if is_half(precision) { 8 } else { 4 }
}

/// Blocks for so many items.
fn blocks(items: usize, each: usize) -> u32 {
    u32::try_from(items.div_ceil(each)).expect("a grid of fewer than 2^32 blocks")
}
