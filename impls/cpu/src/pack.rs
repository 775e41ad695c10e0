//! Weights in the order in which the kernels read them.

use std::ops::Range;

use rayon::prelude::*;

use crate::element::Element;
use crate::kernels::gemm::PANEL;
use crate::kernels::winograd::Tile;
use crate::memory::{Block, Store};

/// Weights [channels, outputs] in panels of [`PANEL`] vectors of outputs (the last panel may have
/// fewer): panel, group of channels, vector, lane, channel of the group. What pads is zero.
pub struct Packed<E> {
    /// Everything.
    pub data: Block<E>,
    /// Channels, rounded up to whole groups.
    pub k: usize,
    /// Vectors of outputs.
    pub vectors: usize,
}

/// The weights of a Winograd layer: a matrix for each plane, packed as [`Packed`], one behind the other.
pub struct Planes<E> {
    /// Everything.
    pub data: Block<E>,
    /// Vectors of outputs.
    pub vectors: usize,
    /// Of each plane.
    pub planes: Vec<Plane>,
}

/// One plane of a Winograd layer.
#[derive(Debug, Clone, Copy)]
pub struct Plane {
    /// Where its weights begin.
    pub offset: usize,
    /// The first channel that it multiplies, the beginning of a group.
    pub channel: usize,
    /// Channels that it multiplies, whole groups.
    pub k: usize,
}

/// Channels of a 3x3 convolution whose kernels have a last row, and those that have a last column: the
/// weights of the others are zero in the planes at infinity, which then are not multiplied.
pub type Thirds = [Range<usize>; 2];

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
        Packed { data, k: shape.k, vectors: shape.vectors }
    }
}

impl<E: Element> Planes<E> {
    /// The planes of 3x3 kernels, kernel(output, channel) being [3, 3], transformed in f64.
    pub fn new(
        store: &mut Store,
        tile: Tile,
        [channels, outputs]: [usize; 2],
        lanes: usize,
        thirds: &Thirds,
        kernel: impl Fn(usize, usize) -> [f64; 9] + Sync,
    ) -> Self {
        let shape = |k| Shape::new::<E>(k, outputs, lanes);
        let (mut planes, mut end) = (vec![], 0);
        for plane in 0..tile.planes() {
            let used = used(tile, plane, channels, thirds);
            let channel = used.start / E::GROUP * E::GROUP;
            let shape = shape(used.end.saturating_sub(channel));
            planes.push(Plane { offset: end, channel, k: shape.k });
            end += shape.plane();
        }
        let transform = tile.weight_transform();
        let data = store.array(end, |mut data: &mut [E]| {
            // A panel of all planes is written at once: threads share out the panels.
            let whole = shape(channels);
            let mut panels: Vec<Vec<(Plane, &mut [E])>> = vec![];
            panels.resize_with(whole.vectors.div_ceil(PANEL), Vec::new);
            for plane in &planes {
                let shape = shape(plane.k);
                let (mut matrix, rest) = data.split_at_mut(shape.plane());
                data = rest;
                // Every panel gets every plane, be it one without channels.
                for panels in &mut panels {
                    let (panel, rest) = matrix.split_at_mut(shape.panel().min(matrix.len()));
                    matrix = rest;
                    panels.push((*plane, panel));
                }
            }
            panels.into_par_iter().enumerate().for_each(|(index, mut planes)| {
                let outputs = whole.outputs(index, outputs);
                // What lies before the first channel of each plane is left out.
                let before: Vec<usize> = planes
                    .iter()
                    .map(|(plane, _)| whole.place(plane.channel, outputs.start))
                    .collect();
                for output in outputs {
                    for channel in 0..channels {
                        let place = whole.place(channel, output);
                        let values = transform.apply(&kernel(output, channel));
                        for (((plane, panel), before), value) in
                            planes.iter_mut().zip(&before).zip(values)
                        {
                            if (plane.channel..plane.channel + plane.k).contains(&channel) {
                                panel[place - before] = E::from_f32(value as f32);
                            }
                        }
                    }
                }
            });
        });
        Planes { data, vectors: shape(channels).vectors, planes }
    }
}

/// Channels whose weights are not all zero in a plane.
fn used(tile: Tile, plane: usize, channels: usize, [rows, columns]: &Thirds) -> Range<usize> {
    let last = tile.side() + 1;
    let (row, column) = (plane / (last + 1), plane % (last + 1));
    let mut used = 0..channels;
    for (_, range) in [(row, rows), (column, columns)].into_iter().filter(|(at, _)| *at == last) {
        used = used.start.max(range.start)..used.end.min(range.end);
    }
    used
}

/// One f32 for each channel, padded with zeros to whole vectors.
pub fn padded(values: impl Iterator<Item = f64>, lanes: usize) -> Vec<f32> {
    let mut out: Vec<f32> = values.map(|v| v as f32).collect();
    out.resize(out.len().next_multiple_of(lanes), 0.0);
    out
}
