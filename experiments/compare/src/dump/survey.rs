//! The properties of a dump as a whole: its batch, the order of its dimensions, its number format. A
//! program is consistent in these, so all arrays vote, and an array that could be read in two ways is
//! read as the majority is.

use half::{bf16, f16};
use spec::{Data, Model, ModuleId, Precision, Tensor};

/// The largest extent that is taken for a batch.
const MOST_CLIPS: usize = 65_536;

/// The order of the dimensions of maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapOrder {
    /// [N, C, H, W], as in PyTorch.
    Nchw,
    /// [N, H, W, C], as in Flax and TensorFlow.
    Nhwc,
}

impl std::fmt::Display for MapOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MapOrder::Nchw => "NCHW",
            MapOrder::Nhwc => "NHWC",
        })
    }
}

/// A shape without its axes of 1.
fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&extent| extent != 1).collect()
}

/// [H, W, C] for the shape [C, H, W] of a map; any other shape is returned unchanged.
fn channels_last(shape: &[usize]) -> Vec<usize> {
    match shape {
        &[c, h, w] => vec![h, w, c],
        other => other.to_vec(),
    }
}

/// The number of clips that most arrays have; None if no array has the shape of its module. A shape
/// without a batch axis counts as one clip.
pub fn batch(model: &Model, arrays: &[(ModuleId, Vec<usize>)]) -> Option<usize> {
    let mut votes = std::collections::BTreeMap::<usize, usize>::new();
    for (id, shape) in arrays {
        let module = model.module(*id);
        if !module.batched {
            continue;
        }
        let count = if *id == model.input { clip_batch(model, shape) } else { None };
        let of_module = || {
            let own = &module.shape;
            let is_own = |rest: &[usize]| {
                squeezed(rest) == squeezed(own) || squeezed(rest) == squeezed(&channels_last(own))
            };
            match shape.split_first() {
                // A single clip may lack any axis of 1, so that only the rest of the shape counts.
                _ if is_own(shape) => Some(1),
                Some((&n, rest)) if is_own(rest) => Some(n),
                _ => None,
            }
        };
        if let Some(n) = count.or_else(of_module).filter(|&n| n <= MOST_CLIPS) {
            *votes.entry(n).or_default() += 1;
        }
    }
    votes.into_iter().max_by_key(|&(_, votes)| votes).map(|(n, _)| n)
}

/// The number of clips in an array that has a clip's shape, in any order of dimensions, with or without
/// a batch axis; None if it has another shape.
fn clip_batch(model: &Model, shape: &[usize]) -> Option<usize> {
    let single =
        |shape: &[usize]| super::Order::detect(shape, &model.input_shape(1), false).is_some();
    match shape.split_first() {
        _ if single(shape) => Some(1),
        Some((&n, rest)) if single(rest) || n == 0 => Some(n),
        _ => None,
    }
}

/// The order of dimensions of most maps, among the arrays whose shape fits one order only. If the votes
/// are equal, names with slashes (as in Flax) mean channels last.
pub fn map_order<'n>(
    model: &Model,
    batch: usize,
    arrays: impl Iterator<Item = (ModuleId, &'n [usize], &'n str)>,
) -> MapOrder {
    let (mut first, mut last, mut slashes, mut names) = (0, 0, 0, 0);
    for (id, shape, name) in arrays {
        let expected = model.module(id).batch_shape(batch);
        if expected.len() != 4 {
            continue;
        }
        let nhwc = [expected[0], expected[2], expected[3], expected[1]];
        let fits = |wanted: &[usize]| squeezed(shape) == squeezed(wanted);
        match (fits(&expected), fits(&nhwc)) {
            (true, false) => first += 1,
            (false, true) => last += 1,
            _ => {}
        }
        names += 1;
        slashes += usize::from(name.contains('/'));
    }
    match last.cmp(&first) {
        std::cmp::Ordering::Greater => MapOrder::Nhwc,
        std::cmp::Ordering::Equal if 2 * slashes > names => MapOrder::Nhwc,
        _ => MapOrder::Nchw,
    }
}

/// An array with fewer values other than zero does not tell its format.
const TELLING: usize = 4;

/// A half format is believed only if this share of the arrays has it.
const NEARLY_ALL: f64 = 0.9;

/// A sample of this many values shows whether an array was written as text. A float32 number happens to have seven
/// digits only with a probability of about a third.
const SAMPLE: usize = 256;

/// Values that were rounded when they were written as text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Text {
    /// Digits of every value, as `%.6g` and `%.5e` write six.
    pub digits: usize,
    /// Digits behind the point, if no value has more, as `%.6f` writes six.
    pub decimals: Option<usize>,
}

impl Text {
    /// How an array was rounded; None if it was not.
    fn of(array: &Tensor) -> Option<Text> {
        let (double, most) = match array.data {
            Data::F64(_) => (true, 14),
            Data::F32(_) => (false, 7),
        };
        let values = array.iter().filter(|x| *x != 0.0 && x.is_finite()).take(SAMPLE);
        let values: Vec<f64> = values.collect();
        let same = |text: String, x: f64| match double {
            true => text.parse() == Ok(x),
            false => text.parse() == Ok(x as f32),
        };
        let with = |digits: &usize| values.iter().all(|x| same(format!("{x:.*e}", digits - 1), *x));
        let behind = |decimals: &usize| values.iter().all(|x| same(format!("{x:.decimals$}"), *x));
        let digits = if values.is_empty() { None } else { (1..=most).find(with) }?;
        Some(Text { digits, decimals: (0..most).find(behind) })
    }

    /// The rounding of two arrays together.
    fn or(self, other: Text) -> Text {
        let decimals = self.decimals.zip(other.decimals).map(|(a, b)| a.max(b));
        Text { digits: self.digits.max(other.digits), decimals }
    }

    /// Whether the rounding explains an error, given as relative L2 error and as the largest error.
    pub fn explains(&self, rel_l2: f64, largest: f64) -> bool {
        let unit = |digits: usize| 0.5 * 10f64.powi(-(digits as i32));
        let absolute = self.decimals.is_some_and(|decimals| largest <= TIMES * unit(decimals));
        absolute || rel_l2 <= TIMES * unit(self.digits - 1)
    }
}

/// How values were rounded when they were written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rounding {
    /// As text.
    Text(Text),
    /// In a half format.
    Half(Precision),
}

impl Rounding {
    /// How one array was rounded; None if it was not, or if its values do not tell.
    pub fn of(array: &Tensor) -> Option<Rounding> {
        let mut formats = Formats::default();
        formats.count(array);
        let half = match formats {
            Formats { bf16: 1, .. } => Some(Rounding::Half(Precision::Bf16)),
            Formats { f16: 1, .. } => Some(Rounding::Half(Precision::F16)),
            _ => None,
        };
        half.or_else(|| formats.text().map(Rounding::Text))
    }

    /// Whether values in a precision lose bits by it.
    pub fn is_coarser_than(&self, precision: Precision) -> bool {
        match self {
            Rounding::Text(_) => true,
            Rounding::Half(format) => format.epsilon() > precision.epsilon(),
        }
    }

    /// Whether the rounding explains an error, given as relative L2 error and as the largest error.
    pub fn explains(&self, rel_l2: f64, largest: f64) -> bool {
        match self {
            Rounding::Text(text) => text.explains(rel_l2, largest),
            Rounding::Half(format) => rel_l2 <= TIMES * 0.5 * format.epsilon(),
        }
    }
}

impl std::fmt::Display for Rounding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rounding::Text(Text { digits, decimals: Some(decimals) }) if decimals < digits => {
                write!(f, "{decimals} digits behind the point")
            }
            Rounding::Text(text) => write!(f, "{} decimal digits", text.digits),
            Rounding::Half(format) => write!(f, "{format}"),
        }
    }
}

/// An error is explained by a rounding if it is at most this many times as large: both a layer's inputs and its
/// outputs were rounded, and its weights may add the former up.
const TIMES: f64 = 4.0;

/// How many arrays hold values of each number format.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Formats {
    f64: usize,
    f32: usize,
    f16: usize,
    bf16: usize,
    /// Those of all that hold short decimal numbers, and how short.
    text: (usize, Option<Text>),
}

impl Formats {
    /// Counts an array under the coarsest format that represents all of its values exactly. Arrays of
    /// zeros and round numbers, which every format represents, are not counted.
    pub fn count(&mut self, array: &Tensor) {
        let holds = |format: fn(f64) -> f64| {
            array.iter().all(|x| !x.is_finite() || format(x).to_bits() == x.to_bits())
        };
        let text = Text::of(array);
        if matches!(array.data, Data::F64(_)) && !holds(|x| f64::from(x as f32)) {
            self.f64 += 1;
            self.count_text(text);
            return;
        }
        // Every format represents zero, so zeros tell nothing.
        if array.iter().filter(|x| *x != 0.0).take(TELLING).count() < TELLING {
            return;
        }
        let in_bf16 = holds(|x| bf16::from_f64(x).to_f64());
        let in_f16 = holds(|x| f16::from_f64(x).to_f64());
        match (in_bf16, in_f16) {
            // Values that both formats represent have no more bits of fraction than bfloat16.
            (true, _) => self.bf16 += 1,
            (false, true) => self.f16 += 1,
            (false, false) => {
                self.f32 += 1;
                self.count_text(text);
            }
        }
    }

    fn count_text(&mut self, text: Option<Text>) {
        let Some(text) = text else { return };
        self.text = (self.text.0 + 1, Some(self.text.1.map_or(text, |before| before.or(text))));
    }

    /// How nearly all arrays were rounded when they were written as text; None if they were not.
    pub fn text(&self) -> Option<Text> {
        let (_, _, total) = self.majority();
        self.text.1.filter(|_| self.text.0 as f64 >= NEARLY_ALL * total as f64)
    }

    /// The format of most arrays, the number of arrays that have it, and the number that were counted.
    ///
    /// A half format is returned only if nearly all arrays have it. A program that computes in a half
    /// format may well end in float32 logits, but where a larger part is finer, the dump must not be
    /// judged by its coarse part.
    pub fn most(&self) -> (Precision, usize, usize) {
        let (precision, count, total) = self.majority();
        let half = matches!(precision, Precision::Bf16 | Precision::F16);
        match half && (count as f64) < NEARLY_ALL * total as f64 {
            true => (Precision::F32, self.f32, total),
            false => (precision, count, total),
        }
    }

    fn majority(&self) -> (Precision, usize, usize) {
        // The finer format comes last, so that it wins a tie.
        let all = [
            (Precision::Bf16, self.bf16),
            (Precision::F16, self.f16),
            (Precision::F64, self.f64),
            (Precision::F32, self.f32),
        ];
        let total = all.iter().map(|(_, count)| count).sum();
        let most = all.into_iter().max_by_key(|(_, count)| *count);
        most.map_or((Precision::F32, 0, 0), |(precision, count)| (precision, count, total))
    }
}

#[cfg(test)]
mod tests {
    use spec::Config;

    use super::*;

    fn model() -> Model {
        let config = Config { depth: 10, width: 0.125, size: (64, 64), ..Config::default() };
        Model::new(config).unwrap()
    }

    #[test]
    fn most_arrays_decide_the_batch() {
        let m = model();
        let id = |name: &str| m.find(name).unwrap().id;
        let arrays = vec![
            (id("conv1"), vec![2, 8, 32, 32]),
            (id("bn1"), vec![2, 32, 32, 8]),
            (id("maxpool"), vec![3, 8, 16, 16]),
            (id("fc"), vec![2, 400]),
        ];
        assert_eq!(batch(&m, &arrays), Some(2));
        assert_eq!(batch(&m, &[(m.input, vec![3, 16, 64, 64])]), Some(1));
        assert_eq!(batch(&m, &[(m.input, vec![5, 3, 16, 64, 64])]), Some(5));
        assert_eq!(batch(&m, &[(m.input, vec![5, 48, 64, 64])]), Some(5));
        assert_eq!(batch(&m, &[(id("conv1"), vec![0, 8, 32, 32])]), Some(0));
        assert_eq!(batch(&m, &[(id("conv1"), vec![7])]), None);
    }

    #[test]
    fn ambiguous_maps_follow_the_others() {
        let m = model();
        let id = |name: &str| m.find(name).unwrap().id;
        let square = (id("layer1.0.conv1.spatial_conv.glo_conv.0"), &[1, 16, 16, 16][..], "a");
        let nhwc = (id("conv1"), &[1, 32, 32, 8][..], "b");
        let nchw = (id("conv1"), &[1, 8, 32, 32][..], "b");
        assert_eq!(map_order(&m, 1, [square, nhwc].into_iter()), MapOrder::Nhwc);
        assert_eq!(map_order(&m, 1, [square, nchw].into_iter()), MapOrder::Nchw);
        assert_eq!(map_order(&m, 1, [square].into_iter()), MapOrder::Nchw);
        let flax = (square.0, square.1, "layer1.0/conv1");
        assert_eq!(map_order(&m, 1, [flax].into_iter()), MapOrder::Nhwc);
    }

    #[test]
    fn a_dump_that_is_finer_in_part_is_judged_by_that_part() {
        let many = |halves: usize, singles: usize| {
            let mut formats = Formats { bf16: halves, f32: singles, ..Formats::default() };
            formats.count(&Tensor::f64(vec![1], vec![0.0]));
            formats.most()
        };
        assert_eq!(many(99, 1), (Precision::Bf16, 99, 100));
        assert_eq!(many(80, 20), (Precision::F32, 20, 100));
    }

    #[test]
    fn the_values_tell_the_format_not_the_container() {
        let count = |values: Vec<f64>| {
            let mut formats = Formats::default();
            formats.count(&Tensor::f64(vec![values.len()], values));
            formats.most().0
        };
        assert_eq!(count(vec![0.1; 4]), Precision::F64);
        assert_eq!(count(vec![f64::from(0.1f32); 5]), Precision::F32);
        assert_eq!(count(vec![bf16::from_f64(0.1).to_f64(); 4]), Precision::Bf16);
        assert_eq!(count(vec![f16::from_f64(0.1).to_f64(); 4]), Precision::F16);
        assert_eq!(count(vec![0.0, 1.0, 2.0, 0.5]), Precision::F32, "round numbers do not count");
        assert_eq!(Formats::default().most(), (Precision::F32, 0, 0));
    }
}
