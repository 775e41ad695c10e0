//! Damaged and hostile files: each is refused in a sentence, before anything large is allocated.

use std::path::Path;

use onnx::proto::{
    GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use onnx::read::{Net, open};
use prost::Message;

fn node(op: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: op.to_owned(),
        ..Default::default()
    }
}

fn info(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), r#type: None }
}

fn file(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        node,
        initializer,
        input: vec![info("x")],
        output: vec![info("y")],
        ..Default::default()
    };
    ModelProto { graph: Some(graph), ..Default::default() }
}

fn refused(file: ModelProto) -> String {
    format!("{:#}", Net::new(file).err().expect("the file must be refused"))
}

fn tensor(dims: &[i64], bytes: usize) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: 1,
        name: "w".to_owned(),
        raw_data: vec![0; bytes],
        ..Default::default()
    }
}

#[test]
fn values_must_be_computed_before_they_are_read() {
    let missing = refused(file(vec![node("Relu", &["z\u{1b}[31m"], "y")], vec![]));
    assert!(missing.contains("which nothing in the file computes"), "{missing}");
    assert!(!missing.contains('\u{1b}'), "{missing}");
    let cycle = refused(file(vec![node("Relu", &["b"], "a"), node("Relu", &["a"], "b")], vec![]));
    assert!(cycle.contains("out of order, or form a cycle"), "{cycle}");
    let twice = refused(file(vec![node("Relu", &["x"], "y"), node("Relu", &["x"], "y")], vec![]));
    assert!(twice.contains("defined twice"), "{twice}");
    let unread = refused(file(vec![node("Relu", &["x"], "a")], vec![]));
    assert!(unread.contains("the output `y` is computed by no node"), "{unread}");
}

#[test]
fn sizes_are_checked() {
    let good = || vec![node("Relu", &["x"], "y")];
    let short = refused(file(good(), vec![tensor(&[2, 3], 20)]));
    assert!(short.contains("has 20 bytes, but its shape [2, 3] needs 6 values"), "{short}");
    let huge = refused(file(good(), vec![tensor(&[i64::MAX, i64::MAX], 4)]));
    assert!(huge.contains("impossible shape"), "{huge}");
    let negative = refused(file(good(), vec![tensor(&[-1], 4)]));
    assert!(negative.contains("impossible shape"), "{negative}");
    let empty = refused(file(good(), vec![tensor(&[1 << 40], 0)]));
    assert!(empty.contains("has 0 values"), "{empty}");
}

fn opened(folder: &Path, file: &ModelProto) -> String {
    let path = folder.join("m.onnx");
    std::fs::write(&path, file.encode_to_vec()).unwrap();
    format!("{:#}", open(&path).expect_err("the file must be refused"))
}

#[test]
fn external_data_stay_in_the_folder_and_are_as_long_as_stated() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), [0; 16]).unwrap();
    let external = |location: &str, offset: &str, dims: &[i64]| {
        let mut tensor = tensor(dims, 0);
        tensor.data_location = 1;
        for (key, value) in [("location", location), ("offset", offset)] {
            let (key, value) = (key.to_owned(), value.to_owned());
            tensor.external_data.push(StringStringEntryProto { key, value });
        }
        file(vec![node("Relu", &["x"], "y")], vec![tensor])
    };
    for location in ["../data", "/etc/passwd", "a/../../data", ""] {
        let error = opened(folder.path(), &external(location, "0", &[4]));
        assert!(error.contains("is not in the folder"), "{location}: {error}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).unwrap();
        let error = opened(folder.path(), &external("link", "0", &[1]));
        assert!(error.contains("leads out of the folder"), "{error}");
    }
    let error = opened(folder.path(), &external("data", "8", &[4]));
    assert!(error.contains("which has 16 bytes"), "{error}");
    let error = opened(folder.path(), &external("data", "0", &[1 << 40]));
    assert!(error.contains("which has 16 bytes"), "{error}");
    let error = opened(folder.path(), &external("data", "18446744073709551615", &[4]));
    assert!(error.contains("which has 16 bytes"), "{error}");
    let error = opened(folder.path(), &external("gone", "0", &[4]));
    assert!(error.contains("cannot be opened"), "{error}");
}

#[test]
fn what_is_not_onnx_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for (bytes, said) in
        [(&b"not a model at all"[..], "is not an ONNX file"), (b"", "holds no graph")]
    {
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", open(&path).err().unwrap());
        assert!(error.contains(said), "{error}");
    }
    let error = format!("{:#}", open(&folder.path().join("gone")).err().unwrap());
    assert!(error.contains("cannot be read"), "{error}");
}
