//! The files on which a comparison depends, with their hashes, for the record.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use checkpoint::Source;
use record::SourceFile;
use sha2::{Digest, Sha256};

use super::args::DiffArgs;
use crate::flags::{InputSource, Participant};

/// How many bytes are read at a time.
const CHUNK: usize = 1 << 20;

/// The files that the arguments name. A pipe can be read only once, so what is not a regular file is
/// left out.
pub(super) fn hashes(args: &DiffArgs) -> Result<Vec<SourceFile>> {
    let mut named: Vec<(&str, &Path)> = vec![];
    if let Source::File { path, .. } = &args.data.weights {
        named.push(("weights", path));
    }
    let candidate = args.candidate();
    named.extend(file(&candidate).map(|path| ("candidate", path)));
    named.extend(file(&args.reference).map(|path| ("reference", path)));
    if let Some(InputSource::File(path)) = &args.data.input {
        named.push(("input", path));
    }
    let regular = named.into_iter().filter(|(_, path)| path.is_file());
    regular.map(|(role, path)| hashed(role, path)).collect()
}

fn file(participant: &Participant) -> Option<&Path> {
    match participant {
        Participant::Engine(_) => None,
        Participant::Npz(path) | Participant::Onnx(path) => Some(path),
        Participant::Python(live) => Some(&live.file),
    }
}

fn hashed(role: &str, path: &Path) -> Result<SourceFile> {
    let failed = || format!("{}: cannot be read for its sha256", path.display());
    let mut reader = BufReader::with_capacity(CHUNK, File::open(path).with_context(failed)?);
    let (mut hash, mut bytes, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        let read = reader.read(&mut chunk).with_context(failed)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        bytes += read as u64;
    }
    let sha256 = files::hex(&hash.finalize());
    Ok(SourceFile { role: role.to_owned(), path: path.display().to_string(), bytes, sha256 })
}
