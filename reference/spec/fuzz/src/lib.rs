//! What every fuzz target asserts: any bytes give a refusal of one line or weights that are sound,
//! and an inspection says the same as a load.

use std::io::{Cursor, Write};

use spec::weights::{Format, Inspection, ParamSpec, Weights, WeightsError, inspect_bytes};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Reads bytes as a format, and as what they seem to be.
pub fn check(format: Format, bytes: &[u8]) {
    let _ = inspect_bytes(bytes, "FILE", None, &[]).map_err(one_line);
    let Ok(found) = inspect_bytes(bytes, "FILE", Some(format), &[]).map_err(one_line) else {
        return;
    };
    let specs = wanted(&found);
    if specs.is_empty() {
        return;
    }
    // Of several sets in the file another one may fit these tensors better, and be damaged.
    let found = inspect_bytes(bytes, "FILE", Some(format), &specs).map_err(one_line);
    let loaded = Weights::from_bytes(bytes, "FILE", Some(format), &specs).map_err(one_line);
    let loadable = found.is_ok_and(|found| found.is_loadable());
    assert_eq!(loadable, loaded.is_ok(), "{:?}", loaded.err());
    if let Ok(weights) = loaded {
        specs.iter().for_each(|spec| sound(&weights, spec));
    }
}

/// A model that the file would fit.
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

fn sound(weights: &Weights, spec: &ParamSpec) {
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

/// An archive around the input, with checksums that are right, so that what is inside is reached.
pub fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).expect("a new entry");
        zip.write_all(bytes).expect("memory takes all");
    }
    zip.finish().expect("a directory").into_inner()
}
