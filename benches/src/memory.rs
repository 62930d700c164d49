//! The memory DPDK programs run in: huge pages where they can be had, reserved for as long as they are
//! needed. The director and its rivals get the same.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use director_flow::Pages;
use serde::Serialize;

/// Bytes of a huge page.
const PAGE: u64 = 2 << 20;

/// Bytes of the largest.
const GIGANTIC: u64 = 1 << 30;

/// The parts of a table, each of which begins a page of its own: index, records, timeout wheel.
const PARTS: u64 = 3;

/// Bytes of an mbuf in a pool: its header, 128 bytes of headroom and 2048 of data, the pool's own header
/// and the padding that spreads objects over memory channels.
const MBUF: u64 = 2432;

/// What a DPDK process needs besides mbufs.
const OVERHEAD: u64 = 160 << 20;

/// What stays free for everything else on the machine.
const SPARE: u64 = 512 << 20;

/// What DPDK programs are given.
pub enum Memory {
    /// Huge pages.
    Huge(HugePages),
    /// Base pages, so many MiB; and why.
    Base(u64, String),
}

impl Memory {
    /// Memory for pools of so many mbufs and for so many bytes of tables; on huge pages unless `base` says
    /// that base pages are wanted, or where there are none.
    ///
    /// # Errors
    /// There is not so much free.
    pub fn get(mbufs: u32, tables: u64, base: bool) -> Result<Self> {
        // A ring of pointers holds the free mbufs, another the file's frames.
        let rings = u64::from(mbufs).next_power_of_two() * 16;
        let pools = u64::from(mbufs) * MBUF + rings + OVERHEAD;
        let needed = pools + tables;
        need(needed)?;
        let megabytes = pools >> 20;
        if base {
            return Ok(Self::Base(megabytes, "as asked".to_owned()));
        }
        Ok(match HugePages::reserve(PAGE, needed.div_ceil(PAGE)) {
            Ok(pages) => Self::Huge(pages),
            Err(error) => Self::Base(megabytes, format!("{error:#}")),
        })
    }

    /// EAL's arguments for it.
    #[must_use]
    pub fn eal_arguments(&self) -> Vec<String> {
        let arguments: &[&str] = match self {
            Self::Huge(_) => &["--no-pci", "--iova-mode=va", "--in-memory"],
            Self::Base(megabytes, _) => {
                &["--no-pci", "--iova-mode=va", "--no-huge", "-m", &megabytes.to_string()]
            }
        };
        arguments.iter().map(|&argument| argument.to_owned()).collect()
    }

    /// What it is, for the report.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Huge(_) => "2 MiB huge pages".to_owned(),
            Self::Base(_, why) => format!("base pages ({why})"),
        }
    }
}

/// Which reserved pages a table of the director's is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
pub enum TablePages {
    /// 2 MiB, where there are some
    #[default]
    #[value(name = "2M")]
    #[serde(rename = "2M")]
    Huge,
    /// 1 GiB
    #[value(name = "1G")]
    #[serde(rename = "1G")]
    Gigantic,
}

impl TablePages {
    /// Reserves pages for a table of so many bytes, where they are not those of [`Memory::get`].
    ///
    /// # Errors
    /// The kernel has not so many.
    pub fn reserve(self, bytes: u64) -> Result<Option<HugePages>> {
        match self {
            Self::Huge => Ok(None),
            Self::Gigantic => Ok(Some(HugePages::reserve(GIGANTIC, gigantic(bytes))?)),
        }
    }

    /// How a table is to be made.
    #[must_use]
    pub const fn of_table(self) -> Pages {
        match self {
            Self::Huge => Pages::Auto,
            Self::Gigantic => Pages::Huge1G,
        }
    }

    /// Of a table of so many bytes, those that it has on pages of its own and those on the pages of [`Memory::get`].
    #[must_use]
    pub const fn split(self, bytes: u64) -> (u64, u64) {
        match self {
            Self::Huge => (0, bytes),
            Self::Gigantic => (gigantic(bytes) * GIGANTIC, 0),
        }
    }

    /// What the memory is, for the report.
    #[must_use]
    pub fn describe(self, memory: &Memory) -> String {
        match self {
            Self::Huge => memory.describe(),
            Self::Gigantic => format!("the director's table on 1 GiB pages, else {}", memory.describe()),
        }
    }
}

/// How many of the largest pages a table of so many bytes takes: each of its parts less than one more than it fills.
const fn gigantic(bytes: u64) -> u64 {
    bytes.div_ceil(GIGANTIC) + PARTS - 1
}

/// Huge pages reserved; dropping it takes the reservation back.
pub struct HugePages {
    control: PathBuf,
    before: u64,
}

impl HugePages {
    /// Sees to it that `count` pages of `size` bytes are free.
    fn reserve(size: u64, count: u64) -> Result<Self> {
        let directory = PathBuf::from(format!("/sys/kernel/mm/hugepages/hugepages-{}kB", size >> 10));
        let control = directory.join("nr_hugepages");
        let before = number(&control)?;
        let free = number(&directory.join("free_hugepages"))?;
        let pages = Self { control, before };
        if free >= count {
            return Ok(pages);
        }
        fs::write(&pages.control, (before + count - free).to_string())
            .with_context(|| format!("cannot write {}", pages.control.display()))?;
        let free = number(&directory.join("free_hugepages"))?;
        if free < count {
            bail!("the kernel found {free} huge pages of {} MiB where {count} are needed", size >> 20);
        }
        Ok(pages)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if number(&self.control).is_ok_and(|now| now == self.before) {
            return;
        }
        if let Err(error) = fs::write(&self.control, self.before.to_string()) {
            eprintln!("bench: {} should be {} again: {error}", self.control.display(), self.before);
        }
    }
}

fn number(path: &PathBuf) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.trim().parse().with_context(|| format!("{} holds no number", path.display()))
}

/// Sees to it that so many bytes of memory can be had, with something left for everything else.
///
/// # Errors
/// They cannot.
pub fn need(bytes: u64) -> Result<()> {
    let available = available()?;
    let needed = bytes.saturating_add(SPARE);
    if needed > available {
        bail!(
            "{} MiB of memory are needed and {} are available; ask for fewer",
            needed >> 20,
            available >> 20
        );
    }
    Ok(())
}

/// Bytes of this process that are on transparent huge pages.
#[must_use]
pub fn transparent() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    meminfo(&text, "AnonHugePages").unwrap_or(0)
}

/// Bytes of this process in memory, those on huge pages included.
///
/// # Errors
/// `/proc` cannot be read.
pub fn resident() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let size = |key| meminfo(&text, key).with_context(|| format!("/proc/self/status has no {key}"));
    Ok(size("VmRSS")? + size("HugetlbPages")?)
}

/// Bytes of memory that can be had without swapping.
///
/// # Errors
/// `/proc` cannot be read.
pub fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    meminfo(&text, "MemAvailable").context("/proc/meminfo has no MemAvailable")
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_in_kib() {
        let text = "MemTotal:       24626308 kB\nMemAvailable:   23000000 kB\nHugePages_Total:       0\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(23_000_000 << 10));
        assert_eq!(meminfo(text, "Mem"), None);
    }

    #[test]
    fn each_part_of_a_table_begins_a_page() {
        assert_eq!([1, GIGANTIC, GIGANTIC + 1, 8 * GIGANTIC].map(gigantic), [3, 3, 4, 10]);
        assert_eq!(TablePages::Gigantic.split(GIGANTIC), (3 * GIGANTIC, 0));
        assert_eq!(TablePages::Huge.split(5), (0, 5));
    }

    #[test]
    fn base_pages_are_a_number_of_mebibytes() {
        let memory = Memory::get(1024, 0, true).unwrap();
        let arguments = memory.eal_arguments();
        assert_eq!(arguments[2..4], ["--no-huge", "-m"]);
        assert!(arguments[4].parse::<u64>().unwrap() >= 160);
    }

    #[test]
    fn more_than_there_is() {
        let error = Memory::get(u32::MAX >> 4, 1 << 60, true).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("ask for fewer"), "{error}");
    }
}
