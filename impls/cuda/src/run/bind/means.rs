//! Launches of average pools and dense layers: the gates, and the head of the network.

use bytemuck::Zeroable;
use lower::Stage;
use spec::EngineError;

use super::{Bound, Observed, int, launch, slot};
use crate::device::{Device, Launch};
use crate::kernels::{File, Variant, average_pool, dense, tile_sums};
use crate::plan::Op;

impl Bound<'_> {
    /// A dense layer.
    pub(super) fn dense(&self, op: &Op, observed: Observed) -> dense::Args {
        let Op::Dense { from, weights, epilogue } = op else {
            unreachable!("the operation is a dense layer")
        };
        dense::Args {
            x: self.at(from),
            weights: self.constant(Some(*weights)),
            scale: self.constant(epilogue.scale),
            bias: self.constant(epilogue.bias),
            out: self.at(&epilogue.out),
            observed: [Stage::Linear, Stage::Activation].map(|s| observed[slot(s)]),
            images: int(self.layout.clips),
            in_pitch: int(from.pitch),
            outputs: int(epilogue.out.channels),
            out_pitch: int(epilogue.out.pitch),
            activation: epilogue.activation as i32,
            ..dense::Args::zeroed()
        }
    }

    /// The same dense layer on means: those of the map that the average pool `op`, in the action
    /// `at`, reads, from the sums of its tiles.
    pub(super) fn means_of(&self, op: &Op, at: usize, args: dense::Args) -> dense::Args {
        let (Op::AveragePool { from, .. }, Some(tiles)) = (op, self.layout.pool_tiles[at]) else {
            unreachable!("the operation is an average pool over sums of tiles")
        };
        let (tile_sums, tile_pixels) = (self.tile_sums(from, tiles, at), int(tiles.tile_pixels));
        dense::Args { x: 0, tile_sums, tile_pixels, ..args }
    }

    /// The same dense layer, which also multiplies a map by its result, and does not store that.
    pub(super) fn product_of(&self, op: &Op, args: dense::Args) -> dense::Args {
        let Op::Scale { from, out, .. } = op else {
            unreachable!("the operation is the product of a map and its gate")
        };
        let (map, product) = (self.at(from), self.at(out));
        dense::Args { out: 0, map, product, map_pixels: int(from.pixels()), ..args }
    }

    pub(super) fn launch_dense(
        &self,
        device: &mut dyn Device,
        args: dense::Args,
    ) -> Result<Launch, EngineError> {
        let multiprocessors = device.machine().multiprocessors;
        let block_images = dense::block_images(&args, multiprocessors);
        let args = dense::Args { block_images, ..args };
        let parts = dense::parts(&args, self.precision, multiprocessors);
        let args = dense::Args { parts, ..args };
        launch(device, &Variant::new(File::Dense, self.precision), dense::grid(&args), &args)
    }

    /// An average pool by itself: from the map, or from sums over its tiles.
    pub(super) fn average_pool(
        &self,
        device: &mut dyn Device,
        op: &Op,
        at: usize,
    ) -> Result<Vec<Launch>, EngineError> {
        let Op::AveragePool { from, out, .. } = op else {
            unreachable!("the operation is an average pool")
        };
        let variant = |file| Variant::new(file, self.precision);
        let (clips, pitch) = (self.layout.clips, int(from.pitch));
        let Some(tiles) = self.layout.pool_tiles[at] else {
            let pixels = int(from.pixels());
            let args = average_pool::Args { x: self.at(from), out: self.at(out), pixels, pitch };
            let grid = average_pool::grid(&args, clips, self.precision);
            return Ok(vec![launch(device, &variant(File::AveragePool), grid, &args)?]);
        };
        let tile_sums = self.tile_sums(from, tiles, at);
        let tile_pixels = int(tiles.tile_pixels);
        let mut launches = vec![];
        if self.layout.unfused {
            let (x, pixels) = (self.at(from), int(clips * from.pixels()));
            let args = tile_sums::Args { x, tile_sums, pixels, pitch, tile_pixels, unused: 0 };
            let grid = tile_sums::grid(&args);
            launches.push(launch(device, &variant(File::TileSums), grid, &args)?);
        }
        // A dense layer without outputs makes the same means.
        let (means, images) = (self.at(out), int(clips));
        let args = dense::Args { means, images, in_pitch: pitch, ..dense::Args::zeroed() };
        launches.push(self.launch_dense(device, self.means_of(op, at, args))?);
        Ok(launches)
    }
}
