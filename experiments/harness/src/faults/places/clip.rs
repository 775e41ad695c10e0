//! Mistakes in the clip: each may be made in the clip itself or where the first convolution reads
//! it.

use super::super::clip::{Planes, Scaling};
use super::super::edit::{Change, Edit};
use super::super::expr::Expr;
use super::super::ground::{Ground, change};

/// Frames shifted by one.
pub fn shifted(ground: &Ground) -> Vec<Change> {
    let late = ordered(ground, Planes::Late, "every frame one too late");
    // Of two frames, one too early is one too late.
    let early = match ground.model.config.frames {
        2 => vec![],
        _ => ordered(ground, Planes::Early, "every frame one too early"),
    };
    [late, early].concat()
}

/// Frames reversed.
pub fn reversed(ground: &Ground) -> Vec<Change> {
    ordered(ground, Planes::Reversed, "frames in reverse order")
}

/// Blue first.
pub fn bgr(ground: &Ground) -> Vec<Change> {
    ordered(ground, Planes::Bgr, "colours in the order BGR")
}

/// Another stacking.
pub fn frame_major(ground: &Ground) -> Vec<Change> {
    let variant = "channels stacked as frame * 3 + colour instead of colour * T + frame";
    ordered(ground, Planes::FrameMajor, variant)
}

/// 0 to 1.
pub fn unit(ground: &Ground) -> Vec<Change> {
    scaled(ground, Scaling::Unit, "pixels scaled to 0..1 instead of normalised by mean and std")
}

/// 0 to 255.
pub fn bytes(ground: &Ground) -> Vec<Change> {
    scaled(ground, Scaling::Bytes, "pixels of 0..255, not normalised by mean and std")
}

/// -1 to 1.
pub fn symmetric(ground: &Ground) -> Vec<Change> {
    scaled(
        ground,
        Scaling::Symmetric,
        "pixels scaled to -1..1 instead of normalised by mean and std",
    )
}

fn ordered(ground: &Ground, planes: Planes, variant: &'static str) -> Vec<Change> {
    let frames = ground.model.config.frames;
    if frames < 2 && planes != Planes::Bgr {
        return vec![];
    }
    made(ground, variant, &|clip| Expr::Planes(Box::new(clip), planes, frames))
}

fn scaled(ground: &Ground, scaling: Scaling, variant: &'static str) -> Vec<Change> {
    let frames = ground.model.config.frames;
    made(ground, variant, &|clip| Expr::Scaled(Box::new(clip), scaling, frames))
}

fn made(ground: &Ground, variant: &'static str, wrong: &dyn Fn(Expr) -> Expr) -> Vec<Change> {
    let (input, stem) = (ground.model.input, ground.model.stem.conv.id);
    let clip = change(variant, variant, input, vec![Edit::Clip(wrong(Expr::Own))]);
    let what = format!("{variant}, where {} reads the clip", ground.name(stem));
    let read = ground.exchange(&Expr::Of(input), &wrong(Expr::Of(input)));
    vec![clip, change(variant, what, stem, read)]
}
