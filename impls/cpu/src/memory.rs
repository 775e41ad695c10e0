//! Aligned memory that is allocated once, and the layout of all buffers in it.

use std::ops::Range;

/// Bytes to which every buffer is aligned: a cache line, and the widest vector.
pub const ALIGN: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// A block of zeroed, aligned bytes.
pub struct Memory(Vec<Line>);

impl Memory {
    /// At least so many bytes.
    pub fn new(bytes: usize) -> Self {
        Memory(vec![Line([0; ALIGN]); bytes.div_ceil(ALIGN)])
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len() * ALIGN
    }

    /// The first byte.
    pub fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// Overwrites everything: with 0xff, every f32 and bfloat16 is NaN.
    pub fn fill(&mut self, byte: u8) {
        self.0.fill(Line([byte; ALIGN]));
    }
}

/// A buffer of some bytes that is needed from one step to another.
#[derive(Debug, Clone)]
pub struct Need {
    /// Its size.
    pub bytes: usize,
    /// The first step that writes it up to the last that reads it.
    pub steps: Range<usize>,
}

/// Gives every buffer an offset so that buffers that are needed at the same time do not overlap, the
/// largest first, each at the lowest place; returns offsets and the bytes for all.
pub fn lay_out(needs: &[Need]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(needs[at].bytes), at));
    let mut offsets = vec![0; needs.len()];
    let mut placed: Vec<usize> = vec![];
    let mut total = 0;
    for at in order {
        let need = &needs[at];
        let meets = |other: &usize| {
            let steps = &needs[*other].steps;
            steps.start < need.steps.end && need.steps.start < steps.end
        };
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|other| meets(other))
            .map(|&other| (offsets[other], offsets[other] + round_up(needs[other].bytes)))
            .collect();
        busy.sort_unstable();
        let mut offset = 0;
        for (start, end) in busy {
            if offset + round_up(need.bytes) <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[at] = offset;
        total = total.max(offset + round_up(need.bytes));
        placed.push(at);
    }
    (offsets, total)
}

fn round_up(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buffers_that_live_together_do_not_overlap(
            needs in prop::collection::vec((0usize..5000, 0usize..20, 1usize..6), 0..40)
        ) {
            let needs: Vec<Need> = needs
                .into_iter()
                .map(|(bytes, start, steps)| Need { bytes, steps: start..start + steps })
                .collect();
            let (offsets, total) = lay_out(&needs);
            for (i, a) in needs.iter().enumerate() {
                prop_assert!(offsets[i] % ALIGN == 0 && offsets[i] + a.bytes <= total);
                for (j, b) in needs.iter().enumerate().skip(i + 1) {
                    let together = a.steps.start < b.steps.end && b.steps.start < a.steps.end;
                    let apart = offsets[i] + a.bytes <= offsets[j]
                        || offsets[j] + b.bytes <= offsets[i];
                    prop_assert!(!together || apart || a.bytes == 0 || b.bytes == 0);
                }
            }
        }
    }
}
