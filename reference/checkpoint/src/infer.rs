//! What the shapes of a checkpoint say about its network.
//!
//! Depth, width, frames, classes and the sizes of the embeddings all stand in the shapes of a few tensors.
//! What does not follow from them is left open, and so is what the tensors contradict each other in:
//! loading the checkpoint then names the tensor that does not fit.

use std::collections::{BTreeMap, BTreeSet};

use spec::config::DEPTHS;
use spec::{Config, Model, ParamSpec};

use super::error::WeightsError;
use super::file;
use super::format::detect;
use super::read::Checkpoint;
use super::read::choose::Wanted;
use super::source::Source;

/// The shapes of tensors by their official names.
type Shapes = BTreeMap<String, Vec<usize>>;

/// What the shapes of a checkpoint say about its network. What they do not say is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Inferred {
    /// The depth, which follows from the number and the kind of the blocks.
    pub depth: Option<usize>,
    /// The width: the one with the fewest decimals among those with these numbers of channels.
    pub width: Option<f64>,
    /// The number of frames, a third of the channels that the first convolution reads.
    pub frames: Option<usize>,
    /// The number of classes, the outputs of the classifier.
    pub classes: Option<usize>,
    /// The sides of the embeddings in the four stages.
    pub pos_dim: Option<[usize; 4]>,
}

/// Reads the names and shapes of a checkpoint, and infers the configuration of its network. Nothing is
/// inferred for `formula:SEED`.
///
/// # Errors
/// If the file cannot be read, as in [`super::Weights::load`].
pub fn infer(source: &Source) -> Result<Inferred, WeightsError> {
    let Source::File { path, key } = source else { return Ok(Inferred::default()) };
    let bytes = file::read(path)?;
    let named = |failure: super::error::Failure| failure.in_file(&source.to_string());
    let specs = all_names();
    let wanted = Wanted { specs: &specs, key: key.as_deref() };
    let format = detect(&bytes).map_err(named)?;
    let found = Checkpoint::read(&bytes, format, &wanted).map_err(named)?;
    let shapes =
        found.tensors.iter().filter_map(|raw| Some((raw.canonical()?, raw.canonical_shape())));
    Ok(of_shapes(&shapes.collect()))
}

/// The tensors of the deepest networks of both kinds of blocks, which hold the names of all others. Their
/// shapes say nothing: a set of weights is chosen by its names.
fn all_names() -> Vec<ParamSpec> {
    let deepest = [34, 200].map(|depth| Config { depth, ..Config::default() });
    let models = deepest.into_iter().filter_map(|config| Model::new(config).ok());
    let mut seen = BTreeSet::new();
    let specs = models.flat_map(|model| model.parameters().to_vec());
    specs.filter(|spec| seen.insert(spec.name.clone())).collect()
}

fn of_shapes(shapes: &Shapes) -> Inferred {
    let bottleneck = shapes.contains_key("layer1.0.conv3.weight");
    let at = |name: &str, axis: usize| shapes.get(name)?.get(axis).copied();
    let frames = at("conv1.weight", 1).filter(|channels| *channels > 0 && channels % 3 == 0);
    Inferred {
        depth: depth(shapes, bottleneck),
        width: width(shapes),
        frames: frames.map(|channels| channels / 3),
        classes: at("fc.weight", 0).filter(|classes| *classes > 0),
        pos_dim: pos_dim(shapes),
    }
}

/// The number of blocks in a stage, 0 to 3.
fn blocks(shapes: &Shapes, stage: usize) -> usize {
    let prefix = format!("layer{}.", stage + 1);
    let index = |name: &String| name.strip_prefix(&prefix)?.split('.').next()?.parse().ok();
    let indexes: BTreeSet<usize> = shapes.keys().filter_map(index).collect();
    indexes.len()
}

fn depth(shapes: &Shapes, bottleneck: bool) -> Option<usize> {
    let found = [0, 1, 2, 3].map(|stage| blocks(shapes, stage));
    let known = DEPTHS.iter().find(|(_, counts, kind)| *counts == found && *kind == bottleneck);
    known.map(|(depth, ..)| *depth)
}

/// The last convolution of a CTL gives the channels of its stage in both kinds of blocks.
fn channels(shapes: &Shapes, stage: usize) -> Option<usize> {
    let name = format!("layer{}.0.conv2.temporal_conv.weight", stage + 1);
    shapes.get(&name)?.first().copied()
}

/// Every factor in an interval gives the same numbers of channels, and so the same network.
fn width(shapes: &Shapes) -> Option<f64> {
    let mut wanted = [0; 4];
    for (stage, wanted) in wanted.iter_mut().enumerate() {
        *wanted = channels(shapes, stage)?;
    }
    let low = (0..4).map(|stage| wanted[stage] as f64 / (64 << stage) as f64).fold(0.0, f64::max);
    let fits = |width: &f64| {
        let config = Config { width: *width, ..Config::default() };
        config.validate().is_ok() && (0..4).all(|stage| config.channels(stage) == wanted[stage])
    };
    let rounded = (0..=9).map(|decimals| {
        let scale = 10f64.powi(decimals);
        (low * scale).ceil() / scale
    });
    rounded.chain([low]).find(fits)
}

fn pos_dim(shapes: &Shapes) -> Option<[usize; 4]> {
    let mut sides = [0; 4];
    for (stage, side) in sides.iter_mut().enumerate() {
        let name = format!("layer{}.0.conv2.spatial_conv.pos_embed", stage + 1);
        match shapes.get(&name).map(Vec::as_slice) {
            Some(&[1, _, height, width]) if height == width && height > 0 => *side = height,
            _ => return None,
        }
    }
    Some(sides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(config: Config) -> Shapes {
        let model = Model::new(config).unwrap();
        model.parameters().iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect()
    }

    #[test]
    fn every_network_is_known_by_its_shapes() {
        for (depth, ..) in DEPTHS {
            for width in [0.125, 0.25, 0.3, 0.7, 1.0, 1.5, 3.0, 1.0 / 3.0] {
                let config = Config {
                    depth,
                    width,
                    frames: 8,
                    classes: 7,
                    pos_dim: [16, 8, 5, 2],
                    ..Config::default()
                };
                let found = of_shapes(&shapes(config.clone()));
                assert_eq!((found.depth, found.frames), (Some(depth), Some(8)));
                assert_eq!((found.classes, found.pos_dim), (Some(7), Some([16, 8, 5, 2])));
                let found = found.width.unwrap();
                let again = Config { width: found, ..config.clone() };
                assert_eq!(shapes(again), shapes(config), "width {width}, found {found}");
                assert!(found == width || found.to_string().len() < width.to_string().len());
            }
        }
    }

    #[test]
    fn what_the_shapes_do_not_say_is_not_guessed() {
        let whole = shapes(Config::default());
        let mut backbone = whole.clone();
        backbone.retain(|name, _| !name.starts_with("fc."));
        let found = of_shapes(&backbone);
        assert_eq!((found.classes, found.depth, found.width), (None, Some(50), Some(1.0)));
        let mut short = whole.clone();
        short.retain(|name, _| !name.starts_with("layer3.5."));
        assert_eq!(of_shapes(&short).depth, None, "no depth has 5 blocks in the third stage");
        let mut odd = whole;
        odd.insert("conv1.weight".into(), vec![64, 47, 5, 5]);
        odd.insert("layer2.0.conv2.temporal_conv.weight".into(), vec![99, 128, 1, 1]);
        odd.insert("layer1.0.conv2.spatial_conv.pos_embed".into(), vec![1, 16, 7, 8]);
        let found = of_shapes(&odd);
        assert_eq!((found.frames, found.width, found.pos_dim), (None, None, None));
        assert_eq!(of_shapes(&Shapes::new()), Inferred::default());
    }
}
