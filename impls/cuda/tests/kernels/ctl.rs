//! The end of a channel-time learning block in one kernel, in tiles of a block and in tiles that the blocks of a
//! cluster share.

use cuda::device::{Device, Memory};
use cuda::kernels::args::Extent;
use cuda::kernels::tile::{CLUSTERS, CTL_TILES, Tiling};
use cuda::kernels::{ctl, ctl_cluster};
use spec::Precision;

use crate::conv::{CASE, Case, Uploaded, Values, upload};
use crate::lab::{self, Lab, PRECISIONS};

/// The end of a CTL block on the device: (short(x) + bias) * sigmoid(glo_out(m) + bias) + temporal(gate * x).
pub struct Block {
    precision: Precision,
    cases: [Case; 3],
    values: [Values; 3],
    uploaded: [Uploaded; 3],
    bias: [Vec<f64>; 2],
    biases: [Memory; 2],
}

impl Block {
    pub fn upload(
        device: &mut dyn Device,
        precision: Precision,
        (size, images, inputs, outputs): ((usize, usize), usize, usize, usize),
    ) -> Self {
        let short = Case { images, size, inputs, outputs, kernel: 3, ..CASE };
        let global = Case { inputs: 16, ..short };
        let temporal = Case { kernel: 1, gated: true, ..short };
        let cases = [short, global, temporal];
        let values = cases.map(|case| Values::new(&case, precision));
        let uploaded = [0, 1, 2].map(|i| upload(device, &cases[i], precision, &values[i]));
        let pitch = lab::pitch(precision, outputs);
        let bias = [11, 12].map(|seed| lab::pseudo_random(outputs, seed));
        let biases =
            [0, 1].map(|i| lab::upload_f32(device, &lab::pad_channels(&bias[i], outputs, pitch)));
        Block { precision, cases, values, uploaded, bias, biases }
    }

    /// The right results, [pixels, outputs] of a value and its tolerance.
    fn want(&self) -> Vec<(f64, f64)> {
        let Case { inputs, outputs, .. } = self.cases[0];
        let value = |at: usize| {
            let (p, o) = (at / outputs, at % outputs);
            let [s, g, t] =
                [0, 1, 2].map(|i| self.values[i].sum(&self.cases[i], self.precision, p, o));
            let gate = 1.0 / (1.0 + (-(g.0 + self.bias[1][o])).exp());
            let value = (s.0 + self.bias[0][o]) * gate + t.0;
            let size = (s.1 + 1.0) * (g.1 + 2.0) + t.1;
            (value, lab::tolerance(self.precision, 9 * inputs, size, value))
        };
        (0..self.cases[0].pixels() * outputs).map(value).collect()
    }

    /// Runs the kernel for a tile; in clusters of `splits` blocks if there is more than one.
    pub fn run(
        &self,
        device: &mut dyn Device,
        Tiling { tile, splits }: Tiling,
    ) -> Result<Vec<f64>, spec::EngineError> {
        let Case { size, outputs, .. } = self.cases[0];
        let (precision, pixels) = (self.precision, self.cases[0].pixels());
        let pitch = lab::pitch(precision, outputs);
        let out = lab::allocate(device, precision, pixels * pitch);
        let [short_conv, glo_out, temporal] = self.uploaded.each_ref().map(|u| u.source);
        let [short_bias, glo_out_bias] = self.biases.each_ref().map(|memory| memory.address);
        let extent = Extent {
            pixels: pixels as i32,
            height: size.0 as i32,
            width: size.1 as i32,
            outputs: outputs as i32,
        };
        let epilogue = lab::epilogue_to(&out, outputs, pitch, size.0 * size.1);
        let args =
            ctl::Args { short_conv, glo_out, temporal, extent, short_bias, glo_out_bias, epilogue };
        if splits == 1 {
            let variant = ctl::variant(precision, tile, true);
            lab::run(device, &variant, ctl::grid(&args, tile), &args)?;
        } else {
            let args = ctl_cluster::Args { block: args, splits: splits as i32, unused: 0 };
            let variant = ctl_cluster::variant(precision, tile, true);
            let grid = (ctl_cluster::grid(&args, tile), splits as u32);
            lab::run_clusters(device, &variant, grid, &args)?;
        }
        Ok(lab::download_stored(device, precision, &out))
    }
}

#[test]
fn the_fused_block_is_right_over_edge_shapes() {
    let Some(mut lab) = Lab::open() else { return };
    let machine = lab.device().machine();
    let mut tilings: Vec<Tiling> = CTL_TILES.map(|tile| Tiling { tile, splits: 1 }).to_vec();
    for splits in CLUSTERS.into_iter().filter(|splits| machine.in_cluster(*splits)) {
        let tiles = ctl_cluster::tiles(machine.shared_bytes);
        tilings.extend(tiles.map(|tile| Tiling { tile, splits }));
    }
    for precision in PRECISIONS {
        for shape in [((1, 1), 1, 3, 5), ((5, 7), 2, 19, 38), ((4, 3), 3, 33, 70)] {
            let block = Block::upload(lab.device(), precision, shape);
            let (want, pitch) = (block.want(), lab::pitch(precision, shape.3));
            for tiling in &tilings {
                let got = block.run(lab.device(), *tiling).unwrap();
                lab::compare(
                    &format!("{precision} {shape:?} {tiling:?}"),
                    &got,
                    &want,
                    shape.3,
                    pitch,
                );
            }
        }
    }
}
