//! Weights packed into panels, in the order in which the kernels read them.
//!
//! A panel holds all `k` channels of [`PANEL`] vectors of outputs; the last panel may hold fewer
//! vectors. Its layout is [k / GROUP, vectors, LANES, GROUP], so that each step of a micro-kernel
//! reads the next vectors in memory. Padded channels and outputs are zero.

use std::ops::Range;

use rayon::prelude::*;

use crate::element::Element;
use crate::kernels::gemm::PANEL;
use crate::kernels::winograd::Tile;
use crate::memory::{Arena, ArenaSlice};

/// A weight matrix [channels, outputs], packed into panels (see the module's documentation).
pub struct Packed<E> {
    /// All panels, one after the other.
    pub data: ArenaSlice<E>,
    /// Channels (the reduction dimension), rounded up to whole groups.
    pub k: usize,
    /// Outputs, in vectors of LANES.
    pub vectors: usize,
}

/// The transformed weights of a Winograd layer: one matrix [channels, outputs] for each plane,
/// packed as in [`Packed`], one after the other.
pub struct Planes<E> {
    /// The matrices of all planes.
    pub data: ArenaSlice<E>,
    /// Outputs, in vectors of LANES.
    pub vectors: usize,
    /// The position of each plane's matrix in `data`.
    pub planes: Vec<Plane>,
}

/// The weight matrix of one plane of a Winograd layer.
#[derive(Debug, Clone, Copy)]
pub struct Plane {
    /// Offset of its weights in [`Planes::data`], in elements.
    pub offset: usize,
    /// The first channel that it multiplies, a multiple of GROUP.
    pub channel: usize,
    /// Number of channels that it multiplies, a multiple of GROUP.
    pub k: usize,
}

/// The channels of a 3x3 convolution whose kernels have a nonzero third row, and those whose
/// kernels have a nonzero third column. The transformed weights of all other channels are zero in
/// the planes of the point at infinity, so those channels are skipped there.
pub type ThirdTapChannels = [Range<usize>; 2];

/// The number of channels rounded up to a multiple of GROUP.
pub fn grouped<E: Element>(channels: usize) -> usize {
    channels.next_multiple_of(E::GROUP)
}

/// The layout of one packed matrix.
#[derive(Clone, Copy)]
struct PanelLayout {
    k: usize,
    group: usize,
    vectors: usize,
    lanes: usize,
}

impl PanelLayout {
    fn new<E: Element>(channels: usize, outputs: usize, lanes: usize) -> Self {
        let (k, vectors) = (grouped::<E>(channels), outputs.div_ceil(lanes));
        PanelLayout { k, group: E::GROUP, vectors, lanes }
    }

    fn len(&self) -> usize {
        self.k * self.vectors * self.lanes
    }

    fn panel_len(&self) -> usize {
        (PANEL * self.lanes * self.k).max(1)
    }

    /// Offset of a weight in its panel, in elements.
    fn offset_in_panel(&self, channel: usize, output: usize) -> usize {
        let (vector, lane) = (output / self.lanes, output % self.lanes);
        let first = vector / PANEL * PANEL;
        let width = PANEL.min(self.vectors - first);
        let (group, within) = (channel / self.group, channel % self.group);
        ((group * width + vector - first) * self.lanes + lane) * self.group + within
    }

    /// The outputs that a panel holds.
    fn outputs(&self, panel: usize, outputs: usize) -> std::ops::Range<usize> {
        let first = panel * PANEL * self.lanes;
        first..outputs.min(first + PANEL * self.lanes)
    }
}

impl<E: Element> Packed<E> {
    /// Packs the matrix whose elements are `weight(output, channel)`, rounded once to `E`.
    pub fn matrix(
        arena: &mut Arena,
        shape: [usize; 2],
        lanes: usize,
        weight: impl Fn(usize, usize) -> f64 + Sync,
    ) -> Self {
        let [matrix] = Self::matrices(arena, [shape], lanes, |_, output, k| weight(output, k));
        matrix
    }

    /// Packs matrices of the shapes [channels, outputs], one after the other, whose elements are
    /// `weight(matrix, output, channel)`.
    pub fn matrices<const N: usize>(
        arena: &mut Arena,
        shapes: [[usize; 2]; N],
        lanes: usize,
        weight: impl Fn(usize, usize, usize) -> f64 + Sync,
    ) -> [Self; N] {
        let layouts =
            shapes.map(|[channels, outputs]| PanelLayout::new::<E>(channels, outputs, lanes));
        let arrays = arena.arrays(layouts.map(|layout| layout.len()), |arrays: [&mut [E]; N]| {
            let panels = arrays.into_iter().zip(&layouts).enumerate().flat_map(
                |(matrix, (data, layout))| {
                    let panels = data.chunks_mut(layout.panel_len()).enumerate();
                    panels.map(move |(index, panel)| (matrix, index, panel))
                },
            );
            let panels: Vec<_> = panels.collect();
            panels.into_par_iter().for_each(|(matrix, index, panel)| {
                let ([channels, outputs], layout) = (shapes[matrix], &layouts[matrix]);
                for output in layout.outputs(index, outputs) {
                    for channel in 0..channels {
                        let value = weight(matrix, output, channel) as f32;
                        panel[layout.offset_in_panel(channel, output)] = E::from_f32(value);
                    }
                }
            });
        });
        let mut layouts = layouts.into_iter();
        arrays.map(|data| {
            let layout = layouts.next().expect("there is a layout for each array");
            Packed { data, k: layout.k, vectors: layout.vectors }
        })
    }
}

impl<E: Element> Planes<E> {
    /// Transforms the 3x3 kernels `kernel(output, channel)` (row-major) in f64, rounds them once to
    /// `E` and packs the planes.
    pub fn new(
        arena: &mut Arena,
        tile: Tile,
        [channels, outputs]: [usize; 2],
        lanes: usize,
        third_taps: &ThirdTapChannels,
        kernel: impl Fn(usize, usize) -> [f64; 9] + Sync,
    ) -> Self {
        let shape = |k| PanelLayout::new::<E>(k, outputs, lanes);
        let (mut planes, mut end) = (vec![], 0);
        for plane in 0..tile.planes() {
            let used = nonzero_channels(tile, plane, channels, third_taps);
            let channel = used.start / E::GROUP * E::GROUP;
            let shape = shape(used.end.saturating_sub(channel));
            planes.push(Plane { offset: end, channel, k: shape.k });
            end += shape.len();
        }
        let transform = tile.weight_transform();
        let data = arena.array(end, |mut data: &mut [E]| {
            // A kernel gives one value to every plane, so one task writes the same panel of all
            // planes.
            let whole = shape(channels);
            let mut panels: Vec<Vec<(Plane, &mut [E])>> = vec![];
            panels.resize_with(whole.vectors.div_ceil(PANEL), Vec::new);
            for plane in &planes {
                let shape = shape(plane.k);
                let (mut matrix, rest) = data.split_at_mut(shape.len());
                data = rest;
                // A plane without channels has no panels of its own; it still gets an empty one
                // here.
                for panels in &mut panels {
                    let (panel, rest) = matrix.split_at_mut(shape.panel_len().min(matrix.len()));
                    matrix = rest;
                    panels.push((*plane, panel));
                }
            }
            panels.into_par_iter().enumerate().for_each(|(index, mut planes)| {
                let outputs = whole.outputs(index, outputs);
                // Each plane begins at its first channel: what lies before it is subtracted.
                let first_offset: Vec<usize> = planes
                    .iter()
                    .map(|(plane, _)| whole.offset_in_panel(plane.channel, outputs.start))
                    .collect();
                for output in outputs {
                    for channel in 0..channels {
                        let offset = whole.offset_in_panel(channel, output);
                        let values = transform.apply(&kernel(output, channel));
                        for (((plane, panel), first_offset), value) in
                            planes.iter_mut().zip(&first_offset).zip(values)
                        {
                            if (plane.channel..plane.channel + plane.k).contains(&channel) {
                                panel[offset - first_offset] = E::from_f32(value as f32);
                            }
                        }
                    }
                }
            });
        });
        Planes { data, vectors: shape(channels).vectors, planes }
    }
}

/// The channels whose transformed weights are not all zero in a plane.
fn nonzero_channels(
    tile: Tile,
    plane: usize,
    channels: usize,
    [rows, columns]: &ThirdTapChannels,
) -> Range<usize> {
    let last = tile.side() + 1;
    let (row, column) = (plane / (last + 1), plane % (last + 1));
    let mut used = 0..channels;
    for (_, range) in [(row, rows), (column, columns)].into_iter().filter(|(at, _)| *at == last) {
        used = used.start.max(range.start)..used.end.min(range.end);
    }
    used
}

/// One f32 for each channel, padded with zeros to a multiple of `lanes`.
pub fn padded(values: impl Iterator<Item = f64>, lanes: usize) -> Vec<f32> {
    let mut out: Vec<f32> = values.map(|v| v as f32).collect();
    out.resize(out.len().next_multiple_of(lanes), 0.0);
    out
}
