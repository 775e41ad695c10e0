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

#[cfg(test)]
mod tests {
    use super::*;

    /// `pickle.dumps({'little_endian': False, 'kept': frozenset({1}), 'path': pathlib.PosixPath('w')}, 4)`,
    /// without the frame and the memo.
    const PICKLE: &[u8] = b"\x80\x04}(\x8c\x0dlittle_endian\x89\x8c\x04kept(K\x01\x91\x8c\x04path\
        \x8c\x07pathlib\x8c\x09PosixPath\x93\x8c\x01w\x85Ru.";

    #[test]
    fn what_trainers_store_besides_tensors_is_read_and_an_entry_is_found_by_its_key() {
        let pickle = parse(PICKLE).unwrap();
        let entry = |key| pickle.entry(&pickle.root, key);
        assert!(matches!(entry("little_endian"), Some(Value::Bool(false))));
        assert!(entry("kept").is_some() && entry("path").is_some());
        assert!(entry("absent").is_none());
    }
}
