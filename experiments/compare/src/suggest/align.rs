//! Pairs arrays with modules by their order, where their values do not tell.

/// The length of the longest ascending part of a sequence, and its members by index.
pub fn ascending(values: &[usize]) -> Vec<usize> {
    // ends[k] is the index of the smallest value that ends an ascending part of length k + 1.
    let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (vec![], vec![]);
    for (at, value) in values.iter().enumerate() {
        let length = ends.partition_point(|&end: &usize| values[end] < *value);
        before.push(length.checked_sub(1).map(|last| ends[last]));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut path = vec![];
    let mut next = ends.last().copied();
    while let Some(at) = next {
        path.push(at);
        next = before[at];
    }
    path.reverse();
    path
}

/// Pairs the members of two ordered lists without crossings, so that the sum of the scores is largest:
/// index in the first list, index in the second. `score` is `None` for a pair that cannot be.
pub fn pairs(
    first: usize,
    second: usize,
    score: impl Fn(usize, usize) -> Option<f64>,
) -> Vec<(usize, usize)> {
    let width = second + 1;
    let mut best = vec![0.0f64; (first + 1) * width];
    for i in 0..first {
        for j in 0..second {
            let skip = best[i * width + j + 1].max(best[(i + 1) * width + j]);
            let pair = score(i, j).map_or(f64::NEG_INFINITY, |s| best[i * width + j] + s);
            best[(i + 1) * width + j + 1] = skip.max(pair);
        }
    }
    let (mut i, mut j, mut found) = (first, second, vec![]);
    while i > 0 && j > 0 {
        let here = best[i * width + j];
        if here == best[(i - 1) * width + j] {
            i -= 1;
        } else if here == best[i * width + j - 1] {
            j -= 1;
        } else {
            (i, j) = (i - 1, j - 1);
            found.push((i, j));
        }
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ascending_part_is_found() {
        assert_eq!(ascending(&[0, 8, 1, 2, 9, 3]), [0, 2, 3, 5]);
        assert_eq!(ascending(&[]), [0usize; 0]);
    }

    #[test]
    fn pairs_do_not_cross_and_prefer_high_scores() {
        let score = |i: usize, j: usize| Some(if i + 1 == j { 1.0 } else { 0.1 });
        assert_eq!(pairs(2, 3, score), [(0, 1), (1, 2)]);
        assert_eq!(pairs(3, 3, |_, _| Some(0.5)), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(pairs(2, 2, |i, j| (i != j).then_some(1.0)).len(), 1);
    }
}
