//! Malicious files: they must not run code, exhaust memory or run forever.

use std::io::{Cursor, Write};

use checkpoint::{Format, Weights};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::fixtures::{call, load, refusal, specs};

fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn npy(shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

/// A legacy file up to and including the pickle of the checkpoint.
fn legacy(checkpoint: &[u8]) -> Vec<u8> {
    let mut bytes =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    bytes.extend(checkpoint);
    bytes
}

#[test]
fn constructors_that_no_checkpoint_needs_are_named_and_nothing_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("was-here");
    let command = format!("touch {}", witness.display());
    let calls = [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("numpy", "load"),
        ("collections", "namedtuple"),
    ];
    for (module, name) in calls {
        let pickle = call(module, name, &command);
        let zipped = archive(&[("a/data.pkl", &pickle)], CompressionMethod::Stored);
        for bytes in [pickle.clone(), legacy(&pickle), zipped] {
            let text = refusal(&bytes);
            let expected = format!(
                "the pickle asks for {module}.{name}, which is not among the constructors that a \
                 checkpoint needs; no code was run"
            );
            assert!(text.contains(&expected), "{text}");
        }
    }
    assert!(!witness.exists());
}

#[test]
fn a_constructor_is_refused_however_it_is_asked_for() {
    let by_stack = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.".to_vec();
    let by_inst = b"\x80\x02(X\x02\x00\x00\x00idios\nsystem\n.".to_vec();
    let hidden = b"\x80\x02}(U\x01acos\nsystem\nU\x02id\x85Ru.".to_vec();
    let by_new = b"\x80\x02cos\nsystem\nU\x02id\x85\x81.".to_vec();
    for bytes in [by_stack, by_inst, hidden, by_new] {
        assert!(refusal(&bytes).contains("asks for os.system"), "{}", refusal(&bytes));
    }
    for extension in
        [&b"\x80\x02\x82\x01."[..], b"\x80\x02\x83\x01\x00.", b"\x80\x02\x84\x01\0\0\0."]
    {
        assert!(refusal(extension).contains("not one that a checkpoint uses"));
    }
}

#[test]
fn a_name_cannot_send_escape_codes_to_the_terminal() {
    let text = refusal(&call("os\x1b[2J", "system", "id"));
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn shapes_of_10_gib_in_1_kib_allocate_nothing() {
    let safetensors =
        br#"{"fc.bias":{"dtype":"F32","shape":[2684354560],"data_offsets":[0,10737418240]}}"#;
    let mut file = (safetensors.len() as u64).to_le_bytes().to_vec();
    file.extend(safetensors);
    file.resize(1024, 0);
    refusal(&file);

    for shape in
        ["(2684354560,)", "(99999999999, 99999999999, 99999999999)", "(0, 18446744073709551615, 4)"]
    {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let array = npy(shape, &[0; 512]);
            let text = refusal(&archive(&[("fc.bias.npy", &array)], method));
            assert!(text.contains("tensor `fc.bias`"), "{text}");
        }
    }

    // A MindSpore value with the tag "fc.bias" and a tensor of dims 2684354560, "Float32" and 16 bytes.
    let mindspore = b"\x0a\x2c\x0a\x07fc.bias\x12\x21\x08\x80\x80\x80\x80\x0a\x12\x07Float32\x1a\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let text = refusal(mindspore);
    assert!(text.contains("tensor `fc.bias`"), "{text}");
}

#[test]
fn an_archive_that_inflates_without_end_is_not_inflated() {
    let zeros = vec![0u8; 64 << 20];
    let bomb =
        archive(&[("fc.bias.npy", &npy("(16777216,)", &zeros))], CompressionMethod::Deflated);
    assert!(bomb.len() < 100_000);
    let text = refusal(&bomb);
    assert!(text.contains("has the shape [16777216], expected [5]"), "{text}");
    let bomb = archive(&[("a/data.pkl", &zeros)], CompressionMethod::Deflated);
    assert!(refusal(&bomb).contains("is compressed"));
}

#[test]
fn deep_nests_cycles_and_repetitions_end() {
    let nest = |open: &[u8], close: &[u8]| {
        let n = 1_000_000 / (open.len() + close.len());
        [b"\x80\x02", open.repeat(n).as_slice(), &close.repeat(n), b"."].concat()
    };
    let mut cases = vec![nest(b"(", b"t"), nest(b"]", b"a"), nest(b"}U\x01a", b"s"), vec![0x80, 2]];
    cases.push([&b"\x80\x02"[..], &b"(".repeat(2_000_000), b"."].concat());
    cases.push([&b"\x80\x02"[..], &b"N".repeat(2_000_000), b"."].concat());
    // A dictionary that contains itself.
    cases.push(b"\x80\x02}q\x00U\x05modelh\x00s.".to_vec());
    cases.push(b"\x80\x02}q\x00U\x06paramsh\x00s.".to_vec());
    // Twenty dictionaries, each of which contains the previous one twice: a million paths.
    let doubled = b"q\x00}(U\x01ah\x00U\x01bh\x00u".repeat(20);
    cases.push([&b"\x80\x02}"[..], &doubled, b"q\x00}U\x06paramsh\x00s."].concat());
    // A tuple that is copied into 50 000 constructors.
    let copies = b"h\x00\x85ccollections\nOrderedDict\nh\x00R0".repeat(50_000);
    cases.push([&b"\x80\x02("[..], &b"K\x01".repeat(1000), b"tq\x00", &copies, b"."].concat());
    // A key of a megabyte with 65 000 tensors under it, which would give 65 000 such names.
    let long = [b"X\x40\x42\x0f\x00".as_slice(), &b"n".repeat(1_000_000)].concat();
    let entries = b"U\x01ah\x00".repeat(65_000);
    cases.push([b"\x80\x02}U\x06params}", &long[..], b"}q\x00(", &entries, b"usss."].concat());
    cases.push(b"\x80\x02}r\xff\xff\xff\xff.".to_vec());
    for bytes in cases {
        refusal(&bytes);
    }
}

#[test]
fn an_expanded_tensor_is_not_multiplied() {
    // A storage of one value, viewed as 2 684 354 560 values with stride 0.
    let pickle = b"\x80\x02}U\x07fc.biasctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQK\x00\x8a\x05\x00\x00\x00\xa0\x00\x85K\x00\x85\x89}tRs.";
    let file = archive(&[("a/data.pkl", pickle), ("a/data/0", &[0; 4])], CompressionMethod::Stored);
    let text = refusal(&file);
    assert!(text.contains("tensor `fc.bias` repeats its 1 values"), "{text}");
}

#[test]
fn lengths_that_no_file_has_are_refused() {
    let huge = u64::MAX.to_le_bytes();
    let after = |start: &[u8], rest: &[u8]| [start, &huge, rest].concat();
    let cases = [
        after(b"\x80\x04\x8d", b"x."),
        after(b"\x80\x04\x8e", b"x."),
        after(b"\x80\x04\x95", b"X\xff\xff\xff\xff."),
        after(b"", b"{}"),
        b"\x80\x04\x8b\xff\xff\xff\xffx.".to_vec(),
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0a".to_vec(),
    ];
    for bytes in cases {
        refusal(&bytes);
        for format in Format::all() {
            assert!(Weights::from_bytes(&bytes, "FILE", Some(format), &specs()).is_err());
        }
    }
    assert!(load(&[]).is_err());
}
