//! Runs ONNX files in a Python process.

use std::path::Path;

use anyhow::{Context, Result};
use onnx::cut::Typed;
use serde_json::{Value, json};
use spec::Tensor;

use super::Recipe;
use crate::engines::worker::{Message, Program, Worker, find_peers, printable};

/// The Python program.
const FILES: [(&str, &str); 1] = [("harness_runtime.py", include_str!("runtime.py"))];

/// The largest total size of the values that one run returns.
const MAX_BYTES: usize = 8 << 30;

/// A runtime for ONNX files.
pub(super) struct Runtime {
    worker: Worker,
    folder: files::Folder,
    /// Whether the runtime may replace operators by faster ones.
    pub(super) optimise: bool,
    /// Name and version.
    pub(super) called: String,
}

impl Runtime {
    pub(super) fn start(recipe: &Recipe<'_>) -> Result<Self> {
        let mut worker = Worker::start(Program {
            name: format!("onnx:{}", printable(&recipe.path.display().to_string())),
            python: find_peers(recipe.python.python.as_deref())?,
            files: &FILES,
            arguments: vec![],
            environment: vec![],
            patience: recipe.python.patience,
            max_bytes: MAX_BYTES,
        })?;
        let start = json!({
            "kind": "start",
            "runtime": recipe.runtime.runtime,
            "threads": recipe.threads,
            "device": recipe.device,
        });
        let called = printable(worker.ask(&start, &[])?.text("called"));
        let folder = files::Folder::new().context("a temporary folder cannot be created")?;
        Ok(Runtime { worker, folder, optimise: true, called })
    }

    /// Runs a file with these inputs, and returns its outputs.
    pub(super) fn run(
        &mut self,
        path: &Path,
        names: &[String],
        inputs: &[&Tensor],
    ) -> Result<Vec<(Tensor, Typed)>> {
        let ask = json!({"kind": "run", "model": path, "inputs": names, "optimise": self.optimise});
        self.answer(&ask, inputs)
    }

    /// Runs a file with one input, and keeps its network loaded for the next call.
    pub(super) fn run_kept(
        &mut self,
        path: &Path,
        name: &str,
        input: &Tensor,
    ) -> Result<Vec<(Tensor, Typed)>> {
        let ask = json!({
            "kind": "run", "model": path, "inputs": [name], "optimise": true, "keep": true,
        });
        self.answer(&ask, &[input])
    }

    fn answer(&mut self, ask: &Value, inputs: &[&Tensor]) -> Result<Vec<(Tensor, Typed)>> {
        let Message { head, tensors } = self.worker.ask(ask, inputs)?;
        let types = head["types"].as_array().cloned().unwrap_or_default();
        let typed = |(at, tensor): (usize, Tensor)| {
            let element = types.get(at).and_then(Value::as_str).unwrap_or("nothing");
            let typed = Typed::named(element, tensor.shape.clone());
            (tensor, typed)
        };
        Ok(tensors.into_iter().enumerate().map(typed).collect())
    }

    /// Runs a file that is not on the disk.
    pub(super) fn run_bytes(
        &mut self,
        bytes: Vec<u8>,
        names: &[String],
        inputs: &[&Tensor],
    ) -> Result<Vec<(Tensor, Typed)>> {
        let path = self.folder.path().join("part.onnx");
        std::fs::write(&path, bytes)
            .with_context(|| format!("{} cannot be written; free disk space", path.display()))?;
        self.run(&path, names, inputs)
    }
}
