//! A reader of Python pickles that runs nothing.
//!
//! A pickle is a program for a stack machine that may call any function of Python. This machine
//! knows the handful of constructors that a checkpoint needs (see `classes`), turns each into plain
//! data, and refuses the file by name for anything else. Objects live in one arena and refer to
//! each other by index, so that cycles and deep nesting cost neither a leak nor a stack overflow.

mod build;
mod classes;
mod machine;
mod value;

pub(super) use value::{Array, Obj, Pickle, TensorView, Value};

use super::error::Fault;

/// Reads one pickle from the start of `bytes`; what follows it is left alone.
pub(super) fn parse(bytes: &[u8]) -> Result<Pickle<'_>, Fault> {
    machine::Machine::new(bytes).run()
}
