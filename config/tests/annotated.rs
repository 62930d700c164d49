//! Wrong and doubtful files, each mistake annotated where it is made.
//!
//! In `tests/wrong` and `tests/warned` a line `#~ ^^^^ MESSAGE` says what is wrong with the value its
//! carets point at, in the nearest line above that is no such line; the line `#= HELP` after it, what would
//! be right. `#~ (file) MESSAGE` is about the file, shown at its first character. These lines are comments
//! to TOML. What [`Display`](std::fmt::Display) prints must be exactly what they say, no more and no less.

// A test may panic; that is how it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use director_config::Config;

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory);
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    files.sort();
    files
}

/// A report in a form that can be compared: `LINE:COLUMN ^^^^ MESSAGE` and `= HELP`.
fn annotated(text: &str) -> String {
    let mut found = Vec::new();
    let mut line = 0;
    for (index, content) in text.lines().enumerate() {
        if let Some(said) = content.strip_prefix("#~") {
            match said.trim_start().strip_prefix("(file) ") {
                Some(message) => found.push((0, 1, format!("1:1 ^ {message}\n"))),
                None => {
                    let column = content.find('^').unwrap();
                    found.push((line, column, format!("{line}:{} {}\n", column + 1, said.trim_start())));
                }
            }
        } else if let Some(help) = content.strip_prefix("#=") {
            let (_, _, last) = found.last_mut().unwrap();
            writeln!(last, "= {}", help.trim_start()).unwrap();
        } else {
            line = index + 1;
        }
    }
    found.sort_by_key(|(line, column, _)| (*line, *column));
    found.into_iter().map(|(_, _, said)| said).collect()
}

/// The same of what is printed.
fn printed(report: &str, severity: &str) -> String {
    let mut out = String::new();
    let mut message = "";
    let mut place = String::new();
    for line in report.lines() {
        let bare = line.trim_start();
        if let Some(rest) = bare.strip_prefix(severity) {
            message = rest.trim_start();
        } else if let Some(rest) = bare.strip_prefix(",-[") {
            let mut parts = rest.trim_end_matches(']').rsplitn(3, ':');
            let (column, line) = (parts.next().unwrap(), parts.next().unwrap());
            assert_eq!(parts.next(), Some("FILE"));
            place = format!("{line}:{column}");
        } else if let Some(carets) = bare.strip_prefix(": ") {
            writeln!(out, "{place} {} {message}", carets.trim()).unwrap();
        } else if let Some(help) = bare.strip_prefix("help: ") {
            writeln!(out, "= {help}").unwrap();
        }
    }
    out
}

/// The line that is printed is the line of the file, and the carets stand under the value in it.
fn carets_stand_under_values(report: &str, text: &str) {
    let lines: Vec<_> = report.lines().collect();
    for pair in lines.windows(2) {
        let Some(carets) = pair[1].trim_start().strip_prefix(": ") else { continue };
        let (number, shown) = pair[0].split_once(" | ").unwrap();
        let number: usize = number.trim().parse().unwrap();
        assert_eq!(text.lines().nth(number - 1).unwrap(), shown);
        let column = carets.chars().take_while(|c| *c == ' ').count() + 1;
        assert!(report.contains(&format!("[FILE:{number}:{column}]")), "{report}");
    }
}

fn compare(file: &Path, wanted: &str, found: &str) {
    let only = |these: &str, those: &str| -> String {
        these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line))
            .fold(String::new(), |all, line| all + line + "\n")
    };
    let (missing, surplus) = (only(wanted, found), only(found, wanted));
    assert!(wanted == found, "{}: annotated only:\n{missing}printed only:\n{surplus}", file.display());
}

#[test]
fn every_error_is_printed_at_its_place() {
    for file in files("wrong") {
        let text = std::fs::read_to_string(&file).unwrap();
        let errors = Config::parse("FILE", &text).expect_err(&file.display().to_string());
        let report = errors.to_string();
        compare(&file, &annotated(&text), &printed(&report, "error:"));
        carets_stand_under_values(&report, &text);
        let count = text.lines().filter(|line| line.starts_with("#~")).count();
        assert_eq!(errors.len(), count);
        let plural = if count == 1 { "" } else { "s" };
        assert!(report.ends_with(&format!("\n{count} error{plural} in FILE\n")));
    }
}

#[test]
fn warnings_leave_the_file_usable() {
    for file in files("warned") {
        let text = std::fs::read_to_string(&file).unwrap();
        let config = Config::parse("FILE", &text).unwrap_or_else(|errors| panic!("{errors}"));
        let report = config.warnings().to_string();
        compare(&file, &annotated(&text), &printed(&report, "warning:"));
        carets_stand_under_values(&report, &text);
    }
}
