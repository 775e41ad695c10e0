//! The orders of dimensions that dumps use, and their conversion to the model's [N, C, H, W].

use ndarray::{ArrayD, IxDyn};
use spec::{Data, Tensor};

/// The order of dimensions of an array, relative to that of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The array's shape with all axes of 1, before its axes are permuted.
    view: Vec<usize>,
    /// For each axis of the model's shape, the axis of `view` that it is.
    axes: Vec<usize>,
    /// For a clip: the shape of the same memory if frames and colours are stacked into one axis.
    stacked: Option<Vec<usize>>,
}

impl Order {
    /// Finds the order in which an array of this shape holds a value for which the model expects the
    /// shape `expected`. If the shape fits several orders, `channels_last` decides. None if it fits none.
    pub fn detect(shape: &[usize], expected: &[usize], channels_last: bool) -> Option<Order> {
        let mut orders = match expected {
            &[n, c, t, h, w] => clip_orders(n, c, t, h, w),
            &[n, c, h, w] => {
                vec![Order::plain(expected), Order::new(&[n, h, w, c], &[0, 3, 1, 2])]
            }
            other => vec![Order::plain(other)],
        };
        if channels_last {
            orders.reverse();
        }
        orders.into_iter().find(|order| order.fits(shape))
    }

    fn plain(shape: &[usize]) -> Order {
        Order { view: shape.to_vec(), axes: (0..shape.len()).collect(), stacked: None }
    }

    fn new(view: &[usize], axes: &[usize]) -> Order {
        Order { view: view.to_vec(), axes: axes.to_vec(), stacked: None }
    }

    fn or_stacked(self, shape: &[usize]) -> Order {
        Order { stacked: Some(shape.to_vec()), ..self }
    }

    /// Whether an array of this shape is a clip whose frames and colours are one axis.
    pub fn is_stacked(&self, shape: &[usize]) -> bool {
        self.stacked.as_deref() == Some(shape)
    }

    /// Whether a shape is that of this order. Axes of 1 may be missing: the batch of a single clip, or
    /// height and width of a gate.
    fn fits(&self, shape: &[usize]) -> bool {
        let squeezed = |shape: &[usize]| -> Vec<usize> {
            shape.iter().copied().filter(|&extent| extent != 1).collect()
        };
        let accepted = std::iter::once(&self.view).chain(&self.stacked);
        accepted.map(|view| squeezed(view)).any(|view| view == squeezed(shape))
    }

    /// Brings the values into the model's order. There must be as many as `expected` has.
    pub fn apply(&self, array: Tensor, expected: &[usize]) -> Tensor {
        let data = match array.data {
            Data::F32(values) => Data::F32(self.permute(values)),
            Data::F64(values) => Data::F64(self.permute(values)),
        };
        Tensor { shape: expected.to_vec(), data }
    }

    fn permute<T: Clone>(&self, values: Vec<T>) -> Vec<T> {
        permuted(&self.view, &self.axes, values)
    }

    /// Brings values in the model's order back into this one, with the shape `own`: the reverse of
    /// [`Order::apply`].
    pub fn undo(&self, value: Tensor, own: &[usize]) -> Tensor {
        let Tensor { shape, data } = value;
        let mut back = vec![0; self.axes.len()];
        for (to, &from) in self.axes.iter().enumerate() {
            back[from] = to;
        }
        let data = match data {
            Data::F32(values) => Data::F32(permuted(&shape, &back, values)),
            Data::F64(values) => Data::F64(permuted(&shape, &back, values)),
        };
        Tensor { shape: own.to_vec(), data }
    }
}

/// Values of this shape with their axes permuted; none if their number does not fit the shape.
fn permuted<T: Clone>(shape: &[usize], axes: &[usize], values: Vec<T>) -> Vec<T> {
    if axes.is_sorted() {
        return values;
    }
    match ArrayD::from_shape_vec(IxDyn(shape), values) {
        Ok(array) => array.permuted_axes(IxDyn(axes)).iter().cloned().collect(),
        Err(_) => vec![],
    }
}

/// The orders in which frameworks hold clips, [N, 3, T, H, W] first. In a stacked clip the channel is
/// colour * T + frame.
fn clip_orders(n: usize, c: usize, t: usize, h: usize, w: usize) -> Vec<Order> {
    vec![
        Order::plain(&[n, c, t, h, w]).or_stacked(&[n, c * t, h, w]),
        Order::new(&[n, t, h, w, c], &[0, 4, 1, 2, 3]),
        Order::new(&[n, t, c, h, w], &[0, 2, 1, 3, 4]),
        Order::new(&[n, h, w, c, t], &[0, 3, 4, 1, 2]).or_stacked(&[n, h, w, c * t]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::f32(shape.to_vec(), (0..count).map(|i| i as f32).collect())
    }

    #[test]
    fn channels_last_is_permuted() {
        let expected = [2, 3, 4, 5];
        let order = Order::detect(&[2, 4, 5, 3], &expected, false).unwrap();
        let turned = order.apply(tensor(&[2, 4, 5, 3]), &expected);
        // The value at n=1, c=2, h=3, w=4 is the last one in both orders.
        assert_eq!(turned.at(turned.len() - 1), 119.0);
        assert_eq!(turned.at(1), 3.0);
        assert_eq!(order.undo(turned, &[2, 4, 5, 3]), tensor(&[2, 4, 5, 3]));
    }

    #[test]
    fn ambiguous_shapes_follow_the_names() {
        let expected = [1, 4, 4, 4];
        let keep = Order::detect(&[1, 4, 4, 4], &expected, false).unwrap();
        let turn = Order::detect(&[1, 4, 4, 4], &expected, true).unwrap();
        assert_eq!(keep.apply(tensor(&expected), &expected).at(1), 1.0);
        assert_eq!(turn.apply(tensor(&expected), &expected).at(1), 4.0);
    }

    #[test]
    fn gates_and_single_clips_may_lack_axes_of_one() {
        for shape in [&[1, 8, 1, 1][..], &[1, 1, 1, 8], &[8], &[1, 8]] {
            assert!(Order::detect(shape, &[1, 8, 1, 1], true).is_some(), "{shape:?}");
        }
        assert!(Order::detect(&[4, 5, 3], &[1, 3, 4, 5], true).is_some());
        assert!(Order::detect(&[2, 8], &[1, 8, 1, 1], true).is_none());
    }

    #[test]
    fn clips_come_in_five_orders() {
        let expected = [2, 3, 4, 5, 6];
        let at = |shape: &[usize]| {
            let order = Order::detect(shape, &expected, false).unwrap();
            order.apply(tensor(shape), &expected).to_f64()
        };
        let plain = at(&[2, 3, 4, 5, 6]);
        assert_eq!(at(&[2, 12, 5, 6]), plain);
        assert_eq!(at(&[2, 4, 5, 6, 3])[1], 3.0);
        assert_eq!(at(&[2, 5, 6, 12])[1], 12.0);
        assert_eq!(at(&[2, 4, 3, 5, 6])[30], 90.0);
        assert!(Order::detect(&[2, 3, 4, 5, 7], &expected, false).is_none());
    }

    #[test]
    fn another_number_of_values_does_not_match() {
        assert_eq!(Order::detect(&[3], &[1, 8], true), None);
        assert_eq!(Order::detect(&[], &[1, 8], true), None);
    }
}
