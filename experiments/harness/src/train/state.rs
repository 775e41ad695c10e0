//! The state of a training on disk: a safetensors file with parameters, running statistics and momenta,
//! and with the finished epochs in its metadata. An interrupted training is resumed from it, bit for bit.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use checkpoint::Weights;
use record::Epoch;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use spec::{Model, Tensor};

/// Prefix of a momentum's name, before the name of its parameter.
const MOMENTUM: &str = "momentum/";
/// The key in the metadata that holds the [`Progress`].
const KEY: &str = "training";

/// The settings of a training and its finished epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The settings; a training can be resumed only with the same ones.
    pub settings: BTreeMap<String, String>,
    /// Loss and accuracy of each finished epoch.
    pub epochs: Vec<Epoch>,
}

/// The whole state of a training.
pub struct State {
    /// Settings and finished epochs.
    pub progress: Progress,
    /// Parameters and running statistics of the network.
    pub weights: Weights,
    /// Momenta by the names of their parameters.
    pub momenta: BTreeMap<String, Tensor>,
}

impl State {
    /// Writes the state to `path`, atomically.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
        for name in self.weights.names() {
            let Some(param) = self.weights.get(name) else { continue };
            tensors.insert(name.to_owned(), (param.shape.clone(), bytes(&param.data)));
        }
        for (name, tensor) in &self.momenta {
            let data = (tensor.shape.clone(), bytes(&tensor.to_f32()));
            tensors.insert(format!("{MOMENTUM}{name}"), data);
        }
        let views = tensors
            .iter()
            .map(|(name, (shape, data))| {
                Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        let progress = serde_json::to_string(&self.progress)?;
        let content = safetensors::serialize(views, Some(HashMap::from([(KEY.into(), progress)])))?;
        crate::disk::write(path, &content)
    }

    /// Reads a file that [`State::write`] has written with the same settings.
    pub fn read(path: &Path, model: &Model, settings: &BTreeMap<String, String>) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| {
            format!(
                "{}: cannot be read; delete it, or give another --out, to start over",
                path.display()
            )
        })?;
        let damaged =
            || format!("{}: is not the state of a training by this harness", path.display());
        let (_, header) = SafeTensors::read_metadata(&bytes).with_context(damaged)?;
        let progress = header.metadata().as_ref().and_then(|data| data.get(KEY));
        let progress: Progress =
            serde_json::from_str(progress.with_context(damaged)?).with_context(damaged)?;
        if progress.settings != *settings {
            bail!(
                "{}: was trained with other settings; give the same settings, or another --out",
                path.display()
            );
        }
        let file = SafeTensors::deserialize(&bytes).with_context(damaged)?;
        let mut weights = Weights::formula(model.parameters(), 0);
        let mut momenta = BTreeMap::new();
        for wanted in model.parameters() {
            let name = &wanted.name;
            let param = weights.get_mut(name).with_context(damaged)?;
            param.data = floats(&file, name, &wanted.shape).with_context(damaged)?;
            let moved = format!("{MOMENTUM}{name}");
            if file.tensor(&moved).is_ok() {
                let data = floats(&file, &moved, &wanted.shape).with_context(damaged)?;
                momenta.insert(name.clone(), Tensor::f32(wanted.shape.clone(), data));
            }
        }
        Ok(State { progress, weights, momenta })
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(file: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = file.tensor(name)?;
    if tensor.shape() != shape || tensor.dtype() != Dtype::F32 {
        bail!(
            "tensor `{name}` is {:?} {:?}, expected {shape:?} F32",
            tensor.shape(),
            tensor.dtype()
        );
    }
    let value = |chunk: &[u8]| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    Ok(tensor.data().chunks_exact(4).map(value).collect())
}
