//! The properties that every fuzz target asserts: any bytes give either an error of one line or valid
//! weights, and inspecting and loading agree.

use std::io::{Cursor, Write};

use checkpoint::{Format, Inspection, Weights, WeightsError, inspect_bytes};
use spec::ParamSpec;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Reads `bytes` as the given format, and also in the format that their content suggests. Panics if a
/// property does not hold.
pub fn check(format: Format, bytes: &[u8]) {
    let _ = inspect_bytes(bytes, "FILE", None, &[]).map_err(one_line);
    let Ok(found) = inspect_bytes(bytes, "FILE", Some(format), &[]).map_err(one_line) else {
        return;
    };
    let specs = wanted(&found);
    if specs.is_empty() {
        return;
    }
    // With these tensors wanted, the reader may choose another set in the file, and that may be damaged.
    let found = inspect_bytes(bytes, "FILE", Some(format), &specs).map_err(one_line);
    let loaded = Weights::from_bytes(bytes, "FILE", Some(format), &specs).map_err(one_line);
    let loadable = found.is_ok_and(|found| found.is_loadable());
    assert_eq!(loadable, loaded.is_ok(), "{:?}", loaded.err());
    if let Ok(weights) = loaded {
        specs.iter().for_each(|spec| assert_valid(&weights, spec));
    }
}

/// The tensors of a made-up model that the file would fit.
fn wanted(found: &Inspection) -> Vec<ParamSpec> {
    let mut specs: Vec<ParamSpec> = Vec::new();
    for tensor in &found.tensors {
        let Some(name) = &tensor.canonical else { continue };
        if !specs.iter().any(|spec| spec.name == *name) && specs.len() < 64 {
            specs.push(ParamSpec { name: name.clone(), shape: tensor.canonical_shape.clone() });
        }
    }
    specs
}

fn assert_valid(weights: &Weights, spec: &ParamSpec) {
    let param = weights.get(&spec.name).expect("a tensor that was loaded");
    assert_eq!(param.shape, spec.shape);
    assert_eq!(param.data.len(), spec.shape.iter().product::<usize>());
    assert!(param.data.iter().all(|x| x.is_finite()));
}

fn one_line(error: WeightsError) -> WeightsError {
    let text = error.to_string();
    assert!(text.starts_with("FILE: ") && !text.contains(['\n', '\x1b']), "{text:?}");
    assert!(text.len() < 2000, "{text:?}");
    error
}

/// Makes a zip archive with correct checksums, so that mutations of its contents reach the readers.
pub fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).expect("a new entry");
        zip.write_all(bytes).expect("a write to memory");
    }
    zip.finish().expect("a complete archive").into_inner()
}
