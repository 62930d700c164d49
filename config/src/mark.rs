//! `[[mark]]`: which new connections get a firewall mark, for the services of marks.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::address::Network;
use crate::invalid::{Invalid, bounded, serialize_as_text};
use crate::reader::Section;
use crate::service::Protocol;

bounded! {
    /// A firewall mark.
    Number(u32) in 1..=4_294_967_295, "(a firewall mark)"
}

/// A rule. Of several rules that match a new connection, the first counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// The mark.
    pub mark: Number,
    /// The protocol; none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The client's network; none: anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Network>,
    /// What the client connects to, as far as it is the director's own; none: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Network>,
    /// The ports that the client connects to; none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
}

/// Ports and ranges of ports: `80,443,8000-8099`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

serialize_as_text!(Ports);

impl Ports {
    /// The first and the last port of each range.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match first == last {
                true => write!(f, "{first}")?,
                false => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Ports {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |part: &str| {
            let reason = format!("`{}` is no port and no range of ports", part.escape_debug());
            Invalid::new(reason, "for example \"80,443,8000-8099\"")
        };
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse::<u16>().ok() } else { None }
        };
        let ranges = text.split(',').map(|part| {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (port(first), port(last)) {
                (Some(first), Some(last)) if first <= last => Ok((first, last)),
                _ => Err(invalid(part)),
            }
        });
        ranges.collect::<Result<_, _>>().map(Self)
    }
}

impl Mark {
    pub(crate) fn read_all(document: &Section<'_>) -> Vec<Self> {
        document.tables("mark", "[[mark]]").into_iter().filter_map(Self::read).collect()
    }

    fn read(section: Section<'_>) -> Option<Self> {
        let mark = section.require("mark", "1").and_then(|item| item.number());
        let protocol = section.get("protocol").and_then(|item| item.word());
        let source: Option<Network> = section.get("source").and_then(|item| item.parse());
        let destination = section.get("destination").and_then(|item| {
            let network: Network = item.parse()?;
            let of_v6 = |network: &Network| network.address().is_ipv6();
            if source.as_ref().is_some_and(|source| of_v6(source) != of_v6(&network)) {
                item.error(
                    "`source` and `destination` are of two families: no packet matches",
                    "make a rule for each family",
                );
            }
            Some(network)
        });
        let ports = section.get("ports").and_then(|item| item.parse());
        section.finish();
        Some(Self { mark: mark?, protocol, source, destination, ports })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for text in ["80", "80,443", "8000-8099", "0-65535,1"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        assert_eq!("80, 90-90".parse::<Ports>().unwrap().ranges(), [(80, 80), (90, 90)]);
        for text in ["", "80,", "65536", "90-80", "+80", "http", "1-2-3"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
    }
}
