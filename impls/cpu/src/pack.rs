//! Weights in the order in which the kernels read them.

use rayon::prelude::*;

use crate::element::Element;
use crate::kernels::gemm::PANEL;
use crate::kernels::winograd::Tile;

/// Weights [channels, outputs] in panels of [`PANEL`] vectors of outputs (the last panel may have
/// fewer): panel, group of channels, vector, lane, channel of the group. What pads is zero. A
/// Winograd layer has one such matrix for each plane.
pub struct Packed<E> {
    /// Everything, one plane after the other.
    pub data: Vec<E>,
    /// Channels, rounded up to whole groups.
    pub k: usize,
    /// Vectors of outputs.
    pub vectors: usize,
    /// Elements of a plane.
    pub plane: usize,
}

/// Channels rounded up to what one multiplication takes.
pub fn grouped<E: Element>(channels: usize) -> usize {
    channels.next_multiple_of(E::GROUP)
}

impl<E: Element> Packed<E> {
    fn empty(planes: usize, channels: usize, outputs: usize, lanes: usize) -> Self {
        let (k, vectors) = (grouped::<E>(channels), outputs.div_ceil(lanes));
        let plane = k * vectors * lanes;
        Packed { data: vec![E::default(); planes * plane], k, vectors, plane }
    }

    /// Where a weight lies in its plane.
    fn place(&self, lanes: usize, channel: usize, output: usize) -> usize {
        let (vector, lane) = (output / lanes, output % lanes);
        let first = vector / PANEL * PANEL;
        let width = PANEL.min(self.vectors - first);
        let (group, within) = (channel / E::GROUP, channel % E::GROUP);
        first * lanes * self.k
            + ((group * width + vector - first) * lanes + lane) * E::GROUP
            + within
    }

    /// A matrix of weight(output, channel).
    pub fn matrix(
        channels: usize,
        outputs: usize,
        lanes: usize,
        weight: impl Fn(usize, usize) -> f64 + Sync,
    ) -> Self {
        let mut packed = Packed::empty(1, channels, outputs, lanes);
        let panel = PANEL * lanes * packed.k;
        let shape = Packed { data: vec![], ..packed };
        packed.data.par_chunks_mut(panel.max(1)).enumerate().for_each(|(index, chunk)| {
            let first = index * PANEL * lanes;
            for output in first..outputs.min(first + PANEL * lanes) {
                for channel in 0..channels {
                    let at = shape.place(lanes, channel, output) - index * panel;
                    chunk[at] = E::from_f32(weight(output, channel) as f32);
                }
            }
        });
        packed
    }

    /// The planes of 3x3 kernels, kernel(output, channel) being [3, 3], transformed in f64.
    pub fn winograd(
        tile: Tile,
        channels: usize,
        outputs: usize,
        lanes: usize,
        kernel: impl Fn(usize, usize) -> [f64; 9] + Sync,
    ) -> Self {
        let mut packed = Packed::empty(tile.planes(), channels, outputs, lanes);
        let plane = packed.plane;
        let transform = tile.weight_transform();
        let shape = Packed { data: vec![], ..packed };
        // Panels of all planes are written at once: threads share out the panels.
        let panel = PANEL * lanes * packed.k;
        let mut panels: Vec<Vec<&mut [E]>> = vec![];
        for whole in packed.data.chunks_mut(plane.max(1)) {
            for (index, chunk) in whole.chunks_mut(panel).enumerate() {
                if panels.len() <= index {
                    panels.push(vec![]);
                }
                panels[index].push(chunk);
            }
        }
        panels.into_par_iter().enumerate().for_each(|(index, mut planes)| {
            let first = index * PANEL * lanes;
            for output in first..outputs.min(first + PANEL * lanes) {
                for channel in 0..channels {
                    let at = shape.place(lanes, channel, output) - index * panel;
                    let values = transform.apply(&kernel(output, channel));
                    for (chunk, value) in planes.iter_mut().zip(values) {
                        chunk[at] = E::from_f32(value as f32);
                    }
                }
            }
        });
        packed
    }
}

/// One f32 for each channel, padded with zeros to whole vectors.
pub fn padded(values: impl Iterator<Item = f64>, lanes: usize) -> Vec<f32> {
    let mut out: Vec<f32> = values.map(|v| v as f32).collect();
    out.resize(out.len().next_multiple_of(lanes), 0.0);
    out
}
