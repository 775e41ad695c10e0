//! Weights as converters store them: in half a float32's bits, from which a runtime that computes in float32 reads them
//! back. No layer then computes what the network does with the float32 weights, although none is ported wrongly.

use std::fmt;
use std::str::FromStr;

use checkpoint::Weights;
use spec::{Data, Kind, Model, Precision, Tensor};

use crate::faults::ModelGraph;

/// How a converter stores weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The number format, float16 or bfloat16.
    pub format: Precision,
    /// What is stored in it.
    pub parts: Parts,
}

/// The parameters that a converter rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// The weights of convolutions and of the classifier, as ncnn's tools do.
    Kernels,
    /// All parameters.
    All,
    /// As [`Parts::Kernels`], after every batch normalisation was folded into the convolution before it.
    Folded,
}

impl Stored {
    /// Every way to store weights in a format, the most frequent one first.
    pub fn ways(format: Precision) -> [Stored; 3] {
        [Parts::Kernels, Parts::All, Parts::Folded].map(|parts| Stored { format, parts })
    }

    /// The weights as they are read back.
    ///
    /// A kernel that is rounded with a folded normalisation is divided by the normalisation's scale afterwards, so that
    /// the network's own normalisation gives back the rounded product.
    pub fn round(self, model: &Model, weights: &Weights) -> Weights {
        if self.parts == Parts::All {
            return crate::rounded::weights(weights, self.format);
        }
        let graph = ModelGraph::new(model);
        let mut rounded = weights.clone();
        let modules = model.modules().iter();
        for module in modules.filter(|m| matches!(m.kind, Kind::Conv | Kind::Linear)) {
            let scales = match self.parts {
                Parts::Folded => graph.scale_behind(module.id, weights).unwrap_or_default(),
                _ => vec![],
            };
            let Some(kernel) = rounded.get_mut(&format!("{}.weight", module.name)) else {
                continue;
            };
            kernel.edit(|shape, values| {
                let each = values.len() / shape.first().copied().unwrap_or(1).max(1);
                for (channel, values) in values.chunks_mut(each.max(1)).enumerate() {
                    // A scale of zero leaves nothing to round.
                    let scale = scales.get(channel).copied().filter(|s| *s != 0.0).unwrap_or(1.0);
                    // Not by way of float64, whose conversions take some values for half-way cases.
                    let scaled = values.iter().map(|value| (value * scale) as f32).collect();
                    let scaled = Tensor { shape: vec![values.len()], data: Data::F32(scaled) };
                    let coarse = self.format.round(scaled);
                    values.iter_mut().zip(coarse.iter()).for_each(|(v, c)| *v = c / scale);
                }
            });
        }
        rounded
    }

    /// What was rounded to which format.
    pub fn in_words(self) -> String {
        let format = match self.format {
            Precision::Bf16 => "bfloat16",
            _ => "float16",
        };
        match self.parts {
            Parts::Kernels => {
                format!("weights of convolutions and classifier that were rounded to {format}")
            }
            Parts::All => format!("weights that were all rounded to {format}"),
            Parts::Folded => format!(
                "weights that were rounded to {format} after each BatchNorm was folded into its convolution"
            ),
        }
    }
}

/// The endings for parts other than all.
const KERNELS: &str = ":kernels";
const FOLDED: &str = ":folded";

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = match self.parts {
            Parts::All => "",
            Parts::Kernels => KERNELS,
            Parts::Folded => FOLDED,
        };
        write!(f, "{}{parts}", self.format)
    }
}

impl FromStr for Stored {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of = |parts, format: &str| match format.parse() {
            Ok(format @ (Precision::F16 | Precision::Bf16)) => Some(Stored { format, parts }),
            _ => None,
        };
        let found = match (text.strip_suffix(KERNELS), text.strip_suffix(FOLDED)) {
            (Some(format), _) => of(Parts::Kernels, format),
            (_, Some(format)) => of(Parts::Folded, format),
            _ => of(Parts::All, text),
        };
        found.ok_or_else(|| {
            format!(
                "`{text}` is not f16 or bf16; add {KERNELS} to round only the weights of convolutions and classifier, \
                 or {FOLDED} to round these after BatchNorm was folded"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use spec::Config;

    use super::*;

    #[test]
    fn every_way_is_parsed_from_its_own_words() {
        for stored in [Precision::F16, Precision::Bf16].into_iter().flat_map(Stored::ways) {
            assert_eq!(stored.to_string().parse(), Ok(stored));
        }
        assert!("f32".parse::<Stored>().is_err() && "f16:other".parse::<Stored>().is_err());
    }

    #[test]
    fn only_the_parts_that_are_stored_are_rounded() {
        let model = Model::new(Config { depth: 10, width: 0.125, ..Config::default() }).unwrap();
        let weights = Weights::formula(model.parameters(), 0);
        let [kernels, all, folded] =
            Stored::ways(Precision::F16).map(|stored| stored.round(&model, &weights));
        let changed = |other: &Weights, name: &str| {
            weights.get(name).unwrap().data != other.get(name).unwrap().data
        };
        for other in [&kernels, &all, &folded] {
            assert!(changed(other, "conv1.weight") && changed(other, "fc.weight"));
        }
        assert!(changed(&all, "bn1.weight"));
        assert!(!changed(&kernels, "bn1.weight") && !changed(&folded, "bn1.weight"));
        let [one, other] = [&kernels, &folded].map(|w| &w.get("conv1.weight").unwrap().data);
        assert_ne!(one, other, "the scale of bn1 decides what is rounded");
    }
}
