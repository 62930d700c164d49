//! `netmask` and `persistence_engine` of a service: what counts as the same client.

use std::fmt;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::Family;
use crate::invalid::{Invalid, Word, bounded, serialize_as_text};
use crate::reader::{Given, Section};
use crate::timeouts::Seconds;

/// What tells clients apart for persistence, besides the address (`ipvsadm --pe`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PersistenceEngine {
    /// The Call-ID of SIP, in UDP datagrams.
    Sip,
}

impl PersistenceEngine {
    /// The name IPVS has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sip => "sip",
        }
    }
}

impl Word for PersistenceEngine {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] = &[("sip", Ok(Self::Sip))];
}

bounded! {
    /// The length of a prefix of IPv6 addresses.
    PrefixLength(u8) in 1..=128, "bits"
}

/// The part of a client's address that identifies the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netmask {
    /// A mask of any bits, as IPVS takes them.
    V4(Ipv4Addr),
    /// The length of a prefix.
    V6(PrefixLength),
}

serialize_as_text!(Netmask);

impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(mask) => mask.fmt(f),
            Self::V6(length) => length.fmt(f),
        }
    }
}

impl Netmask {
    fn parse(text: &str, family: Family) -> Result<Self, Invalid> {
        let (mask, wanted) = match family {
            Family::Ipv4 => {
                (text.parse().ok().map(Self::V4), "an IPv4 netmask, for example \"255.255.255.0\"")
            }
            Family::Ipv6 => {
                let length = text.parse().ok().and_then(PrefixLength::new);
                (length.map(Self::V6), "the length of an IPv6 prefix, for example \"64\"")
            }
        };
        let shown = text.escape_debug();
        mask.ok_or_else(|| Invalid::new(format!("`{shown}` is no netmask of an {family} service"), wanted))
    }
}

pub(super) fn netmask(section: &Section<'_>, persistent: &Given<Seconds>, family: Family) -> Option<Netmask> {
    let item = section.get("netmask")?;
    if persistent.is_absent() {
        item.error("`netmask` needs `persistent`", "add, for example: persistent = 360");
    }
    let text = item.string()?;
    item.checked(Netmask::parse(text, family))
}
