//! The command line of the director.
//!
//! Exit status: 0 it is as asked; 1 the director runs and does not forward; 2 it could not be asked, or
//! the command line is wrong. `exec` ends with the status of the command it became.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use director_api::{DEFAULT_DIRECTORY, DIRECTORY_VARIABLE};

mod control;
mod exec;
mod status;
mod table;

/// Asks and drives a running director.
#[derive(Debug, Parser)]
#[command(name = "directorctl", version, about)]
struct Arguments {
    /// The directory of the director's sockets, `[control] directory` of its configuration.
    #[arg(long, global = true, env = DIRECTORY_VARIABLE, default_value = DEFAULT_DIRECTORY)]
    directory: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an LVS tool, such as ipvsadm or keepalived, on the director instead of the kernel's IPVS.
    ///
    /// The tool runs unmodified, with a library loaded into it (LD_PRELOAD) that hands it the director's
    /// socket where it asks for the kernel's. Its exit status is that of this command.
    Exec {
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Show ports, workers, connections, drops, services and servers. Fails if the director does not
    /// forward.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The exit status when the director runs, but not as it should.
const NOT_FORWARDING: u8 = 1;
/// The exit status when there is no answer.
const NO_ANSWER: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        Command::Exec { command } => exec::run(&arguments.directory, &command),
        Command::Status { json } => show_status(&arguments.directory, json),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("directorctl: {error:#}");
        ExitCode::from(NO_ANSWER)
    })
}

fn show_status(directory: &std::path::Path, json: bool) -> anyhow::Result<ExitCode> {
    let status = control::status(directory)?;
    let text =
        if json { format!("{}\n", serde_json::to_string_pretty(&status)?) } else { status::render(&status) };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader, `head` perhaps, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    if status.forwarding {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("directorctl: the director does not forward");
    for problem in &status.problems {
        eprintln!("directorctl: {problem}");
    }
    Ok(ExitCode::from(NOT_FORWARDING))
}
