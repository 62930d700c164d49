//! Tells the benchmark how it was compiled, which is how the director beside it was: both come from one
//! `cargo build`.

use std::env;
use std::fs;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().replace('\u{1f}', " ");
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let profile = env::var("PROFILE").unwrap_or_default();
    println!("cargo::rustc-env=BENCH_RUSTC={version}");
    println!("cargo::rustc-env=BENCH_RUSTFLAGS={flags}");
    println!("cargo::rustc-env=BENCH_TARGET_FEATURES={features}");
    // Cargo tells a build script of no other setting of the profile: the manifest says them, and the
    // environment otherwise.
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    println!("cargo::rerun-if-changed={manifest}");
    let manifest = fs::read_to_string(manifest).unwrap_or_default();
    let section = manifest.split("\n[").find_map(|section| section.strip_prefix("profile.release]"));
    let mut settings = Vec::new();
    for (key, name) in [("lto", "LTO"), ("codegen-units", "CODEGEN_UNITS")] {
        let name = format!("CARGO_PROFILE_RELEASE_{name}");
        println!("cargo::rerun-if-env-changed={name}");
        let line = section.and_then(|section| section.lines().find(|line| line.starts_with(key)));
        let written = line.and_then(|line| Some(line.split_once('=')?.1.trim().trim_matches('"').to_owned()));
        if let Some(value) = env::var(&name).ok().or(written) {
            settings.push(format!("{key} {value}"));
        }
    }
    println!("cargo::rustc-env=BENCH_PROFILE={profile} ({})", settings.join(", "));
}
