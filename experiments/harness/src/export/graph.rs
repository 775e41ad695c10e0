//! The network as ONNX operators. Nodes and weights have the official module paths, so that a layer
//! is found in a viewer; batch normalisation stays by itself, runtimes fold it.

use anyhow::{Context, Result};
use scalar::resize::{self, Method};
use spec::model::{BatchNorm, Block, Body, Conv, ConvBn, Ctl, PosEmbedding};
use spec::weights::Weights;
use spec::{Model, PosEmbed};

use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute, element};
use super::{Options, value};

/// Builds the graph.
pub fn graph(model: &Model, weights: &Weights, options: Options) -> Result<GraphProto> {
    let mut b = Builder { model, weights, graph: GraphProto::default() };
    b.graph.name = "SqueezeTime".to_owned();
    let x = b.input(options);
    let x = b.conv_bn(&model.stem, &x)?;
    let x = b.node("Relu", "relu", &[&x], vec![]);
    let window =
        vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])];
    let mut x = b.node("MaxPool", "maxpool", &[&x], window);
    for block in &model.blocks {
        x = b.block(block, x)?;
    }
    b.head(&x, options)?;
    Ok(b.graph)
}

struct Builder<'a> {
    model: &'a Model,
    weights: &'a Weights,
    graph: GraphProto,
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
    /// Adds an operator and returns the name of its output, which is its own.
    fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: op.to_owned(),
            attribute,
        });
        name.to_owned()
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|&d| d as i64).collect(),
            data_type: element::FLOAT,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
        name.to_owned()
    }

    /// A tensor of the state dict.
    fn weight(&mut self, name: &str) -> Result<String> {
        let found = self.weights.get(name).with_context(|| format!("the weights lack {name}"))?;
        Ok(self.constant(name, &found.shape.clone(), &found.data.clone()))
    }

    /// The input as [N, 3 T, H, W], channel = colour * T + frame.
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
        self.graph.initializer.push(TensorProto {
            dims: vec![4],
            data_type: element::INT64,
            name: "squeeze.shape".to_owned(),
            raw_data: shape.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
        self.node("Reshape", "squeeze", &[&clip, "squeeze.shape"], vec![])
    }

    /// (frames - mean) / deviation, [N, 3, T, H, W].
    fn normalised(&mut self) -> String {
        let mean = self.constant("normalize.mean", &[3], &video::normalize::MEAN);
        let deviation = self.constant("normalize.std", &[3], &video::normalize::STD);
        let to = int("to", i64::from(element::FLOAT));
        let x = self.node("Cast", "normalize.cast", &["frames"], vec![to]);
        let x = self.node("Sub", "normalize.sub", &[&x, &mean], vec![]);
        let x = self.node("Div", "normalize.div", &[&x, &deviation], vec![]);
        let order = ints("perm", &[0, 4, 1, 2, 3]);
        self.node("Transpose", "normalize.transpose", &[&x], vec![order])
    }

    fn conv(&mut self, conv: &Conv, x: &str) -> Result<String> {
        let weight = self.weight(&format!("{}.weight", conv.name))?;
        let bias = match conv.bias {
            true => Some(self.weight(&format!("{}.bias", conv.name))?),
            false => None,
        };
        let attributes = vec![
            ints("kernel_shape", &[conv.kernel; 2]),
            ints("strides", &[conv.stride; 2]),
            ints("pads", &[conv.padding; 4]),
            int("group", conv.groups as i64),
        ];
        let inputs: Vec<&str> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
        Ok(self.node("Conv", &conv.name, &inputs, attributes))
    }

    fn batch_norm(&mut self, bn: &BatchNorm, x: &str) -> Result<String> {
        let leaves = ["weight", "bias", "running_mean", "running_var"];
        let mut inputs = vec![x.to_owned()];
        for leaf in leaves {
            inputs.push(self.weight(&format!("{}.{leaf}", bn.name))?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let eps = vec![float("epsilon", bn.eps as f32)];
        Ok(self.node("BatchNormalization", &bn.name, &inputs, eps))
    }

    fn conv_bn(&mut self, pair: &ConvBn, x: &str) -> Result<String> {
        let x = self.conv(&pair.conv, x)?;
        self.batch_norm(&pair.bn, &x)
    }

    fn relu_of(&mut self, x: &str) -> String {
        self.node("Relu", &format!("{x}.relu"), &[x], vec![])
    }

    fn block(&mut self, block: &Block, x: String) -> Result<String> {
        let x = match &block.downsample {
            Some(downsample) => self.conv_bn(downsample, &x)?,
            None => x,
        };
        let h = match &block.body {
            Body::Bottleneck { reduce, ctl, bn2, expand } => {
                let h = self.conv_bn(reduce, &x)?;
                let h = self.relu_of(&h);
                let h = self.ctl(ctl, &h)?;
                let h = self.batch_norm(bn2, &h)?;
                let h = self.relu_of(&h);
                self.conv_bn(expand, &h)?
            }
            Body::Basic { ctl1, bn1, ctl2, bn2 } => {
                let h = self.ctl(ctl1, &x)?;
                let h = self.batch_norm(bn1, &h)?;
                let h = self.relu_of(&h);
                let h = self.ctl(ctl2, &h)?;
                self.batch_norm(bn2, &h)?
            }
        };
        let shortcut = match &block.shortcut {
            Some(shortcut) => self.conv_bn(shortcut, &x)?,
            None => x,
        };
        let sum = self.node("Add", &format!("{}.add", block.name), &[&h, &shortcut], vec![]);
        Ok(self.node("Relu", &block.name, &[&sum], vec![]))
    }

    /// TFC(x) + IOI(x).
    fn ctl(&mut self, ctl: &Ctl, x: &str) -> Result<String> {
        let gated = match ctl.semantics.tfc {
            true => {
                let gate = self.gate(ctl, x)?;
                self.node("Mul", &format!("{}.gated", ctl.name), &[x, &gate], vec![])
            }
            false => x.to_owned(),
        };
        let temporal = self.conv(&ctl.temporal_conv, &gated)?;
        if !ctl.semantics.ioi {
            return Ok(temporal);
        }
        let spatial = self.ioi(ctl, x, &gated)?;
        Ok(self.node("Add", &ctl.name, &[&temporal, &spatial], vec![]))
    }

    fn gate(&mut self, ctl: &Ctl, x: &str) -> Result<String> {
        let gate = &ctl.gate;
        let name = |id| self.model.module(id).name.clone();
        let (pool, relu, sigmoid) = (name(gate.pool), name(gate.relu), name(gate.sigmoid));
        let h = self.node("GlobalAveragePool", &pool, &[x], vec![]);
        let h = self.conv(&gate.conv1, &h)?;
        let h = self.batch_norm(&gate.bn, &h)?;
        let h = self.node("Relu", &relu, &[&h], vec![]);
        let h = self.conv(&gate.conv2, &h)?;
        Ok(self.node("Sigmoid", &sigmoid, &[&h], vec![]))
    }

    fn ioi(&mut self, ctl: &Ctl, x: &str, gated: &str) -> Result<String> {
        let ioi = &ctl.spatial_conv;
        let name = |id| self.model.module(id).name.clone();
        let relus = (name(ioi.glo_in_relu), name(ioi.glo_mid_relu));
        let (sigmoid, product) = (name(ioi.glo_sigmoid), name(ioi.id));
        let short = self.conv(&ioi.short_conv, x)?;
        let h = self.conv_bn(&ioi.glo_in, gated)?;
        let h = self.node("Relu", &relus.0, &[&h], vec![]);
        let h = match self.pos_embed(&ioi.pos_embed, ctl.semantics.pos_embed)? {
            Some(e) => self.node("Add", &format!("{e}.add"), &[&h, &e], vec![]),
            None => h,
        };
        let h = self.conv_bn(&ioi.glo_mid, &h)?;
        let h = self.node("Relu", &relus.1, &[&h], vec![]);
        let h = self.conv(&ioi.glo_out, &h)?;
        let global = self.node("Sigmoid", &sigmoid, &[&h], vec![]);
        Ok(self.node("Mul", &product, &[&short, &global], vec![]))
    }

    /// The embedding at the size of the map, as a constant; None where it is off.
    fn pos_embed(&mut self, at: &PosEmbedding, semantics: PosEmbed) -> Result<Option<String>> {
        let method = match semantics {
            PosEmbed::Off => return Ok(None),
            PosEmbed::AlignCorners => Method::AlignCorners,
            PosEmbed::HalfPixel => Method::HalfPixel,
            PosEmbed::Flax => Method::FlaxEmulation,
        };
        let found = self.weights.get(&at.name).with_context(|| format!("no {}", at.name))?;
        let learned: Vec<f64> = found.data.iter().map(|&v| f64::from(v)).collect();
        let from = (at.dim, at.dim);
        let resized = match from == at.size {
            true => learned,
            false => resize::planes(method, &learned, from, at.size)?,
        };
        let values: Vec<f32> = resized.iter().map(|&v| v as f32).collect();
        let channels = values.len() / (at.size.0 * at.size.1);
        Ok(Some(self.constant(&at.name, &[1, channels, at.size.0, at.size.1], &values)))
    }

    fn head(&mut self, x: &str, options: Options) -> Result<()> {
        let pooled = self.node("GlobalAveragePool", "avgpool", &[x], vec![]);
        let Some(fc) = &self.model.fc else {
            self.node("Flatten", "features", &[&pooled], vec![int("axis", 1)]);
            let features = self.model.module(self.model.avgpool).shape[0];
            self.graph.output.push(value("features", element::FLOAT, &[features]));
            return Ok(());
        };
        let features = self.node("Flatten", "flatten", &[&pooled], vec![int("axis", 1)]);
        let (weight, bias) = (self.weight("fc.weight")?, self.weight("fc.bias")?);
        let inputs = [features.as_str(), &weight, &bias];
        self.node("Gemm", "logits", &inputs, vec![int("transB", 1)]);
        let mut output = "logits";
        if options.softmax {
            output = "probabilities";
            self.node("Softmax", output, &["logits"], vec![int("axis", 1)]);
        }
        self.graph.output.push(value(output, element::FLOAT, &[fc.out_features]));
        Ok(())
    }
}
