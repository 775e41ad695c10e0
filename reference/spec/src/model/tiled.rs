//! Which convolutions a runtime may compute with Winograd's tiles instead of one sum for each output.

use super::{Body, Conv, Model};

/// A convolution that is 3x3 with stride 1 or can be rewritten as one, so that Winograd's minimal
/// filtering (Lavin and Gray, arXiv 1509.09308) applies to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiled {
    /// Number of input channels of the 3x3 convolution.
    pub channels: usize,
    /// Number of kernel taps in one direction that are not zero, for each class of input channels.
    pub taps: &'static [usize],
}

impl Conv {
    /// The convolution written as 3x3 with stride 1, if that is possible. The stem's 5x5 convolution of
    /// stride 2 becomes one on cells of 2x2 pixels: even rows and columns have 3 kernel taps, odd ones
    /// have 2.
    pub fn tiled(&self) -> Option<Tiled> {
        match (self.groups, self.kernel, self.stride) {
            (1, 3, 1) => Some(Tiled { channels: self.in_channels, taps: &[3] }),
            (1, 5, 2) => Some(Tiled { channels: 4 * self.in_channels, taps: &[3, 2] }),
            _ => None,
        }
    }
}

impl Model {
    /// All convolutions: first those outside CTLs, in order of execution, then those of each CTL.
    pub fn convs(&self) -> impl Iterator<Item = &Conv> {
        let mut all = vec![&self.stem.conv];
        for block in &self.blocks {
            all.extend(block.downsample.as_ref().map(|pair| &pair.conv));
            if let Body::Bottleneck { reduce, expand, .. } = &block.body {
                all.extend([&reduce.conv, &expand.conv]);
            }
            all.extend(block.shortcut.as_ref().map(|pair| &pair.conv));
        }
        for ctl in self.ctls() {
            let ioi = &ctl.spatial_conv;
            all.extend([&ctl.gate.conv1, &ctl.gate.conv2, &ctl.temporal_conv]);
            all.extend([&ioi.short_conv, &ioi.glo_in.conv, &ioi.glo_mid.conv, &ioi.glo_out]);
        }
        all.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Kind};

    #[test]
    fn every_convolution_is_listed_once_and_the_3x3_ones_are_tiled() {
        for depth in [18, 50] {
            let model = Model::new(Config { depth, ..Config::default() }).unwrap();
            let mut listed: Vec<_> = model.convs().map(|conv| conv.id).collect();
            listed.sort();
            let modules = model.modules().iter().filter(|m| m.kind == Kind::Conv);
            assert_eq!(listed, modules.map(|m| m.id).collect::<Vec<_>>());
            // The stem, and short_conv, glo_conv.0 and glo_conv.6 of every CTL.
            let tiled = model.convs().filter(|conv| conv.tiled().is_some()).count();
            assert_eq!(tiled, 1 + 3 * model.ctls().count());
        }
    }
}
