//! Records the compiler and the revision, and tells the linker and the program where libtorch is, so that
//! neither LD_LIBRARY_PATH nor a Python import is needed. The folder is LIBTORCH, which .cargo/config.toml
//! points at the wheel that scripts/setup unpacks.

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = std::process::Command::new(rustc).arg("--version").output();
    let version = version.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    println!("cargo:rustc-env=HARNESS_RUSTC={}", version.unwrap_or_else(|_| "unknown".into()));
    println!("cargo:rustc-env=HARNESS_VERSION={}", version_with_revision());
    println!(
        "cargo:rustc-env=HARNESS_REVISION={}",
        git(&["rev-parse", "HEAD"]).unwrap_or_default()
    );
    let changes = git(&["status", "--porcelain"]);
    println!("cargo:rustc-env=HARNESS_CHANGED={}", changes.is_none_or(|text| !text.is_empty()));
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_LIBTORCH").is_none() {
        return;
    }
    if let Ok(root) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{root}/lib");
    }
}

/// What git prints, if the source is a git checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// `0.1.0 (9f86d081884c of 2026-11-27)`, or only the version if the source is not a git checkout.
fn version_with_revision() -> String {
    let version = env!("CARGO_PKG_VERSION");
    // The log changes with every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    match git(&["log", "-1", "--abbrev=12", "--format=%h of %cs"]) {
        Some(revision) => format!("{version} ({revision})"),
        None => version.to_owned(),
    }
}
