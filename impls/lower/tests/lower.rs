//! Folding and the embedding, compared with their definitions.

use checkpoint::Weights;
use lower::embedding;
use lower::fold::Params;
use scalar::resize::{self, Method};
use spec::model::{Block, Body, Conv, ConvBn, Ctl};
use spec::{Config, Model, PosEmbed};

fn small(pos_dim: [usize; 4], semantics: PosEmbed) -> (Model, Weights) {
    let mut config = Config {
        width: 0.125,
        frames: 3,
        size: (57, 65),
        classes: 7,
        pos_dim,
        ..Config::default()
    };
    config.semantics.pos_embed = semantics;
    let model = Model::new(config).unwrap();
    let weights = Weights::formula(model.parameters(), 0);
    (model, weights)
}

fn ctl(block: &Block) -> &Ctl {
    match &block.body {
        Body::Bottleneck { ctl, .. } | Body::Basic { ctl1: ctl, .. } => ctl,
    }
}

#[test]
fn folded_scale_and_shift_normalise_the_output_of_the_convolution() {
    let (model, weights) = small([5, 4, 3, 2], PosEmbed::AlignCorners);
    let mut params = Params::new(&model, weights.clone()).unwrap();
    let get = |name: String| weights.get(&name).unwrap().data.clone();
    // With a bias and without.
    let pairs = model.blocks.iter().flat_map(|block| {
        let ioi = &ctl(block).spatial_conv;
        let shared: [Option<&ConvBn>; 4] = [
            block.downsample.as_ref(),
            block.shortcut.as_ref(),
            Some(&ioi.glo_in),
            Some(&ioi.glo_mid),
        ];
        shared.into_iter().flatten()
    });
    for ConvBn { conv, bn } in pairs {
        let kernel = params.kernel(conv).unwrap();
        let affine = params.affine_of(&kernel, bn).unwrap();
        let [weight, shift, mean, var] = ["weight", "bias", "running_mean", "running_var"]
            .map(|leaf| get(format!("{}.{leaf}", bn.name)));
        let bias = if conv.bias { get(format!("{}.bias", conv.name)) } else { vec![] };
        for c in 0..bn.channels {
            let sum = 0.75 - c as f64;
            let out = sum + bias.get(c).map_or(0.0, |&b| f64::from(b));
            let want = (out - f64::from(mean[c])) / (f64::from(var[c]) + bn.eps).sqrt()
                * f64::from(weight[c])
                + f64::from(shift[c]);
            let got = sum * affine.scale[c] + affine.shift[c];
            assert!((got - want).abs() <= 1e-12 * (1.0 + want.abs()), "{}: {got} {want}", bn.name);
        }
    }
}

#[test]
fn a_kernel_has_the_layout_of_its_tensor_and_is_taken_once() {
    let (model, weights) = small([5, 4, 3, 2], PosEmbed::AlignCorners);
    let mut params = Params::new(&model, weights.clone()).unwrap();
    let conv: &Conv = &model.stem.conv;
    let kernel = params.kernel(conv).unwrap();
    let values = &weights.get(&format!("{}.weight", conv.name)).unwrap().data;
    let mut next = values.iter().map(|&v| f64::from(v));
    for output in 0..conv.out_channels {
        for channel in 0..conv.in_channels {
            for position in 0..conv.kernel * conv.kernel {
                assert_eq!(Some(kernel.at(output, channel, position)), next.next());
            }
        }
    }
    assert_eq!(next.next(), None);
    assert!(params.kernel(conv).is_err(), "its weights were taken");
}

#[test]
fn the_embedding_is_resized_as_the_scalar_engine_does() {
    let methods = [
        (PosEmbed::AlignCorners, Method::AlignCorners),
        (PosEmbed::HalfPixel, Method::HalfPixel),
        (PosEmbed::Flax, Method::FlaxEmulation),
    ];
    for (semantics, method) in methods {
        for pos_dim in [[5, 4, 3, 2], [15, 8, 4, 2], [40, 1, 9, 1]] {
            let (model, weights) = small(pos_dim, semantics);
            let params = Params::new(&model, weights.clone()).unwrap();
            for block in &model.blocks {
                let (at, pitch) = (&ctl(block).spatial_conv.pos_embed, 19);
                let got = embedding::resized("test", &params, at, semantics, pitch);
                let learned = weights.get(&at.name).unwrap().to_f64();
                let want = resize::planes(method, &learned, (at.dim, at.dim), at.size);
                let Ok(want) = want else {
                    assert!(got.is_err(), "{semantics:?} {at:?}: the Flax port refuses this");
                    continue;
                };
                let (got, pixels) = (got.unwrap(), at.size.0 * at.size.1);
                for (pixel, row) in got.chunks(pitch).enumerate() {
                    for (channel, value) in row.iter().enumerate() {
                        let want = want.get(channel * pixels + pixel).copied().unwrap_or(0.0);
                        let error = (f64::from(*value) - want).abs();
                        assert!(error <= 1e-6, "{semantics:?} {at:?}: {value}, expected {want}");
                    }
                }
            }
        }
    }
}
