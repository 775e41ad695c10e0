//! `harness info`: prints the modules of a model.

use anyhow::Result;
use serde_json::json;
use spec::{Config, Model, Module, Selection};

use super::args::InfoArgs;
use crate::models;
use crate::outcome::Outcome;
use crate::publish;

/// Prints every module with its shape, parameters and multiply-accumulates, and then the totals.
pub fn run(args: &InfoArgs) -> Result<Outcome> {
    let model = Model::new(args.model.config()?)?;
    let selection = models::selection(&model, &args.layer)?;
    if args.json {
        publish::print(&as_json(&model, &selection)?);
        return Ok(Outcome::Passed);
    }
    let mut text = format!(
        "{:46} {:6} {:12} {:>14} {:>8} {:>9}\n",
        "module", "alias", "kind", "output", "params", "MMAC"
    );
    for module in model.modules().iter().filter(|m| selection.contains(m.id)) {
        text += &line(module);
    }
    text += &totals(&model);
    publish::print(text.trim_end());
    Ok(Outcome::Passed)
}

fn as_json(model: &Model, selection: &Selection) -> Result<String> {
    let module = |m: &Module| {
        json!({
            "name": m.name, "alias": m.alias, "kind": m.kind.word(), "shape": m.shape,
            "parameters": m.params, "macs": m.macs,
        })
    };
    let modules = model.modules().iter().filter(|m| selection.contains(m.id));
    Ok(serde_json::to_string_pretty(&json!({
        "config": serde_json::to_value(&model.config)?,
        "modules": modules.map(module).collect::<Vec<_>>(),
        "parameters_without_head": model.backbone_params(),
        "macs": model.macs(),
    }))?)
}

fn line(module: &Module) -> String {
    let extents: Vec<String> = module.shape.iter().map(usize::to_string).collect();
    let alias = module.alias.as_deref().unwrap_or("");
    let number = |n: u64, text: String| if n == 0 { String::new() } else { text };
    let line = format!(
        "{:46} {:6} {:12} {:>14} {:>8} {:>9}",
        module.name,
        alias,
        module.kind.word(),
        extents.join("x"),
        number(module.params, module.params.to_string()),
        number(module.macs, format!("{:.3}", module.macs as f64 / 1e6)),
    );
    format!("{}\n", line.trim_end())
}

fn totals(model: &Model) -> String {
    let Config { depth, width, frames, size, classes, .. } = &model.config;
    format!(
        "\ndepth {depth}, width {width}, {frames} frames of {}x{}, {classes} classes\n{} modules, \
         {:.2} M parameters without the head, {:.3} GMAC per clip\n",
        size.0,
        size.1,
        model.modules().len(),
        model.backbone_params() as f64 / 1e6,
        model.macs() as f64 / 1e9
    )
}
