//! Published accuracy and cost on Kinetics-400: Table 1 of the SqueezeTime paper.

/// The table with its source in the lines that begin with `#`.
const TABLE: &str = include_str!("assets/k400_table1.csv");

/// What holds for all rows of the table.
pub(crate) const CONDITIONS: &str = "Published values: Table 1 of the SqueezeTime paper (arXiv 2405.08344). \
    Its authors trained all methods in a mobile setting, with small backbones, low resolution and few frames; \
    accuracy is with the number of views in the table, cost is for one view. Latency: batch 1 on an Intel Xeon \
    Gold 6278C at 2.6 GHz; throughput: largest batch on an NVIDIA V100.";

/// A method with the numbers that the paper reports.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Method {
    pub name: String,
    pub backbone: String,
    /// Multiply-accumulates for one view, 10^9. The paper calls them GFLOPs.
    pub gmac: f64,
    /// Frames, crops and clips as printed, such as `16x3x10`.
    pub views: String,
    /// Milliseconds on a CPU.
    pub latency: f64,
    /// Clips per second on a GPU.
    pub throughput: f64,
    /// Accuracy in percent.
    pub top1: f64,
    pub top5: f64,
}

impl Method {
    /// A short name that is unique in the table, such as `TSM-R18`.
    pub fn label(&self) -> String {
        match self.backbone.strip_prefix("ResNet") {
            Some(depth) => format!("{}-R{depth}", self.name),
            None if self.backbone.contains(&self.name) => self.backbone.clone(),
            None => self.name.clone(),
        }
    }
}

/// The methods in the order of the table. A line that cannot be read is left out, which a test notices.
pub(crate) fn methods() -> Vec<Method> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.filter_map(method).collect()
}

fn method(line: &str) -> Option<Method> {
    let cells: Vec<&str> = line.trim().split(',').collect();
    let [name, _, backbone, _, _, gmac, views, latency, throughput, top1, top5] = cells[..] else {
        return None;
    };
    Some(Method {
        name: name.to_owned(),
        backbone: backbone.to_owned(),
        gmac: gmac.parse().ok()?,
        views: views.to_owned(),
        latency: latency.parse().ok()?,
        throughput: throughput.parse().ok()?,
        top1: top1.parse().ok()?,
        top5: top5.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_twenty_methods_are_read_and_have_names_of_their_own() {
        let methods = methods();
        assert_eq!(methods.len(), 20);
        let labels: BTreeSet<String> = methods.iter().map(Method::label).collect();
        assert_eq!(labels.len(), 20, "{labels:?}");
        let ours = methods.last().expect("a method");
        assert_eq!((ours.label().as_str(), ours.top1, ours.latency), ("SqueezeTime", 71.6, 123.0));
    }
}
