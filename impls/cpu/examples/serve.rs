use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;
use cpu::{load, Options};
use spec::weights::{Weights, formula};
use spec::{Config, Ignore, Model, Precision, Tensor};
fn main() {
    let w: Vec<String> = std::env::args().skip(1).collect();
    let p = if w[0] == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let (batch, threads) = (w[1].parse().unwrap(), w[2].parse().unwrap());
    let model = Arc::new(Model::new(Config::default()).unwrap());
    let weights = Weights::formula(model.parameters(), 0);
    let shape = model.input_shape(batch);
    let input = Tensor::f32(shape.clone(), formula::input(shape.iter().product(), 0));
    let mut e = load(model, &weights, p, Options { threads, batch, ..Options::default() }).unwrap();
    println!("ready");
    for _ in std::io::stdin().lock().lines() {
        let s = Instant::now();
        e.forward(&input, &mut Ignore).unwrap();
        println!("{}", s.elapsed().as_secs_f64());
    }
}
