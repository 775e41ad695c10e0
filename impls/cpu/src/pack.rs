//! Weights in the order in which the kernels read them.

use rayon::prelude::*;

use crate::element::Element;
use crate::kernels::gemm::PANEL;
use crate::kernels::winograd::Tile;
use crate::memory::{Block, Store};

/// Weights [channels, outputs] in panels of [`PANEL`] vectors of outputs (the last panel may have
/// fewer): panel, group of channels, vector, lane, channel of the group. What pads is zero. A
/// Winograd layer has one such matrix for each plane.
pub struct Packed<E> {
    /// Everything, one plane after the other.
    pub data: Block<E>,
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

/// Where the weights of a matrix lie.
#[derive(Clone, Copy)]
struct Shape {
    k: usize,
    group: usize,
    vectors: usize,
    lanes: usize,
}

impl Shape {
    fn new<E: Element>(channels: usize, outputs: usize, lanes: usize) -> Self {
        let (k, vectors) = (grouped::<E>(channels), outputs.div_ceil(lanes));
        Shape { k, group: E::GROUP, vectors, lanes }
    }

    fn plane(&self) -> usize {
        self.k * self.vectors * self.lanes
    }

    fn panel(&self) -> usize {
        (PANEL * self.lanes * self.k).max(1)
    }

    /// Place in its panel.
    fn place(&self, channel: usize, output: usize) -> usize {
        let (vector, lane) = (output / self.lanes, output % self.lanes);
        let first = vector / PANEL * PANEL;
        let width = PANEL.min(self.vectors - first);
        let (group, within) = (channel / self.group, channel % self.group);
        ((group * width + vector - first) * self.lanes + lane) * self.group + within
    }

    /// Outputs of a panel.
    fn outputs(&self, panel: usize, outputs: usize) -> std::ops::Range<usize> {
        let first = panel * PANEL * self.lanes;
        first..outputs.min(first + PANEL * self.lanes)
    }

    fn packed<E>(&self, data: Block<E>) -> Packed<E> {
        Packed { data, k: self.k, vectors: self.vectors, plane: self.plane() }
    }
}

impl<E: Element> Packed<E> {
    /// A matrix of weight(output, channel).
    pub fn matrix(
        store: &mut Store,
        [channels, outputs]: [usize; 2],
        lanes: usize,
        weight: impl Fn(usize, usize) -> f64 + Sync,
    ) -> Self {
        let shape = Shape::new::<E>(channels, outputs, lanes);
        let data = store.array(shape.plane(), |data: &mut [E]| {
            data.par_chunks_mut(shape.panel()).enumerate().for_each(|(index, panel)| {
                for output in shape.outputs(index, outputs) {
                    for channel in 0..channels {
                        let value = weight(output, channel) as f32;
                        panel[shape.place(channel, output)] = E::from_f32(value);
                    }
                }
            });
        });
        shape.packed(data)
    }

    /// The planes of 3x3 kernels, kernel(output, channel) being [3, 3], transformed in f64.
    pub fn winograd(
        store: &mut Store,
        tile: Tile,
        [channels, outputs]: [usize; 2],
        lanes: usize,
        kernel: impl Fn(usize, usize) -> [f64; 9] + Sync,
    ) -> Self {
        let shape = Shape::new::<E>(channels, outputs, lanes);
        let transform = tile.weight_transform();
        let data = store.array(tile.planes() * shape.plane(), |data: &mut [E]| {
            // A panel of all planes is written at once: threads share out the panels.
            let mut panels: Vec<Vec<&mut [E]>> = vec![];
            for plane in data.chunks_mut(shape.plane().max(1)) {
                for (index, panel) in plane.chunks_mut(shape.panel()).enumerate() {
                    if panels.len() <= index {
                        panels.push(vec![]);
                    }
                    panels[index].push(panel);
                }
            }
            panels.into_par_iter().enumerate().for_each(|(index, mut planes)| {
                for output in shape.outputs(index, outputs) {
                    for channel in 0..channels {
                        let place = shape.place(channel, output);
                        let values = transform.apply(&kernel(output, channel));
                        for (panel, value) in planes.iter_mut().zip(values) {
                            panel[place] = E::from_f32(value as f32);
                        }
                    }
                }
            });
        });
        shape.packed(data)
    }
}

/// One f32 for each channel, padded with zeros to whole vectors.
pub fn padded(values: impl Iterator<Item = f64>, lanes: usize) -> Vec<f32> {
    let mut out: Vec<f32> = values.map(|v| v as f32).collect();
    out.resize(out.len().next_multiple_of(lanes), 0.0);
    out
}
