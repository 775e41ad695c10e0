//! Every variant of every format gives the formula weights, bit for bit.

use std::io::{Cursor, Read, Write};

use checkpoint::{Format, Naming, Weights, inspect};
use half::{bf16, f16};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::fixtures::{ALL, bytes, folder, load, refusal, specs};

fn assert_bits(file: &str, found: &Weights, convert: impl Fn(usize, f32) -> f32) {
    let formula = Weights::formula(&specs(), 0);
    for (place, spec) in specs().iter().enumerate() {
        let expected = formula.get(&spec.name).unwrap();
        let param = found.get(&spec.name).unwrap_or_else(|| panic!("{file}: {}", spec.name));
        assert_eq!(param.shape, expected.shape, "{file}: {}", spec.name);
        let expected: Vec<u32> =
            expected.data.iter().map(|&x| convert(place, x).to_bits()).collect();
        let bits: Vec<u32> = param.data.iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, expected, "{file}: {}", spec.name);
    }
    assert_eq!(found.names().count(), specs().len(), "{file}");
}

fn half(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

fn bfloat(x: f32) -> f32 {
    bf16::from_f32(x).to_f32()
}

#[test]
fn every_format_holds_the_same_weights() {
    let cases = [
        ("bare.npz", Format::Npz, Naming::Bare),
        ("bare.safetensors", Format::Safetensors, Naming::Bare),
        ("bare_legacy.pth", Format::TorchLegacy, Naming::Bare),
        ("flax_protocol2.pkl", Format::Pickle, Naming::Flax),
        ("flax_protocol4.pkl", Format::Pickle, Naming::Flax),
        ("flax_protocol5.pkl", Format::Pickle, Naming::Flax),
        ("jax_arrays.pkl", Format::Pickle, Naming::Flax),
        ("mindspore.ckpt", Format::MindSpore, Naming::MindSpore),
        ("mmaction.pth", Format::TorchZip, Naming::Mmaction2),
        ("turned.pth", Format::TorchZip, Naming::Bare),
        ("views_legacy.pth", Format::TorchLegacy, Naming::Bare),
        ("views_zip.pth", Format::TorchZip, Naming::Bare),
    ];
    for (file, format, naming) in cases {
        let weights = load(&bytes(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert_bits(file, &weights, |_, x| x);
        let provenance = weights.provenance();
        assert_eq!(provenance.format, Some(format), "{file}");
        assert_eq!(provenance.naming, Some(naming), "{file}");
        assert_eq!(provenance.dtypes, [("float32".to_owned(), specs().len())].into(), "{file}");
        assert!(weights.has_head(), "{file}");
    }
}

#[test]
fn other_number_formats_are_rounded_once() {
    let weights = load(&bytes("mixed.npz")).unwrap();
    assert_bits("mixed.npz", &weights, |place, x| if place % 4 == 1 { half(x) } else { x });
    let weights = load(&bytes("mixed.pth")).unwrap();
    assert_bits("mixed.pth", &weights, |place, x| [x, half(x), bfloat(x), x][place % 4]);
    let provenance = weights.provenance();
    assert_eq!(provenance.section.as_deref(), Some("state_dict_ema"));
    assert_eq!(
        provenance.dtypes.keys().collect::<Vec<_>>(),
        ["bfloat16", "float16", "float32", "float64"]
    );
    let weights = load(&bytes("jax_bfloat16.pkl")).unwrap();
    assert_bits("jax_bfloat16.pkl", &weights, |_, x| bfloat(x));
}

#[test]
fn mindspore_s_checksum_is_verified() {
    let plain = bytes("mindspore.ckpt");
    let with = |checksum: u32| {
        let number = [&[0; 6], checksum.to_be_bytes().as_slice()].concat();
        [plain.as_slice(), b"crc_num", &number].concat()
    };
    let checksum = crc32fast::hash(&plain);
    assert_bits("with checksum", &load(&with(checksum)).unwrap(), |_, x| x);
    assert!(refusal(&with(!checksum)).contains("the trailing checksum does not match"));
}

#[test]
fn big_endian_archives_of_pytorch_are_read() {
    let mut old = ZipArchive::new(Cursor::new(bytes("mmaction.pth"))).unwrap();
    let mut new = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for index in 0..old.len() {
        let mut entry = old.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if name.ends_with("byteorder") {
            content = b"big".to_vec();
        } else if name.contains("/data/") {
            content.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        }
        new.start_file(name, stored).unwrap();
        new.write_all(&content).unwrap();
    }
    let file = new.finish().unwrap().into_inner();
    assert_bits("big-endian", &load(&file).unwrap(), |_, x| x);
}

#[test]
fn a_checkpoint_without_classifier_loads_without_a_head() {
    let weights = load(&bytes("backbone.pth")).unwrap();
    assert!(!weights.has_head());
    assert_eq!(weights.names().count(), specs().len() - 2);
    let found = inspect(&folder().join("backbone.pth"), &specs()).unwrap();
    assert!(!found.has_head && found.is_loadable() && found.missing.is_empty());
}

#[test]
fn a_model_without_classifier_takes_a_whole_checkpoint() {
    let specs = &specs()[..specs().len() - 2];
    let weights = Weights::from_bytes(&bytes("mmaction.pth"), "FILE", None, specs).unwrap();
    assert!(!weights.has_head());
    assert_eq!(weights.provenance().ignored, 3, "the classifier and num_batches_tracked");
}

#[test]
fn an_inspection_lists_names_and_shapes_of_the_file_and_of_the_model() {
    let found = inspect(&folder().join("flax_protocol4.pkl"), &specs()).unwrap();
    let kernel = found.tensors.iter().find(|t| t.name == "params/conv1/kernel").unwrap();
    assert_eq!(kernel.canonical.as_deref(), Some("conv1.weight"));
    assert_eq!(
        (kernel.shape.as_slice(), kernel.canonical_shape.as_slice()),
        (&[3, 3, 6, 4][..], &[4, 6, 3, 3][..])
    );
    for file in ALL {
        let found = inspect(&folder().join(file), &specs()).unwrap();
        assert!(found.is_loadable(), "{file}: {:?}", found.problems().collect::<Vec<_>>());
        assert_eq!(found.sha256.len(), 64, "{file}");
    }
}

#[test]
fn a_change_in_a_copy_leaves_the_original() {
    let weights = Weights::formula(&specs(), 0);
    let mut copy = weights.clone();
    copy.get_mut("fc.bias").unwrap().data[0] = 7.0;
    assert_eq!(copy.get("fc.bias").unwrap().data[0], 7.0);
    assert_ne!(weights.get("fc.bias").unwrap().data[0], 7.0);
    assert!(copy.get_mut("fc.bais").is_none());
}
