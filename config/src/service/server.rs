//! `[[service.server]]`: real servers.

use serde::Serialize;

use super::Family;
use super::endpoint::{ServerAddress, zero_port};
use crate::invalid::{Word, bounded};
use crate::problem::Span;
use crate::reader::{Given, Item, Section, Seen};

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Where it listens.
    pub address: ServerAddress,
    /// The forwarding method.
    pub forward: Forward,
    /// Its share of new connections.
    pub weight: Weight,
    /// How many connections it takes.
    #[serde(flatten)]
    pub thresholds: Thresholds,
}

impl Server {
    pub(super) fn read(
        section: Section<'_>,
        (family, service_port): (Option<Family>, Option<u16>),
        seen: &mut Seen<ServerAddress>,
    ) -> Option<(Self, Span)> {
        let address = section.require("address", "\"192.168.2.71:9999\"").and_then(|item| {
            let address: ServerAddress = item.parse()?;
            if address.get().port() == 0 && service_port != Some(0) {
                let reason = "a server needs a port other than 0";
                item.checked::<()>(Err(zero_port(reason, "192.168.2.71:9999")))?;
            }
            let own = Family::of(address.get().ip());
            if let Some(family) = family.filter(|&family| family != own) {
                item.error(
                    format!("the service is of {family}, and this server of {own}"),
                    "nothing is translated from one to the other: give a server of the same family",
                );
            }
            seen.note(address, &item.span(), section.log, || {
                format!("the service has two servers {address}")
            });
            Some((address, item.span()))
        });
        let forward: Forward = section.word_or_default("forward");
        if let (Some((address, at)), Some(port)) = (&address, service_port)
            && forward != Forward::Masquerading
            && address.get().port() != port
        {
            section.log.error(
                at,
                format!(
                    "`forward = \"{}\"` does not translate ports, and the service's is {port}",
                    forward.name()
                ),
                format!("give the server the port {port}, or leave `forward` out"),
            );
        }
        let weight = section.number_or_default("weight");
        let thresholds = thresholds(&section);
        section.finish();
        let (address, at) = address?;
        Some((Self { address, forward, weight, thresholds }, at))
    }
}

/// The forwarding methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Their addresses are translated, both ways (`ipvsadm -m`).
    #[default]
    Masquerading,
    /// Frames go to the server's MAC address as they are (`ipvsadm -g`).
    Direct,
    /// Packets go to the server inside others of the same family (`ipvsadm -i`).
    Tunnel,
}

impl Forward {
    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Masquerading => "masquerading",
            Self::Direct => "direct",
            Self::Tunnel => "tunnel",
        }
    }
}

impl Word for Forward {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] = &[
        ("masquerading", Ok(Forward::Masquerading)),
        ("direct", Ok(Forward::Direct)),
        ("tunnel", Ok(Forward::Tunnel)),
    ];
}

bounded! {
    /// The share of new connections a server gets; 0 for none.
    Weight(u32) in 0..=2_147_483_647, "(0: no new connections)"
}

impl Default for Weight {
    fn default() -> Self {
        const { Self::new(1).unwrap() }
    }
}

bounded! {
    /// A number of connections; 0 for no limit.
    Limit(u32) in 0..=2_147_483_647, "connections (0: no limit)", default 0
}

/// At which numbers of connections a server is taken out, and comes back (`ipvsadm -x`, `-y`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Thresholds {
    upper_threshold: Limit,
    lower_threshold: Limit,
}

impl Thresholds {
    /// `None` if the lower is above the upper one, as in the kernel (`ERANGE`).
    pub fn new(upper: Limit, lower: Limit) -> Option<Self> {
        (lower <= upper).then_some(Self { upper_threshold: upper, lower_threshold: lower })
    }

    /// From this many connections on the server gets no new ones; 0 for no limit.
    pub fn upper(self) -> u32 {
        self.upper_threshold.get()
    }

    /// Below this many it gets new ones again; 0 for three quarters of the upper one.
    pub fn lower(self) -> u32 {
        self.lower_threshold.get()
    }
}

fn thresholds(section: &Section<'_>) -> Thresholds {
    let upper = Given::read(section, "upper_threshold", Item::number);
    let lower = Given::read(section, "lower_threshold", |item| Some((item.number()?, item.span())));
    let upper = match upper {
        Given::Right(upper) => upper,
        Given::Absent => Limit::default(),
        // Without the one, the other cannot be checked.
        Given::Wrong => return Thresholds::default(),
    };
    let (lower, at) = lower.value().unwrap_or_default();
    Thresholds::new(upper, lower).unwrap_or_else(|| {
        section.log.error(
            &at,
            format!("the `lower_threshold` {lower} is above the `upper_threshold` {upper}"),
            "give an `upper_threshold` that is not smaller",
        );
        Thresholds::default()
    })
}
