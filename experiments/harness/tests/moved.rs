//! `diff` of an ONNX file whose constants stand at other nodes than in the network: a right one passes, and a
//! mistake is found at its module.

mod common;
#[path = "../../onnx/tests/moving/mod.rs"]
mod moving;

use common::Harness;
use onnx::proto::ModelProto;
use prost::Message;

const MODEL: [&str; 8] = ["--depth", "18", "--width", "0.125", "--classes", "7", "--size", "64"];

#[test]
fn moved_constants_pass_and_a_mistake_among_them_is_found() {
    if std::env::var_os("HARNESS_PEERS").is_none() {
        return skip::skip!(Onnxruntime, "HARNESS_PEERS names no Python that has ONNX Runtime");
    }
    let h = Harness::new();
    let (right, moved) = (h.path("right.onnx"), h.path("moved.onnx"));
    h.run(&[&["export", "onnx", "--out", &right], &MODEL[..]].concat()).code(0);
    let bytes = std::fs::read(&right).unwrap();
    let mut file = ModelProto::decode(bytes.as_slice()).unwrap();
    moving::move_constants(&mut file);
    let candidate = format!("onnx:{moved}");
    let flags = [&["--candidate", &candidate], &MODEL[..]].concat();
    std::fs::write(&moved, file.encode_to_vec()).unwrap();
    let record = h.diff(&flags).passes();
    assert!(record.to_string().contains("constants that other nodes make up for"), "{record}");

    // The constant that is wrong, and the module that first goes wrong.
    let cases = [
        ("layer2.0.conv1.spatial_conv.glo_conv.1.bias", "layer2.0.conv1.spatial_conv.glo_conv.1"),
        ("layer2.0.conv1.spatial_conv.glo_conv.0.bias", "layer2.0.conv1.spatial_conv.glo_conv.0"),
        ("layer2.1.bn1.running_var", "layer2.1.bn1"),
    ];
    for (constant, module) in cases {
        let mut file = file.clone();
        moving::change(file.graph.as_mut().unwrap(), constant, |_, v| 1.1 * v + 0.1);
        std::fs::write(&moved, file.encode_to_vec()).unwrap();
        let record = h.diff(&flags).fails();
        assert_eq!(record["first_divergent"], module, "{constant}");
    }
}
