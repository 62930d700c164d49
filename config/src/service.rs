//! `[[service]]`: virtual services and the real servers behind them.

mod endpoint;
mod persistence;
mod scheduler;
mod server;

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

pub use endpoint::{ServerAddress, ServiceAddress};
pub use persistence::{Netmask, PersistenceEngine, PrefixLength};
pub use scheduler::{Scheduler, SchedulerFlag};
pub use server::{Forward, Limit, Server, Thresholds, Weight};

use crate::invalid::Word;
use crate::mark;
use crate::problem::Span;
use crate::reader::{Given, Item, Section, Seen};
use crate::timeouts::Seconds;
use endpoint::zero_port;
use persistence::netmask;
use scheduler::flags;

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
    /// The family of an address.
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

/// What identifies the new connections of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Vip {
    /// An address.
    Address {
        /// Its protocol.
        protocol: Protocol,
        /// What clients connect to.
        address: ServiceAddress,
    },
    /// A firewall mark, given by a [rule](crate::Mark).
    Mark {
        /// The mark.
        mark: mark::Number,
        /// The family of the connections with this mark.
        #[serde(skip_serializing_if = "Family::is_default")]
        family: Family,
    },
}

impl Vip {
    /// The address family of the connections.
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
    /// Options of the scheduler.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<SchedulerFlag>,
    /// How long a client's connections go to one server, counted from the beginning of the last one (`ipvsadm -p`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<Seconds>,
    /// The part of a client's address that identifies the client (`ipvsadm -M`); none: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Netmask>,
    /// What tells clients apart besides the address (`ipvsadm --pe`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_engine: Option<PersistenceEngine>,
    /// Whether each UDP datagram is scheduled alone (`ipvsadm -o`).
    pub one_packet: bool,
    /// Whether servers see clients of their own network under an address of the director's, so that these connections
    /// work, too. IPVS has no such thing.
    pub hairpin_snat: bool,
    /// The servers in the order of the file, which is the order they are added in.
    #[serde(rename = "server", skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
}

/// A service with the places of its addresses in the file, for later checks.
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
