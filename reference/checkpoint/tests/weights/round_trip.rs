//! Files that this crate writes are read again bit for bit.

use checkpoint::{Format, OutFormat, Source, Weights, write};

use crate::fixtures::{bytes, load, specs};

const FORMATS: [(&str, OutFormat, Format); 3] = [
    ("out.safetensors", OutFormat::Safetensors, Format::Safetensors),
    ("out.npz", OutFormat::Npz, Format::Npz),
    ("out.pth", OutFormat::Pth, Format::TorchZip),
];

#[test]
fn every_input_survives_every_output() {
    let folder = tempfile::tempdir().unwrap();
    for file in
        ["mmaction.pth", "flax_protocol4.pkl", "mindspore.ckpt", "mixed.pth", "backbone.pth"]
    {
        let before = load(&bytes(file)).unwrap();
        for (name, format, read_as) in FORMATS {
            let path = folder.path().join(name);
            assert_eq!(OutFormat::by_ending(&path), Some(format));
            write(&before, &path, format).unwrap();
            let after = Weights::load(&Source::file(path), &specs()).unwrap();
            assert_eq!(after.provenance().format, Some(read_as));
            assert!(before.names().eq(after.names()), "{file} as {name}");
            for tensor in before.names() {
                assert_eq!(before.get(tensor), after.get(tensor), "{file} as {name}: {tensor}");
            }
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), FORMATS.len(), "no partial files are left: {left:?}");
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let weights = Weights::formula(&specs(), 0);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let inside = folder.path().join("file/out.npz");
    for path in [folder.path(), inside.as_path()] {
        let text = write(&weights, path, OutFormat::Npz).unwrap_err().to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
    }
    assert_eq!(OutFormat::by_ending(folder.path()), None);
}
