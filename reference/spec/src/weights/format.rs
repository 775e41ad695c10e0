//! Which format a file has, by its content.

use std::fmt;

use serde::Serialize;

use super::error::Fault;

/// A checkpoint format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Hugging Face safetensors.
    Safetensors,
    /// numpy's archive of arrays.
    Npz,
    /// PyTorch from 1.6 on: a pickle and its storages in a zip archive.
    TorchZip,
    /// PyTorch before 1.6: several pickles, then the storages.
    TorchLegacy,
    /// MindSpore's protobuf.
    MindSpore,
    /// A plain pickle of numpy arrays, as Flax programs write.
    Pickle,
}

/// Formats and what people call them.
const NAMES: [(Format, &str); 6] = [
    (Format::Safetensors, "safetensors"),
    (Format::Npz, "npz"),
    (Format::TorchZip, "PyTorch zip"),
    (Format::TorchLegacy, "PyTorch legacy"),
    (Format::MindSpore, "MindSpore"),
    (Format::Pickle, "pickle of arrays"),
];

impl Format {
    /// Every format.
    pub fn all() -> impl Iterator<Item = Format> {
        NAMES.iter().map(|(format, _)| *format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(format, _)| format == self);
        f.write_str(name.map_or("unknown", |(_, name)| name))
    }
}

/// PyTorch's magic number, as its legacy format pickles it with protocol 2.
pub(super) const LEGACY_MAGIC: [u8; 15] =
    [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];

/// Things that people hand in by mistake: how they begin, what they are and what to do.
const STRANGERS: [(&[u8], &str, &str); 8] = [
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "run `git lfs pull`"),
    (b"<!DOCTYPE", "a web page", "download the file itself, not the page about it"),
    (b"<html", "a web page", "download the file itself, not the page about it"),
    (b"\x89HDF", "an HDF5 file", "save it as safetensors or npz"),
    (b"\x93NUMPY", "a single array of numpy", "save all tensors with numpy.savez"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
];

/// The format of a whole file.
pub(super) fn detect(bytes: &[u8]) -> Result<Format, Fault> {
    if bytes.is_empty() {
        return Err(Fault::new("the file is empty", "get the file again"));
    }
    if let Some((_, what, advice)) = STRANGERS.iter().find(|(start, ..)| bytes.starts_with(start)) {
        return Err(Fault::new(format!("this is {what}, no checkpoint"), *advice));
    }
    let known: [(bool, Format); 4] = [
        (bytes.starts_with(&LEGACY_MAGIC), Format::TorchLegacy),
        (matches!(bytes, [0x80, 2..=5, ..]), Format::Pickle),
        (is_safetensors(bytes), Format::Safetensors),
        (is_mindspore(bytes), Format::MindSpore),
    ];
    match known.iter().find(|(fits, _)| *fits) {
        Some((_, format)) => Ok(*format),
        None if bytes.starts_with(b"PK") => archive(bytes),
        None => Err(Fault::new(
            "the content is none of the formats that are read",
            "give a .safetensors, .npz, PyTorch .pth, MindSpore .ckpt or a Flax .pkl",
        )),
    }
}

/// Length of the header, then JSON.
fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

/// Field 1, a message whose field 1 is the name.
fn is_mindspore(bytes: &[u8]) -> bool {
    let after_length = bytes.iter().skip(1).skip_while(|byte| **byte & 0x80 != 0).nth(1);
    bytes.first() == Some(&0x0a) && after_length == Some(&0x0a)
}

/// PyTorch's archive has a `data.pkl`, numpy's has arrays.
fn archive(bytes: &[u8]) -> Result<Format, Fault> {
    let archive = super::read::archive::Archive::open(bytes)?;
    if archive.is_empty() {
        return Err(Fault::new("the archive is empty", "save the checkpoint again"));
    }
    let has = |suffix: &str| archive.names().any(|name| name.ends_with(suffix));
    let formats = [("data.pkl", Format::TorchZip), (".npy", Format::Npz)];
    let found = formats.iter().find(|(suffix, _)| has(suffix));
    found.map(|(_, format)| *format).ok_or_else(|| {
        Fault::new(
            "this zip archive is neither PyTorch's (no data.pkl) nor numpy's (no .npy)",
            "unpack it if it holds a checkpoint",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_by_name() {
        for (start, what, _) in STRANGERS {
            let text = detect(start).unwrap_err().at("f").to_string();
            assert!(text.contains(what), "{text}");
        }
        for bytes in [&b""[..], b"PK", b"\0", b"hello, world", &[0xff; 64]] {
            assert!(detect(bytes).is_err());
        }
    }
}
