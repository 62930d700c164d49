//! `scheduler` and `flags` of a service: how a server is chosen.

use std::fmt;

use serde::Serialize;

use crate::invalid::Word;
use crate::reader::Item;

/// How a server is chosen for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connection.
    Lc,
    /// Weighted least connection.
    Wlc,
    /// Locality-based least connection.
    Lblc,
    /// Locality-based least connection with replication.
    Lblcr,
    /// Destination hashing.
    Dh,
    /// Source hashing.
    Sh,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// Maglev hashing.
    Mh,
}

impl Scheduler {
    /// The name IPVS has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Dh => "dh",
            Self::Sh => "sh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Mh => "mh",
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Word for Scheduler {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] = &[
        ("rr", Ok(Self::Rr)),
        ("wrr", Ok(Self::Wrr)),
        ("lc", Ok(Self::Lc)),
        ("wlc", Ok(Self::Wlc)),
        ("lblc", Ok(Self::Lblc)),
        ("lblcr", Ok(Self::Lblcr)),
        ("dh", Ok(Self::Dh)),
        ("sh", Ok(Self::Sh)),
        ("sed", Ok(Self::Sed)),
        ("nq", Ok(Self::Nq)),
        ("fo", Ok(Self::Fo)),
        ("ovf", Ok(Self::Ovf)),
        ("mh", Ok(Self::Mh)),
        ("twos", Err("Debian's kernel does not have it, and neither does the director")),
    ];
}

/// Options of schedulers (`ipvsadm -b`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchedulerFlag {
    /// `sh`: another server where the hash's own is not usable.
    ShFallback,
    /// `sh`: the source port is hashed too.
    ShPort,
    /// `mh`: another server where the hash's own is not usable.
    MhFallback,
    /// `mh`: the source port is hashed too.
    MhPort,
}

impl SchedulerFlag {
    /// The name ipvsadm has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ShFallback => "sh-fallback",
            Self::ShPort => "sh-port",
            Self::MhFallback => "mh-fallback",
            Self::MhPort => "mh-port",
        }
    }

    /// The scheduler it belongs to.
    pub fn scheduler(self) -> Scheduler {
        match self {
            Self::ShFallback | Self::ShPort => Scheduler::Sh,
            Self::MhFallback | Self::MhPort => Scheduler::Mh,
        }
    }
}

impl Word for SchedulerFlag {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] = &[
        ("sh-fallback", Ok(Self::ShFallback)),
        ("sh-port", Ok(Self::ShPort)),
        ("mh-fallback", Ok(Self::MhFallback)),
        ("mh-port", Ok(Self::MhPort)),
    ];
}

/// Each flag once, in an order of their own.
pub(super) fn flags(item: &Item<'_>, scheduler: Option<Scheduler>) -> Vec<SchedulerFlag> {
    let mut flags = Vec::new();
    for item in item.list("[\"sh-port\"]") {
        let Some(flag) = item.word::<SchedulerFlag>() else { continue };
        if let Some(scheduler) = scheduler.filter(|&scheduler| scheduler != flag.scheduler()) {
            item.error(
                format!("`{}` is no flag of the scheduler `{scheduler}`", flag.name()),
                format!("it belongs to `{}`", flag.scheduler()),
            );
        }
        flags.push(flag);
    }
    flags.sort_unstable();
    flags.dedup();
    flags
}
