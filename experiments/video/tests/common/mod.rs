//! Helpers that the tests share.
#![allow(dead_code)] // Each test file uses only some of them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use skip::skip;
use video::ffmpeg::Ffmpeg;

/// The folder of the real clips; `None`, after a message, if the test must be skipped.
pub fn clips() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/clips");
    if !folder.is_dir() {
        skip!(Shared, "../shared/clips is not here");
        return None;
    }
    Some(folder)
}

/// An ffmpeg; `None`, after a message, if the test must be skipped.
pub fn ffmpeg() -> Option<Ffmpeg> {
    match Ffmpeg::find() {
        Ok(ffmpeg) => {
            eprintln!("ffmpeg {}", ffmpeg.version);
            Some(ffmpeg)
        }
        Err(why) => {
            skip!(Ffmpeg, "{why}");
            None
        }
    }
}

/// Makes a video from one of ffmpeg's filter graphs.
pub fn make(ffmpeg: &Ffmpeg, source: &str, more: &[&str], path: &Path) {
    let status = Command::new(&ffmpeg.path)
        .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source])
        .args(more)
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success(), "{source}");
}

/// An npz file, whose arrays may also be strings (`<U64`), which ndarray-npy cannot read.
pub struct Npz(zip::ZipArchive<File>);

impl Npz {
    pub fn open(path: &Path) -> Self {
        Npz(zip::ZipArchive::new(File::open(path).unwrap()).unwrap())
    }

    /// The header and the bytes of an array.
    fn raw(&mut self, name: &str) -> (String, Vec<u8>) {
        let mut bytes = vec![];
        self.0.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = String::from_utf8(bytes[10..10 + length].to_vec()).unwrap();
        (header, bytes[10 + length..].to_vec())
    }

    /// An array of strings of 64 characters.
    pub fn hashes(&mut self, name: &str) -> Vec<String> {
        let (header, bytes) = self.raw(name);
        assert!(header.contains("'<U64'"), "{name}: {header}");
        let text = |chunk: &[u8]| chunk.chunks(4).map(|c| char::from(c[0])).collect();
        bytes.chunks(4 * 64).map(text).collect()
    }

    /// An array of 32-bit or 64-bit integers.
    pub fn numbers(&mut self, name: &str) -> Vec<usize> {
        let (header, bytes) = self.raw(name);
        match header.contains("'<i4'") {
            true => bytes
                .chunks(4)
                .map(|c| i32::from_le_bytes(c.try_into().unwrap()) as usize)
                .collect(),
            false => bytes
                .chunks(8)
                .map(|c| i64::from_le_bytes(c.try_into().unwrap()) as usize)
                .collect(),
        }
    }

    /// An array of bytes.
    pub fn bytes(&mut self, name: &str) -> Vec<u8> {
        let (header, bytes) = self.raw(name);
        assert!(header.contains("'|u1'"), "{name}: {header}");
        bytes
    }
}
