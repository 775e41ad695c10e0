//! One layer in a format of fewer bits.

use spec::{Kind, Precision};

use super::super::edit::{Change, Edit, Rewrite};
use super::super::expr::Expr;
use super::super::ground::{Ground, change, weight_name};
use super::super::rewrite;

/// Weights and output in bfloat16.
pub fn bf16(ground: &Ground) -> Vec<Change> {
    stored(ground, "computed in bf16", Precision::Bf16, rewrite::to_bf16)
}

/// Weights and output in float16.
pub fn f16(ground: &Ground) -> Vec<Change> {
    stored(ground, "computed in f16", Precision::F16, rewrite::to_f16)
}

fn stored(
    ground: &Ground,
    variant: &'static str,
    precision: Precision,
    rewrite: Rewrite,
) -> Vec<Change> {
    let layers = |m: &&spec::Module| matches!(m.kind, Kind::Conv | Kind::Linear);
    ground
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

/// Both factors of a convolution's products in TF32.
pub fn tf32(ground: &Ground) -> Vec<Change> {
    let variant = "computed in TF32 (10 bits of fraction)";
    let place = |m: &spec::Module| {
        let Expr::Conv(x, kernel) = ground.network.expr(m.id) else { return None };
        let mut other = kernel.clone();
        other.rounded = Some(Precision::Tf32);
        let factor = Box::new(Expr::Rounded(x.clone(), Precision::Tf32));
        Some(change(variant, variant, m.id, vec![Edit::Compute(m.id, Expr::Conv(factor, other))]))
    };
    ground.of_kind(Kind::Conv).filter_map(place).collect()
}
