//! A tensor as a checkpoint holds it: a strided view of bytes that have not been read yet.

use std::borrow::Cow;
use std::rc::Rc;

use super::dtype::{DType, Endian, MAX_RANK};
use super::error::{Fault, quoted};
use super::inspect::not_weights;
use super::names::{self, Layout};
use crate::tensor::Data;

/// A number format, known or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Number {
    Known(DType, Endian),
    /// A format that is no plain number, under the name that the file gives it.
    Other(String),
}

impl Number {
    /// From numpy's code with its order of bytes: `<f4`.
    pub(super) fn by_code(code: &str) -> Number {
        let endian = if code.starts_with('>') { Endian::Big } else { Endian::Little };
        let plain = code.strip_prefix(['<', '>', '|', '=']).unwrap_or(code);
        match DType::by_code(plain) {
            Some(dtype) => Number::Known(dtype, endian),
            None => Number::Other(quoted(code)),
        }
    }

    /// `float32`, or what the file says.
    pub(super) fn name(&self) -> &str {
        match self {
            Number::Known(dtype, _) => dtype.name(),
            Number::Other(name) => name,
        }
    }
}

/// Where the bytes are.
#[derive(Debug, Clone)]
pub(super) enum Bytes<'a> {
    /// In the file as it is.
    Slice(&'a [u8]),
    /// In the file in another encoding.
    Decoded(Rc<[u8]>),
    /// In an entry of an archive, perhaps compressed.
    Entry {
        index: usize,
        /// Bytes before the numbers.
        skip: usize,
        /// Bytes of the numbers, as the archive announces them.
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

/// Shape and place of the values of a tensor, in values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) offset: usize,
}

impl View {
    /// Row-major, from the first value on.
    pub(super) fn row_major(shape: &[usize]) -> Result<View, Fault> {
        check_rank(shape)?;
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = times(strides[axis], shape[axis].max(1))?;
        }
        Ok(View { shape: shape.to_vec(), strides, offset: 0 })
    }

    /// First extent fastest, as Fortran has it.
    pub(super) fn column_major(shape: &[usize]) -> Result<View, Fault> {
        let reversed: Vec<usize> = shape.iter().rev().copied().collect();
        let mut view = View::row_major(&reversed)?;
        view.shape.reverse();
        view.strides.reverse();
        Ok(view)
    }

    /// How many values there are.
    pub(super) fn count(&self) -> Result<usize, Fault> {
        self.shape.iter().try_fold(1, |n, &extent| times(n, extent))
    }

    /// One more than the place of the last value.
    fn end(&self) -> Result<usize, Fault> {
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

    /// The view with PyTorch's order of dimensions.
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

    /// The bytes of the values in row-major order. `bytes` reaches to `end`.
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

    /// The place of the value after the one at `at`.
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

fn check_rank(shape: &[usize]) -> Result<(), Fault> {
    match shape.len() > MAX_RANK {
        true => Err(Fault::new(
            format!("has {} dimensions, more than the {MAX_RANK} that are read", shape.len()),
            "check that this is a checkpoint of SqueezeTime",
        )),
        false => Ok(()),
    }
}

fn times(a: usize, b: usize) -> Result<usize, Fault> {
    a.checked_mul(b).ok_or_else(|| too_large(&[a, b]))
}

fn too_large(shape: &[usize]) -> Fault {
    Fault::damaged(format!("a shape with the extents {shape:?} has no end"))
}

/// A tensor of a checkpoint.
#[derive(Debug, Clone)]
pub(super) struct RawTensor<'a> {
    /// As the file has it.
    pub(super) name: String,
    pub(super) number: Number,
    pub(super) view: View,
    pub(super) bytes: Bytes<'a>,
    /// Whether every value stands for its negative.
    pub(super) neg: bool,
}

impl<'a> RawTensor<'a> {
    /// Checks the view against the bytes that are there.
    pub(super) fn new(
        name: &str,
        number: Number,
        view: View,
        bytes: Bytes<'a>,
    ) -> Result<Self, Fault> {
        let tensor = RawTensor { name: name.to_owned(), number, view, bytes, neg: false };
        tensor.check().map_err(|fault| fault.of(name))?;
        Ok(tensor)
    }

    fn check(&self) -> Result<(), Fault> {
        check_rank(&self.view.shape)?;
        let (rank, strides) = (self.view.shape.len(), self.view.strides.len());
        if rank != strides {
            return Err(Fault::damaged(format!("it has {rank} extents but {strides} strides")));
        }
        let Number::Known(dtype, _) = self.number else { return Ok(()) };
        let there = self.bytes.len() / dtype.size();
        let (count, end) = (self.view.count()?, self.view.end()?);
        if end > there {
            return Err(Fault::damaged(format!(
                "the shape {:?} in {} reaches to value {end} but {there} are there",
                self.view.shape,
                dtype.name()
            )));
        }
        // Repeated values (stride 0) would let a small file describe any amount of numbers.
        if count > there {
            return Err(Fault::new(
                format!("repeats its {there} values to fill the shape {:?}", self.view.shape),
                "save it with tensor.contiguous()",
            ));
        }
        Ok(())
    }

    /// The same tensor, whose values stand for their negatives if `neg`.
    pub(super) fn negated_if(mut self, neg: bool) -> Self {
        self.neg ^= neg;
        self
    }

    /// The official name; none for what no forward pass reads.
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

    /// The values, row-major in the canonical shape. `entry` reads from an archive:
    /// the index of an entry, the bytes to leave out and the bytes to give.
    pub(super) fn values(
        &self,
        entry: impl FnOnce(usize, usize, usize) -> Result<Vec<u8>, Fault>,
    ) -> Result<Data, Fault> {
        let (dtype, endian) = self.float()?;
        let inflated;
        let bytes: &[u8] = match &self.bytes {
            Bytes::Slice(bytes) => bytes,
            Bytes::Decoded(bytes) => bytes,
            Bytes::Entry { index, skip, len } => {
                inflated = entry(*index, *skip, *len).map_err(|fault| fault.of(&self.name))?;
                &inflated
            }
        };
        let gathered = self.official().gather(bytes, dtype.size());
        let gathered =
            gathered.ok_or_else(|| Fault::damaged("values are missing").of(&self.name))?;
        let values = dtype.decode(&gathered, endian);
        Ok(if self.neg { negated(values) } else { values })
    }

    /// The format, if its numbers can be weights.
    pub(super) fn float(&self) -> Result<(DType, Endian), Fault> {
        match self.number {
            Number::Known(dtype, endian) if dtype.is_float() => Ok((dtype, endian)),
            _ => Err(Fault::new(
                format!(
                    "is stored as {}, {}",
                    quoted(self.number.name()),
                    not_weights(self.number.name()).0
                ),
                not_weights(self.number.name()).1,
            )
            .of(&self.name)),
        }
    }
}

/// The shape in PyTorch's order of dimensions of a tensor with this name in a file.
pub(super) fn official_shape(name: &str, shape: &[usize]) -> Vec<usize> {
    let view = View { shape: shape.to_vec(), strides: vec![0; shape.len()], offset: 0 };
    view.in_layout(names::layout(name)).shape
}

/// As PyTorch's `resolve_neg` has it: zeros change their sign too.
fn negated(values: Data) -> Data {
    match values {
        Data::F32(values) => Data::F32(values.into_iter().map(|x| -x).collect()),
        Data::F64(values) => Data::F64(values.into_iter().map(|x| -x).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, view: View, values: &[f32]) -> Result<Vec<f32>, Fault> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let number = Number::Known(DType::F32, Endian::Little);
        let raw = RawTensor::new(name, number, view, Bytes::Slice(&bytes))?;
        Ok(raw.values(|_, _, _| Err(Fault::damaged("there is no archive")))?.to_f32())
    }

    const SIX: [f32; 6] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];

    #[test]
    fn orders_of_dimensions_become_pytorch_s() {
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
