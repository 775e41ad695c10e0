//! Published accuracy and cost on Kinetics-400, each taken from the paper of the method.

/// A method with the numbers that its authors report.
pub(crate) struct Method {
    pub name: &'static str,
    /// Top-1 on the validation part, in percent.
    pub top1: f64,
    /// Multiply-accumulates for one view, 10^9. The papers call them GFLOPs.
    pub gflops: f64,
    pub source: &'static str,
}

/// The introduction above the table.
pub(crate) const LEAD: &str = "Values as the authors of the methods report them, for orientation: \
    versions of the data, training and numbers of views differ. This run measured its own point only.";

/// Multiply-accumulates of SqueezeTime-50 for 16 x 224 x 224, 10^9, as `harness info` counts them.
pub(crate) const SQUEEZETIME_GFLOPS: f64 = 5.483;

/// The methods, by increasing cost.
pub(crate) const METHODS: [Method; 4] = [
    Method {
        name: "SqueezeTime",
        top1: 71.64,
        gflops: SQUEEZETIME_GFLOPS,
        source: "arXiv 2405.08344",
    },
    Method { name: "X3D-M", top1: 76.0, gflops: 6.2, source: "arXiv 2004.04730, table 4" },
    Method { name: "X3D-L", top1: 77.5, gflops: 24.8, source: "arXiv 2004.04730, table 4" },
    Method { name: "X3D-XL", top1: 79.1, gflops: 48.4, source: "arXiv 2004.04730, table 4" },
];
