//! Turns actions into launches, by filling in sizes and addresses. Those of gates and of the head are in `means.rs`,
//! those of two convolutions in one kernel in `pair.rs`.

mod means;
mod pair;

use bytemuck::Zeroable;
use lower::{Activation, Stage};
use spec::{EngineError, Precision};

use super::layout::{Action, InPlace, Layout, PoolTiles, Way};
use crate::device::{Device, Launch};
use crate::kernels::args::{self, Extent, SIGMOID_HALF, Source};
use crate::kernels::bands::{self, BandEnd, BandTile, Division, TensorMap};
use crate::kernels::hopper_conv::Halving;
use crate::kernels::tile::Tiling;
use crate::kernels::tile_sums::TileSums;
use crate::kernels::{
    File, Variant, conv, ctl, ctl_cluster, depthwise, hopper_conv, hopper_ctl, hopper_stem, import,
    maxpool, scale, split_k_reduce,
};
use crate::plan::constants::Constant;
use crate::plan::{Conv, CtlBlock, Epilogue, Input, Map, Op, Plan};

/// For each epilogue stage from SUM on, the address to which the value after it is copied for an
/// observer, or 0.
pub type Observed = [u64; Stage::OBSERVABLE.len()];

/// No stage is observed.
pub const UNOBSERVED: Observed = [0; Stage::OBSERVABLE.len()];

/// Where [`Observed`] holds the address for a stage.
pub fn slot(stage: Stage) -> usize {
    stage as usize - Stage::Sum as usize
}

/// A layout whose parts have addresses.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    /// The steps of the network.
    pub plan: &'a Plan,
    /// The layout for the batch size.
    pub layout: &'a Layout,
    /// The precision, which determines the storage format.
    pub precision: Precision,
    /// Address of the arena.
    pub arena: u64,
    /// Address of the constants.
    pub constants: u64,
    /// Address of an embedding, f32 [pixels of an image, pitch], that replaces the plan's; 0 keeps
    /// the plan's.
    pub addend: u64,
}

/// A size as a kernel argument. It does not overflow: `Layout::new` has checked the largest.
fn int(value: usize) -> i32 {
    value as i32
}

/// Compiles or finds the kernel, and puts a launch together.
fn launch<A: bytemuck::Pod>(
    device: &mut dyn Device,
    variant: &Variant,
    grid: [u32; 3],
    args: &A,
) -> Result<Launch, EngineError> {
    let kernel = device.kernel(variant)?;
    Ok(Launch { kernel, grid, cluster: 1, args: bytemuck::bytes_of(args).to_vec() })
}

impl Bound<'_> {
    /// Address of a map in the arena.
    pub fn at(&self, map: &Map) -> u64 {
        self.arena + self.layout.map(map) as u64
    }

    fn optional(&self, map: Option<&Map>) -> u64 {
        map.map_or(0, |map| self.at(map))
    }

    fn constant(&self, constant: Option<Constant>) -> u64 {
        constant.map_or(0, |constant| self.constants + constant.0 as u64)
    }

    /// The launches of an action, which copy the `observed` stages. A fused block and an average
    /// pool have none, whether or not a dense layer is part of it.
    pub fn launches(
        &self,
        device: &mut dyn Device,
        at: usize,
        observed: Observed,
    ) -> Result<Vec<Launch>, EngineError> {
        match &self.layout.actions[at] {
            Action::Fused(block, Way::Tiles(tiling)) => {
                Ok(vec![self.fused(device, block, *tiling)?])
            }
            Action::Fused(block, Way::Bands(division)) => {
                Ok(vec![self.fused_in_bands(device, block, division)?])
            }
            Action::Imported(_, division, index) => {
                self.stem(device, self.plan.conv(*index), division, at, observed)
            }
            Action::Halved(index, division, _) => {
                self.conv_in_bands(device, self.plan.conv(*index), division, at, observed)
            }
            Action::Pooled(pool, index) => {
                let args = self.dense(&self.plan.steps[*index].op, UNOBSERVED);
                let args = self.means_of(&self.plan.steps[*pool].op, at, args);
                Ok(vec![self.launch_dense(device, args)?])
            }
            Action::Scaled(index, product) => {
                let args = self.dense(&self.plan.steps[*index].op, UNOBSERVED);
                let args = self.product_of(&self.plan.steps[*product].op, args);
                Ok(vec![self.launch_dense(device, args)?])
            }
            Action::Paired(first, division, second) => {
                Ok(vec![self.pair(device, [*first, *second], division, at)?])
            }
            Action::Step(index, way) => match (&self.plan.steps[*index].op, way) {
                (Op::Conv(conv), Some(Way::Tiles(tiling))) => {
                    self.conv(device, conv, *tiling, at, observed)
                }
                (Op::Conv(conv), Some(Way::Bands(division))) => {
                    self.conv_in_bands(device, conv, division, at, observed)
                }
                (op @ Op::AveragePool { .. }, _) => self.average_pool(device, op, at),
                (op @ Op::Dense { .. }, _) => {
                    Ok(vec![self.launch_dense(device, self.dense(op, observed))?])
                }
                (op, _) => Ok(vec![self.plain(device, op, observed)?]),
            },
        }
    }

    fn source(&self, input: &Input) -> Source {
        let Input { from, kernel, stride, padding, .. } = input;
        Source {
            x: self.at(from),
            weights: self.constant(Some(input.weights)),
            gate: self.optional(input.gate.as_ref()),
            height: int(from.size.0),
            width: int(from.size.1),
            pitch: int(from.pitch),
            kernel: int(*kernel),
            stride: int(*stride),
            padding: int(*padding),
            k: int(input.k()),
            unused: 0,
        }
    }

    fn extent(&self, out: &Map) -> Extent {
        Extent {
            pixels: int(self.layout.clips * out.pixels()),
            height: int(out.size.0),
            width: int(out.size.1),
            outputs: int(out.channels),
        }
    }

    fn epilogue(&self, epilogue: &Epilogue, observed: Observed) -> args::Epilogue {
        let addend = epilogue.addend.as_ref().map(|(embedding, _)| embedding.constant);
        args::Epilogue {
            scale: self.constant(epilogue.scale),
            bias: self.constant(epilogue.bias),
            residual: self.optional(epilogue.residual.as_ref()),
            factor: self.optional(epilogue.factor.as_ref()),
            addend: if self.addend != 0 { self.addend } else { self.constant(addend) },
            out: self.at(&epilogue.out),
            observed,
            channels: int(epilogue.out.channels),
            pitch: int(epilogue.out.pitch),
            image_pixels: int(epilogue.out.pixels()),
            activation: epilogue.activation as i32,
            from_stage: 0,
            wide: i32::from(epilogue.out.wide),
        }
    }

    /// The epilogue of the action `at`.
    fn epilogue_of(&self, at: usize, epilogue: &Epilogue, observed: Observed) -> args::Epilogue {
        let half = matches!(self.layout.actions[at], Action::Step(_, Some(Way::Bands(_))))
            && epilogue.activation == Activation::Sigmoid;
        let all = self.epilogue(epilogue, observed);
        let activation = if half { SIGMOID_HALF } else { all.activation };
        args::Epilogue { activation, ..all }
    }

    /// A launch that applies the rest of the epilogue of the action `at` to values, f32 [pixels,
    /// pitch]. `from` is the stage that they have passed, and their address.
    pub fn resume(
        &self,
        device: &mut dyn Device,
        (at, epilogue): (usize, &Epilogue),
        from: (Stage, u64),
        observed: Observed,
    ) -> Result<Launch, EngineError> {
        let all = self.epilogue_of(at, epilogue, observed);
        let args = args::Epilogue { from_stage: from.0 as i32, ..all };
        self.split_k_reduce(device, (from.1, 1), &epilogue.out, TileSums::zeroed(), args)
    }

    /// Adds partial sums: their address, and how many each output has.
    fn split_k_reduce(
        &self,
        device: &mut dyn Device,
        (partial, splits): (u64, usize),
        out: &Map,
        tile_sums: TileSums,
        epilogue: args::Epilogue,
    ) -> Result<Launch, EngineError> {
        let (splits, pixels) = (int(splits), int(self.layout.clips * out.pixels()));
        let args = split_k_reduce::Args { partial, splits, pixels, tile_sums, epilogue };
        let variant = Variant::new(File::SplitKReduce, self.precision);
        launch(device, &variant, split_k_reduce::grid(&args, self.precision), &args)
    }

    /// The convolution `conv` of the action `at`. Its last launch also sums its tiles if the next
    /// action is an average pool that reads them.
    fn conv(
        &self,
        device: &mut dyn Device,
        conv: &Conv,
        tiling: Tiling,
        at: usize,
        observed: Observed,
    ) -> Result<Vec<Launch>, EngineError> {
        let mut sources = [Source::zeroed(); 2];
        for (source, input) in sources.iter_mut().zip(&conv.inputs) {
            *source = self.source(input);
        }
        let out = &conv.epilogue.out;
        let epilogue = self.epilogue(&conv.epilogue, observed);
        let reduced = self.layout.is_reduced(tiling.splits);
        let partial = if reduced { self.arena + self.layout.scratch(at) as u64 } else { 0 };
        let tile_sums = self.sums_for_next(out, at);
        let args = conv::Args {
            sources,
            extent: self.extent(out),
            init: self.optional(conv.init.as_ref()),
            partial,
            source_count: int(conv.inputs.len()),
            splits: int(tiling.splits),
            tile_sums: if reduced { TileSums::zeroed() } else { tile_sums },
            epilogue,
        };
        let gated = conv.inputs.iter().any(|input| input.gate.is_some());
        let variant = conv::variant(self.precision, tiling, gated);
        let mut first = launch(device, &variant, conv::grid(&args, tiling), &args)?;
        if !reduced {
            first.cluster = tiling.splits as u32;
        }
        let mut launches = vec![first];
        if reduced {
            let partial = (partial, tiling.splits);
            launches.push(self.split_k_reduce(device, partial, out, tile_sums, epilogue)?);
        }
        Ok(launches)
    }

    /// A convolution in bands. Where its stages may be observed, it leaves the epilogue to another
    /// kernel.
    fn conv_in_bands(
        &self,
        device: &mut dyn Device,
        conv: &Conv,
        division: &Division,
        at: usize,
        observed: Observed,
    ) -> Result<Vec<Launch>, EngineError> {
        let (out, unfused) = (&conv.epilogue.out, self.layout.unfused);
        let mut sources = [bands::Source::zeroed(); hopper_conv::MAX_SOURCES];
        let mut source_count = 0;
        for input in &conv.inputs {
            for source in self.band_sources(device, input, out, division)? {
                sources[source_count] = source;
                source_count += 1;
            }
        }
        let epilogue = self.epilogue_of(at, &conv.epilogue, observed);
        let sums = if unfused { self.arena + self.layout.scratch(at) as u64 } else { 0 };
        let halving = match &self.layout.actions[at] {
            Action::Halved(.., next) => Some(self.halving(&self.plan.steps[*next].op)),
            _ => None,
        };
        let (out_map, residual) = self.results(device, &conv.epilogue, division)?;
        let args = hopper_conv::Args {
            sources,
            out: if halving.is_some() { TensorMap::zeroed() } else { out_map },
            residual,
            bands: division.bands,
            source_count: int(source_count),
            has_residual: i32::from(!unfused && conv.epilogue.residual.is_some()),
            init: self.optional(conv.init.as_ref()),
            sums,
            tile_sums: self.sums_for_next(out, at),
            epilogue,
            unused: 0,
            halving: halving.unwrap_or(Halving::zeroed()),
        };
        let grid = [division.blocks(device.machine().multiprocessors), 1, 1];
        let end = match (unfused, halving, &conv.epilogue.addend) {
            (true, ..) => BandEnd::Sums,
            (false, Some(_), _) => BandEnd::Halved,
            (false, None, Some(_)) => BandEnd::Addend,
            (false, None, None) => BandEnd::Epilogue,
        };
        let tile = BandTile { end, gated: bands::gated(&sources), ..division.tile };
        let variant = hopper_conv::variant(self.precision, tile);
        let mut launches = vec![launch(device, &variant, grid, &args)?];
        if unfused {
            launches.push(self.split_k_reduce(
                device,
                (sums, 1),
                out,
                TileSums::zeroed(),
                epilogue,
            )?);
        }
        Ok(launches)
    }

    /// The stem with the import. Where its stages may be observed, it leaves the epilogue to another
    /// kernel.
    fn stem(
        &self,
        device: &mut dyn Device,
        conv: &Conv,
        division: &hopper_stem::Division,
        at: usize,
        observed: Observed,
    ) -> Result<Vec<Launch>, EngineError> {
        let (out, unfused) = (&conv.epilogue.out, self.layout.unfused);
        let epilogue = self.epilogue_of(at, &conv.epilogue, observed);
        let sums = if unfused { self.arena + self.layout.scratch(at) as u64 } else { 0 };
        let weights = self.constant(conv.inputs[0].plane_weights);
        let weights = device.tensor_map(&division.weights(weights, out.channels))?;
        let clip = self.arena + self.layout.clip() as u64;
        let args = division.args(weights, clip, sums, epilogue);
        let grid = [division.blocks(device.machine().multiprocessors), 1, 1];
        let variant = hopper_stem::variant(self.precision, unfused);
        let mut launches = vec![launch(device, &variant, grid, &args)?];
        if unfused {
            let sums = (sums, 1);
            launches.push(self.split_k_reduce(device, sums, out, TileSums::zeroed(), epilogue)?);
        }
        Ok(launches)
    }

    /// A depthwise convolution that the kernel before it does on the result that it has in shared memory.
    fn halving(&self, op: &Op) -> Halving {
        let Op::Depthwise { from, weights, epilogue } = op else {
            unreachable!("the operation is a depthwise convolution")
        };
        Halving {
            weights: self.constant(Some(*weights)),
            width: int(from.size.1),
            unused: 0,
            epilogue: self.epilogue(epilogue, UNOBSERVED),
        }
    }

    /// One input of a convolution in bands: a source for each part of its window.
    fn band_sources(
        &self,
        device: &dyn Device,
        input: &Input,
        out: &Map,
        division: &Division,
    ) -> Result<Vec<bands::Source>, EngineError> {
        let mut in_place = self.layout.in_place.iter();
        let (from, gate) = match in_place.find(|gated| gated.out.buffer == input.from.buffer) {
            Some(InPlace { from, gate, .. }) => (from, (self.at(gate), gate.pitch)),
            None => (&input.from, (0, 0)),
        };
        let (pixels, weights) = (self.at(from), self.constant(input.band_weights));
        let (outputs, shape) = (out.channels, input.band_shape());
        division.sources(device, bands::Place { pixels, weights, outputs, shape, gate })
    }

    /// The result of convolutions in bands and its residual, in boxes.
    fn results(
        &self,
        device: &dyn Device,
        epilogue: &Epilogue,
        division: &Division,
    ) -> Result<(TensorMap, TensorMap), EngineError> {
        let Epilogue { out, residual, .. } = epilogue;
        // A wide result is never stored in boxes.
        let map = |map: &Map| device.tensor_map(&division.tensor(self.at(map), map.pitch, true));
        let residual = residual.as_ref().map_or(Ok(TensorMap::zeroed()), map)?;
        Ok((if out.wide { TensorMap::zeroed() } else { map(out)? }, residual))
    }

    /// Where the action `at` puts sums over tiles of its result, if the next action is an average
    /// pool that reads them.
    fn sums_for_next(&self, out: &Map, at: usize) -> TileSums {
        let next = self.layout.pool_tiles.get(at + 1).copied().flatten();
        match next.filter(|_| !self.layout.unfused) {
            Some(tiles) => self.tile_sums(out, tiles, at + 1),
            None => TileSums::zeroed(),
        }
    }

    /// The sums over tiles of `map` that the average pool `at` reads.
    fn tile_sums(&self, map: &Map, tiles: PoolTiles, at: usize) -> TileSums {
        TileSums {
            sums: self.arena + self.layout.scratch(at) as u64,
            image_pixels: int(map.pixels()),
            segments: int(tiles.segments),
        }
    }

    /// The end of a CTL block, as both kernels in tiles are told of it.
    fn ctl(&self, block: &CtlBlock) -> ctl::Args {
        let [short, glo_out, temporal] =
            [block.short, block.glo_out, block.temporal].map(|index| self.plan.conv(index));
        ctl::Args {
            short_conv: self.source(&short.inputs[0]),
            glo_out: self.source(&glo_out.inputs[0]),
            temporal: self.source(&temporal.inputs[0]),
            extent: self.extent(&temporal.epilogue.out),
            short_bias: self.constant(short.epilogue.bias),
            glo_out_bias: self.constant(glo_out.epilogue.bias),
            epilogue: self.epilogue(&temporal.epilogue, UNOBSERVED),
        }
    }

    /// The end of a CTL block in tiles, which the blocks of clusters share where K is split.
    fn fused(
        &self,
        device: &mut dyn Device,
        block: &CtlBlock,
        Tiling { tile, splits }: Tiling,
    ) -> Result<Launch, EngineError> {
        let args = self.ctl(block);
        let gated = args.temporal.gate != 0;
        if splits == 1 {
            let variant = ctl::variant(self.precision, tile, gated);
            return launch(device, &variant, ctl::grid(&args, tile), &args);
        }
        let args = ctl_cluster::Args { block: args, splits: int(splits), unused: 0 };
        let variant = ctl_cluster::variant(self.precision, tile, gated);
        let one = launch(device, &variant, ctl_cluster::grid(&args, tile), &args)?;
        Ok(Launch { cluster: splits as u32, ..one })
    }

    fn fused_in_bands(
        &self,
        device: &mut dyn Device,
        block: &CtlBlock,
        division: &Division,
    ) -> Result<Launch, EngineError> {
        let conv = |index| self.plan.conv(index);
        let (short, glo_out, temporal) =
            (conv(block.short), conv(block.glo_out), conv(block.temporal));
        let out = &temporal.epilogue.out;
        let mut sources = [bands::Source::zeroed(); 3];
        for (source, conv) in sources.iter_mut().zip([glo_out, short, temporal]) {
            *source = self.band_sources(device, &conv.inputs[0], out, division)?[0];
        }
        let (out, residual) = self.results(device, &temporal.epilogue, division)?;
        let args = hopper_ctl::Args {
            sources,
            out,
            residual,
            bands: division.bands,
            has_residual: i32::from(temporal.epilogue.residual.is_some()),
            unused_int: 0,
            short_bias: self.constant(short.epilogue.bias),
            glo_out_bias: self.constant(glo_out.epilogue.bias),
            epilogue: self.epilogue(&temporal.epilogue, UNOBSERVED),
            unused: [0; 3],
        };
        let grid = [division.blocks(device.machine().multiprocessors), 1, 1];
        let tile = BandTile { gated: bands::gated(&sources), ..division.tile };
        let variant = hopper_ctl::variant(self.precision, tile);
        launch(device, &variant, grid, &args)
    }

    /// An operation of one launch that depends on neither a tiling nor its neighbours.
    fn plain(
        &self,
        device: &mut dyn Device,
        op: &Op,
        observed: Observed,
    ) -> Result<Launch, EngineError> {
        let (precision, images) = (self.precision, int(self.layout.clips));
        let variant = |file| Variant::new(file, precision);
        match op {
            Op::Import { out } => {
                let args = import::Args {
                    clip: self.arena + self.layout.clip() as u64,
                    out: self.at(out),
                    images,
                    pixels: int(out.pixels()),
                    planes: int(out.channels),
                    pitch: int(out.pitch),
                    width: int(out.size.1),
                    group: int(self.layout.group(self.plan, out)),
                };
                launch(device, &variant(File::Import), import::grid(&args), &args)
            }
            Op::Scale { from, gate, out } => {
                let args = scale::Args {
                    x: self.at(from),
                    gate: self.at(gate),
                    out: self.at(out),
                    images,
                    image_pixels: int(out.pixels()),
                    pitch: int(out.pitch),
                    unused: 0,
                };
                launch(device, &variant(File::Scale), scale::grid(&args, precision), &args)
            }
            Op::Depthwise { from, weights, epilogue } => {
                let args = depthwise::Args {
                    x: self.at(from),
                    weights: self.constant(Some(*weights)),
                    images,
                    height: int(from.size.0),
                    width: int(from.size.1),
                    out_height: int(epilogue.out.size.0),
                    out_width: int(epilogue.out.size.1),
                    unused: 0,
                    epilogue: self.epilogue(epilogue, observed),
                };
                launch(device, &variant(File::Depthwise), depthwise::grid(&args, precision), &args)
            }
            Op::MaxPool { from, epilogue } => {
                let args = maxpool::Args {
                    x: self.at(from),
                    images,
                    height: int(from.size.0),
                    width: int(from.size.1),
                    out_height: int(epilogue.out.size.0),
                    out_width: int(epilogue.out.size.1),
                    unused: 0,
                    epilogue: self.epilogue(epilogue, observed),
                };
                launch(device, &variant(File::MaxPool), maxpool::grid(&args, precision), &args)
            }
            Op::Conv(_) | Op::Dense { .. } | Op::AveragePool { .. } => {
                unreachable!("`launches` handles the other operations itself")
            }
        }
    }
}
