//! Element-wise sums and products of maps. A single operation in `T` rounds once, so these functions
//! do not widen to f64.

use crate::map::Map;
use crate::real::Real;

/// a + b, both [N, C, H, W].
pub fn add<T: Real>(a: &Map<T>, b: &Map<T>) -> Map<T> {
    zip(a, b, |x, y| x + y)
}

/// a * b, both [N, C, H, W].
pub fn multiply<T: Real>(a: &Map<T>, b: &Map<T>) -> Map<T> {
    zip(a, b, |x, y| x * y)
}

/// x [N, C, H, W] times one factor for each clip and channel, [N, C, 1, 1].
pub fn gate<T: Real>(x: &Map<T>, gate: &Map<T>) -> Map<T> {
    assert_eq!(
        gate.shape(),
        [x.n, x.c, 1, 1],
        "the gate needs one factor for each clip and channel"
    );
    x.mapped_planes(|plane, v| v * gate.data[plane])
}

/// x [N, C, H, W] plus one map [1, C, H, W], which all clips share.
pub fn add_to_each<T: Real>(x: &Map<T>, shared: &Map<T>) -> Map<T> {
    assert_eq!(shared.shape(), [1, x.c, x.h, x.w], "the shared map must fit every clip");
    let sum =
        |clip: &[T]| -> Vec<T> { clip.iter().zip(&shared.data).map(|(&v, &s)| v + s).collect() };
    let data = x.data.chunks(shared.data.len().max(1)).flat_map(sum).collect();
    Map::new(x.shape(), data)
}

fn zip<T: Real>(a: &Map<T>, b: &Map<T>, f: impl Fn(T, T) -> T) -> Map<T> {
    assert_eq!(a.shape(), b.shape(), "both maps must have the same shape");
    let data = a.data.iter().zip(&b.data).map(|(&x, &y)| f(x, y)).collect();
    Map::new(a.shape(), data)
}
