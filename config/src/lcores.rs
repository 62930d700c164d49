//! The lcores: DPDK's threads and the CPUs each may run on.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::invalid::{Invalid, serialize_as_text};

/// The largest lcore id that DPDK is built for (`RTE_MAX_LCORE` is 128).
const MAX_LCORE: u32 = 127;
/// The largest CPU number that fits in a `cpu_set_t`.
const MAX_CPU: u32 = 1023;

const EXAMPLES: &str = "for example \"0-1\", \"0,2-3\", \"0@0,1@0,2@1\" or \"(0-3)@0\"";

/// One of DPDK's threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lcore {
    /// DPDK's number for it.
    pub id: u32,
    /// The CPUs it may run on; never empty.
    pub cpus: BTreeSet<u32>,
}

/// The lcores in the order of the file: the first is the control core, every further one a worker.
///
/// The text is that of EAL's `--lcores`: a list of lcores, each a number, a range `a-b` or a group
/// `(a,b-c)`, and after `@` the CPU, range or group of CPUs it runs on. Without `@` an lcore runs on
/// the CPU of its own number, those of a group on all the CPUs of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lcores {
    text: String,
    control: Lcore,
    workers: Vec<Lcore>,
}

impl Lcores {
    /// The control core.
    pub fn control(&self) -> &Lcore {
        &self.control
    }

    /// The workers; at least one.
    pub fn workers(&self) -> &[Lcore] {
        &self.workers
    }

    /// The control core, then the workers.
    pub fn iter(&self) -> impl Iterator<Item = &Lcore> {
        std::iter::once(&self.control).chain(&self.workers)
    }

    /// The text, as EAL's `--lcores` takes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The arguments for EAL, which by itself would make the lowest lcore its main one, not the first.
    pub fn eal_arguments(&self) -> [String; 4] {
        ["--lcores".into(), self.text.clone(), "--main-lcore".into(), self.control.id.to_string()]
    }
}

impl fmt::Display for Lcores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serialize_as_text!(Lcores);

impl FromStr for Lcores {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // EAL allows blanks, though not everywhere.
        let text = text.split(' ').collect::<String>();
        let mut found: Vec<Lcore> = Vec::new();
        let mut ids = BTreeSet::new();
        for entry in split_outside_groups(&text)? {
            let (lcores, cpus) = match entry.split_once('@') {
                Some((lcores, cpus)) => (Set::parse(lcores, "lcore", MAX_LCORE)?, Some(cpus)),
                None => (Set::parse(entry, "lcore", MAX_LCORE)?, None),
            };
            let cpus = cpus.map(|cpus| Set::parse(cpus, "CPU", MAX_CPU)).transpose()?;
            for &id in &lcores.members {
                if !ids.insert(id) {
                    return Err(Invalid::new(
                        format!("lcore {id} is given twice"),
                        "give each lcore once; two lcores may share a CPU: \"0@0,1@0\"",
                    ));
                }
                let cpus = match &cpus {
                    Some(cpus) => cpus.members.iter().copied().collect(),
                    None if lcores.group => lcores.members.iter().copied().collect(),
                    None => BTreeSet::from([id]),
                };
                found.push(Lcore { id, cpus });
            }
        }
        let mut found = found.into_iter();
        let (Some(control), workers) = (found.next(), found.collect::<Vec<_>>()) else {
            return Err(Invalid::new("no lcore is given", EXAMPLES));
        };
        if workers.is_empty() {
            return Err(Invalid::new(
                format!("lcore {} alone leaves no worker: the first lcore is the control core", control.id),
                "give at least two; on a single CPU they can share it: \"0@0,1@0\"",
            ));
        }
        Ok(Self { text, control, workers })
    }
}

/// The entries of a list; commas inside parentheses do not separate them.
fn split_outside_groups(text: &str) -> Result<Vec<&str>, Invalid> {
    let mut entries = Vec::new();
    let (mut begin, mut inside) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => return Err(Invalid::new(format!("a stray `{c}`"), EXAMPLES)),
            ',' if !inside => {
                entries.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(Invalid::new("a `(` is not closed", EXAMPLES));
    }
    entries.push(&text[begin..]);
    Ok(entries)
}

/// A number, a range or a group of both.
struct Set {
    members: Vec<u32>,
    group: bool,
}

impl Set {
    fn parse(text: &str, noun: &str, max: u32) -> Result<Self, Invalid> {
        let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let mut members = Vec::new();
        for part in inner.unwrap_or(text).split(',') {
            for number in range(part, noun, max)? {
                if !members.contains(&number) {
                    members.push(number);
                }
            }
        }
        Ok(Self { members, group: inner.is_some() })
    }
}

fn range(text: &str, noun: &str, max: u32) -> Result<RangeInclusive<u32>, Invalid> {
    let number = |text: &str| -> Result<u32, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new(format!("the number of the {noun} is missing"), EXAMPLES));
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Invalid::new(format!("`{}` is no {noun}", text.escape_debug()), EXAMPLES));
        }
        text.parse().ok().filter(|number| *number <= max).ok_or_else(|| {
            Invalid::new(format!("{noun} {text} is too large"), format!("{noun}s are numbered 0 to {max}"))
        })
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => {
            let only = number(text)?;
            (only, only)
        }
    };
    if first > last {
        return Err(Invalid::new(
            format!("the range {first}-{last} runs backwards"),
            format!("write {last}-{first}"),
        ));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> Vec<(u32, Vec<u32>)> {
        let lcores: Lcores = text.parse().unwrap();
        lcores.iter().map(|lcore| (lcore.id, lcore.cpus.iter().copied().collect())).collect()
    }

    #[test]
    fn a_range_puts_each_lcore_on_its_own_cpu() {
        assert_eq!(cpus("0-1"), [(0, vec![0]), (1, vec![1])]);
        assert_eq!(cpus("0,2-3"), [(0, vec![0]), (2, vec![2]), (3, vec![3])]);
    }

    #[test]
    fn cpus_are_given_after_the_at_sign() {
        assert_eq!(cpus("0@0,1@0,2@1"), [(0, vec![0]), (1, vec![0]), (2, vec![1])]);
        assert_eq!(cpus("(0-3)@0"), [(0, vec![0]), (1, vec![0]), (2, vec![0]), (3, vec![0])]);
        assert_eq!(cpus("0,1@(2,4-5)"), [(0, vec![0]), (1, vec![2, 4, 5])]);
    }

    #[test]
    fn a_group_without_cpus_shares_those_of_its_own_numbers() {
        assert_eq!(cpus("1,(0,6)"), [(1, vec![1]), (0, vec![0, 6]), (6, vec![0, 6])]);
    }

    /// The example of EAL's own documentation.
    #[test]
    fn the_example_of_dpdk() {
        assert_eq!(
            cpus("1,2@(5-7),(3-5)@(0,2),(0,6),7-8"),
            [
                (1, vec![1]),
                (2, vec![5, 6, 7]),
                (3, vec![0, 2]),
                (4, vec![0, 2]),
                (5, vec![0, 2]),
                (0, vec![0, 6]),
                (6, vec![0, 6]),
                (7, vec![7]),
                (8, vec![8]),
            ]
        );
    }

    #[test]
    fn the_first_is_the_control_core_whatever_its_number() {
        let lcores: Lcores = "3,1-2".parse().unwrap();
        assert_eq!(lcores.control().id, 3);
        assert_eq!(lcores.workers().iter().map(|lcore| lcore.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(lcores.eal_arguments(), ["--lcores", "3,1-2", "--main-lcore", "3"]);
    }

    #[test]
    fn blanks_are_left_out() {
        assert_eq!("0, (1 - 2) @ 3".parse::<Lcores>().unwrap().as_str(), "0,(1-2)@3");
    }

    #[test]
    fn what_is_no_list_of_lcores() {
        for (text, reason) in [
            ("", "the number of the lcore is missing"),
            ("0", "lcore 0 alone leaves no worker: the first lcore is the control core"),
            ("0@1", "lcore 0 alone leaves no worker: the first lcore is the control core"),
            ("0,", "the number of the lcore is missing"),
            ("0-", "the number of the lcore is missing"),
            ("0,1@", "the number of the CPU is missing"),
            ("0,x", "`x` is no lcore"),
            ("0,1@x", "`x` is no CPU"),
            ("0,1@2@3", "`2@3` is no CPU"),
            ("3-1", "the range 3-1 runs backwards"),
            ("0,0", "lcore 0 is given twice"),
            ("0-3,2", "lcore 2 is given twice"),
            ("(0-3", "a `(` is not closed"),
            ("0-3)", "a stray `)`"),
            ("((0-3))", "a stray `(`"),
            ("0,128", "lcore 128 is too large"),
            ("0,1@1024", "CPU 1024 is too large"),
            ("0,99999999999999999999", "lcore 99999999999999999999 is too large"),
            ("0,+1", "`+1` is no lcore"),
            ("(0)1", "`(0)1` is no lcore"),
        ] {
            assert_eq!(text.parse::<Lcores>().unwrap_err().reason, reason, "{text}");
        }
    }
}
