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
    /// The compiled tests of the kernels, which scripts/gpu-check builds.
    #[arg(long, value_name = "FILE")]
    pub kernel_tests: Option<PathBuf>,
    /// Try this command out: run only the steps that need no GPU, on a small network and an emulated GPU.
    #[arg(long)]
    pub rehearse: bool,
}
