//! One block of memory for everything that a run needs.

use std::ops::Range;

/// Every buffer begins at a multiple of this.
const ALIGN: usize = 256;

/// A buffer that is needed in some actions.
#[derive(Debug, Clone)]
pub struct Need {
    /// Its size.
    pub bytes: usize,
    /// From the action that writes it to behind the last that reads it.
    pub life: Range<usize>,
}

/// An offset for each buffer, and the bytes for all of them: the largest first, each at the lowest
/// place where nothing lies that lives at the same time.
pub fn arrange(needs: &[Need]) -> (Vec<usize>, usize) {
    let size = |at: usize| needs[at].bytes.next_multiple_of(ALIGN);
    let meet = |a: usize, b: usize| {
        let (a, b) = (&needs[a].life, &needs[b].life);
        a.start < b.end && b.start < a.end
    };
    let mut order: Vec<usize> = (0..needs.len()).filter(|&at| !needs[at].life.is_empty()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(needs[at].bytes), at));
    let mut offsets = vec![0; needs.len()];
    let mut whole = 0;
    for (rank, &at) in order.iter().enumerate() {
        let placed = order[..rank].iter().filter(|&&other| meet(at, other));
        let mut taken: Vec<(usize, usize)> =
            placed.map(|&other| (offsets[other], offsets[other] + size(other))).collect();
        taken.sort_unstable();
        let place = taken.into_iter().try_fold(0, |place, (start, end)| {
            if place + size(at) <= start { Err(place) } else { Ok(place.max(end)) }
        });
        offsets[at] = place.unwrap_or_else(|found| found);
        whole = whole.max(offsets[at] + size(at));
    }
    (offsets, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_together_lies_apart_and_what_does_not_shares_room() {
        let need = |bytes, life| Need { bytes, life };
        let needs = [need(1000, 0..2), need(1000, 1..3), need(1000, 2..4), need(10, 0..0)];
        let (offsets, whole) = arrange(&needs);
        assert_eq!(whole, 2048);
        assert_ne!(offsets[0], offsets[1]);
        assert_ne!(offsets[1], offsets[2]);
        assert_eq!(offsets[0], offsets[2]);
    }
}
