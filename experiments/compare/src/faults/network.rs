//! The correct network as a table: for each module an expression over the outputs of other modules.

use spec::model::{BatchNorm, Body, Conv, ConvBn, Ctl};
use spec::{Model, ModuleId, PosEmbed};

use super::expr::{Expr, Function, GlobalPool, Kernel, Statistics};
use super::map::{Channels, Window};
use super::resize::Resize;

/// The expressions of all modules of a model.
#[derive(Debug, Clone)]
pub struct Network {
    exprs: Vec<Expr>,
}

impl Network {
    /// Builds the table of a model.
    pub fn new(model: &Model) -> Network {
        // The clip is not computed from anything, so its expression stays `Own`.
        let mut network = Network { exprs: vec![Expr::Own; model.modules().len()] };
        let stem = network.conv_bn(&model.stem, Expr::Output(model.input));
        let pooled = stem.each(Function::Relu);
        let window = pool_window(model.module(model.maxpool).shape.as_slice());
        network.put(model.maxpool, Expr::MaxPool(Box::new(pooled), window));
        let mut x = model.maxpool;
        for block in &model.blocks {
            let inner = match &block.downsample {
                Some(downsample) => network.conv_bn(downsample, Expr::Output(x)),
                None => Expr::Output(x),
            };
            let h = network.body(&block.body, &inner);
            let shortcut = match &block.shortcut {
                Some(shortcut) => network.conv_bn(shortcut, inner),
                None => inner,
            };
            network.put(block.id, h.plus(shortcut).each(Function::Relu));
            x = block.id;
        }
        network.put(model.avgpool, Expr::GlobalPool(Box::new(Expr::Output(x)), GlobalPool::Mean));
        if let Some(fc) = &model.fc {
            let features = Box::new(Expr::Output(model.avgpool));
            network.put(fc.id, Expr::Dense(features, fc.name.clone()));
        }
        network
    }

    /// The expression of a module.
    pub fn expr(&self, id: ModuleId) -> &Expr {
        &self.exprs[id.0]
    }

    /// All modules with their expressions, in order of execution.
    pub fn exprs(&self) -> impl Iterator<Item = (ModuleId, &Expr)> {
        self.exprs.iter().enumerate().map(|(at, expr)| (ModuleId(at), expr))
    }

    /// Sets the expression of a module, and returns one that reads the module's output.
    fn put(&mut self, id: ModuleId, expr: Expr) -> Expr {
        self.exprs[id.0] = expr;
        Expr::Output(id)
    }

    fn conv(&mut self, conv: &Conv, x: Expr) -> Expr {
        self.put(conv.id, Expr::Conv(Box::new(x), Box::new(kernel(conv))))
    }

    fn batch_norm(&mut self, bn: &BatchNorm, x: Expr) -> Expr {
        let statistics = Statistics::Running(bn.eps);
        self.put(bn.id, Expr::Norm(Box::new(x), bn.name.clone(), statistics))
    }

    fn conv_bn(&mut self, pair: &ConvBn, x: Expr) -> Expr {
        let h = self.conv(&pair.conv, x);
        self.batch_norm(&pair.bn, h)
    }

    fn body(&mut self, body: &Body, x: &Expr) -> Expr {
        match body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                let h = self.conv_bn(reduce, x.clone()).each(Function::Relu);
                let h = self.ctl(ctl, h);
                let h = self.batch_norm(bn2, h).each(Function::Relu);
                self.conv_bn(expand, h)
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, x.clone());
                let h = self.batch_norm(bn1, h).each(Function::Relu);
                let h = self.ctl(ctl2, h);
                self.batch_norm(bn2, h)
            }
        }
    }

    fn ctl(&mut self, ctl: &Ctl, x: Expr) -> Expr {
        let (gate, ioi, semantics) = (&ctl.gate, &ctl.spatial_conv, ctl.semantics);
        let mean = self.put(gate.pool, Expr::GlobalPool(Box::new(x.clone()), GlobalPool::Mean));
        let h = self.conv(&gate.conv1, mean);
        let h = self.batch_norm(&gate.bn, h).each(Function::Relu);
        let h = self.put(gate.relu, h);
        let h = self.conv(&gate.conv2, h);
        let on = if semantics.tfc { Function::Sigmoid } else { Function::Constant(1.0) };
        let g = self.put(gate.sigmoid, h.each(on));
        let gated = x.clone().times(g);
        let temporal = self.conv(&ctl.temporal_conv, gated.clone());

        let short = self.conv(&ioi.short_conv, x);
        let h = self.conv_bn(&ioi.glo_in, gated).each(Function::Relu);
        let h = self.put(ioi.glo_in_relu, h);
        let embedding = &ioi.pos_embed;
        let p = embedding.dim;
        let resized = |method| Expr::Embedding(embedding.name.clone(), p, embedding.size, method);
        let e = match semantics.pos_embed {
            PosEmbed::AlignCorners => resized(Resize::AlignCorners),
            PosEmbed::HalfPixel => resized(Resize::HalfPixel),
            PosEmbed::Flax => resized(Resize::Flax),
            PosEmbed::Off => resized(Resize::AlignCorners).each(Function::Constant(0.0)),
        };
        let e = self.put(embedding.id, e);
        let h = self.conv_bn(&ioi.glo_mid, h.plus(e)).each(Function::Relu);
        let h = self.put(ioi.glo_mid_relu, h);
        let h = self.conv(&ioi.glo_out, h).each(Function::Sigmoid);
        let attention = self.put(ioi.glo_sigmoid, h);
        let product = match semantics.ioi {
            true => short.times(attention),
            false => short.each(Function::Constant(0.0)),
        };
        let spatial = self.put(ioi.id, product);
        self.put(ctl.id, temporal.plus(spatial))
    }
}

/// The parameters and the geometry of a convolution, with the same padding on both sides.
fn kernel(conv: &Conv) -> Kernel {
    let groups = conv.groups.max(1);
    Kernel {
        name: conv.name.clone(),
        bias: conv.bias,
        channels: Channels { out: conv.out_channels, each: conv.in_channels / groups, groups },
        window: Window {
            kernel: conv.kernel,
            stride: conv.stride,
            top: conv.padding,
            left: conv.padding,
            out: conv.out_size,
        },
        rounded: None,
    }
}

fn pool_window(shape: &[usize]) -> Window {
    let out = match shape {
        [_, h, w] => (*h, *w),
        _ => (1, 1),
    };
    Window { kernel: 3, stride: 2, top: 1, left: 1, out }
}

/// Height and width of the output of a module; (1, 1) if it is not a map.
pub fn size_of(model: &Model, id: ModuleId) -> (usize, usize) {
    match model.module(id).shape[..] {
        [_, h, w] => (h, w),
        [_, _, h, w] => (h, w),
        _ => (1, 1),
    }
}
