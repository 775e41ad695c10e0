//! Writes the page of every record in a folder, to look at them:
//! `cargo run --release -p reports --example published reports/runs DIR`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use reports::{IndexEntry, write_index, write_report};

fn main() -> ExitCode {
    let mut folders = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(runs), Some(out)) = (folders.next(), folders.next()) else {
        eprintln!("published: name the folder of the runs and the folder for the pages");
        return ExitCode::from(2);
    };
    match write_pages(&runs, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("published: {error}");
            ExitCode::from(2)
        }
    }
}

fn write_pages(runs: &Path, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(runs)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    let mut entries = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let record = record::read_record(folder)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = format!("{name}.html");
        write_report(&record, &out.join(&file), None)?;
        entries.push(IndexEntry::new(&record, &name, &file));
    }
    write_index(&entries, &out.join("index.html"))?;
    Ok(())
}
