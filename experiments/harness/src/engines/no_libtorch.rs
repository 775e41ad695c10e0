//! Stands in for the engine `torch` in a build without libtorch.

use std::sync::Arc;

use anyhow::{Result, bail};
use checkpoint::Weights;
use spec::{Engine, Model, Precision};

use crate::flags::DeviceName;

/// There is no libtorch, hence no version.
pub const VERSION: Option<&str> = None;

/// Where the engine would run.
pub type Place = ();

/// Nothing has to be opened.
pub fn open(_: DeviceName, _: usize) -> Result<Place> {
    Ok(())
}

/// Fails, because the engine was not built. The Python package says why it has started this build.
pub fn load(_: Arc<Model>, _: &Weights, _: Precision, _: Place) -> Result<Box<dyn Engine>> {
    match std::env::var("HARNESS_WITHOUT_TORCH") {
        Ok(why) => bail!("this harness runs without libtorch: {why}, or use the engine scalar"),
        Err(_) => bail!(
            "this harness was built without libtorch; use scalar, or build with the default features"
        ),
    }
}

pub use load as load_unfolded;
