//! The command line of `harness gpu-check`.

use std::path::PathBuf;

use clap::Args;

use crate::flags::DeviceName;

/// The arguments of `harness gpu-check`.
#[derive(Debug, Args)]
pub struct GpuCheckArgs {
    /// The GPU to check: cuda or cuda:N.
    #[arg(long, default_value_t = DeviceName::Cuda(None))]
    pub device: DeviceName,
    /// Folder of the run; the default is a new folder under runs/.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Run only the steps whose names begin with one of these, such as `bench,diff bf16`. A wrong name
    /// lists all steps.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Run only the most valuable steps, which take about 90 s: no compiled peer, no other configuration,
    /// no sanitizer.
    #[arg(long)]
    pub quick: bool,
    /// Number of seconds for the whole check. Steps that have not begun by then are left out.
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub limit: u64,
    /// The compiled tests of the kernels, which scripts/gpu-check builds.
    #[arg(long, value_name = "FILE")]
    pub kernel_tests: Option<PathBuf>,
    /// The script that builds and runs the probes of the hardware (impls/cuda/probes/run.sh).
    #[arg(long, value_name = "FILE")]
    pub probes: Option<PathBuf>,
    /// Also time the tilings of products in this file, as the step `sweep`, and write the fastest of each
    /// product to tiles.tsv in the folder of the run. A line holds PIXELS OUTPUTS STEPS TILE SPLITS, such as
    /// `49 512 144 64x64 8`; # begins a comment.
    #[arg(long, value_name = "FILE")]
    pub sweep: Option<PathBuf>,
    /// Try this command out: run only the steps that need no GPU, on a small network and an emulated GPU.
    #[arg(long)]
    pub rehearse: bool,
}
