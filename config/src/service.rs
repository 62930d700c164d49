//! `[[service]]`: virtual services and the real servers behind them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::Serialize;

use crate::address::host;
use crate::invalid::{Invalid, Word, bounded, serialize_as_text};
use crate::mark;
use crate::problem::Span;
use crate::reader::{Given, Item, Section, Seen};
use crate::timeouts::Seconds;

/// FTP's control connections.
const FTP: u16 = 21;

/// The transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl Word for Protocol {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] =
        &[("tcp", Ok(Protocol::Tcp)), ("udp", Ok(Protocol::Udp)), ("sctp", Ok(Protocol::Sctp))];
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

/// What else makes a client another for persistence (`ipvsadm --pe`).
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

/// How packets reach a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Their addresses are translated, both ways (`ipvsadm -m`).
    #[default]
    Masquerading,
    /// Frames go to the server's MAC address as they are (`ipvsadm -g`).
    Direct,
    /// Packets go to the server inside of others of their family (`ipvsadm -i`).
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

/// The address and port of a virtual service: of one host; port 0 means all ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAddress(SocketAddr);

/// The address and port of a real server: of one host; port 0 means the port that the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerAddress(SocketAddr);

serialize_as_text!(ServiceAddress, ServerAddress);

macro_rules! endpoint {
    ($type:ident, $example:literal) => {
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
                endpoint(text, $example).map(Self)
            }
        }
    };
}
endpoint!(ServiceAddress, "192.168.18.58:8888");
endpoint!(ServerAddress, "192.168.2.71:9999");

fn endpoint(text: &str, example: &str) -> Result<SocketAddr, Invalid> {
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
    Ok(address)
}

/// Port 0 where it would mean nothing.
fn zero_port(reason: &str, example: &str) -> Invalid {
    Invalid::new(reason, format!("give a port from 1 to 65535, for example \"{example}\""))
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv6() { Self::Ipv6 } else { Self::Ipv4 }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Ipv6 { "IPv6" } else { "IPv4" })
    }
}

impl Word for Family {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] =
        &[("ipv4", Ok(Family::Ipv4)), ("ipv6", Ok(Family::Ipv6))];
}

bounded! {
    /// The length of a prefix of IPv6 addresses.
    PrefixLength(u8) in 1..=128, "bits"
}

/// What of a client's address makes it the same client.
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

/// What makes a new connection a virtual service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Vip {
    /// What it is to.
    Address {
        /// Its protocol.
        protocol: Protocol,
        /// What clients connect to.
        address: ServiceAddress,
    },
    /// The firewall mark that it has by a [rule](crate::Mark).
    Mark {
        /// The mark.
        mark: mark::Number,
        /// The family of what has it.
        #[serde(skip_serializing_if = "Family::is_default")]
        family: Family,
    },
}

impl Vip {
    /// The family of what it is to.
    pub fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(address.get().ip()),
            Self::Mark { family, .. } => *family,
        }
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, address } => write!(f, "{protocol} {address}"),
            Self::Mark { mark, family: Family::Ipv4 } => write!(f, "of the mark {mark}"),
            Self::Mark { mark, family: Family::Ipv6 } => write!(f, "of the mark {mark} for IPv6"),
        }
    }
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// What clients connect to.
    #[serde(flatten)]
    pub vip: Vip,
    /// How servers are chosen.
    pub scheduler: Scheduler,
    /// What else the scheduler is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<SchedulerFlag>,
    /// For how long after its last connection began a client's connections go to one server (`ipvsadm -p`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<Seconds>,
    /// What of a client's address makes it the same client (`ipvsadm -M`); all of it if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Netmask>,
    /// What else makes a client another (`ipvsadm --pe`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_engine: Option<PersistenceEngine>,
    /// Whether every UDP datagram is scheduled alone (`ipvsadm -o`).
    pub one_packet: bool,
    /// Whether servers see clients of their own network as an address of the director's, so that these connections
    /// work, too. IPVS has no such thing.
    pub hairpin_snat: bool,
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

    fn read(section: Section<'_>, seen: &mut Seen<String>) -> Option<Located> {
        let mark = section.get("mark");
        // A service of a mark has neither protocol nor address.
        let needs = |key, example| if mark.is_some() { None } else { section.require(key, example) };
        let protocol: Option<Protocol> = needs("protocol", "\"tcp\"").and_then(|item| item.word());
        let persistent = Given::read(&section, "persistent", Item::number);
        let persistence_engine = section.get("persistence_engine").and_then(|item| {
            if persistent.is_absent() {
                item.error("`persistence_engine` needs `persistent`", "add, for example: persistent = 360");
            }
            if protocol.is_some_and(|protocol| protocol != Protocol::Udp) {
                item.error("the engine looks at UDP datagrams only", "leave it out, or give an UDP service");
            }
            item.word()
        });
        let one_packet = section.get("one_packet").is_some_and(|item| {
            let is_on = item.boolean().unwrap_or_default();
            if is_on && protocol.is_some_and(|protocol| protocol != Protocol::Udp) {
                item.error("one-packet scheduling is only for UDP services", "leave it out");
            }
            is_on
        });
        let address = needs("address", "\"192.168.18.58:8888\"").and_then(|item| {
            let address: ServiceAddress = item.parse()?;
            if address.get().port() == 0 && persistent.is_absent() {
                let reason = "zero port specified for non-persistent service";
                item.checked::<()>(Err(zero_port(reason, "192.168.18.58:8888")))?;
            }
            Some((Vip::Address { protocol: protocol?, address }, address.get().port(), item.span()))
        });
        let vip = match mark {
            Some(item) => {
                let family = section.word_or_default("family");
                item.number().map(|mark| (Vip::Mark { mark, family }, 0, item.span()))
            }
            None => address,
        };
        if let Some((vip, _, at)) = &vip {
            seen.note(vip.to_string(), at, section.log, || format!("there are two services {vip}"));
        }
        let hairpin_snat = section.get("hairpin_snat").is_some_and(|item| {
            let is_on = item.boolean().unwrap_or_default();
            let is_ftp = matches!(&vip, Some((Vip::Address { protocol: Protocol::Tcp, .. }, FTP, _)));
            if is_on && (one_packet || is_ftp) {
                let what = if one_packet { "one-packet services" } else { "FTP (port 21)" };
                item.error(format!("`hairpin_snat` is not for {what}"), "leave it out");
            }
            is_on
        });
        let family = vip.as_ref().map(|(vip, _, _)| vip.family());
        let netmask = netmask(&section, &persistent, family.unwrap_or_default());
        let scheduler = section.require("scheduler", "\"rr\"").and_then(|item| item.word());
        let flags = section.get("flags").map(|item| flags(&item, scheduler)).unwrap_or_default();
        let mut addresses = Seen::default();
        let port = vip.as_ref().map(|(_, port, _)| *port);
        let (servers, servers_at) = section
            .tables("server", "[[service.server]]")
            .into_iter()
            .filter_map(|server| Server::read(server, (family, port), &mut addresses))
            .unzip();
        section.finish();
        let (vip, _, at) = vip?;
        let (scheduler, persistent) = (scheduler?, persistent.value());
        let service = Self {
            vip,
            scheduler,
            flags,
            persistent,
            netmask,
            persistence_engine,
            one_packet,
            hairpin_snat,
            servers,
        };
        Some(Located { service, at, servers_at })
    }
}

fn netmask(section: &Section<'_>, persistent: &Given<Seconds>, family: Family) -> Option<Netmask> {
    let item = section.get("netmask")?;
    if persistent.is_absent() {
        item.error("`netmask` needs `persistent`", "add, for example: persistent = 360");
    }
    let text = item.string()?;
    item.checked(Netmask::parse(text, family))
}

impl Server {
    fn read(
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

#[cfg(test)]
mod tests {
    use crate::Config;

    fn read(service: &str) -> Result<Config, String> {
        let text = format!(
            "[dpdk]\nlcores = '0-1'\n[[port]]\nname = 'front'\ndevice = 'net_af_packet0,iface=veth-front'\n\
             [[service]]\nprotocol = 'tcp'\nscheduler = 'rr'\n{service}"
        );
        Config::parse("FILE", &text).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_persistent_service_may_have_all_ports() {
        let any =
            "address = '192.168.18.58:0'\npersistent = 360\n[[service.server]]\naddress = '192.168.2.71:0'";
        let config = read(any).unwrap();
        let service = &config.services[0];
        assert!(service.vip.to_string().ends_with(":0") && service.servers[0].address.get().port() == 0);
        assert_eq!(service.persistent.unwrap().get(), 360);
        assert_eq!(Config::parse("again", &config.to_toml().unwrap()).unwrap(), config);
        assert!(read("address = '192.168.18.58:0'").unwrap_err().contains("zero port"));
        let one =
            "address = '192.168.18.58:80'\npersistent = 360\n[[service.server]]\naddress = '192.168.2.71:0'";
        assert!(read(one).unwrap_err().contains("a server needs a port other than 0"));
    }

    #[test]
    fn where_a_hairpin_cannot_be() {
        let with = |rest: &str| read(&format!("{rest}\nhairpin_snat = true"));
        let config = with("address = '192.168.18.58:80'").unwrap();
        assert!(config.services[0].hairpin_snat);
        assert_eq!(Config::parse("again", &config.to_toml().unwrap()).unwrap(), config);
        let wrong = with("address = '192.168.18.58:21'").unwrap_err();
        assert!(wrong.contains("`hairpin_snat` is not for FTP (port 21)"), "{wrong}");
    }

    #[test]
    fn a_service_of_ipv6() {
        let good = "address = '[2001:db8::58]:80'\npersistent = 360\nnetmask = '64'\n[[service.server]]\naddress = '[2001:db8:2::71]:8080'";
        let config = read(good).unwrap();
        assert_eq!(config.services[0].vip.to_string(), "tcp [2001:db8::58]:80");
        assert_eq!(config.services[0].netmask.unwrap().to_string(), "64");
        assert_eq!(Config::parse("again", &config.to_toml().unwrap()).unwrap(), config);
        for mask in ["0", "129", "255.255.255.0", ""] {
            let wrong = read(&good.replace("'64'", &format!("'{mask}'"))).unwrap_err();
            assert!(wrong.contains("is no netmask of an IPv6 service"), "{wrong}");
        }
        let tunnel = read(&good.replace("71]:8080'", "71]:80'\nforward = 'tunnel'")).unwrap();
        assert_eq!(tunnel.services[0].servers[0].forward, super::Forward::Tunnel);
        let mixed = read(&good.replace("[2001:db8:2::71]", "192.168.2.71")).unwrap_err();
        assert!(mixed.contains("the service is of IPv6, and this server of IPv4"), "{mixed}");
        assert!(read("address = '[::ffff:192.168.18.58]:80'").is_err());
    }

    #[test]
    fn what_is_not_translated_keeps_its_port() {
        let with = |server: &str| {
            read(&format!(
                "address = '192.168.18.58:80'\n[[service.server]]\naddress = '{server}'\nforward = 'direct'"
            ))
        };
        let config = with("192.168.2.71:80").unwrap();
        assert_eq!(config.services[0].servers[0].forward, super::Forward::Direct);
        assert_eq!(Config::parse("again", &config.to_toml().unwrap()).unwrap(), config);
        let wrong = with("192.168.2.71:8080").unwrap_err();
        assert!(wrong.contains("does not translate ports, and the service's is 80"), "{wrong}");
    }

    #[test]
    fn a_service_may_be_of_a_mark() {
        let rule = "[[mark]]\nmark = 7\nprotocol = 'udp'\ndestination = '192.168.18.58'\nports = '80,90-99'";
        let service =
            "[[service]]\nmark = 7\nscheduler = 'rr'\n[[service.server]]\naddress = '192.168.2.71:0'";
        let text = |parts: &str| {
            let port = "[[port]]\nname = 'front'\ndevice = 'net_af_packet0,iface=veth-front'";
            Config::parse("FILE", &format!("[dpdk]\nlcores = '0-1'\n{port}\n{parts}"))
        };
        let config = text(&format!("{rule}\n{service}")).unwrap();
        assert_eq!(config.services[0].vip.to_string(), "of the mark 7");
        assert_eq!(config.marks[0].ports.as_ref().unwrap().ranges(), [(80, 80), (90, 99)]);
        assert_eq!(Config::parse("again", &config.to_toml().unwrap()).unwrap(), config);
        let six =
            service.replace("mark = 7", "mark = 7\nfamily = 'ipv6'").replace("192.168.2.71", "[2001:db8::7]");
        let both = text(&format!("{rule}\n{service}\n{six}")).unwrap();
        assert_eq!(both.services[1].vip.to_string(), "of the mark 7 for IPv6");
        assert_eq!(Config::parse("again", &both.to_toml().unwrap()).unwrap(), both);
        let apart = "[[mark]]\nmark = 7\nsource = '2001:db8::/32'\ndestination = '10.0.0.0/8'";
        assert!(text(apart).unwrap_err().to_string().contains("of two families"));
        let twice = text(&format!("{service}\n{service}")).unwrap_err().to_string();
        assert!(twice.contains("there are two services of the mark 7"), "{twice}");
        assert!(text("[[service]]\nmark = 7\nprotocol = 'tcp'\nscheduler = 'rr'").is_err());
    }
}
