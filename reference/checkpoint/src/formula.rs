//! Weights and inputs that a program in any language can reproduce bit for bit.
//!
//! The i-th value of a tensor is derived from u_i = top 24 bits of splitmix64(s_i) / 2^24, where
//! s_i = (fnv1a64(name) xor seed) + i * 0x9E3779B97F4A7C15 (mod 2^64). The name is mmaction2's, with
//! `backbone.net.` or `cls_head.fc_cls.`.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn fnv1a64(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    text.bytes().fold(0xCBF2_9CE4_8422_2325, step)
}

fn splitmix64(state: u64) -> u64 {
    let z = state.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The first n values u_i for a name and a seed, uniform in [0, 1).
pub fn uniform(name: &str, n: usize, seed: u64) -> Vec<f32> {
    let start = fnv1a64(name) ^ seed;
    let state = |i: u64| start.wrapping_add(i.wrapping_mul(GOLDEN));
    (0..n as u64)
        .map(|i| ((splitmix64(state(i)) >> 40) as f64 / f64::from(1 << 24)) as f32)
        .collect()
}

/// The n values of an input for a seed, uniform in [-2, 2).
pub fn input(n: usize, seed: u64) -> Vec<f32> {
    let spread = |u: f32| (f64::from(u) * 4.0 - 2.0) as f32;
    uniform("input", n, seed).into_iter().map(spread).collect()
}

/// The values of one tensor of the state dict, given its official name and shape. They are computed in
/// float64 and rounded once.
pub fn param(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let full = match name.strip_prefix("fc.") {
        Some(leaf) => format!("cls_head.fc_cls.{leaf}"),
        None => format!("backbone.net.{name}"),
    };
    let fan_in: usize = shape.iter().skip(1).product();
    let value: &dyn Fn(f64) -> f64 = match name.rsplit('.').next().unwrap_or(name) {
        "running_var" => &|u| 0.5 + u,
        "weight" if shape.len() == 1 => &|u| 0.5 + u,
        "pos_embed" => &|u| (2.0 * u - 1.0) * 0.5,
        // Uniform values with variance 1 / fan_in.
        "weight" => &move |u| (2.0 * u - 1.0) * (3.0 / fan_in as f64).sqrt(),
        _ => &|u| (u - 0.5) * 0.2,
    };
    let uniform = uniform(&full, shape.iter().product(), seed);
    uniform.into_iter().map(|u| value(f64::from(u)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_match_the_published_test_vectors() {
        // The test vectors that the authors of FNV-1a and splitmix64 published.
        assert_eq!(fnv1a64(""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a64("a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(splitmix64(0), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn an_input_fills_the_range_from_minus_2_to_2() {
        let values = input(4096, 0);
        assert!(values.iter().all(|value| (-2.0..2.0).contains(value)));
        let [low, high] = [-1.9, 1.9].map(|edge: f32| values.iter().any(|v| v * edge > 1.9 * 1.9));
        assert!(low && high);
    }

    /// The bits that formula.py computed with numpy 1.26.
    #[test]
    fn values_are_those_of_formula_py() {
        const UNIFORM: [u32; 3] = [0x3DC8_54F8, 0x3F27_0117, 0x3E50_82E0];
        const FC_BIAS: [u32; 3] = [0xBD15_563D, 0x3DCA_6EE2, 0x3DC3_2AB8];
        const CONV1: [u32; 3] = [0xBEC2_9A78, 0xBF5F_A1F8, 0x3E02_C680];
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(uniform("input", 3, 0)), UNIFORM);
        assert_eq!(bits(param("fc.bias", &[3], 7)), FC_BIAS);
        assert_eq!(bits(param("conv1.weight", &[1, 1, 1, 3], 0)), CONV1);
    }

    #[test]
    fn values_are_in_range_and_differ_by_name_and_seed() {
        let a = uniform("a", 1000, 0);
        assert!(a.iter().all(|u| (0.0..1.0).contains(u)));
        assert_ne!(a, uniform("b", 1000, 0));
        assert_ne!(a, uniform("a", 1000, 1));
        assert!(input(1000, 0).iter().all(|x| (-2.0..2.0).contains(x)));
    }
}
