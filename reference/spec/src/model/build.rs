//! Builds the description of a network: names, shapes and costs, in order of execution.

use super::{
    BN_EPS, BatchNorm, Block, Body, Conv, ConvBn, Ctl, GLOBAL_CHANNELS, Gate, Ioi, Linear, Model,
    PosEmbedding,
};
use crate::config::{Config, ConfigError};
use crate::module::{Kind, Module, ModuleId};
use crate::param::ParamSpec;

/// Side of the embedding in the first CTL of every basic block; it does not depend on `pos_dim`.
const BASIC_FIRST_POS_DIM: usize = 7;

pub(super) fn build(config: Config, with_head: bool) -> Result<Model, ConfigError> {
    config.validate()?;
    let (depths, bottleneck) = config.stages()?;
    let mut b = Builder {
        modules: vec![],
        parameters: vec![],
        block: "stem".into(),
        ctls: 0,
        map: config.size,
        config: config.clone(),
    };

    let (height, width) = config.size;
    let input = b.add("input", Kind::Input, vec![3, config.frames, height, width]);
    let channels = config.channels(0);
    let stem =
        b.conv_bn(["conv1", "bn1"], 3 * config.frames, Geometry::new(channels, 5).strided(2, 2));
    b.map = (b.map.0.div_ceil(2), b.map.1.div_ceil(2));
    let maxpool = b.add_map("maxpool", Kind::Pool, channels);

    let mut blocks = vec![];
    let mut in_channels = channels;
    for stage in 0..4 {
        for index in 0..depths[stage] {
            let (block, out) = b.residual_block(stage, index, in_channels, bottleneck)?;
            blocks.push(block);
            in_channels = out;
        }
    }

    b.block = "head".into();
    let avgpool = b.add("avgpool", Kind::Pool, vec![in_channels]);
    b.modules[avgpool.0].reduction = b.map.0 * b.map.1;
    let fc = with_head.then(|| b.linear("fc", in_channels, config.classes));
    let Builder { modules, parameters, .. } = b;
    Ok(Model { config, input, stem, maxpool, blocks, avgpool, fc, modules, parameters })
}

/// The properties of a convolution other than its name and its input channels.
#[derive(Clone, Copy)]
struct Geometry {
    out_channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    depthwise: bool,
    bias: bool,
}

impl Geometry {
    /// Stride 1, padding that keeps the size of the map, one group, no bias.
    fn new(out_channels: usize, kernel: usize) -> Self {
        let padding = kernel / 2;
        Geometry { out_channels, kernel, stride: 1, padding, depthwise: false, bias: false }
    }

    fn strided(self, stride: usize, padding: usize) -> Self {
        Geometry { stride, padding, ..self }
    }

    fn with_bias(self) -> Self {
        Geometry { bias: true, ..self }
    }

    fn depthwise(self) -> Self {
        Geometry { depthwise: true, ..self }
    }
}

struct Builder {
    modules: Vec<Module>,
    parameters: Vec<ParamSpec>,
    /// Name of the block to which modules are being added.
    block: String,
    /// Number of CTLs added so far.
    ctls: usize,
    /// Height and width of the map after the module that was added last, in pixels.
    map: (usize, usize),
    config: Config,
}

impl Builder {
    fn add(&mut self, name: &str, kind: Kind, shape: Vec<usize>) -> ModuleId {
        let id = ModuleId(self.modules.len());
        self.modules.push(Module {
            id,
            name: name.to_owned(),
            alias: None,
            kind,
            block: self.block.clone(),
            shape,
            batched: true,
            params: 0,
            macs: 0,
            reduction: 1,
        });
        id
    }

    fn add_map(&mut self, name: &str, kind: Kind, channels: usize) -> ModuleId {
        self.add(name, kind, vec![channels, self.map.0, self.map.1])
    }

    /// Adds an entry of the state dict, which belongs to the module that was added last.
    fn parameter(&mut self, name: String, shape: Vec<usize>, learned: bool) {
        if learned && let Some(module) = self.modules.last_mut() {
            module.params += shape.iter().product::<usize>() as u64;
        }
        self.parameters.push(ParamSpec { name, shape });
    }

    fn conv(&mut self, name: &str, in_channels: usize, g: Geometry) -> Conv {
        let out = |side: usize| (side + 2 * g.padding - g.kernel) / g.stride + 1;
        self.map = (out(self.map.0), out(self.map.1));
        let id = self.add_map(name, Kind::Conv, g.out_channels);
        let groups = if g.depthwise { in_channels } else { 1 };
        let fan_in = in_channels / groups * g.kernel * g.kernel;
        let weight = vec![g.out_channels, in_channels / groups, g.kernel, g.kernel];
        self.parameter(format!("{name}.weight"), weight, true);
        if g.bias {
            self.parameter(format!("{name}.bias"), vec![g.out_channels], true);
        }
        let module = &mut self.modules[id.0];
        module.reduction = fan_in;
        module.macs = (fan_in * g.out_channels * self.map.0 * self.map.1) as u64;
        Conv {
            id,
            name: name.to_owned(),
            in_channels,
            out_channels: g.out_channels,
            kernel: g.kernel,
            stride: g.stride,
            padding: g.padding,
            groups,
            bias: g.bias,
            out_size: self.map,
        }
    }

    fn batch_norm(&mut self, name: &str, channels: usize) -> BatchNorm {
        let id = self.add_map(name, Kind::BatchNorm, channels);
        for (leaf, learned) in
            [("weight", true), ("bias", true), ("running_mean", false), ("running_var", false)]
        {
            self.parameter(format!("{name}.{leaf}"), vec![channels], learned);
        }
        BatchNorm { id, name: name.to_owned(), channels, eps: BN_EPS }
    }

    fn conv_bn(&mut self, names: [&str; 2], in_channels: usize, g: Geometry) -> ConvBn {
        let conv = self.conv(names[0], in_channels, g);
        let bn = self.batch_norm(names[1], g.out_channels);
        ConvBn { conv, bn }
    }

    fn linear(&mut self, name: &str, in_features: usize, out_features: usize) -> Linear {
        let id = self.add(name, Kind::Linear, vec![out_features]);
        self.parameter(format!("{name}.weight"), vec![out_features, in_features], true);
        self.parameter(format!("{name}.bias"), vec![out_features], true);
        self.modules[id.0].reduction = in_features;
        self.modules[id.0].macs = (in_features * out_features) as u64;
        Linear { id, name: name.to_owned(), in_features, out_features }
    }

    /// Adds a residual block; also returns its number of output channels.
    fn residual_block(
        &mut self,
        stage: usize,
        index: usize,
        in_channels: usize,
        bottleneck: bool,
    ) -> Result<(Block, usize), ConfigError> {
        let name = format!("layer{}.{index}", stage + 1);
        self.block = name.clone();
        let at = |leaf: &str| format!("{name}.{leaf}");
        let halved = stage > 0 && index == 0;
        let downsample = match halved {
            true => Some(self.downsample(&name, in_channels)?),
            false => None,
        };
        let width = self.config.channels(stage);
        let (body, out) = match bottleneck {
            true => (self.bottleneck(&name, stage, in_channels, width), 4 * width),
            false => (self.basic(&name, stage, in_channels, width), width),
        };
        let shortcut = (in_channels != out).then(|| {
            let names = [at("shortcut_conv.0"), at("shortcut_conv.1")];
            self.conv_bn([&names[0], &names[1]], in_channels, Geometry::new(out, 1))
        });
        let id = self.add_map(&name, Kind::Block, out);
        Ok((Block { id, name, downsample, body, shortcut }, out))
    }

    fn downsample(&mut self, block: &str, channels: usize) -> Result<ConvBn, ConfigError> {
        let names = [format!("{block}.downsample.0"), format!("{block}.downsample.1")];
        if self.map.0 < 2 || self.map.1 < 2 {
            let (height, width) = self.config.size;
            let (map_h, map_w) = self.map;
            let at = names[0].clone();
            return Err(ConfigError::TooSmall { height, width, map_h, map_w, at });
        }
        let geometry = Geometry::new(channels, 2).strided(2, 0).depthwise().with_bias();
        Ok(self.conv_bn([&names[0], &names[1]], channels, geometry))
    }

    fn bottleneck(&mut self, block: &str, stage: usize, inner: usize, width: usize) -> Body {
        let at = |leaf: &str| format!("{block}.{leaf}");
        let pos_dim = self.config.pos_dim[stage];
        let reduce =
            self.conv_bn([&at("conv1"), &at("bn1")], inner, Geometry::new(width, 1)).into();
        let ctl = self.ctl(at("conv2"), width, width, pos_dim).into();
        let bn2 = self.batch_norm(&at("bn2"), width);
        let expand =
            self.conv_bn([&at("conv3"), &at("bn3")], width, Geometry::new(4 * width, 1)).into();
        Body::Bottleneck { reduce, ctl, bn2, expand }
    }

    fn basic(&mut self, block: &str, stage: usize, inner: usize, width: usize) -> Body {
        let at = |leaf: &str| format!("{block}.{leaf}");
        let pos_dim = self.config.pos_dim[stage];
        let ctl1 = self.ctl(at("conv1"), inner, width, BASIC_FIRST_POS_DIM).into();
        let bn1 = self.batch_norm(&at("bn1"), width);
        let ctl2 = self.ctl(at("conv2"), width, width, pos_dim).into();
        let bn2 = self.batch_norm(&at("bn2"), width);
        Body::Basic { ctl1, bn1, ctl2, bn2 }
    }

    fn ctl(&mut self, name: String, inner: usize, outer: usize, pos_dim: usize) -> Ctl {
        self.ctls += 1;
        let number = self.ctls;
        let gate = self.gate(&format!("{name}.param_conv"), inner);
        let temporal_conv =
            self.conv(&format!("{name}.temporal_conv"), inner, Geometry::new(outer, 1));
        let spatial_conv = self.ioi(&format!("{name}.spatial_conv"), inner, outer, pos_dim);
        let id = self.add_map(&name, Kind::Ctl, outer);
        self.modules[id.0].alias = Some(format!("ctl{number}"));
        let semantics = self.config.semantics;
        Ctl { id, name, number, semantics, gate, temporal_conv, spatial_conv }
    }

    fn gate(&mut self, name: &str, channels: usize) -> Gate {
        let at = |index: usize| format!("{name}.{index}");
        let map = std::mem::replace(&mut self.map, (1, 1));
        let pool = self.add_map(&at(0), Kind::Pool, channels);
        self.modules[pool.0].reduction = map.0 * map.1;
        let conv1 = self.conv(&at(1), channels, Geometry::new(channels, 1));
        let bn = self.batch_norm(&at(2), channels);
        let relu = self.add_map(&at(3), Kind::Relu, channels);
        let conv2 = self.conv(&at(4), channels, Geometry::new(channels, 1));
        let sigmoid = self.add_map(&at(5), Kind::Sigmoid, channels);
        self.map = map;
        Gate { pool, conv1, bn, relu, conv2, sigmoid }
    }

    fn ioi(&mut self, name: &str, inner: usize, outer: usize, pos_dim: usize) -> Ioi {
        let glo = |index: usize| format!("{name}.glo_conv.{index}");
        let mid = GLOBAL_CHANNELS;
        let short = Geometry::new(outer, 3).with_bias();
        let short_conv = self.conv(&format!("{name}.short_conv"), inner, short);
        let glo_in = self.conv_bn([&glo(0), &glo(1)], inner, Geometry::new(mid, 3).with_bias());
        let glo_in_relu = self.add_map(&glo(2), Kind::Relu, mid);
        let pos_embed = self.pos_embedding(format!("{name}.pos_embed"), pos_dim);
        let glo_mid = self.conv_bn([&glo(3), &glo(4)], mid, Geometry::new(mid, 7).with_bias());
        let glo_mid_relu = self.add_map(&glo(5), Kind::Relu, mid);
        let glo_out = self.conv(&glo(6), mid, Geometry::new(outer, 3).with_bias());
        let glo_sigmoid = self.add_map(&glo(7), Kind::Sigmoid, outer);
        let id = self.add_map(name, Kind::SpatialConv, outer);
        Ioi {
            id,
            short_conv,
            glo_in,
            glo_in_relu,
            pos_embed,
            glo_mid,
            glo_mid_relu,
            glo_out,
            glo_sigmoid,
        }
    }

    fn pos_embedding(&mut self, name: String, dim: usize) -> PosEmbedding {
        let id = self.add_map(&name, Kind::PosEmbed, GLOBAL_CHANNELS);
        self.modules[id.0].batched = false;
        self.modules[id.0].reduction = if self.map == (dim, dim) { 1 } else { 4 };
        self.parameter(name.clone(), vec![1, GLOBAL_CHANNELS, dim, dim], true);
        PosEmbedding { id, name, dim, size: self.map }
    }
}
