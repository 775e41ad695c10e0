//! Lists which value of an ONNX file is which module: `matched FILE.onnx [depth [width [size [classes]]]]`,
//! for formula weights.

use std::path::Path;

use anyhow::{Context, Result};
use checkpoint::Weights;
use onnx::matching::matched;
use onnx::read::{Net, open};
use spec::{Config, Model};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default: f64| arguments.get(at).map_or(Ok(default), |text| text.parse::<f64>());
    let path =
        arguments.first().context("usage: matched FILE.onnx [depth [width [size [classes]]]]")?;
    let size = number(3, 64.0)? as usize;
    let config = Config {
        depth: number(1, 10.0)? as usize,
        width: number(2, 0.125)?,
        size: (size, size),
        classes: number(4, 7.0)? as usize,
        ..Config::default()
    };
    let model = Model::new(config)?;
    let weights = Weights::formula(model.parameters(), 0);
    let net = Net::new(open(Path::new(path))?)?;
    let found = matched(&net, &model, &weights)?;
    for module in model.modules() {
        let value = found.points.get(&module.id).map_or("-", |value| net.name(*value));
        println!("{:<45} {value}", module.name);
    }
    println!("{}, clip {}", found.precision, found.clip.words());
    for remark in &found.remarks {
        println!("{remark}");
    }
    Ok(())
}
