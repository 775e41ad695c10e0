//! Normalises bytes to the network's input.

/// Mean of red, green and blue over ImageNet, for values from 0 to 255.
pub const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
/// Standard deviation of red, green and blue over ImageNet, for values from 0 to 255.
pub const STD: [f32; 3] = [58.395, 57.12, 57.375];

/// `(x - mean) / std` in float32 for each channel and each value of a byte. It divides rather than
/// multiplying by the inverse, so the bits are those of the official evaluation.
fn tables() -> [[f32; 256]; 3] {
    let value = |channel: usize, byte: usize| (byte as f32 - MEAN[channel]) / STD[channel];
    std::array::from_fn(|channel| std::array::from_fn(|byte| value(channel, byte)))
}

/// Normalises a view [T, H, W, 3] and appends it to `out` as [3, T, H, W].
pub fn append(view: &[u8], out: &mut Vec<f32>) {
    let tables = tables();
    out.reserve(view.len());
    for (channel, table) in tables.iter().enumerate() {
        out.extend(view.chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_first_and_each_has_its_mean() {
        let mut out = vec![];
        append(&[0, 1, 2, 255, 254, 253], &mut out);
        let wanted: Vec<f32> = [(0, 0), (255, 0), (1, 1), (254, 1), (2, 2), (253, 2)]
            .map(|(byte, channel)| (byte as f32 - MEAN[channel]) / STD[channel])
            .to_vec();
        assert_eq!(out, wanted);
    }
}
