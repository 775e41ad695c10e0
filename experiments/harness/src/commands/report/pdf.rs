//! Prints pages as PDF with a browser that is installed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The program names of the browser.
const BROWSERS: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
/// The longest time for one page.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// A browser that prints pages.
pub struct Printer {
    browser: PathBuf,
}

impl Printer {
    /// Finds `$HARNESS_CHROMIUM` if it is set, else a browser on PATH.
    pub fn find() -> Result<Self> {
        if let Some(given) = std::env::var_os("HARNESS_CHROMIUM").filter(|value| !value.is_empty())
        {
            let browser = PathBuf::from(given);
            if !browser.is_file() {
                bail!(
                    "HARNESS_CHROMIUM is '{}', which is not a file; correct it",
                    browser.display()
                );
            }
            return Ok(Printer { browser });
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path)
            .flat_map(|folder| BROWSERS.map(|name| folder.join(name)))
            .find(|place| place.is_file());
        let browser = places.context(
            "--pdf: no Chromium or Chrome was found on PATH; install one, set HARNESS_CHROMIUM to its path, or \
             print the HTML report from any browser",
        )?;
        Ok(Printer { browser })
    }

    /// Prints a page to `pdf`, which is written whole or not at all.
    pub fn print(&self, html: &Path, pdf: &Path) -> Result<()> {
        let failed = || format!("{}: cannot be printed as PDF", html.display());
        let folder = tempfile::tempdir().context("a temporary folder cannot be created")?;
        let page = html.canonicalize().with_context(failed)?;
        let out = folder.path().join("page.pdf");
        let mut command = Command::new(&self.browser);
        command
            .args(["--headless", "--disable-gpu", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .arg("--no-pdf-header-footer")
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg(format!("--print-to-pdf={}", out.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // The browser refuses to run as root with its sandbox. The page is our own, and loads nothing.
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            command.arg("--no-sandbox");
        }
        let child = command.arg(address(&page)).spawn().with_context(failed)?;
        wait(child).with_context(failed)?;
        let bytes = std::fs::read(&out).unwrap_or_default();
        if !bytes.starts_with(b"%PDF-") {
            bail!(
                "{}: {} printed no PDF; try a newer browser, or print the page from a browser",
                html.display(),
                self.browser.display()
            );
        }
        crate::disk::write(pdf, &bytes)
    }
}

/// Waits for the browser to end.
fn wait(mut child: Child) -> Result<()> {
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > TIME_LIMIT {
            // This fails if the browser has ended in the meantime, which does not matter.
            let _ = child.kill();
            let _ = child.wait();
            bail!("the browser did not end within {} s", TIME_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The URL of a file.
fn address(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let bytes = path.as_os_str().as_bytes().iter();
    let encoded = bytes.map(|&byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    format!("file://{}", encoded.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_character_with_a_meaning() {
        assert_eq!(address(Path::new("/a b/50 %#?.html")), "file:///a%20b/50%20%25%23%3F.html");
    }
}
