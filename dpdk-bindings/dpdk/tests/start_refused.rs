//! What EAL refuses, in a process each, since EAL starts once in a process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::env;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dpdk::Eal;

const ARGUMENTS: &str = "DPDK_TEST_ARGUMENTS";

/// Starts EAL with the arguments in the environment, and prints its error.
#[test]
#[ignore = "the child of the other test"]
fn child() {
    let Ok(arguments) = env::var(ARGUMENTS) else { return };
    match Eal::start(arguments.split_whitespace()) {
        Ok(eal) => println!("error: none, {eal:?}"),
        Err(error) => println!("error: {error}"),
    }
}

/// The error of EAL with these arguments, and all that the process printed.
fn refusal(arguments: &str) -> (String, String) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(ARGUMENTS, arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A refusal must not hang, either; what is printed fits a pipe.
    let end = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let printed =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let error = printed.lines().find_map(|line| line.strip_prefix("error: ")).map(str::to_owned);
    (error.unwrap_or_else(|| panic!("no error of {arguments}: {printed}")), printed)
}

#[test]
fn each_refusal_says_why_and_what_would_mend_it() {
    let prefix = format!("--no-pci --no-telemetry --file-prefix {}", support::prefix("refused"));
    for (arguments, reason, remedy) in [
        ("--no-huge -m 64 --frobnicate", "unrecognized option '--frobnicate'", "`dpdk-testpmd --help`"),
        ("--no-huge -m 64 -l 0-999", "invalid core list syntax", "lscpu -e"),
        ("--no-huge -m 64 --in-memory", "not compatible with --in-memory", "leave --in-memory out"),
        ("--huge-dir /nowhere -m 64", "Cannot get hugepage information", "/proc/sys/vm/nr_hugepages"),
        ("--no-huge -m 99999999", "Cannot init memory", "-m 512"),
        ("--no-huge -m 64 --vdev=net_nope0", "net_nope0", "--variable=driverdir"),
        ("--no-huge --proc-type=secondary", "primary process", "leave --proc-type out"),
        ("--no-huge -m 64 --file-prefix a/b", "Cannot create runtime directory", "--file-prefix"),
        ("--help", "ends the process", "dpdk-testpmd --help"),
    ] {
        let (error, printed) = refusal(&format!("{prefix} {arguments}"));
        assert!(error.contains(reason) && error.contains(remedy), "{arguments}: {error}\n{printed}");
        assert!(!printed.contains("EAL common options"), "EAL's usage is kept quiet: {printed}");
    }
}
