//! Which Python runs the programs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The Python interpreter: the one that was asked for with `--python`, or else that of `$HARNESS_PYTHON`, that
/// of the active environment (`$VIRTUAL_ENV`), or `python3` on PATH.
///
/// # Errors
///
/// If the interpreter that is named does not exist, or there is none.
pub fn find_python(asked: Option<&Path>) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let named = [
        ("--python", asked.map(Path::to_owned)),
        ("$HARNESS_PYTHON", variable("HARNESS_PYTHON").map(PathBuf::from)),
        ("$VIRTUAL_ENV", variable("VIRTUAL_ENV").map(|at| Path::new(&at).join("bin/python"))),
    ];
    for (origin, path) in named {
        let Some(path) = path else { continue };
        // A name without a folder, such as python3.11, is looked up on PATH.
        let found =
            if path.components().count() == 1 { on_path(&path) } else { Some(path.clone()) };
        return match found.filter(|path| path.is_file()) {
            Some(found) => Ok(found),
            None => bail!(
                "{origin}: there is no Python at {}; correct it, or name one with --python PATH",
                path.display()
            ),
        };
    }
    match on_path(Path::new("python3")) {
        Some(found) => Ok(found),
        None => bail!("no python3 was found on PATH; name a Python with --python PATH"),
    }
}

/// The Python that has ONNX Runtime and OpenVINO: the one that was asked for, or else that of `$HARNESS_PEERS`, or
/// else as [`find_python`].
///
/// # Errors
///
/// As [`find_python`].
pub fn find_peers(asked: Option<&Path>) -> Result<PathBuf> {
    let peers = std::env::var_os("HARNESS_PEERS").filter(|value| !value.is_empty());
    find_python(asked.map(Path::to_owned).or(peers.map(PathBuf::from)).as_deref())
}

/// The file with this name in the first folder of PATH that has it.
fn on_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
