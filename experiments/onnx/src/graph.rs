//! The network as a graph of ONNX operators. Nodes and weights are named by their PyTorch paths, so that
//! layers can be found in a viewer. Batch normalisations are separate nodes; runtimes fold them.

use scalar::resize::Method;
use spec::model::{BatchNorm, Block, Body, Conv, ConvBn, Ctl, GLOBAL_CHANNELS, PosEmbedding};
use spec::{Model, PosEmbed};

use super::constants::{Constant, Values};
use super::proto::{AttributeProto, GraphProto, NodeProto, attribute, element};
use super::{Options, value};

/// Builds the graph without its initializers, and lists the constants that become initializers.
///
/// `element` is the element type of weights and activations.
pub fn graph(model: &Model, options: Options, element: i32) -> (GraphProto, Vec<Constant>) {
    let mut b = Builder { model, graph: GraphProto::default(), constants: vec![], element };
    b.graph.name = "SqueezeTime".to_owned();
    let x = b.input(options);
    let x = b.conv_bn(&model.stem, &x);
    let x = b.node("Relu", "relu", &[&x], vec![]);
    let window =
        vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])];
    let mut x = b.node("MaxPool", "maxpool", &[&x], window);
    for block in &model.blocks {
        x = b.block(block, x);
    }
    b.head(&x, options);
    (b.graph, b.constants)
}

struct Builder<'a> {
    model: &'a Model,
    graph: GraphProto,
    constants: Vec<Constant>,
    /// The element type of weights and activations.
    element: i32,
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&v| v as i64).collect();
    AttributeProto { name: name.to_owned(), ints, r#type: attribute::INTS, ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i, r#type: attribute::INT, ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f, r#type: attribute::FLOAT, ..Default::default() }
}

impl Builder<'_> {
    /// Adds a node and returns the name of its output, which is the name of the node.
    fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.node_to(name, op, name, inputs, attribute)
    }

    /// Adds a node whose output has another name than the node.
    fn node_to(
        &mut self,
        output: &str,
        op: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: name.to_owned(),
            op_type: op.to_owned(),
            attribute,
            ..Default::default()
        });
        output.to_owned()
    }

    /// Adds a constant and returns its name.
    fn constant(&mut self, name: &str, shape: &[usize], values: Values) -> String {
        let element = match values {
            Values::Floats(_) => element::FLOAT,
            _ => self.element,
        };
        let (name_of, shape) = (name.to_owned(), shape.to_vec());
        self.constants.push(Constant { name: name_of, shape, values, element });
        name.to_owned()
    }

    /// Adds a tensor of the state dict as a constant.
    fn weight(&mut self, name: &str, shape: &[usize]) -> String {
        self.constant(name, shape, Values::Weight)
    }

    /// Adds the input and reshapes it to [N, 3 T, H, W] with channel = colour * T + frame.
    fn input(&mut self, options: Options) -> String {
        let config = &self.model.config;
        let (frames, (height, width)) = (config.frames, config.size);
        let clip = if options.preprocess {
            let shape = [frames, height, width, 3];
            self.graph.input.push(value("frames", element::UINT8, &shape));
            self.normalised()
        } else {
            self.graph.input.push(value("input", element::FLOAT, &[3, frames, height, width]));
            "input".to_owned()
        };
        let shape = [0, 3 * frames as i64, height as i64, width as i64];
        self.constant("squeeze.shape", &[4], Values::Integers(shape.to_vec()));
        let x = self.node("Reshape", "squeeze", &[&clip, "squeeze.shape"], vec![]);
        self.cast("input.cast", &x)
    }

    /// Converts a float32 value to the element type of the network.
    fn cast(&mut self, name: &str, x: &str) -> String {
        match self.element {
            element::FLOAT => x.to_owned(),
            to => self.node("Cast", name, &[x], vec![int("to", i64::from(to))]),
        }
    }

    /// Normalises the frames [N, T, H, W, 3] to the clip (frames - mean) / std, [N, 3, T, H, W].
    fn normalised(&mut self) -> String {
        let mean = self.constant("normalize.mean", &[3], Values::floats(video::normalize::MEAN));
        let deviation = self.constant("normalize.std", &[3], Values::floats(video::normalize::STD));
        let to = int("to", i64::from(element::FLOAT));
        let x = self.node("Cast", "normalize.cast", &["frames"], vec![to]);
        let x = self.node("Sub", "normalize.sub", &[&x, &mean], vec![]);
        let x = self.node("Div", "normalize.div", &[&x, &deviation], vec![]);
        let order = ints("perm", &[0, 4, 1, 2, 3]);
        self.node("Transpose", "normalize.transpose", &[&x], vec![order])
    }

    fn conv(&mut self, conv: &Conv, x: &str) -> String {
        let shape = [conv.out_channels, conv.in_channels / conv.groups, conv.kernel, conv.kernel];
        let mut inputs = vec![x.to_owned(), self.weight(&format!("{}.weight", conv.name), &shape)];
        if conv.bias {
            inputs.push(self.weight(&format!("{}.bias", conv.name), &[conv.out_channels]));
        }
        let attributes = vec![
            ints("kernel_shape", &[conv.kernel; 2]),
            ints("strides", &[conv.stride; 2]),
            ints("pads", &[conv.padding; 4]),
            int("group", conv.groups as i64),
        ];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.node("Conv", &conv.name, &inputs, attributes)
    }

    fn batch_norm(&mut self, bn: &BatchNorm, x: &str) -> String {
        let leaves = ["weight", "bias", "running_mean", "running_var"];
        let leaves = leaves.map(|leaf| self.weight(&format!("{}.{leaf}", bn.name), &[bn.channels]));
        let inputs: Vec<&str> =
            std::iter::once(x).chain(leaves.iter().map(String::as_str)).collect();
        let eps = vec![float("epsilon", bn.eps as f32)];
        self.node("BatchNormalization", &bn.name, &inputs, eps)
    }

    fn conv_bn(&mut self, pair: &ConvBn, x: &str) -> String {
        let x = self.conv(&pair.conv, x);
        self.batch_norm(&pair.bn, &x)
    }

    fn relu_of(&mut self, x: &str) -> String {
        self.node("Relu", &format!("{x}.relu"), &[x], vec![])
    }

    fn block(&mut self, block: &Block, x: String) -> String {
        let x = match &block.downsample {
            Some(downsample) => self.conv_bn(downsample, &x),
            None => x,
        };
        let h = match &block.body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                let h = self.conv_bn(reduce, &x);
                let h = self.relu_of(&h);
                let h = self.ctl(ctl, &h);
                let h = self.batch_norm(bn2, &h);
                let h = self.relu_of(&h);
                self.conv_bn(expand, &h)
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, &x);
                let h = self.batch_norm(bn1, &h);
                let h = self.relu_of(&h);
                let h = self.ctl(ctl2, &h);
                self.batch_norm(bn2, &h)
            }
        };
        let shortcut = match &block.shortcut {
            Some(shortcut) => self.conv_bn(shortcut, &x),
            None => x,
        };
        let sum = self.node("Add", &format!("{}.add", block.name), &[&h, &shortcut], vec![]);
        self.node("Relu", &block.name, &[&sum], vec![])
    }

    /// A CTL: TFC(x) + IOI(x). A branch that is off is left out.
    fn ctl(&mut self, ctl: &Ctl, x: &str) -> String {
        let gated = match ctl.semantics.tfc {
            true => {
                let gate = self.gate(ctl, x);
                self.node("Mul", &format!("{}.gated", ctl.name), &[x, &gate], vec![])
            }
            false => x.to_owned(),
        };
        let temporal = self.conv(&ctl.temporal_conv, &gated);
        if !ctl.semantics.ioi {
            return temporal;
        }
        let spatial = self.ioi(ctl, x, &gated);
        self.node("Add", &ctl.name, &[&temporal, &spatial], vec![])
    }

    fn gate(&mut self, ctl: &Ctl, x: &str) -> String {
        let gate = &ctl.gate;
        let name = |id| self.model.module(id).name.clone();
        let (pool, relu, sigmoid) = (name(gate.pool), name(gate.relu), name(gate.sigmoid));
        let h = self.node("GlobalAveragePool", &pool, &[x], vec![]);
        let h = self.conv(&gate.conv1, &h);
        let h = self.batch_norm(&gate.bn, &h);
        let h = self.node("Relu", &relu, &[&h], vec![]);
        let h = self.conv(&gate.conv2, &h);
        self.node("Sigmoid", &sigmoid, &[&h], vec![])
    }

    fn ioi(&mut self, ctl: &Ctl, x: &str, gated: &str) -> String {
        let ioi = &ctl.spatial_conv;
        let name = |id| self.model.module(id).name.clone();
        let relus = (name(ioi.glo_in_relu), name(ioi.glo_mid_relu));
        let (sigmoid, product) = (name(ioi.glo_sigmoid), name(ioi.id));
        let short = self.conv(&ioi.short_conv, x);
        let h = self.conv_bn(&ioi.glo_in, gated);
        let h = self.node("Relu", &relus.0, &[&h], vec![]);
        let h = match self.pos_embed(&ioi.pos_embed, ctl.semantics.pos_embed) {
            Some(e) => self.node("Add", &format!("{e}.add"), &[&h, &e], vec![]),
            None => h,
        };
        let h = self.conv_bn(&ioi.glo_mid, &h);
        let h = self.node("Relu", &relus.1, &[&h], vec![]);
        let h = self.conv(&ioi.glo_out, &h);
        let global = self.node("Sigmoid", &sigmoid, &[&h], vec![]);
        self.node("Mul", &product, &[&short, &global], vec![])
    }

    /// Adds the embedding, resized to the map, as a constant; None if the embedding is off.
    fn pos_embed(&mut self, at: &PosEmbedding, semantics: PosEmbed) -> Option<String> {
        let method = match semantics {
            PosEmbed::Off => return None,
            PosEmbed::AlignCorners => Method::AlignCorners,
            PosEmbed::HalfPixel => Method::HalfPixel,
            PosEmbed::Flax => Method::FlaxEmulation,
        };
        let shape = [1, GLOBAL_CHANNELS, at.size.0, at.size.1];
        Some(self.constant(&at.name, &shape, Values::Embedding { method, side: at.dim }))
    }

    fn head(&mut self, x: &str, options: Options) {
        let pooled = self.node("GlobalAveragePool", "avgpool", &[x], vec![]);
        let axis = || vec![int("axis", 1)];
        let Some(fc) = &self.model.fc else {
            let count = self.model.module(self.model.avgpool).shape[0];
            let output = self.last("features", ("Flatten", "features"), &[&pooled], axis());
            return self.graph.output.push(value(&output, element::FLOAT, &[count]));
        };
        let features = self.node("Flatten", "features", &[&pooled], axis());
        let weight = self.weight("fc.weight", &[fc.out_features, fc.in_features]);
        let bias = self.weight("fc.bias", &[fc.out_features]);
        let inputs = [features.as_str(), &weight, &bias];
        let transposed = vec![int("transB", 1)];
        let mut output = self.last("logits", ("Gemm", &fc.name), &inputs, transposed);
        if options.softmax {
            output = self.node_to("probabilities", "Softmax", "softmax", &[&output], axis());
        }
        self.graph.output.push(value(&output, element::FLOAT, &[fc.out_features]));
    }

    /// Adds a node, by operator and name, whose output is converted to float32.
    fn last(
        &mut self,
        output: &str,
        (op, name): (&str, &str),
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        if self.element == element::FLOAT {
            return self.node_to(output, op, name, inputs, attributes);
        }
        let half = self.node_to(&format!("{output}.half"), op, name, inputs, attributes);
        let to = vec![int("to", i64::from(element::FLOAT))];
        self.node_to(output, "Cast", &format!("{output}.cast"), &[&half], to)
    }
}
