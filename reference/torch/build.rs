//! Tells the linker and the program where libtorch is, so that neither LD_LIBRARY_PATH nor a
//! Python import is needed. The variable LIBTORCH holds the folder; .cargo/config.toml sets it to
//! the wheel that scripts/setup unpacks.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_LIBTORCH").is_none() {
        return;
    }
    if let Ok(root) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-env=HARNESS_LIBTORCH_LIB={root}/lib");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{root}/lib");
    }
}
