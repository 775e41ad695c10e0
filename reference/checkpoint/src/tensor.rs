//! A tensor as a checkpoint stores it: a strided view of bytes that have not been converted yet.

use std::borrow::Cow;
use std::rc::Rc;

use spec::Data;

use super::dtype::{DType, Endian, MAX_RANK};
use super::error::{Failure, quoted};
use super::inspect::not_weights;
use super::names::{self, Layout};

/// The number format of a tensor, whether it is supported or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Number {
    Known(DType, Endian),
    /// An unsupported format, by the name that the file gives it.
    Other(String),
}

impl Number {
    /// Finds a format by numpy's code with the byte order, such as `<f4`.
    pub(super) fn by_code(code: &str) -> Number {
        let endian = if code.starts_with('>') { Endian::Big } else { Endian::Little };
        let plain = code.strip_prefix(['<', '>', '|', '=']).unwrap_or(code);
        match DType::by_code(plain) {
            Some(dtype) => Number::Known(dtype, endian),
            None => Number::Other(quoted(code)),
        }
    }

    /// The name, such as `float32`; for an unsupported format, the name in the file.
    pub(super) fn name(&self) -> &str {
        match self {
            Number::Known(dtype, _) => dtype.name(),
            Number::Other(name) => name,
        }
    }
}

/// The location of the bytes of a tensor.
#[derive(Debug, Clone)]
pub(super) enum Bytes<'a> {
    /// A slice of the file.
    Slice(&'a [u8]),
    /// Bytes that were decoded from another encoding in the file.
    Decoded(Rc<[u8]>),
    /// An entry of an archive, which may be compressed.
    Entry {
        /// Index of the entry.
        index: usize,
        /// Number of bytes before the numbers.
        skip: usize,
        /// Number of bytes of the numbers, as the archive states it.
        len: usize,
    },
}

impl Bytes<'_> {
    fn len(&self) -> usize {
        match self {
            Bytes::Slice(bytes) => bytes.len(),
            Bytes::Decoded(bytes) => bytes.len(),
            Bytes::Entry { len, .. } => *len,
        }
    }
}

/// The shape of a tensor and the position of its values. Strides and offset are counted in values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) offset: usize,
}

impl View {
    /// A row-major view with offset 0.
    pub(super) fn row_major(shape: &[usize]) -> Result<View, Failure> {
        check_rank(shape)?;
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = times(strides[axis], shape[axis].max(1))?;
        }
        Ok(View { shape: shape.to_vec(), strides, offset: 0 })
    }

    /// A column-major view with offset 0.
    pub(super) fn column_major(shape: &[usize]) -> Result<View, Failure> {
        let reversed: Vec<usize> = shape.iter().rev().copied().collect();
        let mut view = View::row_major(&reversed)?;
        view.shape.reverse();
        view.strides.reverse();
        Ok(view)
    }

    /// The number of values; fails if it overflows.
    pub(super) fn count(&self) -> Result<usize, Failure> {
        self.shape.iter().try_fold(1, |n, &extent| times(n, extent))
    }

    /// One more than the largest index of a value; 0 if there are no values.
    fn end(&self) -> Result<usize, Failure> {
        if self.shape.contains(&0) {
            return Ok(0);
        }
        let last =
            self.shape.iter().zip(&self.strides).try_fold(self.offset, |sum, (n, step)| {
                sum.checked_add(times(n - 1, *step)?).ok_or_else(|| too_large(&self.shape))
            })?;
        last.checked_add(1).ok_or_else(|| too_large(&self.shape))
    }

    fn is_row_major(&self) -> bool {
        View::row_major(&self.shape).is_ok_and(|plain| {
            let mut axes = self.shape.iter().zip(plain.strides.iter().zip(&self.strides));
            axes.all(|(&extent, (expected, found))| extent <= 1 || expected == found)
        })
    }

    /// The same values with the dimensions in PyTorch's order.
    fn in_layout(&self, layout: Layout) -> View {
        let axes = layout.axes(self.shape.len());
        let mut view = View {
            shape: axes.iter().map(|&axis| self.shape[axis]).collect(),
            strides: axes.iter().map(|&axis| self.strides[axis]).collect(),
            offset: self.offset,
        };
        if layout == Layout::FlaxEmbedding && axes.len() == 3 {
            view.shape.insert(0, 1);
            view.strides.insert(0, 0);
        }
        view
    }

    /// Gathers the values, of `size` bytes each, in row-major order. Returns `None` if `bytes` is too
    /// short.
    pub(super) fn gather<'b>(&self, bytes: &'b [u8], size: usize) -> Option<Cow<'b, [u8]>> {
        let count = self.count().ok()?;
        if count == 0 {
            return Some(Cow::Borrowed(&[]));
        }
        if self.is_row_major() {
            let from = self.offset.checked_mul(size)?;
            return bytes.get(from..from.checked_add(count * size)?).map(Cow::Borrowed);
        }
        let mut out = Vec::with_capacity(count * size);
        let mut places = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..count {
            out.extend_from_slice(bytes.get(at * size..(at + 1) * size)?);
            at = self.advance(&mut places, at);
        }
        Some(Cow::Owned(out))
    }

    /// The index of the value that follows the one at `at` in row-major order. `places` are the
    /// coordinates of that value, and are advanced too.
    fn advance(&self, places: &mut [usize], mut at: usize) -> usize {
        for axis in (0..places.len()).rev() {
            places[axis] += 1;
            if places[axis] < self.shape[axis] {
                return at + self.strides[axis];
            }
            places[axis] = 0;
            at -= self.strides[axis] * (self.shape[axis] - 1);
        }
        at
    }
}

fn check_rank(shape: &[usize]) -> Result<(), Failure> {
    match shape.len() > MAX_RANK {
        true => Err(Failure::new(
            format!("has {} dimensions, but at most {MAX_RANK} are supported", shape.len()),
            "check that this is a checkpoint of SqueezeTime",
        )),
        false => Ok(()),
    }
}

fn times(a: usize, b: usize) -> Result<usize, Failure> {
    a.checked_mul(b).ok_or_else(|| too_large(&[a, b]))
}

fn too_large(shape: &[usize]) -> Failure {
    Failure::damaged(format!("the element count of the extents {shape:?} overflows"))
}

/// A tensor of a checkpoint whose values have not been converted yet.
#[derive(Debug, Clone)]
pub(super) struct RawTensor<'a> {
    /// The name in the file.
    pub(super) name: String,
    pub(super) number: Number,
    pub(super) view: View,
    pub(super) bytes: Bytes<'a>,
    /// Whether the values of the tensor are the negatives of those stored.
    pub(super) neg: bool,
}

impl<'a> RawTensor<'a> {
    /// Makes a tensor after checking that its view lies within the bytes that are there.
    pub(super) fn new(
        name: &str,
        number: Number,
        view: View,
        bytes: Bytes<'a>,
    ) -> Result<Self, Failure> {
        let tensor = RawTensor { name: name.to_owned(), number, view, bytes, neg: false };
        tensor.check().map_err(|failure| failure.in_tensor(name))?;
        Ok(tensor)
    }

    fn check(&self) -> Result<(), Failure> {
        check_rank(&self.view.shape)?;
        let (rank, strides) = (self.view.shape.len(), self.view.strides.len());
        if rank != strides {
            return Err(Failure::damaged(format!("it has {rank} extents but {strides} strides")));
        }
        let Number::Known(dtype, _) = self.number else { return Ok(()) };
        let there = self.bytes.len() / dtype.size();
        let (count, end) = (self.view.count()?, self.view.end()?);
        if end > there {
            return Err(Failure::damaged(format!(
                "the shape {:?} in {} needs {end} values, but there are {there}",
                self.view.shape,
                dtype.name()
            )));
        }
        // With repeated values (stride 0) a small file could describe any number of values.
        if count > there {
            return Err(Failure::new(
                format!("repeats its {there} values to fill the shape {:?}", self.view.shape),
                "save it with tensor.contiguous()",
            ));
        }
        Ok(())
    }

    /// Negates the values of the tensor if `neg` is true.
    pub(super) fn negated_if(mut self, neg: bool) -> Self {
        self.neg ^= neg;
        self
    }

    /// The official name; `None` for a tensor that no forward pass reads.
    pub(super) fn canonical(&self) -> Option<String> {
        names::canonical_param(&self.name)
    }

    /// The shape in PyTorch's order of dimensions.
    pub(super) fn canonical_shape(&self) -> Vec<usize> {
        self.official().shape
    }

    fn official(&self) -> View {
        self.view.in_layout(names::layout(&self.name))
    }

    /// Reads the values, row-major in PyTorch's order of dimensions. `entry` reads from an archive; its
    /// arguments are the index of an entry, the number of bytes to skip and the number to read.
    pub(super) fn values(
        &self,
        entry: impl FnOnce(usize, usize, usize) -> Result<Vec<u8>, Failure>,
    ) -> Result<Data, Failure> {
        let (dtype, endian) = self.float()?;
        let inflated;
        let bytes: &[u8] = match &self.bytes {
            Bytes::Slice(bytes) => bytes,
            Bytes::Decoded(bytes) => bytes,
            Bytes::Entry { index, skip, len } => {
                inflated =
                    entry(*index, *skip, *len).map_err(|failure| failure.in_tensor(&self.name))?;
                &inflated
            }
        };
        let gathered = self.official().gather(bytes, dtype.size());
        let gathered =
            gathered.ok_or_else(|| Failure::damaged("values are missing").in_tensor(&self.name))?;
        let values = dtype.decode(&gathered, endian);
        Ok(if self.neg { negated(values) } else { values })
    }

    /// The number format; fails if its numbers cannot be weights.
    pub(super) fn float(&self) -> Result<(DType, Endian), Failure> {
        match self.number {
            Number::Known(dtype, endian) if dtype.is_float() => Ok((dtype, endian)),
            _ => Err(Failure::new(
                format!(
                    "is stored as {}, {}",
                    quoted(self.number.name()),
                    not_weights(self.number.name()).0
                ),
                not_weights(self.number.name()).1,
            )
            .in_tensor(&self.name)),
        }
    }
}

/// The shape, in PyTorch's order of dimensions, of a tensor with this name and shape in a file.
pub(super) fn official_shape(name: &str, shape: &[usize]) -> Vec<usize> {
    let view = View { shape: shape.to_vec(), strides: vec![0; shape.len()], offset: 0 };
    view.in_layout(names::layout(name)).shape
}

/// Negates all values. Zeros change their sign too, as in PyTorch's `resolve_neg`.
fn negated(values: Data) -> Data {
    match values {
        Data::F32(values) => Data::F32(values.into_iter().map(|x| -x).collect()),
        Data::F64(values) => Data::F64(values.into_iter().map(|x| -x).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, view: View, values: &[f32]) -> Result<Vec<f32>, Failure> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let number = Number::Known(DType::F32, Endian::Little);
        let raw = RawTensor::new(name, number, view, Bytes::Slice(&bytes))?;
        Ok(raw.values(|_, _, _| Err(Failure::damaged("there is no archive")))?.to_f32())
    }

    const SIX: [f32; 6] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];

    #[test]
    fn dimensions_are_converted_to_pytorch_order() {
        let dense = View::row_major(&[2, 3]).unwrap();
        assert_eq!(tensor("fc.weight", dense.clone(), &SIX).unwrap(), SIX);
        let turned = tensor("params/fc/kernel", dense, &SIX).unwrap();
        assert_eq!(turned, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let fortran = View::column_major(&[2, 3]).unwrap();
        assert_eq!(tensor("fc.weight", fortran, &SIX).unwrap(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        let part = View { shape: vec![2], strides: vec![3], offset: 2 };
        assert_eq!(tensor("fc.bias", part, &SIX).unwrap(), [2.0, 5.0]);
    }

    #[test]
    fn views_beyond_the_bytes_are_refused() {
        let views = [
            View { shape: vec![7], strides: vec![1], offset: 0 },
            View { shape: vec![1], strides: vec![1], offset: 6 },
            View { shape: vec![2], strides: vec![usize::MAX], offset: 1 },
            View { shape: vec![usize::MAX, 2], strides: vec![1, 1], offset: 0 },
            View { shape: vec![2_684_354_560], strides: vec![1], offset: 0 },
            View { shape: vec![2_684_354_560], strides: vec![0], offset: 0 },
            View { shape: vec![2, 3], strides: vec![1], offset: 0 },
        ];
        for view in views {
            assert!(tensor("x", view.clone(), &SIX).is_err(), "{view:?}");
        }
        assert!(View::row_major(&[0, usize::MAX, 4]).is_err());
        assert!(View::row_major(&[1; MAX_RANK + 1]).is_err());
    }
}
