//! A description of the SqueezeTime model (arXiv 2405.08344): configuration, module names, shapes
//! and the [`Engine`] trait. The arithmetic of the network is not in this crate, so that the engines
//! which are compared with each other share only names and shapes, and the weights, which the crate
//! `checkpoint` reads and writes.
//!
//! Reading order: [`config`] (the options of a network), [`model`] (the tree that an engine walks),
//! [`module`] (the flat list of everything that is compared), [`engine`] (how an engine is run and
//! observed).

pub mod config;
pub mod engine;
pub mod model;
pub mod module;
pub mod names;
pub mod param;
pub mod tensor;

pub use config::{Config, ConfigError, PosEmbed, Semantics};
pub use engine::{Engine, EngineError, Flow, Frames, Ignore, Precision, Profile, StepTime, Tap};
pub use model::Model;
pub use module::{Kind, Module, ModuleId, Selection, SelectionError};
pub use param::ParamSpec;
pub use tensor::{Data, Tensor, relative_l2};
