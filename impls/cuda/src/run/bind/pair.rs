//! The launch of two 1x1 convolutions in one kernel.

use spec::EngineError;

use super::{Bound, UNOBSERVED, launch};
use crate::device::{Device, Launch};
use crate::kernels::bands::Place;
use crate::kernels::hopper_pair::{self, Division};
use crate::plan::{Conv, Input};

impl Bound<'_> {
    /// Two convolutions, by their indices in the plan, as the action `at`.
    pub(super) fn pair(
        &self,
        device: &mut dyn Device,
        steps: [usize; 2],
        division: &Division,
        at: usize,
    ) -> Result<Launch, EngineError> {
        let places = |conv: &Conv| -> Vec<Place> {
            let place = |input: &Input| {
                let (pixels, weights) = (self.at(&input.from), self.constant(input.band_weights));
                let outputs = conv.epilogue.out.channels;
                hopper_pair::place(pixels, input.from.pitch, weights, outputs)
            };
            conv.inputs.iter().map(place).collect()
        };
        let [first, second] = steps.map(|index| self.plan.conv(index));
        let ends = [first, second].map(|conv| self.epilogue(&conv.epilogue, UNOBSERVED));
        let inputs = (&places(first)[..], places(second)[0]);
        let args =
            division.args(device, inputs, ends, self.sums_for_next(&second.epilogue.out, at))?;
        let grid = [division.blocks(device.machine().multiprocessors), 1, 1];
        launch(device, &division.variant(self.precision), grid, &args)
    }
}
