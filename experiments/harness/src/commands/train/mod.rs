//! `harness train`: trains a small network on the built-in data set.

mod args;

pub use args::TrainArgs;

#[cfg(feature = "libtorch")]
mod run;
#[cfg(feature = "libtorch")]
pub use run::run;

/// Training needs libtorch.
#[cfg(not(feature = "libtorch"))]
pub fn run(_: &TrainArgs) -> anyhow::Result<crate::outcome::Outcome> {
    anyhow::bail!(
        "train: this harness was built without libtorch, which training needs; build it \
         with the default features"
    )
}
