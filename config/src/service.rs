//! `[[service]]`: virtual services and the real servers behind them.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::Serialize;

use crate::address::host;
use crate::invalid::{Invalid, Word, bounded, serialize_as_text};
use crate::problem::Span;
use crate::reader::{Given, Item, Section, Seen};

/// The transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Word for Protocol {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] =
        &[("tcp", Ok(Protocol::Tcp)), ("udp", Ok(Protocol::Udp)), ("sctp", Err("SCTP is not supported"))];
}

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

/// What a scheduler can be told besides (`ipvsadm -b`).
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
fn flags(item: &Item<'_>, scheduler: Option<Scheduler>) -> Vec<SchedulerFlag> {
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

/// How packets reach a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Their addresses are translated, both ways (`ipvsadm -m`).
    #[default]
    Masquerading,
}

impl Word for Forward {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] = &[
        ("masquerading", Ok(Forward::Masquerading)),
        ("direct", Err("direct routing is not supported yet")),
        ("tunnel", Err("tunnelling is not supported yet")),
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

/// The address and port of a virtual service: of one host, the port not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAddress(SocketAddr);

/// The address and port of a real server: of one host, the port not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerAddress(SocketAddr);

serialize_as_text!(ServiceAddress, ServerAddress);

macro_rules! endpoint {
    ($type:ident, $example:literal, $zero_port:literal) => {
        impl $type {
            /// Address and port.
            pub fn get(self) -> SocketAddr {
                self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                endpoint(text, $example, $zero_port).map(Self)
            }
        }
    };
}
endpoint!(ServiceAddress, "192.168.18.58:8888", "zero port specified for non-persistent service");
endpoint!(ServerAddress, "192.168.2.71:9999", "a server needs a port other than 0");

fn endpoint(text: &str, example: &str, zero_port: &str) -> Result<SocketAddr, Invalid> {
    let address: SocketAddr = text.parse().map_err(|_| {
        let shown = text.escape_debug();
        let help = match text.parse() {
            Ok(std::net::IpAddr::V4(v4)) => format!("add the port, for example \"{v4}:80\""),
            Ok(std::net::IpAddr::V6(v6)) => format!("add the port, for example \"[{v6}]:80\""),
            Err(_) => format!("for example \"{example}\" or \"[2001:db8::58]:80\""),
        };
        Invalid::new(format!("`{shown}` is no address with a port"), help)
    })?;
    host(address.ip())?;
    supported_family(address)?;
    if address.port() == 0 {
        return Err(Invalid::new(
            zero_port,
            format!("give a port from 1 to 65535, for example \"{example}\""),
        ));
    }
    Ok(address)
}

/// IPv6 stops here, and nowhere else.
fn supported_family(address: SocketAddr) -> Result<(), Invalid> {
    if address.is_ipv6() {
        return Err(Invalid::new(
            format!("{address}: IPv6 services are not supported yet"),
            "give an IPv4 address",
        ));
    }
    Ok(())
}

/// Between which numbers of connections a server is taken out and comes back (`ipvsadm -x`, `-y`).
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

    /// With so many connections the server gets no new ones; 0 for no limit.
    pub fn upper(self) -> u32 {
        self.upper_threshold.get()
    }

    /// With fewer than so many it gets some again; 0 for three quarters of the upper one.
    pub fn lower(self) -> u32 {
        self.lower_threshold.get()
    }
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Where it listens.
    pub address: ServerAddress,
    /// How packets reach it.
    pub forward: Forward,
    /// Its share of new connections.
    pub weight: Weight,
    /// How many connections it takes.
    #[serde(flatten)]
    pub thresholds: Thresholds,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its protocol.
    pub protocol: Protocol,
    /// What clients connect to.
    pub address: ServiceAddress,
    /// How servers are chosen.
    pub scheduler: Scheduler,
    /// What else the scheduler is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<SchedulerFlag>,
    /// The servers in the order of the file, which is the order they are added in.
    #[serde(rename = "server", skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
}

/// A service with the places of its addresses, for what is checked later.
pub(crate) struct Located {
    pub(crate) service: Service,
    pub(crate) at: Span,
    pub(crate) servers_at: Vec<Span>,
}

impl Service {
    pub(crate) fn read_all(document: &Section<'_>) -> Vec<Located> {
        let mut seen = Seen::default();
        let sections = document.tables("service", "[[service]]");
        sections.into_iter().filter_map(|section| Self::read(section, &mut seen)).collect()
    }

    fn read(section: Section<'_>, seen: &mut Seen<(Protocol, ServiceAddress)>) -> Option<Located> {
        let protocol: Option<Protocol> = section.require("protocol", "\"tcp\"").and_then(|item| item.word());
        let address = section.require("address", "\"192.168.18.58:8888\"").and_then(|item| {
            let address: ServiceAddress = item.parse()?;
            if let Some(protocol) = protocol {
                seen.note((protocol, address), &item.span(), section.log, || {
                    format!("there are two services {protocol} {address}")
                });
            }
            Some((address, item.span()))
        });
        let scheduler = section.require("scheduler", "\"rr\"").and_then(|item| item.word());
        let flags = section.get("flags").map(|item| flags(&item, scheduler)).unwrap_or_default();
        let mut addresses = Seen::default();
        let (servers, servers_at) = section
            .tables("server", "[[service.server]]")
            .into_iter()
            .filter_map(|server| Server::read(server, &mut addresses))
            .unzip();
        section.finish();
        let (address, at) = address?;
        let service = Self { protocol: protocol?, address, scheduler: scheduler?, flags, servers };
        Some(Located { service, at, servers_at })
    }
}

impl Server {
    fn read(section: Section<'_>, seen: &mut Seen<ServerAddress>) -> Option<(Self, Span)> {
        let address = section.require("address", "\"192.168.2.71:9999\"").and_then(|item| {
            let address: ServerAddress = item.parse()?;
            seen.note(address, &item.span(), section.log, || {
                format!("the service has two servers {address}")
            });
            Some((address, item.span()))
        });
        let forward = section.word_or_default("forward");
        let weight = section.number_or_default("weight");
        let thresholds = thresholds(&section);
        section.finish();
        let (address, at) = address?;
        Some((Self { address, forward, weight, thresholds }, at))
    }
}

fn thresholds(section: &Section<'_>) -> Thresholds {
    let upper = Given::read(section, "upper_threshold", Item::number);
    let lower = Given::read(section, "lower_threshold", |item| Some((item.number()?, item.span())));
    let upper = match upper {
        Given::Right(upper) => upper,
        Given::Absent => Limit::default(),
        // Whether the other fits cannot be said.
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
