//! Pairs of 1x1 convolutions that become one kernel (`hopper_pair.cu`).

use lower::Activation;

use super::{Action, LayoutOptions, Way, fills, in_pairs};
use crate::kernels::hopper_pair::{Division, Pair};
use crate::plan::{Conv, Input, Plan};
use crate::run::predict::{bytes_of_maps, prediction};

/// Makes a 1x1 convolution in bands and the next one, which reads its result, one action where that is expected to be
/// faster, unless every step must run by itself.
pub(super) fn paired(
    plan: &Plan,
    actions: Vec<Action>,
    clips: usize,
    options: LayoutOptions,
) -> Vec<Action> {
    let seconds = |action: &Action| {
        let bytes = bytes_of_maps(plan, &[], action, clips, options.precision);
        prediction(plan, (action, 1), clips, bytes).seconds
    };
    let both = |last: &Action, next: &Action| -> Option<Action> {
        let (Action::Step(first, Some(Way::Bands(a))), Action::Step(second, Some(Way::Bands(b)))) =
            (last, next)
        else {
            return None;
        };
        // With the operands in the other order, a GPU might round differently.
        if a.tile.narrow || b.tile.narrow {
            return None;
        }
        let division = division(plan.conv(*first), plan.conv(*second), clips)?;
        let pair = Action::Paired(*first, division, *second);
        let wanted = options.machine.pairs && !options.unfused;
        let faster = || seconds(&pair) < seconds(last) + seconds(next);
        (wanted && fills(division.tiles, options.machine) && faster()).then_some(pair)
    };
    in_pairs(actions, both)
}

/// Whether the kernel supports the convolution of an input.
fn is_plain(input: &Input) -> bool {
    (input.kernel, input.stride, input.padding) == (1, 1, 0) && input.gate.is_none()
}

/// Whether the kernel supports what happens to the sums of a convolution.
fn has_plain_end(conv: &Conv) -> bool {
    let end = &conv.epilogue;
    let activation = matches!(end.activation, Activation::Identity | Activation::Relu);
    activation
        && conv.init.is_none()
        && end.factor.is_none()
        && end.addend.is_none()
        && !end.out.wide
}

/// How both convolutions run as one kernel; None where they cannot.
fn division(first: &Conv, second: &Conv, clips: usize) -> Option<Division> {
    let [input] = &second.inputs[..] else { return None };
    let (wide, out) = (first.epilogue.out, second.epilogue.out);
    let follows = input.from.buffer == wide.buffer && second.epilogue.residual.is_none();
    let plain = first.inputs.iter().chain([input]).all(is_plain);
    if !(follows && plain && has_plain_end(first) && has_plain_end(second)) {
        return None;
    }
    let inputs: Vec<usize> = first.inputs.iter().map(|input| input.from.pitch).collect();
    Division::new(Pair {
        pixels: clips * wide.pixels(),
        inputs: &inputs,
        residual: first.epilogue.residual.is_some(),
        wide: wide.pitch,
        outputs: out.pitch,
    })
}
