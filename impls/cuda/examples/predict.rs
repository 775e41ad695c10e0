//! Predicts the time of each kind of step of the default network in bfloat16 on an H100, by the model
//! of [`cuda::run::predict`]. It runs on any machine with a C++ compiler:
//!
//! ```text
//! cargo run --release -p cuda --example predict -- 256
//! ```
//!
//! The argument is the number of clips; without one, 256 and 1 are predicted.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkpoint::Weights;
use cuda::Cuda;
use cuda::device::Host;
use cuda::kernels::tile::BandSupport;
use spec::{Config, Model, Precision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asked: Vec<usize> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let model = Arc::new(Model::new(Config::default())?);
    let weights = Weights::formula(model.parameters(), 0);
    let engine = |bands| -> Result<Cuda, Box<dyn std::error::Error>> {
        let mut host = Host::new(132)?;
        host.bands = bands;
        Ok(Cuda::new(model.clone(), &weights, Precision::Bf16, Box::new(host))?)
    };
    let cuda = engine(BandSupport::Planes)?;
    let clips = if asked.is_empty() { vec![256, 1] } else { asked };
    for clips in clips {
        table(&cuda, clips)?;
    }
    Ok(())
}

fn table(cuda: &Cuda, clips: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut kinds: BTreeMap<(&str, &str), (usize, [f64; 4])> = BTreeMap::new();
    for (kind, way, p) in cuda.predict(clips)? {
        let (count, sums) = kinds.entry((kind, way)).or_default();
        *count += p.launches;
        for (sum, part) in sums.iter_mut().zip([p.compute, p.l2, p.memory, p.seconds]) {
            *sum += part * 1e3;
        }
    }
    println!("{clips} clips, predicted milliseconds on an H100 (no measurement):");
    println!(
        "{:24} {:6} {:>8} {:>9} {:>9} {:>9} {:>10}",
        "kind", "way", "launches", "compute", "L2", "memory", "predicted"
    );
    for ((kind, way), (count, [compute, l2, memory, all])) in &kinds {
        println!("{kind:24} {way:6} {count:8} {compute:9.3} {l2:9.3} {memory:9.3} {all:10.3}");
    }
    let (count, total) =
        kinds.values().fold((0, 0.0), |(n, sum), (count, sums)| (n + count, sum + sums[3]));
    println!("{:24} {:6} {count:8} {:>9} {:>9} {:>9} {total:10.3}", "all", "", "", "", "");
    println!();
    Ok(())
}
