//! Reads npz files of unknown origin. Sizes are checked before memory is allocated for them.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use checkpoint::announced_entries;
use checkpoint::npy::{self, Header};
use spec::Tensor;
use zip::ZipArchive;

/// The end of a file, in which a zip archive has its end-of-directory record: 22 bytes and a comment of
/// at most 64 KiB.
fn tail(mut file: &File) -> std::io::Result<Vec<u8>> {
    let from = file.metadata()?.len().saturating_sub(22 + (1 << 16));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = vec![];
    file.read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(bytes)
}

/// An open npz file.
#[derive(Debug)]
pub struct Npz {
    path: PathBuf,
    archive: Mutex<ZipArchive<BufReader<File>>>,
}

impl Npz {
    /// Opens the archive and reads its directory.
    ///
    /// # Errors
    ///
    /// If the file is not a zip archive or holds two entries of one name.
    pub fn open(path: &Path) -> Result<Self> {
        let file = files::open_regular(path)
            .with_context(|| format!("{}: cannot be opened", path.display()))?;
        if path.is_dir() {
            bail!(
                "{}: this is a folder, not an npz file; collect its arrays and the clip in one: \
                 numpy.savez('dump.npz', input=clip, conv1=a, ...); names of your own will do with --suggest-map",
                path.display()
            );
        }
        let announced = announced_entries(&tail(&file).unwrap_or_default());
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|why| {
            let what = match path.extension().and_then(|kind| kind.to_str()) {
                Some("npy") => "one array, not an npz file".to_owned(),
                Some("safetensors") => "a file of safetensors, not an npz file".to_owned(),
                _ => format!("not a readable npz file ({why})"),
            };
            anyhow!(
                "{}: {what}; write the arrays and the clip with numpy.savez('dump.npz', input=clip, conv1=a, \
                 ...); names of your own will do with --suggest-map",
                path.display()
            )
        })?;
        let npz = Npz { path: path.to_owned(), archive: Mutex::new(archive) };
        npz.check_names(announced)?;
        Ok(npz)
    }

    /// Refuses an archive with two arrays of one name, of which only one could be read. `announced` is
    /// the number of entries in the end-of-directory record; the zip crate merges entries of one name.
    fn check_names(&self, announced: Option<usize>) -> Result<()> {
        let names = self.names();
        if names.iter().any(|name| name == "data.pkl" || name.ends_with("/data.pkl")) {
            bail!(
                "{}: this is a file of torch.save, not an npz file; write the arrays with numpy.savez",
                self.path.display()
            );
        }
        let mut seen = std::collections::HashSet::new();
        let twice = names.iter().find(|name| !seen.insert(name.as_str()));
        let more = announced.is_some_and(|count| count > names.len());
        match twice {
            Some(name) => bail!(
                "{}: the archive has two entries `{name}`; make the file again with each array once",
                self.path.display()
            ),
            None if more => bail!(
                "{}: the archive has two entries of the same name; make the file again with each array once",
                self.path.display()
            ),
            None => Ok(()),
        }
    }

    /// The names of all entries, without `.npy`.
    pub fn names(&self) -> Vec<String> {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let names = archive.file_names().filter_map(Result::ok);
        names.map(|name| name.strip_suffix(".npy").unwrap_or(&name).to_owned()).collect()
    }

    /// The shape of an array, from its header.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        self.header(name).map(|header| header.shape)
    }

    /// Whether an entry is an array: its name ends in `.npy` or its content begins like an npy file.
    pub fn is_array(&self, name: &str) -> bool {
        let named = || {
            let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
            archive.index_for_name(&format!("{name}.npy")).is_some()
        };
        let begins = || self.bytes(name, npy::MAGIC.len() as u64, false);
        !name.starts_with("__MACOSX/")
            && (named() || begins().is_ok_and(|bytes| bytes == npy::MAGIC))
    }

    fn header(&self, name: &str) -> Result<Header> {
        let odd = |why: npy::NpyError| self.damaged(name, &why.to_string());
        let start = self.bytes(name, npy::START as u64, false)?;
        let length = Header::length(&start).map_err(odd)?;
        let bytes = self.bytes(name, length as u64, false)?;
        Header::parse(&bytes).map_err(odd)
    }

    /// Reads an array of at most `limit` values, row-major.
    ///
    /// # Errors
    ///
    /// The outer error is a file that cannot be read. The inner error is the dtype of an array that
    /// does not hold floats.
    pub fn read(&self, name: &str, limit: usize) -> Result<Result<Tensor, String>> {
        let header = self.header(name)?;
        if !header.is_float() {
            return Ok(Err(header.dtype));
        }
        let array = self.array(name, &header, limit, npy::decode)?;
        Ok(Ok(array.into_tensor()))
    }

    /// Reads an array of at most `limit` bytes, integers or floats: its shape, and its values as float32.
    pub fn read_plain(&self, name: &str, limit: usize) -> Result<(Vec<usize>, Vec<f32>)> {
        let header = self.header(name)?;
        let array = self.array(name, &header, limit, npy::decode_any)?.into_tensor();
        Ok((array.shape.clone(), array.to_f32()))
    }

    /// Reads an array with this header. No more bytes are read than `limit` values take.
    fn array(
        &self,
        name: &str,
        header: &Header,
        limit: usize,
        decode: fn(&[u8], usize) -> Result<npy::Array, npy::NpyError>,
    ) -> Result<npy::Array> {
        let most = (header.end + limit.saturating_mul(8)) as u64;
        let bytes = self.bytes(name, most, true)?;
        decode(&bytes, limit).map_err(|why| self.damaged(name, &why.to_string()))
    }

    /// The first `most` bytes of an entry. If `whole` is set, it is an error if the entry is longer.
    fn bytes(&self, name: &str, most: u64, whole: bool) -> Result<Vec<u8>> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let at = [format!("{name}.npy"), name.to_owned()]
            .iter()
            .find_map(|entry| archive.index_for_name(entry))
            .ok_or_else(|| {
                self.damaged(name, "the archive does not hold it; make the file again")
            })?;
        let entry = archive
            .by_index(at)
            .map_err(|why| self.damaged(name, &format!("{why}; make the file again")))?;
        let mut bytes = vec![];
        entry
            .take(most + u64::from(whole))
            .read_to_end(&mut bytes)
            .map_err(|why| self.damaged(name, &format!("{why}; make the file again")))?;
        match whole && bytes.len() as u64 > most {
            true => Err(self
                .damaged(name, "it is larger than the model's shape for it; make the file again")),
            false => Ok(bytes),
        }
    }

    fn damaged(&self, name: &str, why: &str) -> anyhow::Error {
        anyhow!("{}: array `{name}` cannot be read: {why}", self.path.display())
    }
}
