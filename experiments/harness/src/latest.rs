//! `runs/latest`: a link to the folder of the last run, next to that folder.

use std::fs;
use std::io;
use std::path::Path;

/// The folder that holds the folders of runs, unless a flag names another place.
pub const RUNS: &str = "runs";

/// Lets `runs/latest` lead to this folder, if it is in `runs`. The link is replaced in one step; where links
/// cannot be made it is a file with the name of the folder.
pub fn point(folder: &Path) {
    if folder.parent() != Some(Path::new(RUNS)) || !folder.is_dir() {
        return;
    }
    if let Err(why) = point_in(Path::new(RUNS), folder) {
        announce!("{RUNS}/latest: cannot be made to lead to {} ({why})", folder.display());
    }
}

fn point_in(runs: &Path, folder: &Path) -> io::Result<()> {
    let Some(name) = folder.file_name() else { return Ok(()) };
    let new = runs.join(format!(".latest.{}", std::process::id()));
    // One may be left of a process that was killed.
    let _ = fs::remove_file(&new);
    if link(name.as_ref(), &new).is_err() {
        fs::write(&new, format!("{}\n", name.display()))?;
    }
    let replaced = fs::rename(&new, runs.join("latest"));
    replaced.inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_replaced_and_leaves_nothing_else() {
        let runs = tempfile::tempdir().unwrap();
        let at = |name: &str| runs.path().join(name);
        for run in ["1-diff", "2-diff"] {
            fs::create_dir(at(run)).unwrap();
            point_in(runs.path(), &at(run)).unwrap();
            let led = at("latest").canonicalize().unwrap();
            assert_eq!(led, at(run).canonicalize().unwrap());
        }
        assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 3);
        // A folder of the user is left alone.
        fs::remove_file(at("latest")).unwrap();
        fs::create_dir(at("latest")).unwrap();
        assert!(point_in(runs.path(), &at("2-diff")).is_err());
        assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 3);
    }
}
