//! `[dpdk]`: what EAL is started with, and how a worker waits.

use serde::Serialize;

use crate::invalid::{Word, bounded};
use crate::lcores::Lcores;
use crate::reader::{Item, Section};

bounded! {
    /// How many packets can be held in all at once; each takes a little more than 2 KiB.
    Mbufs(u32) in 1024..=16_777_216, "packet buffers", default 65_536
}

/// What a worker does when no packet comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Poll if one of the ports is a device made for speed; sleep if all frames come through the kernel anyway.
    #[default]
    Auto,
    /// Ask again at once: the CPU is always busy.
    Poll,
    /// Sleep for a moment, longer the longer nothing comes.
    Sleep,
}

impl Word for Idle {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] =
        &[("auto", Ok(Idle::Auto)), ("poll", Ok(Idle::Poll)), ("sleep", Ok(Idle::Sleep))];
}

/// What DPDK is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dpdk {
    /// The threads.
    pub lcores: Lcores,
    /// The packet buffers.
    pub mbufs: Mbufs,
    /// Further arguments for EAL. None of them chooses lcores or ends EAL's start.
    pub eal: Vec<String>,
    /// What an idle worker does.
    pub idle: Idle,
}

impl Dpdk {
    pub(crate) fn read(section: Section<'_>) -> Option<Self> {
        let lcores = section.require("lcores", "\"0-1\"").and_then(|item| item.parse());
        let mbufs = section.number_or_default("mbufs");
        let eal = section.get("eal").map(|item| eal_arguments(&item)).unwrap_or_default();
        let idle = section.word_or_default("idle");
        section.finish();
        Some(Self { lcores: lcores?, mbufs, eal, idle })
    }
}

fn eal_arguments(item: &Item<'_>) -> Vec<String> {
    let list = item.list("[\"--no-huge\", \"-m\", \"512\"]");
    list.iter().filter_map(eal_argument).collect()
}

fn eal_argument(item: &Item<'_>) -> Option<String> {
    let text = item.string()?;
    let option = text.split_once('=').map_or(text, |(option, _)| option);
    let refusal = if text.is_empty() {
        Some(("an empty argument".to_owned(), "leave it out".to_owned()))
    } else if text.contains('\0') {
        Some(("an argument cannot hold a NUL".to_owned(), "leave it out".to_owned()))
    } else if chooses_lcores(text) {
        Some((
            format!("`{}` chooses lcores", option.escape_debug()),
            "say it with `lcores` in [dpdk]: the first is the control core, every further one a worker"
                .to_owned(),
        ))
    } else if matches!(text, "-h" | "--help" | "-v" | "--version" | "--") {
        Some((format!("`{text}` makes EAL print something or stop reading"), "leave it out".to_owned()))
    } else if let Some((first, rest)) = option.split_once(' ').filter(|(first, _)| first.starts_with('-')) {
        let value = &text[option.len()..];
        Some((
            format!("`{}` is two arguments in one string", text.escape_debug()),
            format!("write {:?}, {:?}", first, format!("{}{value}", rest.trim_start())),
        ))
    } else {
        None
    };
    if let Some((reason, help)) = refusal {
        item.error(format!("`eal`: {reason}"), help);
        return None;
    }
    Some(text.to_owned())
}

/// Whether EAL would read lcores from this argument. EAL accepts any unambiguous beginning of a long option
/// (`getopt_long`), and the value of a short one directly after it.
fn chooses_lcores(argument: &str) -> bool {
    let option = argument.split_once('=').map_or(argument, |(option, _)| option);
    let long = [("--lcores", 4), ("--main-lcore", 5), ("--master-lcore", 5)];
    match argument.as_bytes() {
        [b'-', b'l' | b'c' | b's' | b'S', ..] => true,
        [b'-', b'-', ..] => {
            long.iter().any(|(name, shortest)| option.len() >= *shortest && name.starts_with(option))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::chooses_lcores;

    #[test]
    fn arguments_that_choose_lcores() {
        for argument in [
            "-l",
            "-l0-1",
            "-c",
            "-c3",
            "--lcores",
            "--lcores=0-1",
            "--lc=0-1",
            "--main-lcore",
            "--main-lcore=1",
            "--mai",
            "--master-lcore=0",
            "-s3",
            "-S",
        ] {
            assert!(chooses_lcores(argument), "{argument}");
        }
        for argument in [
            "--log-level=8",
            "--legacy-mem",
            "-m",
            "--match-allocations",
            "--no-pci",
            "lc",
            "0-1",
            "--l",
            "--",
        ] {
            assert!(!chooses_lcores(argument), "{argument}");
        }
    }
}
