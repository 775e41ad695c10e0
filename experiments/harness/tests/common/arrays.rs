//! Dumps of a small network as arrays that a test changes and compares.

use std::collections::BTreeMap;
use std::fs::File;

use ndarray::ArrayD;
use ndarray_npy::{NpzReader, NpzWriter};

use super::{Harness, Run};

pub const SMALL: [&str; 8] =
    ["--depth", "10", "--width", "0.125", "--classes", "7", "--size", "64"];

pub type Arrays = BTreeMap<String, ArrayD<f32>>;

/// A dump of every module, with these flags.
pub fn dumped(h: &Harness, more: &[&str]) -> Arrays {
    let out = h.path("dumped.npz");
    let fixed = ["dump", "--engine", "scalar", "--out", &out];
    h.run(&[&fixed, &SMALL[..], more].concat()).code(0);
    read(&out)
}

/// The arrays of a file.
pub fn read(path: &str) -> Arrays {
    let mut npz = NpzReader::new(File::open(path).unwrap()).unwrap();
    let names = npz.names().unwrap();
    let array = |name: String| (name.trim_end_matches(".npy").to_owned(), name);
    names.into_iter().map(array).map(|(short, name)| (short, npz.by_name(&name).unwrap())).collect()
}

/// Writes arrays to a file, and returns it as a participant.
pub fn written(h: &Harness, name: &str, arrays: &Arrays) -> String {
    let path = h.path(name);
    let mut out = NpzWriter::new(File::create(&path).unwrap());
    for (name, array) in arrays {
        out.add_array(name, array).unwrap();
    }
    out.finish().unwrap();
    format!("npz:{path}")
}

pub fn diff(h: &Harness, arrays: &Arrays, more: &[&str]) -> Run {
    let candidate = written(h, "changed.npz", arrays);
    h.diff(&[&["--candidate", &candidate], &SMALL[..], more].concat())
}

pub fn some(arrays: &Arrays, names: &[&str]) -> Arrays {
    names.iter().map(|name| ((*name).to_owned(), arrays[*name].clone())).collect()
}
