//! Small checkpoints of every format, made by `reference/goldens/checkpoints/make.py`, and functions
//! that write invalid ones.

use std::path::PathBuf;

use checkpoint::{Weights, WeightsError};
use spec::ParamSpec;

/// The folder of the checkpoints.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../goldens/checkpoints")
}

pub fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// One file for each variant of each format.
pub const ALL: [&str; 15] = [
    "backbone.pth",
    "bare.npz",
    "bare.safetensors",
    "bare_legacy.pth",
    "flax_protocol2.pkl",
    "flax_protocol4.pkl",
    "flax_protocol5.pkl",
    "jax_arrays.pkl",
    "jax_bfloat16.pkl",
    "mindspore.ckpt",
    "mixed.npz",
    "mixed.pth",
    "turned.pth",
    "views_legacy.pth",
    "views_zip.pth",
];

/// The tensors in the checkpoints, in the order of make.py.
pub fn specs() -> Vec<ParamSpec> {
    let ctl = "layer1.0.conv2";
    let norm = |path: &str| {
        ["weight", "bias", "running_mean", "running_var"]
            .map(|leaf| (format!("{path}.{leaf}"), vec![4]))
    };
    let mut list = vec![("conv1.weight".to_owned(), vec![4, 6, 3, 3])];
    list.extend(norm("bn1"));
    list.push((format!("{ctl}.param_conv.1.weight"), vec![4, 4, 1, 1]));
    list.extend(norm(&format!("{ctl}.param_conv.2")));
    list.push((format!("{ctl}.spatial_conv.pos_embed"), vec![1, 3, 2, 5]));
    list.push((format!("{ctl}.spatial_conv.glo_conv.3.weight"), vec![3, 4, 3, 2]));
    list.push(("layer2.0.downsample.0.weight".to_owned(), vec![4, 1, 2, 2]));
    list.push(("fc.weight".to_owned(), vec![5, 4]));
    list.push(("fc.bias".to_owned(), vec![5]));
    list.into_iter().map(|(name, shape)| ParamSpec { name, shape }).collect()
}

pub fn load(bytes: &[u8]) -> Result<Weights, WeightsError> {
    Weights::from_bytes(bytes, "FILE", None, &specs())
}

/// The error for a file that must not load; it must be one line.
pub fn refusal(bytes: &[u8]) -> String {
    let text = load(bytes).expect_err("must not load").to_string();
    assert!(text.starts_with("FILE: "), "{text}");
    assert!(!text.contains('\n') && text.len() < 700, "{text}");
    text
}

/// A safetensors file with the given float32 tensors.
pub fn safetensors(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let (mut entries, mut body) = (Vec::new(), Vec::new());
    for (name, shape, values) in tensors {
        let from = body.len();
        body.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        let to = body.len();
        entries.push(format!(
            r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}"#
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(body);
    file
}

/// A pickle of protocol 2 that calls `module.name('argument')`.
pub fn call(module: &str, name: &str, argument: &str) -> Vec<u8> {
    let mut bytes = format!("\u{0}\u{2}c{module}\n{name}\n(").into_bytes();
    bytes[0] = 0x80;
    bytes.push(b'X');
    bytes.extend((argument.len() as u32).to_le_bytes());
    bytes.extend(argument.as_bytes());
    bytes.extend(b"tR.");
    bytes
}
