//! `directorctl exec`: becomes another command, with the preload library in front.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use director_api::DIRECTORY_VARIABLE;

use crate::control;

/// The name of the library, beside the executable and where it is installed.
const LIBRARY: &str = "libdirector_preload.so";
/// The environment variable that names another library.
const LIBRARY_VARIABLE: &str = "DIRECTOR_PRELOAD";
const LD_PRELOAD: &str = "LD_PRELOAD";

/// A shell's exit status for a command that does not exist.
const NOT_FOUND: u8 = 127;
/// A shell's exit status for a command that cannot be run.
const NOT_EXECUTABLE: u8 = 126;

/// Replaces this process by `command`. Returns only if that fails.
pub(crate) fn run(directory: &Path, command: &[OsString]) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("no command to run");
    };
    // The command may change its working directory, as daemons do.
    let directory = std::path::absolute(directory)
        .with_context(|| format!("the directory `{}` cannot be used", directory.display()))?;
    let library = library()?;
    control::check_ipvs(&directory)?;
    let error = Command::new(program)
        .args(arguments)
        .env(DIRECTORY_VARIABLE, &directory)
        .env(LD_PRELOAD, preload(&library, env::var_os(LD_PRELOAD).as_deref()))
        .exec();
    eprintln!("directorctl: cannot run `{}`: {error}", program.display());
    Ok(ExitCode::from(match error.kind() {
        std::io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }))
}

/// The library, ahead of those that are preloaded already.
fn preload(library: &Path, others: Option<&OsStr>) -> OsString {
    let mut all = library.as_os_str().to_owned();
    if let Some(others) = others.filter(|others| !others.is_empty()) {
        all.push(":");
        all.push(others);
    }
    all
}

/// Finds the library: named by the environment, beside this executable, or where a package puts it.
fn library() -> anyhow::Result<PathBuf> {
    let candidates = match env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => vec![std::path::absolute(path)?],
        None => {
            let executable = env::current_exe().context("this executable's own path is not known")?;
            let directory = executable.parent().unwrap_or(Path::new("/"));
            vec![directory.join(LIBRARY), directory.join("../lib/director").join(LIBRARY)]
        }
    };
    let Some(library) = candidates.iter().find(|path| path.is_file()) else {
        let places: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        bail!(
            "the preload library is missing (looked for {}); {LIBRARY_VARIABLE} can name it",
            places.join(" and ")
        );
    };
    if library.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b':' | b' ' | b'\t' | b'\n')) {
        bail!(
            "the preload library's path `{}` has a colon or white space, which separate paths in {LD_PRELOAD}",
            library.display()
        );
    }
    Ok(library.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_comes_first() {
        let library = Path::new("/usr/lib/director/libdirector_preload.so");
        assert_eq!(preload(library, None), library.as_os_str());
        assert_eq!(preload(library, Some(OsStr::new(""))), library.as_os_str());
        assert_eq!(
            preload(library, Some(OsStr::new("/usr/lib/libfaketime.so"))),
            OsStr::new("/usr/lib/director/libdirector_preload.so:/usr/lib/libfaketime.so")
        );
    }
}
