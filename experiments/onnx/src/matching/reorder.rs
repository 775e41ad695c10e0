//! Weights that were read in another order than they were written: the same numbers at other places.

use spec::Precision;

/// The orders that ports mix up, in words, with the index [o, i, y, x] that each one reads. The function
/// gets the shape and an index, and returns the flat index of the module's weight.
type Order = (&'static str, fn([usize; 4], [usize; 4]) -> Option<usize>);

fn flat([_, i, h, w]: [usize; 4], at: [usize; 4]) -> usize {
    ((at[0] * i + at[1]) * h + at[2]) * w + at[3]
}

/// The flat index of an element when the weight is stored as [kh, kw, in, out].
fn channels_last([o, i, _, w]: [usize; 4], at: [usize; 4]) -> usize {
    ((at[2] * w + at[3]) * i + at[1]) * o + at[0]
}

const ORDERS: [Order; 7] = [
    ("with height and width of the kernel swapped", |shape, [o, i, y, x]| {
        (shape[2] == shape[3]).then(|| flat(shape, [o, i, x, y]))
    }),
    ("with the kernel rotated by 180 degrees", |shape, [o, i, y, x]| {
        Some(flat(shape, [o, i, shape[2] - 1 - y, shape[3] - 1 - x]))
    }),
    ("with input and output channels swapped", |shape, [o, i, y, x]| {
        (shape[0] == shape[1]).then(|| flat(shape, [i, o, y, x]))
    }),
    ("with the input channels off by one", |shape, [o, i, y, x]| {
        Some(flat(shape, [o, (i + shape[1] - 1) % shape[1], y, x]))
    }),
    ("with the input channels off by one", |shape, [o, i, y, x]| {
        Some(flat(shape, [o, (i + 1) % shape[1], y, x]))
    }),
    // The values of [kh, kw, in, out] laid out one after the other and read as [out, in, kh, kw].
    ("stored as HWIO and read as OIHW", |shape, at| {
        let [o, i, h, w] = shape;
        let place = flat(shape, at);
        let (out, rest) = (place % o, place / o);
        let (inner, rest) = (rest % i, rest / i);
        let (x, y) = (rest % w, rest / w);
        (y < h).then(|| flat(shape, [out, inner, y, x]))
    }),
    ("stored as OIHW and read as HWIO", |shape, at| Some(channels_last(shape, at))),
];

/// Names the order in which the values of the module are in the file; None if they are other values.
pub fn found(
    shape: &[usize],
    file: &[f64],
    ours: &[f64],
    format: Precision,
) -> Option<&'static str> {
    let shape: [usize; 4] = shape.try_into().ok()?;
    let [o, i, h, w] = shape;
    let row = i * h * w;
    if row < 2 {
        return None;
    }
    let indices = || {
        (0..o).flat_map(move |a| {
            (0..i).flat_map(move |b| (0..h).flat_map(move |y| (0..w).map(move |x| [a, b, y, x])))
        })
    };
    let bound = 8.0 * format.epsilon();
    for (words, place) in ORDERS {
        let Some(values) =
            indices().map(|at| Some(ours[place(shape, at)?])).collect::<Option<Vec<_>>>()
        else {
            continue;
        };
        if file.chunks(row).zip(values.chunks(row)).all(|(a, b)| proportional(a, b, bound)) {
            let matrix = h * w == 1 && words.starts_with("stored");
            return Some(if matrix { "stored as [in, out] and read as [out, in]" } else { words });
        }
    }
    shuffled(file, ours, row, bound)
}

/// Whether one row is a multiple of another; both may be zero.
fn proportional(a: &[f64], b: &[f64], bound: f64) -> bool {
    let s = super::weigh::factor(a, b);
    let (mut error, mut norm) = (0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        error += (x - s * y) * (x - s * y);
        norm += x * x;
    }
    error <= bound * bound * norm + 1e-70
}

/// Whether the file has the same rows in another order (channels off by one), or the same numbers anywhere.
fn shuffled(file: &[f64], ours: &[f64], row: usize, bound: f64) -> Option<&'static str> {
    let rows = file.len() / row;
    let rolled = |by: usize| {
        (0..rows).all(|r| {
            let from = (r + by) % rows;
            let (a, b) = (&file[r * row..(r + 1) * row], &ours[from * row..(from + 1) * row]);
            proportional(a, b, bound)
        })
    };
    if rows > 1 && (rolled(1) || rolled(rows - 1)) {
        return Some("with the output channels off by one");
    }
    let sorted = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let (a, b) = (sorted(file), sorted(ours));
    let same = a.iter().zip(&b).all(|(x, y)| (x - y).abs() <= bound * y.abs() + 1e-38);
    let tells = a.first() != a.last();
    if same && tells {
        return Some("in another order");
    }
    // A fold multiplies each row by its own factor, so the rows are compared after a common scale.
    let signature = |row: &[f64]| {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        sorted(&row.iter().map(|v| v.abs() / norm).collect::<Vec<_>>())
    };
    let alike = |(x, y): (&[f64], &[f64])| {
        let (x, y) = (signature(x), signature(y));
        x.iter().zip(&y).all(|(p, q)| (p - q).abs() <= bound)
    };
    let within = file.chunks(row).zip(ours.chunks(row)).all(alike);
    (within && row > 2 && tells).then_some("in another order within each output channel")
}
