//! The sections of the page, with their tables and plots, each made of the result of one benchmark.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::values::{Kind, grouped, millions, number, spread, text};
use crate::plot::{self, Axis, Line};

/// A section of the page.
type Section = fn(&Value, &Path, &mut String) -> Result<()>;

/// In this order.
const SECTIONS: [(&str, &str, Section); 10] = [
    ("forward", "Established connections: the director and testpmd on the same device", forward),
    ("memif", "Between two processes, each frame checked", memif),
    ("hot", "The director's own work on a packet", hot),
    ("connect", "New and whole connections", connect),
    ("table", "The connection table beside others", table),
    ("curve", "A lookup as the table grows", curve),
    ("scaling", "Two workers and one", scaling),
    ("latency", "Time through the director's worker", latency),
    ("memory", "Memory", memory),
    ("instructions", "Instructions", instructions),
];

/// All that stands between the marks.
pub(super) fn figures(found: &[Value], plots: &Path) -> Result<String> {
    let mut page = String::new();
    machine(found, &mut page)?;
    for (name, title, section) in SECTIONS {
        let of_it: Vec<&Value> = found.iter().filter(|value| value["bench"] == name).collect();
        if of_it.is_empty() {
            continue;
        }
        writeln!(page, "\n## {title}")?;
        for value in &of_it {
            writeln!(page)?;
            if value["noisy"] == true {
                writeln!(page, "**Noisy: other processes used the CPUs meanwhile; worth little.**\n")?;
            }
            if value["quick"] == true {
                writeln!(page, "**A quick run: short and small, to see that it works.**\n")?;
            }
            section(value, plots, &mut page).with_context(|| format!("the result of {name}"))?;
        }
        if name == "curve" {
            curves(&of_it, plots, &mut page)?;
        }
    }
    Ok(page.trim_end().to_owned())
}

/// What it was measured on; each different answer once.
fn machine(found: &[Value], page: &mut String) -> Result<()> {
    let different = |of: &dyn Fn(&Value) -> Option<String>| {
        let mut answers: Vec<String> = Vec::new();
        for answer in found.iter().filter_map(of) {
            if !answers.contains(&answer) {
                answers.push(answer);
            }
        }
        answers.join("; ")
    };
    let string = |value: &Value| value.as_str().map(str::to_owned);
    let rows: [(&str, String); 6] = [
        ("CPU", different(&|value| string(&value["cpu"]))),
        ("its flags, of those that matter", different(&|value| string(&value["cpu_flags"]))),
        ("kernel", different(&|value| string(&value["kernel"]))),
        ("memory", different(&|value| string(&value["memory"]))),
        (
            "director",
            different(&|value| string(&value["builds"]["director"]).or_else(|| string(&value["build"]))),
        ),
        ("dpdk-testpmd", different(&|value| string(&value["builds"]["testpmd"]))),
    ];
    writeln!(
        page,
        "\nFigures are medians, and in parentheses the least and the most. A ratio is that of two"
    )?;
    writeln!(
        page,
        "measurements taken one right after the other: read the ratios, for the rates depend on the machine.\n"
    )?;
    writeln!(page, "| measured on | |\n|---|---|")?;
    for (name, answer) in rows.into_iter().filter(|(_, answer)| !answer.is_empty()) {
        writeln!(page, "| {name} | {answer} |")?;
    }
    Ok(())
}

fn forward(value: &Value, plots: &Path, page: &mut String) -> Result<()> {
    rates(value, plots, page, "`net_pcap`", "M packets/s")
}

fn memif(value: &Value, plots: &Path, page: &mut String) -> Result<()> {
    rates(value, plots, page, "`net_memif`", "M packets a second of CPU time")?;
    writeln!(page, "\n| | came back | wrong | lost | the generator waited, % |\n|---|---|---|---|---|")?;
    for (name, did) in value["generator"].as_object().into_iter().flatten() {
        let waited = spread(&did["waited"])?.map(|part| part * 100.0).text(0);
        let [returned, wrong, lost] = ["returned", "wrong", "lost"].map(|key| grouped(&did[key]));
        writeln!(page, "| {name} | {returned} | {wrong} | {lost} | {waited} |")?;
    }
    Ok(())
}

/// The director and its rivals on one device.
fn rates(value: &Value, plots: &Path, page: &mut String, device: &str, unit: &str) -> Result<()> {
    let flows = &value["flows"];
    let bench = text(&value["bench"]);
    let kind = Kind::read(value);
    let name = format!("{bench}-{}{flows}.svg", kind.name());
    writeln!(
        page,
        "{}, {} connections, one worker, frames of {} bytes, {device}:\n",
        kind.words(),
        grouped(flows),
        value["frame_bytes"]
    )?;
    writeln!(page, "| | {unit} | director to it |\n|---|---|---|")?;
    writeln!(page, "| **director** | {} | |", millions(&value["director"])?)?;
    let mut bars = vec![("director".to_owned(), spread(&value["director"])?)];
    for (rival, rate) in value["rivals"].as_object().into_iter().flatten() {
        let ratio = spread(&value["ratio"][rival])?.text(3);
        let who = if rival == "bare" {
            "[bare](#not-reached-and-why)".to_owned()
        } else {
            format!("testpmd {rival}")
        };
        writeln!(page, "| {who} | {} | {ratio} |", millions(rate)?)?;
        bars.push((rival.clone(), spread(rate)?));
    }
    let bars: Vec<_> = bars.into_iter().map(|(name, rate)| (name, rate.map(|rate| rate / 1e6))).collect();
    let title = format!("One worker, {}, {} established connections, {bench}", kind.words(), grouped(flows));
    plot::bars(&plots.join(&name), &title, unit, &bars)?;
    writeln!(page, "\n![{title}](performance/{name})")?;
    Ok(())
}

fn hot(value: &Value, _: &Path, page: &mut String) -> Result<()> {
    let (kind, flows) = (Kind::read(value).words(), grouped(&value["flows"]));
    writeln!(page, "{kind}, {flows} connections, frames in the cache, no device:\n")?;
    writeln!(
        page,
        "| packets of | director, cycles | swap only, cycles | packets/s to its, frames made | without | bare, cycles | packets/s to its |"
    )?;
    writeln!(page, "|---|---|---|---|---|---|---|")?;
    for row in value["results"].as_array().into_iter().flatten() {
        let cycles = |who: &str| anyhow::Ok(spread(&row[who]["cycles_own"])?.text(1));
        let (director, swap) = (cycles("director")?, cycles("swap")?);
        let (whole, own) = (spread(&row["ratio"])?.text(3), spread(&row["ratio_own"])?.text(3));
        write!(page, "| {} | {director} | {swap} | {whole} | {own} |", text(&row["mix"]))?;
        if row["bare"].is_object() {
            writeln!(page, " {} | {} |", cycles("bare")?, spread(&row["ratio_bare"])?.text(3))?;
        } else {
            writeln!(page, " | |")?;
        }
    }
    Ok(())
}

fn connect(value: &Value, plots: &Path, page: &mut String) -> Result<()> {
    let entries = &value["entries"];
    writeln!(page, "One worker and the control core, a table of {}:\n", grouped(entries))?;
    writeln!(page, "| | M/s |\n|---|---|")?;
    writeln!(page, "| new connections by SYN, until the table is full | {} |", millions(&value["syn"])?)?;
    writeln!(
        page,
        "| whole connections, second by second for {} s | {} |",
        value["seconds"],
        millions(&value["whole"])?
    )?;
    writeln!(page, "| packets of these | {} |", millions(&value["whole_packets"])?)?;
    let level = spread(&value["level"])?.map(|level| level / 1e6).text(2);
    writeln!(
        page,
        "\nThe table's level: {level} M, the last quarter to the first {:.4}. Left at the end: {}.",
        number(&value["level_drift"])?,
        grouped(&value["left"]["active"])
    )?;
    let tenths = value["syn_tenths"].as_array().into_iter().flatten().enumerate();
    let bars: Vec<_> = tenths
        .map(|(at, rate)| Ok((format!("director {}", at + 1), spread(rate)?.map(|rate| rate / 1e6))))
        .collect::<Result<_>>()?;
    let title = format!("New connections, by tenth of a table of {}", grouped(entries));
    plot::bars(&plots.join("connect.svg"), &title, "M connections/s", &bars)?;
    writeln!(page, "\n![{title}](performance/connect.svg)")?;
    Ok(())
}

fn table(value: &Value, plots: &Path, page: &mut String) -> Result<()> {
    writeln!(
        page,
        "{} connections, looked up in bursts of 32 at random, record included:\n",
        grouped(&value["entries"])
    )?;
    writeln!(
        page,
        "| | cycles | ns | to the director's | cycles while another core changes it | to a quiet table's | M changes/s |"
    )?;
    writeln!(page, "|---|---|---|---|---|---|---|")?;
    let (mut bars, mut is_churned) = (Vec::new(), false);
    for row in value["tables"].as_array().into_iter().flatten() {
        let name = text(&row["name"]);
        let (cycles, churned) = (spread(&row["cycles"])?, &row["churned"]);
        write!(
            page,
            "| {name} | {} | {} | {} ",
            cycles.text(1),
            spread(&row["nanoseconds"])?.text(1),
            spread(&row["ratio"])?.text(2)
        )?;
        if churned.is_object() {
            is_churned = true;
            let (slow, changes) = (spread(&churned["slowdown"])?.text(3), millions(&churned["changes"])?);
            writeln!(page, "| {} | {slow} | {changes} |", spread(&churned["cycles"])?.text(1))?;
        } else {
            writeln!(page, "| | | |")?;
        }
        bars.push((name.to_owned(), cycles));
    }
    writeln!(page, "\nMaking up the keys is {} cycles of each.", value["keys_cycles"])?;
    if bars.iter().any(|(name, _)| name == "floor") {
        writeln!(
            page,
            "`floor` is no table: two random cache lines of as much memory for each, the first naming the second."
        )?;
    }
    let title = format!("A lookup among {} connections", grouped(&value["entries"]));
    let name = if is_churned { "table-churn.svg" } else { "table.svg" };
    plot::bars(&plots.join(name), &title, "cycles", &bars)?;
    writeln!(page, "\n![{title}](performance/{name})")?;
    Ok(())
}

/// A number of connections, short.
fn short(count: f64) -> String {
    match count {
        count if count >= 1e6 => format!("{} M", count / 1e6),
        count if count >= 1e3 => format!("{} k", count / 1e3),
        count => count.to_string(),
    }
}

fn curve(value: &Value, _: &Path, page: &mut String) -> Result<()> {
    writeln!(page, "The director's table on {}:\n", pages(value))?;
    writeln!(page, "| connections | MiB | director, cycles | rte_hash, cycles |\n|---|---|---|---|")?;
    for point in value["points"].as_array().into_iter().flatten() {
        let cycles = spread(&point["director"]["cycles"])?;
        let mut beside = String::new();
        if point["rte_hash"].is_object() {
            beside = spread(&point["rte_hash"]["cycles"])?.text(1);
        }
        let mebibytes = point["bytes"].as_u64().unwrap_or_default() >> 20;
        writeln!(page, "| {} | {mebibytes} | {} | {beside} |", grouped(&point["entries"]), cycles.text(1))?;
    }
    if let Some(growth) = value["growth"].as_f64() {
        writeln!(page, "\nThe largest costs {growth:.2} times what a million costs.")?;
    }
    Ok(())
}

/// The pages that the director's table was on.
fn pages(value: &Value) -> &str {
    match value["pages"].as_str() {
        Some("1G") => "1 GiB pages",
        _ => text(&value["memory"]),
    }
}

/// All curves on one plot.
fn curves(values: &[&Value], plots: &Path, page: &mut String) -> Result<()> {
    let mut lines = Vec::new();
    for value in values {
        for (key, name) in
            [("director", format!("director, {}", pages(value))), ("rte_hash", "rte_hash".to_owned())]
        {
            let points = value["points"].as_array().into_iter().flatten();
            let points = points
                .filter(|point| point[key].is_object())
                .map(|point| Ok((number(&point["entries"])?, number(&point[key]["cycles"]["median"])?)));
            let points: Vec<_> = points.collect::<Result<_>>()?;
            if !points.is_empty() {
                lines.push(Line { name, points, marked: true });
            }
        }
    }
    let (x, y) = (
        Axis { title: "connections", label: &short },
        Axis { title: "cycles a lookup", label: &|value| format!("{value:.0}") },
    );
    plot::lines(&plots.join("curve.svg"), "A lookup as the table grows", &x, &y, false, &lines)?;
    writeln!(page, "\n![A lookup as the table grows](performance/curve.svg)")?;
    Ok(())
}

fn scaling(value: &Value, plots: &Path, page: &mut String) -> Result<()> {
    let model = &value["model"];
    writeln!(
        page,
        "Lookups in a table of {} connections, each worker on a core of its own:\n",
        grouped(&value["entries"])
    )?;
    writeln!(page, "| | M lookups/s |\n|---|---|")?;
    writeln!(
        page,
        "| one worker | {} |\n| two workers | {} |",
        millions(&value["one"])?,
        millions(&value["two"])?
    )?;
    writeln!(page, "\nTwo to one: **{}**.", spread(&value["speed_up"])?.text(3))?;
    writeln!(
        page,
        "Least squares over the runs: if all that is lost is work that one does at a time (Amdahl), sigma = {:.5}; \
         if it is lines that move between each pair (the quadratic term of the universal scalability law), \
         kappa = {:.6}; deviation of the runs {:.4}. Two cores cannot tell these apart, so both are shown; memory's \
         bandwidth is in neither, and a worker's lookups take up to {:.1} GB/s of it.\n",
        number(&model["sigma"])?,
        number(&model["kappa"])?,
        number(&model["deviation"])?,
        number(&value["bytes_per_worker"])? / 1e9
    )?;
    writeln!(page, "| workers | times one, by sigma | by kappa |\n|---|---|---|")?;
    let (mut linear, mut quadratic, mut ideal) = (Vec::new(), Vec::new(), Vec::new());
    for row in model["predicted"].as_array().into_iter().flatten() {
        let (workers, by_sigma, by_kappa) =
            (number(&row["workers"])?, number(&row["linear"])?, number(&row["quadratic"])?);
        writeln!(page, "| {workers} | {by_sigma:.2} | {by_kappa:.2} |")?;
        ideal.push((workers, workers));
        linear.push((workers, by_sigma));
        quadratic.push((workers, by_kappa));
    }
    let line = |name: &str, points, marked| Line { name: name.to_owned(), points, marked };
    let two = spread(&value["speed_up"])?.median;
    let lines = [
        line("no loss", ideal, false),
        line("sigma", linear, false),
        line("kappa", quadratic, false),
        line("measured", vec![(1.0, 1.0), (2.0, two)], true),
    ];
    let (x, y) = (
        Axis { title: "workers", label: &|value| format!("{value:.0}") },
        Axis { title: "times one worker", label: &|value| format!("{value:.0}") },
    );
    plot::lines(
        &plots.join("scaling.svg"),
        "Lookups: measured, and what two models say",
        &x,
        &y,
        true,
        &lines,
    )?;
    writeln!(page, "\n![Workers](performance/scaling.svg)")?;
    Ok(())
}

fn latency(value: &Value, plots: &Path, page: &mut String) -> Result<()> {
    let flows = &value["flows"];
    let maximum = millions(&value["maximum"])?;
    writeln!(
        page,
        "{} connections, a ring of {} frames; the worker's own maximum is {maximum} M packets/s, at which a \
        full ring lasts {:.1} µs. From when a frame was due to when its burst was done, in µs:\n",
        grouped(flows),
        value["ring"],
        number(&value["ring_nanoseconds"])? / 1e3
    )?;
    writeln!(
        page,
        "| load | forwarded, M/s | lost | not sent | p50 | p99 | p99.9 | p99.99 | most |\n|---|---|---|---|---|---|---|---|---|"
    )?;
    let mut lines = Vec::new();
    for load in value["loads"].as_array().into_iter().flatten() {
        write!(
            page,
            "| {} % | {:.2} | {:.2} % | {:.2} % |",
            load["percent"],
            number(&load["forwarded"])? / 1e6,
            number(&load["lost"])? * 100.0,
            number(&load["missed"])? * 100.0
        )?;
        for quantile in load["nanoseconds"].as_array().into_iter().flatten() {
            write!(page, " {:.2} |", number(&quantile["nanoseconds"])? / 1e3)?;
        }
        writeln!(page, " {:.1} |", number(&load["max"])? / 1e3)?;
        let points = load["curve"].as_array().into_iter().flatten().map(|quantile| {
            // How rare it is: 99 % is at 100.
            let rarity = 100.0 / (100.0 - number(&quantile["percent"])?);
            Ok((rarity, number(&quantile["nanoseconds"])? / 1e3))
        });
        let points = points.collect::<Result<_>>()?;
        lines.push(Line { name: format!("{} % load", load["percent"]), points, marked: false });
    }
    let name = format!("latency-{flows}.svg");
    let (x, y) = (
        Axis {
            title: "percentile",
            label: &|rarity| format!("{}", ((1.0 - 1.0 / rarity) * 1e8).round() / 1e6),
        },
        Axis { title: "µs", label: &|value| format!("{value}") },
    );
    let title = format!("Time through the worker, {} connections", grouped(flows));
    plot::lines(&plots.join(&name), &title, &x, &y, true, &lines)?;
    writeln!(page, "\n![{title}](performance/{name})")?;
    Ok(())
}

fn memory(value: &Value, _: &Path, page: &mut String) -> Result<()> {
    writeln!(
        page,
        "{} connections take **{} bytes each**, by what the process grew: index, record and timeout wheel. All were \
         found, in {} cycles a lookup.",
        grouped(&value["connections"]),
        value["bytes_per_connection"],
        value["cycles_per_lookup"]
    )?;
    Ok(())
}

fn instructions(value: &Value, _: &Path, page: &mut String) -> Result<()> {
    writeln!(page, "By callgrind, for one packet, connection or lookup of a burst of 32:\n")?;
    writeln!(page, "| | instructions |\n|---|---|")?;
    for row in value["rows"].as_array().into_iter().flatten() {
        writeln!(page, "| {} | {} |", text(&row["case"]), row["instructions"])?;
    }
    Ok(())
}
