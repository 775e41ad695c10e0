//! An npz file of unknown origin: sizes are checked before anything is allocated.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use ndarray::ArrayViewD;
use ndarray_npy::{ViewElement, ViewNpyError, ViewNpyExt};
use spec::{Data, Tensor};
use zip::ZipArchive;

/// Bytes that the header of an array may take.
const HEADER: u64 = 65_536;

/// An open npz file.
#[derive(Debug)]
pub struct Npz {
    path: PathBuf,
    archive: Mutex<ZipArchive<BufReader<File>>>,
}

impl Npz {
    /// Opens the archive and reads its directory.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("{}", path.display()))?;
        if path.is_dir() {
            bail!("{}: this is a folder; name an npz file", path.display());
        }
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|why| {
            anyhow!(
                "{}: not a readable npz file ({why}); make it again with numpy.savez",
                path.display()
            )
        })?;
        Ok(Npz { path: path.to_owned(), archive: Mutex::new(archive) })
    }

    /// The names of the arrays, without `.npy`.
    pub fn names(&self) -> Vec<String> {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let names = archive.file_names().filter_map(Result::ok);
        names.map(|name| name.strip_suffix(".npy").unwrap_or(&name).to_owned()).collect()
    }

    /// The shape in an array's header.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        let header = self.bytes(name, HEADER, false)?;
        shape_of(&header).ok_or_else(|| self.damaged(name, "its header has no shape"))
    }

    /// An array of at most `limit` values, row-major; the inner error is the dtype of one whose
    /// numbers are none that can be compared.
    pub fn read(&self, name: &str, limit: usize) -> Result<Result<Tensor, String>> {
        let most = limit as u64 * 8 + HEADER;
        let bytes = self.bytes(name, most, true)?;
        match values::<f32>(&bytes) {
            Ok((shape, values)) => return Ok(Ok(Tensor { shape, data: Data::F32(values) })),
            Err(ViewNpyError::WrongDescriptor(_)) => {}
            Err(why) => return Err(self.damaged(name, &why.to_string())),
        }
        match values::<f64>(&bytes) {
            Ok((shape, values)) => Ok(Ok(Tensor { shape, data: Data::F64(values) })),
            Err(ViewNpyError::WrongDescriptor(dtype)) => Ok(Err(dtype.to_string())),
            Err(why) => Err(self.damaged(name, &why.to_string())),
        }
    }

    /// An array of bytes, whole numbers or floats of at most `limit` values, as float32.
    pub fn read_plain(&self, name: &str, limit: usize) -> Result<(Vec<usize>, Vec<f32>)> {
        fn as_f32<T: ViewElement + Copy>(
            bytes: &[u8],
            of: fn(T) -> f32,
        ) -> Option<(Vec<usize>, Vec<f32>)> {
            let (shape, values) = values::<T>(bytes).ok()?;
            Some((shape, values.into_iter().map(of).collect()))
        }
        let bytes = self.bytes(name, limit as u64 * 8 + HEADER, true)?;
        as_f32::<u8>(&bytes, f32::from)
            .or_else(|| as_f32::<i64>(&bytes, |value| value as f32))
            .or_else(|| as_f32::<i32>(&bytes, |value| value as f32))
            .or_else(|| as_f32::<f32>(&bytes, |value| value))
            .ok_or_else(|| self.damaged(name, "expected uint8, int32, int64 or float32"))
    }

    /// The first `most` bytes of an entry; with `whole`, more than that is an error.
    fn bytes(&self, name: &str, most: u64, whole: bool) -> Result<Vec<u8>> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let at = [format!("{name}.npy"), name.to_owned()]
            .iter()
            .find_map(|entry| archive.index_for_name(entry))
            .ok_or_else(|| self.damaged(name, "it is not in the archive"))?;
        let entry = archive.by_index(at).map_err(|why| self.damaged(name, &why.to_string()))?;
        let mut bytes = vec![];
        entry
            .take(most + u64::from(whole))
            .read_to_end(&mut bytes)
            .map_err(|why| self.damaged(name, &why.to_string()))?;
        match whole && bytes.len() as u64 > most {
            true => Err(self.damaged(name, "it is larger than its shape in the model allows")),
            false => Ok(bytes),
        }
    }

    fn damaged(&self, name: &str, why: &str) -> anyhow::Error {
        anyhow!(
            "{}: array `{name}` cannot be read: {why}; make the file again",
            self.path.display()
        )
    }
}

/// The values of an array, without trusting its header with an allocation.
fn values<T: ViewElement + Copy>(bytes: &[u8]) -> Result<(Vec<usize>, Vec<T>), ViewNpyError> {
    let view = ArrayViewD::<T>::view_npy(bytes)?;
    Ok((view.shape().to_vec(), view.iter().copied().collect()))
}

/// The tuple behind `'shape':` in a header, such as `(1, 64, 56, 56)` or `(8,)` or `()`.
fn shape_of(header: &[u8]) -> Option<Vec<usize>> {
    let text = String::from_utf8_lossy(header.get(8..)?);
    let after = &text[text.find("'shape':")? + 8..];
    let inner = &after[after.find('(')? + 1..after.find(')')?];
    let extents = inner.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    extents.map(|extent| extent.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::shape_of;

    #[test]
    fn shapes_are_read_from_headers() {
        let shape = |text: &str| shape_of(format!("\u{1}NUMPY..{text}").as_bytes());
        assert_eq!(shape("{'descr': '<f4', 'shape': (2, 3), }"), Some(vec![2, 3]));
        assert_eq!(shape("{'shape': (8,), }"), Some(vec![8]));
        assert_eq!(shape("{'shape': (), }"), Some(vec![]));
        assert_eq!(shape("{'shape': (-1,), }"), None);
        assert_eq!(shape("{'shape': (99999999999999999999999,), }"), None);
        assert_eq!(shape("{'shape': 7"), None);
        assert_eq!(shape(""), None);
    }
}
