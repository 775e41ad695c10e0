//! Files that are written whole or not at all, their hashes, and their names on a terminal.

mod place;
mod unfinished;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

pub use tempfile::NamedTempFile;

pub use self::place::{check_file, check_folder, open_regular};
pub use self::unfinished::{Folder, Unfinished, remove_unfinished};

/// Writes a file under another name in the same folder, and renames it when it is complete: a reader
/// sees the old file or the new one, never half of one. When `fill` fails, nothing is left behind. A device
/// such as `/dev/null` or a pipe is not replaced: the complete content is copied into it. Missing folders are made.
///
/// # Errors
/// Those of the file system, and `InvalidInput` for a path without a file name.
pub fn write_with<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut NamedTempFile) -> Result<(), E>,
) -> Result<(), E> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a file name").into());
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let special = place::is_special(path);
    if !special {
        fs::create_dir_all(folder)?;
    }
    let temporary = std::env::temp_dir();
    let folder = if special { temporary.as_path() } else { folder };
    let prefix = format!(".{}.", name.to_string_lossy());
    let make = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".part");
        #[cfg(unix)]
        builder.permissions(readable());
        builder.tempfile_in(folder)
    };
    let (mut file, _unfinished) = Unfinished::make(make, |made| made.path().to_owned())?;
    fill(&mut file)?;
    if special {
        io::copy(&mut file.reopen()?, &mut fs::File::options().write(true).open(path)?)?;
        return Ok(());
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// As [`write_with`], for a content that is in memory.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(content))
}

/// What `File::create` asks for; the process's umask takes its share off.
#[cfg(unix)]
fn readable() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// SHA-256 of the bytes, as 64 lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hexadecimal digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text from outside, such as the name of a file, made safe for a terminal: control characters, and
/// those that change the direction of writing, become `?`.
pub fn printable(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\n\u{202e}b é"), "a?[2J??b é");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file.txt");
        write(&path, b"old").unwrap();
        let failed: io::Result<()> = write_with(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("stopped"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn others_may_read_what_was_written() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (whole, plain) = (folder.path().join("whole"), folder.path().join("plain"));
        write(&whole, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&whole), mode(&plain));
    }

    #[test]
    #[cfg(unix)]
    fn a_device_is_written_to_and_stays_a_device() {
        write(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(open_regular(Path::new("/dev/zero")).is_err(), "it has no end");
    }

    #[test]
    fn the_hash_is_that_of_the_standard() {
        assert!(sha256(b"abc").starts_with("ba7816bf8f01cfea"));
    }
}
