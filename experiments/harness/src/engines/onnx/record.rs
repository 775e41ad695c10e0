//! What an ONNX file computes, as a dump: so it can be the reference of a comparison.

use std::path::Path;

use anyhow::Result;
use compare::dump::{Naming, Writer};
use spec::{Engine, Flow, Model, ModuleId, Tap, Tensor};

/// Runs a file and writes the value of every module that it shows.
///
/// # Errors
///
/// If the file cannot be run or the dump cannot be written.
pub fn record(file: &mut dyn Engine, model: &Model, clip: &Tensor, at: &Path) -> Result<()> {
    let writer = Writer::create(at, Naming::Torch)?;
    let mut tap = Recorder { model, writer, failed: None };
    file.forward(clip, &mut tap)?;
    match tap.failed {
        Some(error) => Err(error),
        None => tap.writer.finish(),
    }
}

struct Recorder<'a> {
    model: &'a Model,
    writer: Writer,
    failed: Option<anyhow::Error>,
}

impl Tap for Recorder<'_> {
    fn wants(&self, _: ModuleId) -> bool {
        self.failed.is_none()
    }

    fn observe(&mut self, id: ModuleId, value: Tensor) -> Flow {
        self.failed = self.writer.add(self.model, id, value).err();
        Flow::Continue
    }
}
