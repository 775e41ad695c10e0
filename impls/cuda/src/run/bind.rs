//! From actions to launches: sizes and addresses.

use bytemuck::Zeroable;
use spec::{EngineError, Precision};

use super::layout::{Action, Layout, Tiles};
use crate::device::{Device, Launch};
use crate::kernels::args::{Epilogue, Extent, Source, stage};
use crate::kernels::pool::Pool;
use crate::kernels::tile::{Cut, Tile};
use crate::kernels::{
    File, Variant, combine, conv, ctl, dense, depthwise, finish, import, maxpool, mean, pool,
};
use crate::plan::constants::Constant;
use crate::plan::{Block, Conv, Finish, Input, Map, Op, Plan};

/// Where the value after each stage is to be copied: an address, or 0.
pub type Seen = [u64; stage::END];

/// Nothing is to be seen.
pub const UNSEEN: Seen = [0; stage::END];

/// A layout with addresses.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    /// The steps.
    pub plan: &'a Plan,
    /// The batch.
    pub layout: &'a Layout,
    /// Number format.
    pub precision: Precision,
    /// Address of the arena.
    pub arena: u64,
    /// Address of the constants.
    pub constants: u64,
    /// Another embedding instead of the plan's, or 0.
    pub post: u64,
}

/// A size as the kernels hold it: `Layout::new` has checked them.
fn int(value: usize) -> i32 {
    value as i32
}

/// A launch from its parts.
fn launch<A: bytemuck::Pod>(
    device: &mut dyn Device,
    variant: &Variant,
    grid: [u32; 3],
    args: &A,
) -> Result<Launch, EngineError> {
    let kernel = device.kernel(variant)?;
    Ok(Launch { kernel, grid, args: bytemuck::bytes_of(args).to_vec() })
}

impl Bound<'_> {
    /// Address of a map.
    pub fn at(&self, map: &Map) -> u64 {
        self.arena + self.layout.map(map) as u64
    }

    fn optional(&self, map: Option<&Map>) -> u64 {
        map.map_or(0, |map| self.at(map))
    }

    fn constant(&self, constant: Option<Constant>) -> u64 {
        constant.map_or(0, |constant| self.constants + constant.0 as u64)
    }

    /// Launches of an action, with what is to be seen of it.
    pub fn launches(
        &self,
        device: &mut dyn Device,
        at: usize,
        seen: Seen,
    ) -> Result<Vec<Launch>, EngineError> {
        match &self.layout.actions[at] {
            Action::Fused(block, tile) => Ok(vec![self.fused(device, block, *tile)?]),
            Action::Step(index, cut) => match (&self.plan.steps[*index].op, cut) {
                (Op::Conv(conv), Some(cut)) => self.conv(device, conv, *cut, at, seen),
                (Op::Mean { from, out, .. }, _) => self.mean(device, from, out, at),
                (op, _) => Ok(vec![self.plain(device, op, seen)?]),
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
            depth: int(input.depth()),
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

    fn epilogue(&self, finish: &Finish, seen: Seen) -> Epilogue {
        let post = finish.post.as_ref().map(|(post, _)| post.constant);
        Epilogue {
            scale: self.constant(finish.scale),
            bias: self.constant(finish.bias),
            residual: self.optional(finish.residual.as_ref()),
            factor: self.optional(finish.factor.as_ref()),
            post: if self.post != 0 { self.post } else { self.constant(post) },
            out: self.at(&finish.out),
            see: seen,
            channels: int(finish.out.channels),
            pitch: int(finish.out.pitch),
            image: int(finish.out.pixels()),
            activation: finish.activation as i32,
            from: 0,
            wide: i32::from(finish.out.wide),
        }
    }

    /// Values [pixels, pitch] that have passed a stage, through the rest of an epilogue.
    pub fn resume(
        &self,
        device: &mut dyn Device,
        finish: &Finish,
        from: (usize, u64),
        seen: Seen,
    ) -> Result<Launch, EngineError> {
        let epilogue = Epilogue { from: int(from.0), ..self.epilogue(finish, seen) };
        self.finish(device, from.1, 1, &finish.out, epilogue)
    }

    fn finish(
        &self,
        device: &mut dyn Device,
        partial: u64,
        splits: usize,
        out: &Map,
        epilogue: Epilogue,
    ) -> Result<Launch, EngineError> {
        let pixels = int(self.layout.clips * out.pixels());
        let args = finish::Args { partial, splits: int(splits), pixels, epilogue };
        let variant = Variant::new(File::Finish, self.precision);
        launch(device, &variant, finish::grid(&args, self.precision), &args)
    }

    fn conv(
        &self,
        device: &mut dyn Device,
        conv: &Conv,
        cut: Cut,
        at: usize,
        seen: Seen,
    ) -> Result<Vec<Launch>, EngineError> {
        let mut sources = [Source::zeroed(); 2];
        for (source, input) in sources.iter_mut().zip(&conv.inputs) {
            *source = self.source(input);
        }
        let epilogue = self.epilogue(&conv.finish, seen);
        let partial = match cut.splits {
            1 => 0,
            _ => self.arena + self.layout.partial(at) as u64,
        };
        let next = self.layout.tiles.get(at + 1).copied().flatten();
        let pool = match next.filter(|_| !self.layout.apart) {
            Some(tiles) => self.pool(&conv.finish.out, tiles, at + 1),
            None => Pool::zeroed(),
        };
        let args = conv::Args {
            sources,
            extent: self.extent(&conv.finish.out),
            init: self.optional(conv.init.as_ref()),
            partial,
            count: int(conv.inputs.len()),
            splits: int(cut.splits),
            pool,
            epilogue,
        };
        let gated = conv.inputs.iter().any(|input| input.gate.is_some());
        let variant = conv::variant(self.precision, cut, gated);
        let mut launches = vec![launch(device, &variant, conv::grid(&args, cut), &args)?];
        if cut.splits > 1 {
            let out = &conv.finish.out;
            launches.push(self.finish(device, partial, cut.splits, out, epilogue)?);
        }
        Ok(launches)
    }

    /// The sums over tiles that the mean of an action reads.
    fn pool(&self, map: &Map, tiles: Tiles, at: usize) -> Pool {
        Pool {
            sums: self.arena + self.layout.partial(at) as u64,
            image: int(map.pixels()),
            segments: int(tiles.segments),
        }
    }

    /// A mean: from the map itself, or from sums over its tiles.
    fn mean(
        &self,
        device: &mut dyn Device,
        from: &Map,
        out: &Map,
        at: usize,
    ) -> Result<Vec<Launch>, EngineError> {
        let variant = |file| Variant::new(file, self.precision);
        let (clips, pitch) = (self.layout.clips, int(from.pitch));
        let Some(tiles) = self.layout.tiles[at] else {
            let pixels = int(from.pixels());
            let args = mean::Args { x: self.at(from), out: self.at(out), pixels, pitch };
            let grid = mean::grid(&args, clips, self.precision);
            return Ok(vec![launch(device, &variant(File::Mean), grid, &args)?]);
        };
        let (pool, rows) = (self.pool(from, tiles, at), int(tiles.rows));
        let mut launches = vec![];
        if self.layout.apart {
            let pixels = int(clips * from.pixels());
            let args = pool::Args { x: self.at(from), pool, pixels, pitch, rows, unused: 0 };
            launches.push(launch(device, &variant(File::Pool), pool::grid(&args), &args)?);
        }
        let args = combine::Args { pool, out: self.at(out), pitch, rows };
        launches.push(launch(device, &variant(File::Combine), combine::grid(&args, clips), &args)?);
        Ok(launches)
    }

    fn fused(
        &self,
        device: &mut dyn Device,
        block: &Block,
        tile: Tile,
    ) -> Result<Launch, EngineError> {
        let conv = |index: usize| match &self.plan.steps[index].op {
            Op::Conv(conv) => conv.as_ref(),
            _ => unreachable!("a block is made of convolutions"),
        };
        let (short, glo_out, temporal) =
            (conv(block.short), conv(block.glo_out), conv(block.temporal));
        let args = ctl::Args {
            short: self.source(&short.inputs[0]),
            glo_out: self.source(&glo_out.inputs[0]),
            temporal: self.source(&temporal.inputs[0]),
            extent: self.extent(&temporal.finish.out),
            short_bias: self.constant(short.finish.bias),
            glo_out_bias: self.constant(glo_out.finish.bias),
            epilogue: self.epilogue(&temporal.finish, UNSEEN),
        };
        let gated = temporal.inputs[0].gate.is_some();
        let variant = ctl::variant(self.precision, tile, gated);
        launch(device, &variant, ctl::grid(&args, tile), &args)
    }

    /// Everything that is no convolution by tiles.
    fn plain(&self, device: &mut dyn Device, op: &Op, seen: Seen) -> Result<Launch, EngineError> {
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
                };
                launch(device, &variant(File::Import), import::grid(&args, precision), &args)
            }
            Op::Depthwise { from, weights, finish } => {
                let args = depthwise::Args {
                    x: self.at(from),
                    weights: self.constant(Some(*weights)),
                    images,
                    height: int(from.size.0),
                    width: int(from.size.1),
                    out_height: int(finish.out.size.0),
                    out_width: int(finish.out.size.1),
                    unused: 0,
                    epilogue: self.epilogue(finish, seen),
                };
                launch(device, &variant(File::Depthwise), depthwise::grid(&args, precision), &args)
            }
            Op::MaxPool { from, finish } => {
                let args = maxpool::Args {
                    x: self.at(from),
                    images,
                    height: int(from.size.0),
                    width: int(from.size.1),
                    out_height: int(finish.out.size.0),
                    out_width: int(finish.out.size.1),
                    unused: 0,
                    epilogue: self.epilogue(finish, seen),
                };
                launch(device, &variant(File::MaxPool), maxpool::grid(&args, precision), &args)
            }
            Op::Dense { from, weights, finish } => {
                let args = dense::Args {
                    x: self.at(from),
                    weights: self.constant(Some(*weights)),
                    scale: self.constant(finish.scale),
                    bias: self.constant(finish.bias),
                    out: self.at(&finish.out),
                    see: [seen[stage::LINEAR - 1], seen[stage::ACTIVATION - 1]],
                    images,
                    inputs: int(from.channels),
                    in_pitch: int(from.pitch),
                    outputs: int(finish.out.channels),
                    out_pitch: int(finish.out.pitch),
                    activation: finish.activation as i32,
                };
                launch(device, &variant(File::Dense), dense::grid(&args), &args)
            }
            Op::Conv(_) | Op::Mean { .. } => unreachable!("these have more to be launched with"),
        }
    }
}
