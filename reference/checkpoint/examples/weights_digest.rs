//! Prints a digest of the weights that are read from checkpoints, so that readers in other languages
//! can be compared with this one.
//!
//!     weights_digest DEPTH WIDTH CLASSES FILE[::KEY]…
//!
//! Without a file it lists the tensors of the model, such as `tensor NAME 16x48x5x5`. With files it
//! prints one line for each: `read DIGEST`, or `refused` and the error. The digest is a SHA-256. For
//! each tensor, in the order of the official names, it covers the name, a line feed, the extents as
//! 8 bytes each and the values as float64, all little-endian.

use std::process::ExitCode;

use checkpoint::{Source, Weights};
use sha2::{Digest, Sha256};
use spec::{Config, Model, ParamSpec};

fn digest(weights: &Weights) -> String {
    let mut sum = Sha256::new();
    for name in weights.names() {
        let Some(param) = weights.get(name) else { continue };
        sum.update(name);
        sum.update("\n");
        param.shape.iter().for_each(|&extent| sum.update((extent as u64).to_le_bytes()));
        param.to_f64().iter().for_each(|x| sum.update(x.to_le_bytes()));
    }
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn specs(depth: &str, width: &str, classes: &str) -> Option<Vec<ParamSpec>> {
    let (depth, classes) = (depth.parse().ok()?, classes.parse().ok()?);
    let config = Config { depth, width: width.parse().ok()?, classes, ..Config::default() };
    Some(Model::new(config).ok()?.parameters().to_vec())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [depth, width, classes, files @ ..] = args.as_slice() else {
        eprintln!("weights_digest: expected DEPTH WIDTH CLASSES FILE…");
        return ExitCode::from(2);
    };
    let Some(specs) = specs(depth, width, classes) else {
        eprintln!("weights_digest: no model has this depth, width and number of classes");
        return ExitCode::from(2);
    };
    for spec in specs.iter().filter(|_| files.is_empty()) {
        let extents: Vec<String> = spec.shape.iter().map(usize::to_string).collect();
        println!("tensor {} {}", spec.name, extents.join("x"));
    }
    for file in files {
        let loaded = file.parse::<Source>().map(|source| Weights::load(&source, &specs));
        match loaded {
            Ok(Ok(weights)) => println!("read {}", digest(&weights)),
            Ok(Err(why)) => println!("refused {why}"),
            Err(why) => println!("refused {why}"),
        }
    }
    ExitCode::SUCCESS
}
