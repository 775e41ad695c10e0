//! A reader of Python pickles that executes no Python code.
//!
//! A pickle is a program for a stack machine that may call any Python function. This machine knows
//! only the few constructors that a checkpoint needs (see `classes`) and turns each into plain data.
//! Any other name is an error. Objects are stored in one arena and refer to each other by index, so
//! that cycles and deep nesting cause neither leaks nor stack overflows.

mod build;
mod classes;
mod machine;
mod value;

pub(super) use value::{Array, Obj, Pickle, TensorView, Value};

use super::error::Failure;

/// Reads one pickle from the start of `bytes`; bytes after its end are ignored.
pub(super) fn parse(bytes: &[u8]) -> Result<Pickle<'_>, Failure> {
    machine::Machine::new(bytes).run()
}
