//! Stands in for the engine `cuda` in a build without it.

use std::sync::Arc;

use anyhow::{Result, bail};
use checkpoint::Weights;
use spec::{Engine, Model, Precision};

use crate::flags::DeviceName;

/// Fails for every GPU.
pub fn check(device: DeviceName) -> Result<()> {
    if device.is_gpu() {
        bail!("--device {device}: this harness was built without CUDA; use --device cpu");
    }
    Ok(())
}

/// No GPU computes in this build.
pub fn name(_: DeviceName) -> Option<String> {
    None
}

/// Fails, because the engine was not built.
pub fn load(_: Arc<Model>, _: &Weights, _: Precision, _: DeviceName) -> Result<Box<dyn Engine>> {
    bail!("this harness was built without CUDA; use the engine cpu, or build with the feature cuda")
}
