//! The SqueezeTime model (arXiv 2405.08344) as a description: configuration, module names,
//! shapes, checkpoint formats and the [`Engine`] trait. No arithmetic of the network lives here,
//! so that the implementations held against each other share names, shapes and weights only.
//!
//! Reading order: [`config`] (what can be chosen), [`model`] (the tree that an engine walks),
//! [`module`] (the flat list of everything that is compared), [`engine`] (how an engine is run and
//! observed), [`weights`] (where the numbers come from).

pub mod config;
pub mod engine;
pub mod model;
pub mod module;
pub mod tensor;
pub mod weights;

pub use config::{Config, ConfigError, PosEmbed, Semantics};
pub use engine::{Engine, EngineError, Flow, Frames, Ignore, Precision, Tap};
pub use model::Model;
pub use module::{Kind, Module, ModuleId, Selection, SelectionError};
pub use tensor::{Data, Tensor};
