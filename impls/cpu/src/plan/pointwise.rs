//! 1x1 convolutions: as a matrix product or by Strassen's algorithm.

use super::build::Builder;
use super::{EpilogueSpec, Map, Op, OutputGroup, Strassen};
use crate::isa::HasKernels;
use crate::kernels::gemm::PANEL;
use crate::kernels::strassen::{PRODUCTS, WEIGHTS};
use crate::pack::Packed;

/// A 1x1 convolution: its input map and its weights, by output and channel.
pub(super) type Pointwise<'w> = (Map, &'w (dyn Fn(usize, usize) -> f64 + Sync));

/// Outputs in a group of a step by Strassen's algorithm, in each half: few, so that the products of a block of
/// pixels stay in the L2 cache, and as many as are worth a call.
const GROUP: usize = 64;

impl<E: HasKernels> Builder<'_, E> {
    /// Adds the sum of one or two 1x1 convolutions, with the algorithm that is chosen for it. A single one may
    /// read a gated input. `macs` are their multiply-adds for one clip.
    pub(super) fn pointwise(
        &mut self,
        name: &str,
        kind: &'static str,
        macs: u64,
        operands: &[Pointwise<'_>],
        gate: Option<Map>,
        epilogue: EpilogueSpec,
    ) {
        let op = match self.choose_strassen(operands, &epilogue) {
            true => Op::Strassen(self.strassen(operands, gate, epilogue)),
            false => {
                let mut packed = operands.iter().map(|(from, weight)| {
                    let weights = self.matrix([from.channels, epilogue.out.channels], weight);
                    self.operand(*from, 1, gate, weights)
                });
                let first = packed.next().expect("a convolution has an operand");
                let second = packed.next();
                Op::Gemm { first, second, epilogue }
            }
        };
        self.push(op, name, kind, macs);
    }

    fn choose_strassen(&self, operands: &[Pointwise<'_>], epilogue: &EpilogueSpec) -> bool {
        let outputs = epilogue.out.channels;
        // Blocks are whole vectors.
        let maps = operands.iter().map(|(from, _)| from.channels);
        let whole = maps.chain([outputs]).all(|channels| channels.is_multiple_of(2 * self.lanes()));
        let channels = operands.iter().map(|(from, _)| from.channels).sum();
        whole && self.layer(channels, outputs, epilogue.out.size).strassen(self.target.convolution)
    }

    fn strassen(
        &mut self,
        operands: &[Pointwise<'_>],
        gate: Option<Map>,
        epilogue: EpilogueSpec,
    ) -> Strassen<E> {
        let from: Vec<Map> = operands.iter().map(|(from, _)| *from).collect();
        let (half_outputs, lanes) = (epilogue.out.channels / 2, self.lanes());
        let half: usize = from.iter().map(|map| map.channels / 2).sum();
        // A weight by its halves of the channels and of the outputs, and its place in them.
        let weight = |[row, column]: [usize; 2], output: usize, channel: usize| {
            let mut at = channel;
            for (map, weight) in operands {
                let half = map.channels / 2;
                if at < half {
                    return weight(column * half_outputs + output, row * half + at);
                }
                at -= half;
            }
            0.0
        };
        let step = GROUP.next_multiple_of(PANEL * lanes);
        let groups = (0..half_outputs).step_by(step).map(|output| {
            let shapes = [[half, step.min(half_outputs - output)]; PRODUCTS];
            let weights = Packed::matrices(&mut self.arena, shapes, lanes, |product, o, k| {
                let sum = WEIGHTS[product];
                let first = weight(sum.first, output + o, k);
                sum.second.map_or(first, |(sign, second)| {
                    first + f64::from(sign) * weight(second, output + o, k)
                })
            });
            OutputGroup { output, weights }
        });
        let groups = groups.collect();
        Strassen {
            from,
            gate,
            pitch: self.pitch(half),
            width: step.min(half_outputs),
            groups,
            epilogue,
        }
    }
}
