//! The command line of the director.
//!
//! Exit status: 0 it is as asked; 1 the director runs and does not forward; 2 it could not be asked or
//! refuses, or the command line is wrong. `exec` ends with the status of the command it became.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use director_api::{DEFAULT_DIRECTORY, DIRECTORY_VARIABLE, Reloaded, Request};

mod control;
mod exec;
mod metrics;
mod status;
mod table;

/// Asks and drives a running director.
#[derive(Debug, Parser)]
#[command(name = "directorctl", version, after_help = EXIT_STATUS)]
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
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_hint = COMMAND)]
        command: Vec<OsString>,
    },
    /// Show ports, workers, connections, drops, services and servers. Fails if the director does not
    /// forward.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what `status` shows as metrics in Prometheus's text format.
    Metrics,
    /// Show the kernel's IPVS sysctls (net.ipv4.vs.*) that the director has, or the value of one.
    Get {
        /// Which one, for example sloppy_tcp.
        name: Option<String>,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Set one of the kernel's IPVS sysctls. It holds for what comes next, until the director ends.
    Set {
        /// Which one, for example sloppy_tcp.
        name: String,
        /// An integer.
        #[arg(allow_negative_numbers = true)]
        value: String,
    },
    /// Read the configuration file again and bring the running director to it, without losing a connection.
    ///
    /// Shows what has changed. What the file names is then as the file says; what is no longer in it, but was, is
    /// deleted; what ipvsadm or keepalived made beside it stays. A file that is wrong, or that changes what cannot
    /// change while the director runs, is refused as a whole. SIGHUP does the same.
    Reload,
    /// Print what has a shell complete these commands.
    ///
    /// For bash: directorctl completion bash >/etc/bash_completion.d/directorctl
    Completion {
        /// The shell that is to read it.
        shell: Shell,
    },
}

/// What a shell completes an LVS tool and its arguments with.
const COMMAND: ValueHint = ValueHint::CommandWithArguments;
const EXIT_STATUS: &str = "Exit status: 0 as asked; 1 the director runs and does not forward (`status`), or is not \
    in all as its file says (`reload`); 2 it does not answer or refuses, or the command line is wrong. `exec` ends as \
    the command it runs.";

/// The exit status when the director runs, but not as it should.
const NOT_AS_IT_SHOULD: u8 = 1;
/// The exit status when there is no answer, or a refusal.
const NO_ANSWER: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        Command::Exec { command } => exec::run(&arguments.directory, &command),
        Command::Status { json } => show_status(&arguments.directory, json),
        Command::Metrics => show_metrics(&arguments.directory),
        Command::Get { name, json } => show_sysctls(&arguments.directory, name.as_deref(), json),
        Command::Set { name, value } => set_sysctl(&arguments.directory, &name, value),
        Command::Reload => reload(&arguments.directory),
        Command::Completion { shell } => show_completion(shell),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("directorctl: {error:#}");
        ExitCode::from(NO_ANSWER)
    })
}

/// A sysctl's name as the director has it; the form of sysctl(8) is accepted, too.
fn short(name: &str) -> String {
    name.strip_prefix("net.ipv4.vs.").unwrap_or(name).to_owned()
}

fn show_sysctls(directory: &Path, name: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let values = control::sysctls(directory, &Request::Get { name: name.map(short) })?;
    let text = if json {
        format!("{}\n", serde_json::to_string_pretty(&values)?)
    } else if name.is_some() {
        values.values().map(|value| format!("{value}\n")).collect()
    } else {
        values.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn set_sysctl(directory: &Path, name: &str, value: String) -> anyhow::Result<ExitCode> {
    control::sysctls(directory, &Request::Set { name: short(name), value })?;
    Ok(ExitCode::SUCCESS)
}

fn reload(directory: &Path) -> anyhow::Result<ExitCode> {
    match control::reload(directory)? {
        Ok(Reloaded { file, changes, missing, warnings }) => {
            eprint!("{warnings}");
            let mut text: String = changes.iter().map(|line| format!("{line}\n")).collect();
            if changes.is_empty() && missing.is_empty() {
                text = format!("the director is as {file} says\n");
            }
            print(text.as_bytes())?;
            if missing.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            eprintln!("directorctl: the director is as {file} says but for this:");
            for line in &missing {
                eprintln!("directorctl: {line}");
            }
            Ok(ExitCode::from(NOT_AS_IT_SHOULD))
        }
        Err(report) => {
            eprint!("{report}");
            eprintln!("directorctl: nothing was changed");
            Ok(ExitCode::from(NO_ANSWER))
        }
    }
}

fn show_completion(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "directorctl", &mut script);
    print(&script)?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &[u8]) -> io::Result<()> {
    match io::stdout().lock().write_all(text) {
        // The reader, perhaps `head`, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn show_metrics(directory: &Path) -> anyhow::Result<ExitCode> {
    print(metrics::render(&control::status(directory)?).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn show_status(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let status = control::status(directory)?;
    let text =
        if json { format!("{}\n", serde_json::to_string_pretty(&status)?) } else { status::render(&status) };
    print(text.as_bytes())?;
    if status.forwarding {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("directorctl: the director does not forward");
    for problem in &status.problems {
        eprintln!("directorctl: {problem}");
    }
    Ok(ExitCode::from(NOT_AS_IT_SHOULD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_has_every_command_and_option() {
        const PAGE: &str = include_str!("../../../docs/man/directorctl.8");
        let page = PAGE.replace("\\-", "-");
        let commands = Arguments::command();
        for command in commands.get_subcommands() {
            let name = command.get_name();
            let (_, about) = page.split_once(&format!("\n.B {name}")).unwrap_or_else(|| panic!("{name}"));
            let about = about.split("\n.TP").next().unwrap_or_default();
            for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(about.contains(&format!("--{option}")), "{name} --{option}");
            }
        }
        for option in commands.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(page.contains(&format!("--{option}")), "--{option}");
        }
    }
}
