//! Times forward passes of the default network with formula weights, in float32.

use std::sync::Arc;
use std::time::Instant;

use checkpoint::{Weights, formula};
use scalar::Scalar;
use spec::{Config, Engine, Ignore, Model, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Arc::new(Model::new(Config::default())?);
    let weights = Weights::formula(model.parameters(), 0);
    let shape = model.input_shape(1);
    let input = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
    let mut engine = Scalar::<f32>::new(model, &weights)?;
    for _ in 0..3 {
        let start = Instant::now();
        let logits = engine.forward(&input, &mut Ignore)?;
        println!("{}: {:?}, {:.3?}", engine.describe(), logits.shape, start.elapsed());
    }
    Ok(())
}
