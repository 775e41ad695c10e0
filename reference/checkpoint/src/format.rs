//! Detects the format of a file from its content.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::error::Failure;

/// A checkpoint format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Hugging Face's safetensors format.
    Safetensors,
    /// numpy's zip archive of arrays.
    Npz,
    /// The format of PyTorch 1.6 and later: a pickle and its storages in a zip archive.
    TorchZip,
    /// The format of PyTorch before 1.6: several pickles, followed by the storages.
    TorchLegacy,
    /// MindSpore's format, a protobuf message.
    MindSpore,
    /// A plain pickle of numpy arrays, as Flax programs write it.
    Pickle,
    /// MessagePack with numpy arrays, as `flax.serialization.to_bytes` writes it.
    Msgpack,
}

/// The formats and their names in messages.
const NAMES: [(Format, &str); 7] = [
    (Format::Safetensors, "safetensors"),
    (Format::Npz, "npz"),
    (Format::TorchZip, "PyTorch zip"),
    (Format::TorchLegacy, "PyTorch legacy"),
    (Format::MindSpore, "MindSpore"),
    (Format::Pickle, "pickle of arrays"),
    (Format::Msgpack, "Flax msgpack"),
];

impl Format {
    /// All formats that can be read.
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

/// Other kinds of files that are given by mistake: the offset and the bytes of a signature, what the
/// file is, and what to do.
const OTHER_FILES: [(usize, &[u8], &str, &str); 19] = [
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer instead of the file itself",
        "run `git lfs pull`",
    ),
    (0, b"<!DOCTYPE", "a web page", "download the file itself instead of the page about it"),
    (0, b"<!doctype", "a web page", "download the file itself instead of the page about it"),
    (0, b"<html", "a web page", "download the file itself instead of the page about it"),
    (0, b"\x89HDF", "an HDF5 file", "save it as safetensors or npz"),
    (0, b"\x93NUMPY", "a single numpy array", "save all tensors with numpy.savez"),
    (0, b"\x1f\x8b", "compressed with gzip", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"\xfd7zXZ\x00", "compressed with xz", UNPACK),
    (0, b"\x5d\x00\x00", "compressed with lzma", UNPACK),
    (0, b"BZh", "compressed with bzip2", UNPACK),
    (0, b"\x04\x22\x4d\x18", "compressed with lz4", UNPACK),
    (0, b"Rar!", "a RAR archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (4, b"ET1", "an ExecuTorch program (.pte)", STATE_DICT),
    (0, b"GGUF", "a GGUF file", "save it as safetensors or npz"),
    (4, b"TFL3", "a TensorFlow Lite model", "save the weights that it was made from"),
    (0, b"\x08", "an ONNX model, or another protobuf", "save the weights that it was made from"),
];

const UNPACK: &str = "unpack it first";
const STATE_DICT: &str =
    "load it in the program that wrote it and save {'state_dict': model.state_dict()}";

/// Detects the format of a whole file from its structure. The structures of the formats exclude each
/// other. Only a file that has none of them is looked up in [`OTHER_FILES`].
pub(super) fn detect(bytes: &[u8]) -> Result<Format, Failure> {
    if bytes.is_empty() {
        return Err(Failure::new("the file is empty", "get the file again"));
    }
    let known: [(bool, Format); 5] = [
        (is_safetensors(bytes), Format::Safetensors),
        (is_legacy(bytes), Format::TorchLegacy),
        (matches!(bytes, [0x80, 2..=5, ..]), Format::Pickle),
        (is_msgpack(bytes), Format::Msgpack),
        (is_mindspore(bytes), Format::MindSpore),
    ];
    if let Some((_, format)) = known.iter().find(|(fits, _)| *fits) {
        return Ok(*format);
    }
    if bytes.starts_with(b"PK") {
        return archive(bytes);
    }
    let begins =
        |at: usize, sign: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(sign));
    if let Some((.., what, advice)) = OTHER_FILES.iter().find(|(at, sign, ..)| begins(*at, sign)) {
        return Err(Failure::new(format!("this is {what}, not a checkpoint"), *advice));
    }
    Err(Failure::new(
        "the content matches none of the supported formats",
        "give a .safetensors, .npz, PyTorch .pth, MindSpore .ckpt, or a Flax .pkl or .msgpack",
    ))
}

/// A safetensors file begins with the length of the header in 8 bytes, of which the upper four are 0
/// for any header that fits into memory, and a JSON object. The reader checks the rest, and says what
/// is wrong with it.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, header)) = bytes.split_first_chunk::<8>() else { return false };
    let mut text = header.iter().filter(|byte| !byte.is_ascii_whitespace());
    let object = text.next() == Some(&b'{') && matches!(text.next(), Some(b'"' | b'}') | None);
    length[4..] == [0; 4] && object
}

/// PyTorch's magic number, an integer of 10 bytes. It is a pickle of its own, in which it follows the
/// protocol version and, from protocol 4 on, the length of a frame.
pub(super) const LEGACY_MAGIC: [u8; 10] =
    [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

fn is_legacy(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(&[0x80]) else { return false };
    let rest = match rest {
        [4..=u8::MAX, 0x95, framed @ ..] => framed.get(8..).unwrap_or_default(),
        [_, plain @ ..] => plain,
        [] => return false,
    };
    rest.strip_prefix(&[0x8a, 0x0a]).is_some_and(|number| number.starts_with(&LEGACY_MAGIC))
}

/// A MessagePack checkpoint begins with a map that is not empty and whose first key is a string.
fn is_msgpack(bytes: &[u8]) -> bool {
    let key = match bytes {
        [0x81..=0x8f, key, ..] | [0xde, _, _, key, ..] | [0xdf, _, _, _, _, key, ..] => key,
        _ => return false,
    };
    matches!(key, 0xa0..=0xbf | 0xd9..=0xdb)
}

/// A MindSpore checkpoint begins with field 1, a message that begins with its own field 1, the name.
fn is_mindspore(bytes: &[u8]) -> bool {
    let after_length = bytes.iter().skip(1).skip_while(|byte| **byte & 0x80 != 0).nth(1);
    bytes.first() == Some(&0x0a) && after_length == Some(&0x0a)
}

/// A supported format, or else what the file is and what to do.
type Content = Result<Format, (&'static str, &'static str)>;

/// What a zip archive is, by the suffix of the name of an entry. The order matters: an exported
/// program contains weights too.
const ENTRIES: [(&str, Content); 10] = [
    ("/constants.pkl", Err(("a TorchScript archive", STATE_DICT))),
    ("serialized_exported_program.json", Err((EXPORTED, STATE_DICT))),
    ("archive_format", Err((EXPORTED, STATE_DICT))),
    ("models/model.json", Err((EXPORTED, STATE_DICT))),
    ("data.pkl", Ok(Format::TorchZip)),
    (".npy", Ok(Format::Npz)),
    ("model.weights.h5", Err(("a Keras model", "save its weights as safetensors or npz"))),
    ("saved_model.pb", Err(("a zipped TensorFlow model", "save its weights as npz"))),
    (".mlmodel", Err(("a zipped Core ML model", "save the weights that it was made from"))),
    (".safetensors", Err(("a zipped folder", UNPACK))),
];

const EXPORTED: &str = "an exported program (.pt2 of torch.export)";

/// Detects the format of a zip archive: PyTorch's has a `data.pkl`, numpy's has `.npy` entries.
fn archive(bytes: &[u8]) -> Result<Format, Failure> {
    let archive = super::read::archive::Archive::open(bytes)?;
    if archive.is_empty() {
        return Err(Failure::new("the archive is empty", "save the checkpoint again"));
    }
    let has = |suffix: &str| archive.names().any(|name| name.ends_with(suffix));
    match ENTRIES.iter().find(|(suffix, _)| has(suffix)) {
        Some((_, Ok(format))) => Ok(*format),
        Some((_, Err((what, advice)))) => {
            Err(Failure::new(format!("this is {what}, not a checkpoint"), *advice))
        }
        None => Err(Failure::new(
            "this zip archive is neither PyTorch's (no data.pkl) nor numpy's (no .npy)",
            "unpack it if it contains a checkpoint",
        )),
    }
}

/// What a folder is, by the name of a file in it: the file, what the folder is, and what to do.
const FOLDERS: [(&str, &str, &str); 8] = [
    ("_CHECKPOINT_METADATA", ORBAX, MSGPACK),
    ("manifest.ocdbt", ORBAX, MSGPACK),
    ("_METADATA", ORBAX, MSGPACK),
    ("_sharding", ORBAX, MSGPACK),
    (".metadata", "a distributed PyTorch checkpoint", DISTRIBUTED),
    ("latest", "a DeepSpeed checkpoint", "convert it with its zero_to_fp32.py"),
    ("saved_model.pb", "a TensorFlow model", "save its weights as npz"),
    ("model.safetensors", "a model folder", "give the model.safetensors in it"),
];

const ORBAX: &str = "an Orbax checkpoint";
const MSGPACK: &str = "restore it and save flax.serialization.to_bytes(variables) to a file";
const DISTRIBUTED: &str =
    "convert it to one file with torch.distributed.checkpoint.format_utils.dcp_to_torch_save";

/// Why a folder cannot be read as a checkpoint.
pub(super) fn folder(path: &Path) -> Failure {
    // Orbax puts the tree into a subfolder named `default`, or named like the item.
    let places = [path.to_owned(), path.join("default"), path.join("state"), path.join("params")];
    let has = |name: &str| places.iter().any(|place| place.join(name).exists());
    match FOLDERS.iter().find(|(name, ..)| has(name)) {
        Some((_, what, advice)) => Failure::new(format!("this is a folder, {what}"), *advice),
        None => Failure::new("this is a folder", "give a checkpoint file in it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_named() {
        for (at, sign, what, _) in OTHER_FILES {
            let text =
                detect(&[&vec![b'x'; at], sign].concat()).unwrap_err().in_file("f").to_string();
            assert!(text.contains(what), "{text}");
        }
        for bytes in [&b""[..], b"PK", b"\0", b"hello, world", &[0xff; 64]] {
            assert!(detect(bytes).is_err());
        }
    }

    #[test]
    fn formats_are_distinguished_by_structure_not_by_their_first_bytes() {
        // Header lengths whose bytes begin like a pickle, a zip archive, gzip, msgpack or MindSpore.
        for length in [0x0380, 0x0480_u64, 0x4b50, 0x8b1f, 0xa682, 0x0a1e_0a0a, 0x080a] {
            let file = [&length.to_le_bytes()[..], br#"{"fc.bias":"#].concat();
            assert_eq!(detect(&file).unwrap(), Format::Safetensors, "{length:#x}");
        }
        let framed = [&b"\x80\x04\x95\x0d\0\0\0\0\0\0\0\x8a\x0a"[..], &LEGACY_MAGIC].concat();
        assert_eq!(detect(&framed).unwrap(), Format::TorchLegacy);
        let plain = [&b"\x80\x03\x8a\x0a"[..], &LEGACY_MAGIC].concat();
        assert_eq!(detect(&plain).unwrap(), Format::TorchLegacy);
        assert_eq!(detect(b"\x80\x04}.").unwrap(), Format::Pickle);
        assert_eq!(detect(b"\x82\xa6params\x80").unwrap(), Format::Msgpack);
    }
}
