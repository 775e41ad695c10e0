//! `.npy` arrays and `.npz` archives of unknown origin: sizes are checked against the bytes that
//! are there before anything is allocated.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use zip::ZipArchive;

use super::dtype::Dtype;
use super::error::WeightsError;
use crate::tensor::Tensor;

/// Bytes that the header of an array may take.
const HEADER: u64 = 65_536;

/// Something that an archive can be read from.
trait Source: Read + Seek + Send {}
impl<T: Read + Seek + Send> Source for T {}

/// An open npz file.
pub struct Npz {
    file: String,
    archive: Mutex<ZipArchive<Box<dyn Source>>>,
}

impl std::fmt::Debug for Npz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Npz").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Npz {
    /// Opens an archive and reads its directory.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let name = path.display().to_string();
        if path.is_dir() {
            return Err(WeightsError::new(&name, "this is a folder; name an npz file"));
        }
        let file = File::open(path).map_err(|why| WeightsError::new(&name, why.to_string()))?;
        Npz::new(Box::new(BufReader::new(file)), name)
    }

    /// Reads an archive that is in memory; `name` is what messages call it.
    pub fn from_bytes(bytes: Vec<u8>, name: &str) -> Result<Self, WeightsError> {
        Npz::new(Box::new(Cursor::new(bytes)), name.to_owned())
    }

    fn new(source: Box<dyn Source>, file: String) -> Result<Self, WeightsError> {
        let archive = ZipArchive::new(source).map_err(|why| {
            let text = format!("not a readable npz file ({why}); make it again with numpy.savez");
            WeightsError::new(&file, text)
        })?;
        Ok(Npz { file, archive: Mutex::new(archive) })
    }

    /// The names of the arrays, without `.npy`.
    pub fn names(&self) -> Vec<String> {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let names = archive.file_names().filter_map(Result::ok);
        names.map(|name| name.strip_suffix(".npy").unwrap_or(&name).to_owned()).collect()
    }

    /// The shape in an array's header.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, WeightsError> {
        let start = self.bytes(name, HEADER, false)?;
        Ok(Header::parse(&start).map_err(|why| self.damaged(name, &why))?.shape)
    }

    /// An array of at most `limit` values, row-major: float64 stays, the rest becomes float32. Also
    /// gives the array's own type.
    pub fn read(&self, name: &str, limit: usize) -> Result<(Tensor, Dtype), WeightsError> {
        let most = (limit as u64).saturating_mul(8).saturating_add(HEADER);
        let bytes = self.bytes(name, most, true)?;
        array(&bytes).map_err(|why| self.damaged(name, &why))
    }

    /// The size of an array's entry as the archive states it.
    pub fn stated_size(&self, name: &str) -> Result<u64, WeightsError> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let at = place(&archive, name).ok_or_else(|| self.damaged(name, "it is not there"))?;
        let entry = archive.by_index_raw(at).map_err(|why| self.damaged(name, &why.to_string()))?;
        Ok(entry.size())
    }

    /// The first `most` bytes of an entry; with `whole`, more than that is an error. The buffer
    /// grows with what is really there, not with what a header states.
    fn bytes(&self, name: &str, most: u64, whole: bool) -> Result<Vec<u8>, WeightsError> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let at = place(&archive, name).ok_or_else(|| self.damaged(name, "it is not there"))?;
        let entry = archive.by_index(at).map_err(|why| self.damaged(name, &why.to_string()))?;
        let mut bytes = vec![];
        entry
            .take(most.saturating_add(u64::from(whole)))
            .read_to_end(&mut bytes)
            .map_err(|why| self.damaged(name, &why.to_string()))?;
        match whole && bytes.len() as u64 > most {
            true => Err(self.damaged(name, "it is larger than its shape in the model allows")),
            false => Ok(bytes),
        }
    }

    fn damaged(&self, name: &str, why: &str) -> WeightsError {
        WeightsError::tensor(&self.file, name, format!("cannot be read: {why}"))
    }
}

fn place(archive: &ZipArchive<Box<dyn Source>>, name: &str) -> Option<usize> {
    archive.index_for_name(&format!("{name}.npy")).or_else(|| archive.index_for_name(name))
}

/// What stands before an array's values.
struct Header {
    dtype: Dtype,
    fortran: bool,
    shape: Vec<usize>,
    /// Where the values begin.
    end: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Header, String> {
        let short = || "it ends within its header".to_owned();
        if bytes.get(..6) != Some(b"\x93NUMPY") {
            return Err("it is no npy array".to_owned());
        }
        let byte = |at: usize| bytes.get(at).copied().map(usize::from).ok_or_else(short);
        let (length, start) = match byte(6)? {
            1 => (byte(8)? | byte(9)? << 8, 10),
            _ => (byte(8)? | byte(9)? << 8 | byte(10)? << 16 | byte(11)? << 24, 12),
        };
        let end = start + length;
        let text = String::from_utf8_lossy(bytes.get(start..end).ok_or_else(short)?);
        let after = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start());
        let descr = after("'descr':").ok_or("its header has no dtype")?;
        let quoted = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
        let dtype = Dtype::from_numpy(quoted.ok_or("it holds records, not plain numbers")?)?;
        let fortran = after("'fortran_order':").is_some_and(|rest| rest.starts_with("True"));
        let shape = after("'shape':").and_then(tuple).ok_or("its header has no valid shape")?;
        Ok(Header { dtype, fortran, shape, end })
    }
}

/// `(1, 64, 56)`, `(8,)` or `()`.
fn tuple(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('(')?.split_once(')')?.0;
    let extents = inner.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    extents.map(|extent| extent.parse().ok()).collect()
}

/// The values of an npy file.
fn array(bytes: &[u8]) -> Result<(Tensor, Dtype), String> {
    let header = Header::parse(bytes)?;
    let values = &bytes[header.end..];
    let count = header.shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    let needed = count.and_then(|count| count.checked_mul(header.dtype.size()));
    if needed != Some(values.len()) {
        return Err(format!(
            "its shape {:?} does not fit the {} bytes that are there",
            header.shape,
            values.len()
        ));
    }
    let mut tensor = Tensor { data: header.dtype.decode(values), shape: header.shape };
    if header.fortran {
        tensor = row_major(tensor);
    }
    Ok((tensor, header.dtype))
}

/// Turns the order of memory, first extent fastest, into ours.
fn row_major(tensor: Tensor) -> Tensor {
    let mut reversed: Vec<usize> = (0..tensor.shape.len()).collect();
    reversed.reverse();
    let memory: Vec<usize> = reversed.iter().map(|&axis| tensor.shape[axis]).collect();
    super::layout::permute(Tensor { shape: memory, data: tensor.data }, &reversed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(values);
        bytes
    }

    #[test]
    fn fortran_order_and_types_are_understood() {
        let values: Vec<u8> = (0..6).flat_map(|x| (x as f32).to_le_bytes()).collect();
        let (tensor, _) = array(&npy("<f4", "True", "(2, 3)", &values)).unwrap();
        assert_eq!(tensor.to_f64(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        let big: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|x| x.to_be_bytes()).collect();
        let (tensor, _) = array(&npy(">f8", "False", "(2,)", &big)).unwrap();
        assert_eq!(tensor.to_f64(), [1.5, -2.0]);
        let half = [0x00, 0x3C, 0x00, 0xC0];
        let (tensor, _) = array(&npy("<f2", "False", "(2,)", &half)).unwrap();
        assert_eq!(tensor.to_f64(), [1.0, -2.0]);
    }

    #[test]
    fn a_shape_of_10_gib_in_few_bytes_is_refused() {
        for shape in ["(2684354560,)", "(99999999999, 99999999999)", "(-1,)", "(1.5,)", "7"] {
            assert!(array(&npy("<f4", "False", shape, &[0; 16])).is_err(), "{shape}");
        }
        for descr in ["|O", "<U8", "<c16", "<f99", "", "f"] {
            assert!(array(&npy(descr, "False", "(1,)", &[0; 16])).is_err(), "{descr}");
        }
    }
}
