//! A layer that is computed in a number format of fewer bits.

use spec::{Kind, Precision};

use super::super::edit::{Change, Edit, Rewrite};
use super::super::expr::Expr;
use super::super::graph::{ModelGraph, change, weight_name};
use super::super::rewrite;

/// A convolution or linear layer with its weights and output in bfloat16.
pub fn bf16(graph: &ModelGraph) -> Vec<Change> {
    stored(graph, "computed in bf16", Precision::Bf16, rewrite::to_bf16)
}

/// A convolution or linear layer with its weights and output in float16.
pub fn f16(graph: &ModelGraph) -> Vec<Change> {
    stored(graph, "computed in f16", Precision::F16, rewrite::to_f16)
}

fn stored(
    graph: &ModelGraph,
    variant: &'static str,
    precision: Precision,
    rewrite: Rewrite,
) -> Vec<Change> {
    let layers = |m: &&spec::Module| matches!(m.kind, Kind::Conv | Kind::Linear);
    graph
        .model
        .modules()
        .iter()
        .filter(layers)
        .map(|m| {
            let output = Expr::Rounded(Box::new(Expr::Own), precision);
            let edits = vec![Edit::Weight(weight_name(m), rewrite), Edit::Compute(m.id, output)];
            change(variant, variant, m.id, edits)
        })
        .collect()
}

/// A convolution that rounds both factors of its products to TF32.
pub fn tf32(graph: &ModelGraph) -> Vec<Change> {
    let variant = "computed in TF32 (10 bits of fraction)";
    let place = |m: &spec::Module| {
        let Expr::Conv(x, kernel) = graph.network.expr(m.id) else { return None };
        let mut other = kernel.clone();
        other.rounded = Some(Precision::Tf32);
        let factor = Box::new(Expr::Rounded(x.clone(), Precision::Tf32));
        Some(change(variant, variant, m.id, vec![Edit::Compute(m.id, Expr::Conv(factor, other))]))
    };
    graph.of_kind(Kind::Conv).filter_map(place).collect()
}
