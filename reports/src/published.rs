//! Published accuracy and cost on Kinetics-400, each from the method's own paper.

/// A method as its authors report it.
pub(crate) struct Method {
    pub name: &'static str,
    /// Top-1 on the validation part, in percent.
    pub top1: f64,
    /// Multiply-adds of one view, in 10^9.
    pub gflops: f64,
    pub source: &'static str,
}

/// What stands above the table.
pub(crate) const LEAD: &str = "As the methods' authors report them: other data versions, other training, \
    other numbers of views. For orientation; nothing here was measured by this run except its own point.";

/// Of SqueezeTime-50 at 16 x 224 x 224, as `harness info` counts them.
pub(crate) const SQUEEZETIME_GFLOPS: f64 = 5.483;

/// By cost.
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
