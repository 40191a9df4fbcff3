//! Build-script module of every package whose binaries or tests link Z3: tells the linker where the loader will
//! find the library, so that `cargo run`, `cargo test` and the bare binary all start.
//!
//! It is a build script's business and not `rustflags`' in the cargo configuration: RUSTFLAGS replaces those, and
//! `cargo install` ignores them.

use std::path::Path;
use std::process::{Command, ExitCode};

/// The oldest system Z3 whose interface the bindings know.
const OLDEST_SYSTEM_Z3: &str = "4.13.3";

/// Emits the run path for a package whose repository root is `root`, relative to its manifest.
///
/// `FLOWPROOF_RPATH` replaces it (`make dist` says `$ORIGIN/../lib`).
pub(crate) fn link(root: &str) -> ExitCode {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let root = Path::new(&manifest).join(root);
    let root = root.canonicalize().unwrap_or(root);
    let directory = root.join(".z3/lib");
    println!("cargo:rerun-if-env-changed=FLOWPROOF_RPATH");
    println!("cargo:rerun-if-changed={}", directory.display());

    if let Ok(rpath) = std::env::var("FLOWPROOF_RPATH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{rpath}");
    } else if directory.join("libz3.so").exists() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", directory.display());
    } else if !system_has_z3() {
        eprintln!("error: no Z3 found: run `make setup` (or `tools/setup-z3.sh`) in {}", root.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn system_has_z3() -> bool {
    let version = format!("--atleast-version={OLDEST_SYSTEM_Z3}");
    Command::new("pkg-config").args([version.as_str(), "z3"]).status().is_ok_and(|status| status.success())
}
