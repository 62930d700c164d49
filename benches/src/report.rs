//! The report: what the benchmarks wrote as JSON, as a page of tables with its plots.
//!
//! The page keeps what stands outside its two marks, so that a person's words about the figures survive the
//! next run.

mod figures;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::interrupt::Interrupt;
use figures::figures;
use values::Kind;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The directory of the benchmarks' JSON files
    #[arg(value_name = "DIRECTORY")]
    results: PathBuf,
    /// Run the benchmarks first, and write their JSON there; those that are there already are not run again, but for
    /// quick ones without --quick
    #[arg(long)]
    run: bool,
    /// With --run, in minutes: short and small, to see that all of it works
    #[arg(long)]
    quick: bool,
    /// With --run, report even if other processes used the CPUs meanwhile
    #[arg(long)]
    noisy: bool,
    /// Where performance.md and performance/ belong
    #[arg(long, value_name = "DIRECTORY", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"))]
    docs: PathBuf,
}

/// Everything that --run runs: the file's name, the arguments, and what --quick adds to these.
const ALL: [(&str, &str, &str); 20] = [
    ("forward-4096", "forward --flows 4096", "--pairs 1 --seconds 1"),
    ("forward-1000000", "forward --flows 1000000", "--pairs 1 --seconds 1"),
    ("forward-udp-4096", "forward --flows 4096 --protocol udp", "--pairs 1 --seconds 1"),
    ("forward-tcp6-4096", "forward --flows 4096 --family 6", "--pairs 1 --seconds 1"),
    ("forward-udp6-4096", "forward --flows 4096 --protocol udp --family 6", "--pairs 1 --seconds 1"),
    ("memif-4096", "memif --flows 4096", "--pairs 1 --seconds 1"),
    ("memif-1000000", "memif --flows 1000000", "--pairs 1 --seconds 1"),
    ("hot-4096", "hot --flows 4096", "--pairs 1 --seconds 1"),
    ("hot-1000000", "hot --flows 1000000", "--pairs 1 --seconds 1"),
    ("hot-udp-4096", "hot --flows 4096 --protocol udp", "--pairs 1 --seconds 1"),
    ("hot-tcp6-4096", "hot --flows 4096 --family 6", "--pairs 1 --seconds 1"),
    ("hot-udp6-4096", "hot --flows 4096 --protocol udp --family 6", "--pairs 1 --seconds 1"),
    ("connect", "connect", "--rounds 1 --seconds 5"),
    ("table", "table --churn", "--entries 1000000 --pairs 1"),
    ("curve", "curve", "--entries 1000000 --pairs 1"),
    ("scaling", "scaling", "--entries 1000000 --pairs 2 --seconds 1"),
    ("latency-4096", "latency --flows 4096", "--pairs 1 --seconds 2"),
    ("latency-1000000", "latency --flows 1000000", "--pairs 1 --seconds 2"),
    ("memory", "memory", "--entries 1000000"),
    ("instructions", "instructions", ""),
];

const BEGIN: &str = "<!-- figures: written by scripts/bench report -->";
const END: &str = "<!-- end of figures -->";

/// What the page is before anybody has written into it.
const EMPTY: &str =
    "# Performance\n\nHow each is measured, and what it leaves out: [benchmarks](guide/benchmarks.md).\n\n";

/// Writes the report.
///
/// # Errors
/// A benchmark fails, of which the report then says nothing; or a file cannot be read or written.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let Options { results, docs, .. } = options;
    let failed = if options.run { run_all(options, interrupt)? } else { Vec::new() };
    let found = read(results)?;
    if found.is_empty() {
        if !failed.is_empty() {
            bail!("all failed: {}", failed.join(", "));
        }
        bail!("{} has no results: scripts/bench report --run DIRECTORY makes them", results.display());
    }
    let page = docs.join("performance.md");
    let plots = docs.join("performance");
    fs::create_dir_all(&plots).with_context(|| format!("cannot make {}", plots.display()))?;
    let figures = figures(&found, &plots)?;
    let before = fs::read_to_string(&page).unwrap_or_else(|_| format!("{EMPTY}{BEGIN}\n{END}\n"));
    let text = replaced(&before, &figures).with_context(|| format!("{} lost its marks", page.display()))?;
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))?;
    if !failed.is_empty() {
        bail!("{} is without what failed: {}; run this again to have it", page.display(), failed.join(", "));
    }
    Ok(format!("{} results in {}, plots beside it", found.len(), page.display()))
}

/// The page with what stands between its marks replaced.
fn replaced(page: &str, figures: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

/// Runs what has no result yet. Names the benchmarks that failed: one that does, after hours perhaps, keeps none of the
/// others from being run.
fn run_all(options: &Options, interrupt: &Interrupt) -> Result<Vec<&'static str>> {
    fs::create_dir_all(&options.results)?;
    let mut failed = Vec::new();
    for (name, arguments, shorter) in ALL {
        let shorter = if options.quick { shorter } else { "" };
        interrupt.check()?;
        let path = options.results.join(name).with_extension("json");
        if has_result(&path, options.quick) {
            continue;
        }
        // A quick one is no result here, also if this fails.
        let _ = fs::remove_file(&path);
        eprintln!("== {arguments} {shorter} --json > {}", path.display());
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments.split(' ').chain(shorter.split_whitespace()))
            .arg("--json")
            .stderr(Stdio::inherit());
        if options.noisy && name != "instructions" {
            command.arg("--noisy");
        }
        let output = command.output()?;
        if !output.status.success() {
            interrupt.check()?;
            eprintln!("{arguments} failed");
            failed.push(name);
            continue;
        }
        let mut result: Value =
            serde_json::from_slice(&output.stdout).with_context(|| format!("what {arguments} printed"))?;
        if options.quick {
            result["quick"] = true.into();
        }
        fs::write(&path, serde_json::to_string_pretty(&result)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(failed)
}

/// Whether a benchmark need not be run: there is a result, and no quick one where none is wanted.
fn has_result(path: &Path, quick: bool) -> bool {
    let Ok(text) = fs::read_to_string(path) else { return false };
    let is_quick = serde_json::from_str(&text).is_ok_and(|value: Value| value["quick"] == true);
    quick || !is_quick
}

/// The results of a directory, by benchmark and number of connections.
fn read(directory: &Path) -> Result<Vec<Value>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path)?;
            let value: Value =
                serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
            if value["bench"].is_string() {
                found.push(value);
            }
        }
    }
    found.sort_by_key(|value| (Kind::read(value), value["flows"].as_u64()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_outside_the_marks_stay() {
        let page = format!("# P\nmine\n{BEGIN}\nold\n{END}\nalso mine\n");
        assert_eq!(replaced(&page, "new").unwrap(), format!("# P\nmine\n{BEGIN}\nnew\n{END}\nalso mine\n"));
        assert!(replaced("no marks", "new").is_err());
    }

    #[test]
    fn quick_results_are_not_those_of_a_full_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.json");
        assert!(!has_result(&path, true));
        for (result, quick, full) in [(json!({ "quick": true }), true, false), (json!({}), true, true)] {
            fs::write(&path, result.to_string()).unwrap();
            assert_eq!((has_result(&path, true), has_result(&path, false)), (quick, full));
        }
    }

    fn spread_of(median: f64) -> Value {
        json!({ "median": median, "min": median / 2.0, "max": median * 2.0 })
    }

    #[test]
    fn a_page_is_made_of_what_there_is() {
        let directory = tempfile::tempdir().unwrap();
        let results = directory.path().join("results");
        fs::create_dir(&results).unwrap();
        let write = |name: &str, value: Value| fs::write(results.join(name), value.to_string()).unwrap();
        write(
            "a.json",
            json!({
                "bench": "forward", "flows": 4096, "frame_bytes": 60, "noisy": true, "quick": true, "cpu": "some CPU",
                "director": spread_of(30e6), "rivals": { "5tswap": spread_of(40e6) },
                "ratio": { "5tswap": spread_of(0.75) }, "builds": { "director": "rustc", "testpmd": "22.11" },
            }),
        );
        write(
            "e.json",
            json!({
                "bench": "memif", "flows": 1_000_000, "frame_bytes": 60, "director": spread_of(9e6),
                "rivals": { "5tswap": spread_of(12e6) }, "ratio": { "5tswap": spread_of(0.75) },
                "generator": { "director": { "returned": 27_000_000, "wrong": 0, "lost": 1, "waited": spread_of(0.2) } },
            }),
        );
        let figures = |cycles: f64| json!({ "cycles": spread_of(cycles), "nanoseconds": spread_of(cycles) });
        write(
            "b.json",
            json!({
                "bench": "curve", "cpu": "some CPU", "memory": "2 MiB huge pages", "growth": 2.5, "points": [
                    { "entries": 1000, "bytes": 84_000, "director": figures(20.0), "rte_hash": figures(30.0) },
                    { "entries": 1_000_000, "bytes": 84_000_000, "director": figures(60.0) },
                ],
            }),
        );
        write(
            "f.json",
            json!({
                "bench": "curve", "pages": "1G", "points": [
                    { "entries": 1_000_000, "bytes": 84_000_000, "director": figures(50.0) },
                ],
            }),
        );
        let figures = |cycles: f64| json!({ "cycles_own": spread_of(cycles) });
        write(
            "g.json",
            json!({
                "bench": "hot", "flows": 4096, "protocol": "udp", "family": "6", "results": [
                    { "mix": "clients", "director": figures(30.0), "swap": figures(5.0), "bare": figures(10.0),
                      "ratio": spread_of(0.5), "ratio_own": spread_of(0.2), "ratio_bare": spread_of(0.4) },
                ],
            }),
        );
        let quantiles =
            json!([{ "percent": 0.0, "nanoseconds": 300 }, { "percent": 99.0, "nanoseconds": 2000 }]);
        write(
            "c.json",
            json!({
                "bench": "latency", "flows": 4096, "ring": 1024, "maximum": spread_of(30e6), "ring_nanoseconds": 34_000.0,
                "loads": [{ "percent": 50, "forwarded": 15e6, "lost": 0.0, "missed": 0.0, "nanoseconds": quantiles, "max": 9000,
                            "curve": quantiles }],
            }),
        );
        write(
            "d.json",
            json!({
                "bench": "scaling", "entries": 1000, "one": spread_of(30e6), "two": spread_of(58e6),
                "speed_up": spread_of(1.93), "bytes_per_worker": 4e9,
                "model": { "sigma": 0.03, "kappa": 0.015, "deviation": 0.01, "predicted": [
                    { "workers": 1, "linear": 1.0, "quadratic": 1.0 }, { "workers": 64, "linear": 22.0, "quadratic": 1.0 },
                ] },
            }),
        );
        let options =
            Options { results, run: false, quick: false, noisy: false, docs: directory.path().join("docs") };
        run(&options, &Interrupt::default()).unwrap();
        let page = fs::read_to_string(options.docs.join("performance.md")).unwrap();
        for part in [
            "| CPU | some CPU |",
            "**Noisy",
            "**A quick run",
            "| testpmd 5tswap | 40.00",
            "| director | 27,000,000 | 0 | 1 | 20 (10 to 40) |",
            "| 1,000 |",
            "2.50 times",
            "The director's table on 2 MiB huge pages:",
            "The director's table on 1 GiB pages:",
            "UDP over IPv6, 4,096 connections, frames in the cache",
            " 10.0 (5.0 to 20.0) | 0.400 (0.200 to 0.800) |",
            "| 64 | 22.00",
        ] {
            assert!(page.contains(part), "no {part} in {page}");
        }
        for plot in ["forward-4096", "memif-1000000", "curve", "latency-4096", "scaling"] {
            assert!(options.docs.join("performance").join(plot).with_extension("svg").exists(), "{plot}");
            assert!(page.contains(&format!("(performance/{plot}.svg)")), "{plot}");
        }
        // Again, the page being there.
        run(&options, &Interrupt::default()).unwrap();
        assert_eq!(fs::read_to_string(options.docs.join("performance.md")).unwrap(), page);
    }
}
