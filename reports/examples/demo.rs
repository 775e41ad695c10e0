//! Writes a page of every kind from invented records, to check changes of the design by eye:
//! `cargo run --release -p reports --example demo DIR`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use reports::{IndexEntry, Result, write_index, write_report};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("demo: no folder was given; name the folder for the pages");
        return ExitCode::from(2);
    };
    match write_pages(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::from(2)
        }
    }
}

fn write_pages(folder: &Path) -> Result<()> {
    let mut entries = Vec::new();
    for (name, record) in common::all() {
        let file = format!("{name}.html");
        write_report(&record, &folder.join(&file), None)?;
        entries.push(IndexEntry::new(&record, name, &file));
    }
    write_index(&entries, &folder.join("index.html"))
}
