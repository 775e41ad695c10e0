//! The kinds of checkpoints in `../shared/cases`, and seeds of the oracle that once failed, made by the
//! tests themselves.

use checkpoint::{Format, OutFormat, Source, Weights, write};
use spec::{Config, Model, ParamSpec};

use crate::fixtures::{load, refusal, specs};
use crate::writers::{
    Msgpack, Named, Pickle, bare_pth, bytes, npz, pth, storages, stored, without_checksums,
};

fn named() -> Vec<Named> {
    let formula = Weights::formula(&specs(), 0);
    let tensor = |spec: &ParamSpec| {
        let param = formula.get(&spec.name).unwrap();
        (spec.name.clone(), param.shape.clone(), param.data.clone())
    };
    specs().iter().map(tensor).collect()
}

/// The same tensors with other values.
fn averaged() -> Vec<Named> {
    let half =
        |(name, shape, values): Named| (name, shape, values.iter().map(|x| x * 0.5).collect());
    named().into_iter().map(half).collect()
}

fn assert_plain(what: &str, file: &[u8]) -> Weights {
    let weights = load(file).unwrap_or_else(|why| panic!("{what}: {why}"));
    for (name, shape, values) in named() {
        let param = weights.get(&name).unwrap_or_else(|| panic!("{what}: {name}"));
        assert_eq!((&param.shape, &param.data), (&shape, &values), "{what}: {name}");
    }
    assert_eq!(weights.names().count(), specs().len(), "{what}");
    weights
}

fn renamed(rename: impl Fn(&str) -> String) -> Vec<Named> {
    named().into_iter().map(|(name, shape, values)| (rename(&name), shape, values)).collect()
}

#[test]
fn negated_views_give_the_values_that_torch_load_gives() {
    // The last tensor, fc.bias, is every second value of a storage, negated.
    let (last, rest) = named().split_last().map(|(l, r)| (l.clone(), r.to_vec())).unwrap();
    let wide: Vec<f32> = last.2.iter().flat_map(|x| [9.0, -x]).collect();
    let mut files = storages(&rest);
    files.push(bytes(&wide));
    let body = |metadata: &[u8]| {
        let mut body = Pickle::default();
        body.state(&rest, 0).text(&last.0);
        let layout = (&last.1[..], &[2][..]);
        body.view("FloatStorage", (rest.len(), wide.len()), 1, layout, metadata).ops(b"s");
        pth(&body, &files)
    };
    assert_plain("neg", &body(b"}X\x03\x00\x00\x00neg\x88s"));
    let plain = load(&body(b"}X\x03\x00\x00\x00neg\x89s")).unwrap();
    assert_eq!(plain.get("fc.bias").unwrap().data[0], -last.2[0]);
    let none = load(&body(b"N")).unwrap();
    assert_eq!(plain.get("fc.bias"), none.get("fc.bias"));
    let text = refusal(&body(b"}X\x04\x00\x00\x00zero\x88s"));
    assert!(text.contains("the metadata `zero`, which is not supported"), "{text}");
    refusal(&body(b"K\x01"));
}

#[test]
fn archives_without_checksums_are_read_and_damaged_ones_are_not() {
    let whole = bare_pth(&named());
    assert_plain("plain", &whole);
    let plain = without_checksums(whole.clone());
    assert_ne!(whole, plain);
    assert_plain("no checksums", &plain);
    let mut damaged = whole;
    let at = damaged.len() / 2;
    damaged[at] ^= 1;
    assert!(load(&damaged).is_err());
}

#[test]
fn the_legacy_format_is_read_with_every_protocol() {
    for protocol in 2..=5u8 {
        let frame = |pickle: &[u8]| match protocol {
            // From protocol 4 on, a pickle states its length in a frame.
            4.. => {
                let length = (pickle.len() as u64 + 1).to_le_bytes();
                [&[0x80, protocol, 0x95], &length[..], pickle, b"."].concat()
            }
            _ => [&[0x80, protocol], pickle, b"."].concat(),
        };
        let mut state = Pickle::default();
        state.state(&named(), 0);
        let mut keys = Pickle::default();
        keys.ops(b"](");
        for key in 0..named().len() {
            keys.text(&key.to_string());
        }
        keys.ops(b"e");
        let magic = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19";
        let mut file =
            [frame(magic), frame(b"M\xe9\x03"), frame(b"}"), frame(&state.0), frame(&keys.0)]
                .concat();
        for (.., values) in named() {
            file.extend((values.len() as u64).to_le_bytes());
            file.extend(bytes(&values));
        }
        let weights = assert_plain(&format!("protocol {protocol}"), &file);
        assert_eq!(weights.provenance().format, Some(Format::TorchLegacy));
    }
}

/// A checkpoint as a trainer saves it: `{'params': {'lr': 1}, 'loss': tensor, KEY: {…}, 'optimizer':
/// {'state': {0: {'exp_avg': tensor}}}}`, with another set of weights if `more` is given.
fn trainer(key: &str, raw: &[Named], more: Option<(&str, &[Named])>) -> Vec<u8> {
    let mut files = storages(raw);
    let mut body = Pickle::default();
    body.ops(b"}(").text("params").ops(b"}").text("lr").ops(b"K\x01s");
    body.text("loss").tensor(raw.len(), &[]);
    body.text("optimizer").ops(b"}").text("state").ops(b"}K\x00}").text("exp_avg");
    body.tensor(raw.len() + 1, &[4]).ops(b"sss");
    files.extend([bytes(&[0.5]), bytes(&[1.0; 4])]);
    body.text(key).state(raw, 0);
    if let Some((key, tensors)) = more {
        body.text(key).state(tensors, files.len());
        files.extend(storages(tensors));
    }
    body.ops(b"u");
    pth(&body, &files)
}

#[test]
fn the_state_dict_is_found_anywhere_and_other_contents_are_reported() {
    for key in ["state_dict", "model_state_dict", "weights", "what_nobody_expects"] {
        let weights = assert_plain(key, &trainer(key, &named(), None));
        let provenance = weights.provenance();
        assert_eq!(provenance.section.as_deref(), Some(key));
        let others: Vec<_> = provenance.passed_over.iter().map(|o| o.key.as_str()).collect();
        assert_eq!(others, ["loss", "optimizer"], "{key}");
    }
    let mut deep = Pickle::default();
    deep.ops(b"]K\x01a}").text("a").ops(b"}").text("b").state(&named(), 0).ops(b"ssa");
    let deep = pth(&deep, &storages(&named()));
    let weights = assert_plain("deep", &deep);
    assert_eq!(weights.provenance().section.as_deref(), Some("1.a.b"));
    // A key may also select a dictionary around the set.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    std::fs::write(&path, deep).unwrap();
    for key in ["1", "1.a", "1/a/b"] {
        let source = Source::File { path: path.clone(), key: Some(key.to_owned()) };
        let found = Weights::load(&source, &specs()).unwrap();
        assert_eq!(found.provenance().section.as_deref(), Some("1.a.b"), "{key}");
    }
}

#[test]
fn of_raw_and_averaged_weights_the_raw_ones_are_taken_and_the_others_are_named() {
    for (key, other) in [("model", "ema"), ("state_dict", "state_dict_ema"), ("student", "teacher")]
    {
        let file = trainer(key, &named(), Some((other, &averaged())));
        let provenance = assert_plain(key, &file).provenance().clone();
        let told = &provenance.passed_over[0];
        assert_eq!((told.key.as_str(), told.ties, told.fits), (other, true, specs().len()));
        let note = provenance.note().unwrap();
        assert!(
            note.starts_with(&format!("`{key}` was taken; passed over: `{other}`, which fits")),
            "{note}"
        );
        assert!(provenance.to_string().ends_with(&format!("; set `{key}`)")), "{provenance}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.pth");
        std::fs::write(&path, &file).unwrap();
        let source = |key: &str| Source::File { path: path.clone(), key: Some(key.to_owned()) };
        let found = Weights::load(&source(other), &specs()).unwrap();
        assert_eq!(found.get("fc.bias").unwrap().data, averaged().last().unwrap().2);
        assert_eq!(found.provenance().section.as_deref(), Some(other));
        let text = Weights::load(&source("absent"), &specs()).unwrap_err().to_string();
        assert!(text.contains("no tensors under the key `absent`"), "{text}");
        assert!(text.contains(&format!("`{other}`")), "{text}");
    }
}

#[test]
fn sets_with_different_name_prefixes_are_distinguished() {
    let mut both = renamed(|name| format!("student.{name}"));
    let teacher = averaged().into_iter().map(|(n, s, v)| (format!("teacher.{n}"), s, v));
    both.extend(teacher.chain([("head_loss.scale".to_owned(), vec![2], vec![1.0, 2.0])]));
    for file in [bare_pth(&both), npz(&both)] {
        let weights = assert_plain("student", &file);
        assert_eq!(weights.provenance().section.as_deref(), Some("student"));
        let others = &weights.provenance().passed_over;
        let keys: Vec<_> = others.iter().map(|other| other.key.as_str()).collect();
        assert_eq!(keys, ["teacher", "head_loss.scale"]);
    }
}

#[test]
fn layers_of_a_deeper_network_are_not_another_set() {
    let mut more = named();
    more.push(("layer1.1.bn1.weight".to_owned(), vec![4], vec![1.0; 4]));
    assert!(refusal(&bare_pth(&more)).contains("does not know: `layer1.1.bn1.weight`"));
    // One dictionary for each module, as in Flax.
    let mut nested = Pickle::default();
    nested.ops(b"}(");
    for (at, (name, shape, _)) in more.iter().enumerate() {
        nested.text(name).ops(b"}").text("weight").tensor(at, shape).ops(b"s");
    }
    nested.ops(b"u");
    let text = refusal(&pth(&nested, &storages(&more)));
    assert!(text.contains("does not know") || text.contains("none of its"), "{text}");
}

#[test]
fn wrappers_and_counters_are_ignored() {
    let middle = |name: &str| match name.split_once('.') {
        Some((first, rest)) => format!("module.{first}._checkpoint_wrapped_module.{rest}"),
        None => name.to_owned(),
    };
    let mut tensors = renamed(middle);
    tensors.push(("best_acc1".to_owned(), vec![], vec![0.5]));
    assert_plain("wrapped", &bare_pth(&tensors));
    assert_plain("forward", &bare_pth(&renamed(|name| format!("_forward_module.module.{name}"))));
    let mut body = Pickle::default();
    body.state(&named(), 0).text("n_averaged");
    body.view("LongStorage", (named().len(), 1), 0, (&[], &[]), []).ops(b"s");
    let mut files = storages(&named());
    files.push(vec![3, 0, 0, 0, 0, 0, 0, 0]);
    let weights = assert_plain("n_averaged", &pth(&body, &files));
    assert_eq!(weights.provenance().ignored, 1);
}

#[test]
fn flax_msgpack_is_read_whole_or_in_parts() {
    let tensors = named();
    for most in [usize::MAX, 7] {
        let mut file = Msgpack::default();
        file.map(2).text("step").0.push(7);
        file.text("params").map(tensors.len());
        for (name, shape, values) in &tensors {
            file.text(name);
            match most {
                usize::MAX => file.array(shape, "float32", &bytes(values)),
                most => file.chunked(shape, values, most),
            };
        }
        let weights = assert_plain("msgpack", &file.0);
        assert_eq!(weights.provenance().format, Some(Format::Msgpack));
        for cut in (1..file.0.len()).step_by(97) {
            assert!(load(&file.0[..cut]).is_err(), "{cut} bytes");
        }
        let longer = [file.0.as_slice(), b"x"].concat();
        assert!(refusal(&longer).contains("1 bytes follow the end"));
    }
    let mut file = Msgpack::default();
    file.map(1).text("fc.bias").array(&[5], "int8", &[0; 5]);
    assert!(refusal(&file.0).contains("is stored as int8"), "{}", refusal(&file.0));
    let mut lists = vec![0x81, 0xa1, b'a'];
    lists.extend([0x91; 100_000]);
    assert!(refusal(&lists).contains("nest deeper"));
    assert!(refusal(b"\x81\xa1a\xdd\xff\xff\xff\xff").contains("truncated"));
}

/// Header lengths whose bytes look like the start of another format, including one that
/// `weights convert` itself writes.
#[test]
fn safetensors_are_read_for_any_length_of_their_header() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { depth: 101, width: 0.125, classes: 157, ..Config::default() };
    let specs = Model::new(config).unwrap().parameters().to_vec();
    let path = folder.path().join("w.safetensors");
    let before = Weights::formula(&specs, 0);
    write(&before, &path, OutFormat::Safetensors).unwrap();
    let after = Weights::load(&Source::file(path), &specs).unwrap();
    assert!(before.names().all(|name| before.get(name) == after.get(name)));

    let tensors = named();
    let list: Vec<_> =
        tensors.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
    let plain = crate::fixtures::safetensors(&list);
    let header = u64::from_le_bytes(plain[..8].try_into().unwrap()) as usize;
    for length in [0x0280, 0x0380, 0x10380, 0x0580, 0x4b50, 0x8b1f, 0x0a0a, 0xa682] {
        let Some(more) = usize::checked_sub(length, header) else { continue };
        let mut file = (length as u64).to_le_bytes().to_vec();
        file.extend(&plain[8..8 + header]);
        file.extend(vec![b' '; more]);
        file.extend(&plain[8 + header..]);
        let weights = assert_plain(&format!("{length:#x}"), &file);
        assert_eq!(weights.provenance().format, Some(Format::Safetensors));
    }
}

#[test]
fn other_kinds_of_files_are_named_with_advice() {
    let zip = |names: &[&str]| {
        let entries: Vec<_> = names.iter().map(|name| ((*name).to_owned(), vec![1])).collect();
        stored(&entries)
    };
    let mut tar = vec![b'x'; 600];
    tar[257..262].copy_from_slice(b"ustar");
    let module =
        b"\x80\x02c__main__\nNet\n)\x81}X\x05\x00\x00\x00_moductorch.nn.modules.conv\nConv2d\n.";
    let cases = [
        (
            zip(&["m/data.pkl", "m/constants.pkl", "m/code/a.py"]),
            "a TorchScript archive",
            "model.state_dict()",
        ),
        (
            zip(&["e/archive_format", "e/models/model.json"]),
            "an exported program",
            "model.state_dict()",
        ),
        (zip(&["serialized_exported_program.json"]), "an exported program", "model.state_dict()"),
        (
            module.to_vec(),
            "a whole module, saved as Python objects (__main__.Net)",
            "model.state_dict()",
        ),
        (b"\x1c\0\0\0ET12\0\0".to_vec(), "an ExecuTorch program", "model.state_dict()"),
        (b"\xfd7zXZ\0\0\x04".to_vec(), "compressed with xz", "unpack it first"),
        (b"\x5d\0\0\x80\0\xff\xff".to_vec(), "compressed with lzma", "unpack it first"),
        (b"BZh91AY&SY".to_vec(), "compressed with bzip2", "unpack it first"),
        (b"\x1f\x8b\x08\0".to_vec(), "compressed with gzip", "unpack it first"),
        (tar, "a tar archive", "unpack it first"),
    ];
    for (file, what, advice) in cases {
        let text = refusal(&file);
        assert!(text.contains(what) && text.contains(advice), "{text}");
        assert!(!text.contains("damaged"), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("default")).unwrap();
    std::fs::write(folder.path().join("default/manifest.ocdbt"), b"").unwrap();
    let text = Weights::load(&Source::file(folder.path()), &specs()).unwrap_err().to_string();
    assert!(text.contains("an Orbax checkpoint") && text.contains("to_bytes"), "{text}");
}

#[test]
fn tensors_that_cannot_be_weights_are_named_with_advice() {
    let (rest, last) = (&named()[..specs().len() - 1], named().pop().unwrap());
    let strange = |program: &[u8]| {
        let mut body = Pickle::default();
        body.state(rest, 0).text(&last.0).ops(program).ops(b"s");
        refusal(&pth(&body, &storages(rest)))
    };
    let cases = [
        ("_rebuild_sparse_tensor", "a sparse tensor", ".to_dense()"),
        ("_rebuild_qtensor", "a quantised tensor", ".dequantize()"),
        ("_rebuild_meta_tensor_no_storage", "a meta tensor", "load the values"),
        ("_rebuild_nested_tensor", "a nested tensor", ".to_padded_tensor"),
    ];
    for (function, what, advice) in cases {
        let text = strange(format!("ctorch._utils\n{function}\n)R").as_bytes());
        assert!(text.contains("tensor `fc.bias` is stored as") && text.contains(advice), "{text}");
        assert!(text.contains(what.trim_start_matches("a ")), "{text}");
    }
    let float8 = |class: &str, size: usize| {
        let mut body = Pickle::default();
        body.state(rest, 0).text(&last.0);
        let more = format!("ctorch\n{class}\n");
        body.ops(b"ctorch._utils\n_rebuild_tensor_v3\n((").text("storage");
        body.ops(b"ctorch.storage\nUntypedStorage\n").text(&rest.len().to_string()).text("cpu");
        body.number(5 * size).ops(b"tQK\0(K\x05t(K\x01t\x89ccollections\nOrderedDict\n)R");
        body.ops(more).ops(b"tRs");
        let mut files = storages(rest);
        files.push(vec![0x38; 5 * size]);
        refusal(&pth(&body, &files))
    };
    for (class, size) in [("float8_e4m3fn", 1), ("complex64", 8), ("int32", 4), ("uint16", 2)] {
        let text = float8(class, size);
        assert!(text.contains(&format!("tensor `fc.bias` is stored as {class}")), "{text}");
        assert!(!text.contains("damaged"), "{text}");
    }
}

/// A seed of the oracle that once failed: averages must not replace weights with one wrong tensor.
#[test]
fn averages_are_not_taken_because_one_of_the_weights_is_wrong() {
    let mut wrong = named();
    let last = wrong.len() - 1;
    (wrong[last].1, wrong[last].2) = (vec![4], vec![0.0; 4]);
    let text = refusal(&trainer("model", &wrong, Some(("ema", &averaged()))));
    assert!(text.contains("tensor `fc.bias` has the shape [4], expected [5]"), "{text}");
    wrong.pop();
    let text = refusal(&trainer("model", &wrong, Some(("ema", &averaged()))));
    assert!(text.contains("tensor `fc.bias`") && text.contains("missing"), "{text}");
    // A set for another network is not preferred because it comes first.
    let other: Vec<Named> = named()
        .into_iter()
        .map(|(name, shape, values)| {
            let values = [values.as_slice(), &values].concat();
            (name, [&[2], shape.as_slice()].concat(), values)
        })
        .collect();
    let weights = assert_plain("large", &trainer("large", &other, Some(("small", &named()))));
    assert_eq!(weights.provenance().section.as_deref(), Some("small"));
}
