//! Writes activations as soon as they are computed, so that the activations of a whole network are
//! never in memory at once.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use files::Unfinished;
use ndarray::{ArrayD, IxDyn};
use ndarray_npy::{NpzWriter, WritableElement};
use spec::{Data, Model, ModuleId, Tensor};

/// Which framework's names and layout a dump has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The module paths of PyTorch, with maps as [N, C, H, W].
    Torch,
    /// The module paths of the Flax port, with maps as [N, H, W, C]. ReLU, sigmoid and pooling are left
    /// out, because they are functions in Flax, not modules.
    Flax,
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Naming::Torch => "torch",
            Naming::Flax => "flax",
        })
    }
}

impl FromStr for Naming {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "torch" => Ok(Naming::Torch),
            "flax" => Ok(Naming::Flax),
            _ => Err(format!("`{text}` is not a naming of arrays; use torch or flax")),
        }
    }
}

/// Writes an npz file. Until it is complete it has the name of its target with `.part` appended.
pub struct Writer {
    npz: NpzWriter<BufWriter<File>>,
    naming: Naming,
    partial: PathBuf,
    target: PathBuf,
    _unfinished: Unfinished,
}

impl Writer {
    /// Starts a file. An existing target is replaced by [`Writer::finish`] only.
    ///
    /// # Errors
    ///
    /// If the target is a folder or cannot be written.
    pub fn create(target: &Path, naming: Naming) -> Result<Self> {
        if target.is_dir() {
            bail!("{}: this is a folder; name the file to write", target.display());
        }
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot be written", target.display()))?;
        }
        let mut partial = target.as_os_str().to_owned();
        partial.push(".part");
        let partial = PathBuf::from(partial);
        let made = Unfinished::make(|| File::create(&partial), |_| partial.clone());
        let (file, _unfinished) =
            made.with_context(|| format!("{}: cannot be written", target.display()))?;
        let npz = NpzWriter::new_compressed(BufWriter::new(file));
        Ok(Writer { npz, naming, partial, target: target.to_owned(), _unfinished })
    }

    /// Adds the output of a module. Does nothing if the naming has no name for the module.
    pub fn add(&mut self, model: &Model, id: ModuleId, value: Tensor) -> Result<()> {
        let Some(name) = name(model, id, self.naming) else { return Ok(()) };
        let channels_last = self.naming == Naming::Flax && value.shape.len() == 4;
        let Tensor { shape, data } = value;
        match data {
            Data::F32(values) => self.array(&name, &shape, values, channels_last),
            Data::F64(values) => self.array(&name, &shape, values, channels_last),
        }
        .with_context(|| format!("{}: `{name}` cannot be written", self.target.display()))
    }

    /// Adds an array that is not the output of a module, under any name and unchanged.
    pub fn plain<T: WritableElement>(
        &mut self,
        name: &str,
        shape: &[usize],
        values: Vec<T>,
    ) -> Result<()> {
        let array = ArrayD::from_shape_vec(IxDyn(shape), values)?;
        let written = self.npz.add_array(name, &array);
        written.with_context(|| format!("{}: `{name}` cannot be written", self.target.display()))
    }

    fn array<T: WritableElement + Clone>(
        &mut self,
        name: &str,
        shape: &[usize],
        values: Vec<T>,
        channels_last: bool,
    ) -> Result<()> {
        let array = ArrayD::from_shape_vec(IxDyn(shape), values)?;
        match channels_last {
            false => self.npz.add_array(name, &array)?,
            true => {
                let permuted = array.permuted_axes(IxDyn(&[0, 2, 3, 1]));
                self.npz.add_array(name, &permuted.as_standard_layout())?;
            }
        }
        Ok(())
    }

    /// Completes the file and moves it to its target.
    pub fn finish(self) -> Result<()> {
        self.npz.finish()?.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        std::fs::rename(&self.partial, &self.target).with_context(|| {
            format!("{}: cannot be replaced by the new file", self.target.display())
        })
    }
}

/// The name of a module's output in a dump; None if the naming has none.
fn name(model: &Model, id: ModuleId, naming: Naming) -> Option<String> {
    let module = model.module(id);
    if id == model.output() && model.fc.is_some() {
        return Some("logits".to_owned());
    }
    match naming {
        Naming::Torch => Some(module.name.clone()),
        Naming::Flax => flax_name(&module.name),
    }
}

/// The name of a module in the Flax port: `layer1.0.conv2.spatial_conv.glo_conv.3` is
/// `layer1.0/conv2/spatial_conv/glo_conv/conv2` there. None if it is not a module there.
fn flax_name(name: &str) -> Option<String> {
    let members: &[(&str, &[(&str, &str)])] = &[
        ("param_conv", &[("1", "conv1"), ("2", "norm1"), ("4", "conv2")]),
        (
            "glo_conv",
            &[("0", "conv1"), ("1", "norm1"), ("3", "conv2"), ("4", "norm2"), ("6", "conv3")],
        ),
    ];
    if name == "input" {
        return Some(name.to_owned());
    }
    if matches!(name, "maxpool" | "avgpool") || name.ends_with("pos_embed") {
        return None;
    }
    let mut parts: Vec<String> = vec![];
    let mut rest = name.split('.').peekable();
    while let Some(part) = rest.next() {
        // `layer1.0` and `downsample.1` are one name each in Flax.
        let keyed = part.starts_with("layer") || matches!(part, "downsample" | "shortcut_conv");
        match rest.next_if(|_| keyed) {
            Some(index) => parts.push(format!("{part}.{index}")),
            None => parts.push(part.to_owned()),
        }
    }
    if let [.., container, member] = parts.as_mut_slice()
        && let Some((_, known)) = members.iter().find(|(name, _)| name == container)
    {
        let (_, flax) = known.iter().find(|(torch, _)| torch == member)?;
        *member = (*flax).to_owned();
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::flax_name;

    #[test]
    fn flax_names_are_those_of_the_flax_port() {
        let cases = [
            ("conv1", Some("conv1")),
            ("layer1.0.bn1", Some("layer1.0/bn1")),
            (
                "layer4.2.conv2.spatial_conv.glo_conv.4",
                Some("layer4.2/conv2/spatial_conv/glo_conv/norm2"),
            ),
            ("layer1.0.conv2.param_conv.1", Some("layer1.0/conv2/param_conv/conv1")),
            ("layer1.0.conv2.param_conv.5", None),
            ("layer1.0.conv2.spatial_conv.glo_conv.2", None),
            ("layer1.0.conv2.spatial_conv.pos_embed", None),
            ("layer1.0.shortcut_conv.0", Some("layer1.0/shortcut_conv.0")),
        ];
        for (torch, flax) in cases {
            assert_eq!(flax_name(torch).as_deref(), flax, "{torch}");
        }
    }
}
