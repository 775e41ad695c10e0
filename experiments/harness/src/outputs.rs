//! The places that a command will write to, which are tried before it begins its work.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::flags::OutputArgs;
use crate::latest::RUNS;

/// The places that a command will write to.
#[derive(Default)]
pub struct Outputs(Vec<Place>);

struct Place {
    /// The flag that names it, or what it is.
    flag: &'static str,
    path: PathBuf,
    folder: bool,
}

impl Outputs {
    /// Adds a file, if the flag was given.
    pub fn file(self, flag: &'static str, path: Option<&PathBuf>) -> Self {
        self.with(flag, path, false)
    }

    /// Adds a folder, if the flag was given.
    pub fn folder(self, flag: &'static str, path: Option<&PathBuf>) -> Self {
        self.with(flag, path, true)
    }

    /// Adds the folder of a run: that of the flag `--out`, or else one in `runs`.
    pub fn run(self, out: Option<&PathBuf>) -> Self {
        match out {
            Some(_) => self.folder("--out", out),
            None => self.folder("the default folder", Some(&PathBuf::from(RUNS))),
        }
    }

    /// Adds record and report, which are in `runs` by default.
    pub fn report(self, out: &OutputArgs) -> Self {
        let json = out.json.as_ref().filter(|_| !out.record_on_stdout());
        let to_runs = out.json.is_none() || out.html.is_none();
        let both = self.file("--json", json).file("--html", out.html.as_ref());
        if to_runs { both.run(None) } else { both }
    }

    /// Adds record and report of a command whose flag `--out` names the folder of the run.
    pub fn report_in(self, out: &OutputArgs, folder: Option<&PathBuf>) -> Self {
        let json = out.json.as_ref().filter(|_| !out.record_on_stdout());
        self.file("--json", json).file("--html", out.html.as_ref()).run(folder)
    }

    fn with(mut self, flag: &'static str, path: Option<&PathBuf>, folder: bool) -> Self {
        self.0.extend(path.map(|path| Place { flag, path: path.clone(), folder }));
        self
    }

    /// Fails if one of the places cannot be written, or if two files are the same. Leaves no trace.
    pub fn check(&self) -> Result<()> {
        for (at, Place { flag, path, folder }) in self.0.iter().enumerate() {
            let shown = path.display();
            if path == Path::new("-") {
                bail!("{flag} -: only --json writes to stdout; name a file");
            }
            let tried = match folder {
                true => files::check_folder(path),
                false => files::check_file(path),
            };
            if let Err(why) = tried {
                bail!("{flag} {shown}: {why}");
            }
            let same = |other: &&Place| {
                !other.folder && !folder && identity(&other.path) == identity(path)
            };
            if let Some(other) = self.0[..at].iter().find(same)
                && path != Path::new("/dev/null")
            {
                bail!("{flag} {shown}: {} names the same file; name another one", other.flag);
            }
        }
        self.check_inputs()
    }

    /// Fails if a file that exists is an input of the command, too.
    fn check_inputs(&self) -> Result<()> {
        let words = std::env::args_os().skip(1);
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        for Place { flag, path, .. } in self.0.iter().filter(|place| place.path.is_file()) {
            if let Some(word) = reads(&words, flag, path) {
                bail!(
                    "{flag} {}: the command reads this file (`{word}`) and would replace it; name another one",
                    path.display()
                );
            }
        }
        Ok(())
    }
}

/// What a path leads to, also where it does not exist yet.
fn identity(path: &Path) -> PathBuf {
    let whole = path.canonicalize().ok();
    let in_folder = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    whole.or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

/// The word of a command that names the file at `path`, which the flag `flag` will write: an input. Words may
/// hold a path behind `npz:`, `python:` or `--flag=`, before `:FUNCTION` or `::KEY`, and in a list with commas.
fn reads<'w>(words: &'w [String], flag: &str, path: &Path) -> Option<&'w str> {
    let target = identity(path);
    let names = |word: &str| {
        let parts = word.split(',').flat_map(|part| {
            let behind = part.split_once(':').map(|(_, rest)| rest);
            let before = part.split_once("::").map(|(file, _)| file);
            // The function behind the file of a live model.
            let live = behind.and_then(|rest| rest.rsplit_once(':')).map(|(file, _)| file);
            [Some(part), behind, before, live].into_iter().flatten()
        });
        parts
            .chain([word])
            .any(|part| Path::new(part).is_file() && identity(part.as_ref()) == target)
    };
    let mut own = false;
    words.iter().map(String::as_str).find(|word| {
        let (of, value) = match word.split_once('=') {
            Some((of, value)) if of.starts_with("--") => (of, value),
            _ => ("", *word),
        };
        let written = std::mem::replace(&mut own, *word == flag) || of == flag;
        !written && names(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_found_among_the_words_of_a_command() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.npz");
        std::fs::write(&file, "").unwrap();
        let name = file.display().to_string();
        let other = folder.path().join("b").display().to_string();
        let crooked = folder.path().join(".").join("a.npz").display().to_string();
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            reads(&words, "--json", &file).map(str::to_owned)
        };
        assert_eq!(read(&["diff", "--json", &name]), None);
        assert_eq!(read(&["diff", "--candidate", "scalar", &format!("--json={name}")]), None);
        assert_eq!(read(&["diff", "--input", &other, "--json", &name]), None);
        let key = format!("{name}::ema");
        let live = format!("python:{name}:make");
        for word in
            [name.clone(), crooked, key, live, format!("npz:{name}"), format!("cpu,onnx:{name}")]
        {
            assert_eq!(read(&["diff", "--json", &name, "--input", &word]), Some(word));
        }
        assert!(read(&["diff", &format!("--weights={name}"), "--json", &name]).is_some());
    }

    #[test]
    fn every_place_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let refused = |outputs: Outputs| outputs.check().unwrap_err().to_string();
        let good =
            || Outputs::default().file("--a", Some(&at("a"))).folder("--b", Some(&at("b/c")));
        good().check().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let why = refused(good().file("--c", Some(&at("a"))));
        assert!(why.starts_with("--c ") && why.contains("--a names the same file"), "{why}");
        let why = refused(good().file("--html", Some(&"-".into())));
        assert!(why.contains("only --json writes to stdout"), "{why}");
        let why = refused(good().folder("--out", Some(&"/proc/none/folder".into())));
        assert!(why.starts_with("--out /proc/none/folder: it cannot be written"), "{why}");
        let out = OutputArgs { json: Some("-".into()), html: Some(at("a")) };
        Outputs::default().report(&out).check().unwrap();
    }
}
