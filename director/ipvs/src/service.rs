//! Virtual services: what names one, what a client sets and what it is shown.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::BitOr;

use crate::attribute::{Attribute, Attributes, Kind, Policy};
use crate::uapi::*;
use crate::writer::Writer;
use crate::{Errno, Malformed, Name, Stats, config};

/// An address family IPVS knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
}

/// What names a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKey {
    /// An address, a port (0: all) and a transport protocol.
    Address {
        /// The protocol's IP number. The kernel lets any pass here; what is balanced is its user's choice.
        protocol: u16,
        /// The virtual address.
        address: IpAddr,
        /// The virtual port.
        port: u16,
    },
    /// A firewall mark.
    Mark {
        /// IPv4 and IPv6 services of one mark are two.
        family: Family,
        /// The mark.
        mark: NonZeroU32,
    },
}

/// The options of a virtual service, as a client sets them; an edit sets all of them anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The scheduler's name.
    pub scheduler: Name,
    /// The persistence engine's name.
    pub persistence_engine: Option<Name>,
    /// The flags to set and to clear.
    pub flags: FlagChange,
    /// The timeout of persistence in seconds; it counts with [`ServiceFlags::PERSISTENT`].
    pub timeout: u32,
    /// What of a client's address makes it the same client.
    pub netmask: Netmask,
}

/// A virtual service as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub key: ServiceKey,
    /// The scheduler's name.
    pub scheduler: Name,
    /// The persistence engine's name.
    pub persistence_engine: Option<Name>,
    /// Its flags. [`ServiceFlags::HASHED`] is shown always.
    pub flags: ServiceFlags,
    /// The timeout of persistence in seconds.
    pub timeout: u32,
    /// What of a client's address makes it the same client.
    pub netmask: Netmask,
    /// What it has carried.
    pub stats: Stats,
}

/// Flags of a service, `IP_VS_SVC_F_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceFlags(pub u32);

/// A change of flags: those of `mask` become what `flags` says, the others stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlagChange {
    /// The new values.
    pub flags: ServiceFlags,
    /// Which of them count.
    pub mask: ServiceFlags,
}

/// The part of a client's address that persistence looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netmask {
    /// IPv4: a mask, not necessarily of a prefix.
    Inet(Ipv4Addr),
    /// IPv6: the length of a prefix. The kernel refuses one outside 1..=128 with EINVAL when it adds or
    /// edits the service.
    Inet6(u32),
}

impl Family {
    /// The number the messages carry, `AF_INET` or `AF_INET6`.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Inet => 2,
            Self::Inet6 => 10,
        }
    }

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Inet,
            IpAddr::V6(_) => Self::Inet6,
        }
    }

    fn unspecified(self) -> IpAddr {
        match self {
            Self::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    pub(crate) fn decode(attribute: &Attribute) -> Result<Self, Malformed> {
        match attribute.u16() {
            2 => Ok(Self::Inet),
            10 => Ok(Self::Inet6),
            other => {
                Err(attribute.wrong(&other, "the families are 2 (IPv4) and 10 (IPv6)", Errno::EAFNOSUPPORT))
            }
        }
    }
}

impl ServiceFlags {
    /// Connections of one client go to one server for a time.
    pub const PERSISTENT: Self = Self(0x01);
    /// The service is in the table; set in every listing.
    pub const HASHED: Self = Self(0x02);
    /// Every UDP datagram is scheduled alone.
    pub const ONE_PACKET: Self = Self(0x04);
    /// The scheduler's first flag: `sh-fallback`, `mh-fallback`.
    pub const SCHED1: Self = Self(0x08);
    /// The scheduler's second flag: `sh-port`, `mh-port`.
    pub const SCHED2: Self = Self(0x10);
    /// The scheduler's third flag.
    pub const SCHED3: Self = Self(0x20);

    /// Whether all of `flags` are set.
    #[must_use]
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for ServiceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FlagChange {
    /// The flags after the change: `before` are those of the service, none for a new one.
    #[must_use]
    pub fn apply(self, before: ServiceFlags) -> ServiceFlags {
        ServiceFlags((before.0 & !self.mask.0) | (self.flags.0 & self.mask.0))
    }
}

pub(crate) static SERVICE: Policy<13> = Policy {
    nest: "IPVS_CMD_ATTR_SERVICE",
    attributes: [
        ("", Kind::Any),
        ("IPVS_SVC_ATTR_AF", Kind::Number(2)),
        ("IPVS_SVC_ATTR_PROTOCOL", Kind::Number(2)),
        ("IPVS_SVC_ATTR_ADDR", Kind::Binary(ADDRESS_SIZE)),
        ("IPVS_SVC_ATTR_PORT", Kind::Number(2)),
        ("IPVS_SVC_ATTR_FWMARK", Kind::Number(4)),
        ("IPVS_SVC_ATTR_SCHED_NAME", Kind::Text(15)),
        ("IPVS_SVC_ATTR_FLAGS", Kind::Binary(8)),
        ("IPVS_SVC_ATTR_TIMEOUT", Kind::Number(4)),
        ("IPVS_SVC_ATTR_NETMASK", Kind::Number(4)),
        ("IPVS_SVC_ATTR_STATS", Kind::Nested),
        ("IPVS_SVC_ATTR_PE_NAME", Kind::Text(16)),
        ("IPVS_SVC_ATTR_STATS64", Kind::Any),
    ],
    wrong_length: Errno::EINVAL,
};

impl ServiceKey {
    /// The address family.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(*address),
            Self::Mark { family, .. } => *family,
        }
    }

    pub(crate) fn decode(service: &Attributes<13>) -> Result<Self, Malformed> {
        let family = service.need(SVC_ATTR_AF)?;
        let by = match service.get(SVC_ATTR_FWMARK) {
            Some(mark) => Err(mark.u32()),
            None => Ok((
                service.need(SVC_ATTR_PROTOCOL)?.u16(),
                service.need(SVC_ATTR_ADDR)?,
                service.need(SVC_ATTR_PORT)?.port(),
            )),
        };
        let family = Family::decode(&family)?;
        Ok(match by {
            Ok((protocol, address, port)) => {
                Self::Address { protocol, address: address.address(family), port }
            }
            Err(mark) => match NonZeroU32::new(mark) {
                Some(mark) => Self::Mark { family, mark },
                // A mark of 0 is none; to the kernel the rest is then TCP and zeros.
                None => Self::Address { protocol: 6, address: family.unspecified(), port: 0 },
            },
        })
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.u16(SVC_ATTR_AF, self.family().number());
        match *self {
            Self::Address { protocol, address, port } => {
                writer.u16(SVC_ATTR_PROTOCOL, protocol);
                writer.address(SVC_ATTR_ADDR, address);
                writer.port(SVC_ATTR_PORT, port);
            }
            Self::Mark { mark, .. } => writer.u32(SVC_ATTR_FWMARK, mark.get()),
        }
    }
}

impl ServiceSpec {
    pub(crate) fn decode(service: &Attributes<13>, family: Family) -> Result<Self, Malformed> {
        let scheduler = service.need(SVC_ATTR_SCHED_NAME)?;
        let flags = service.need(SVC_ATTR_FLAGS)?;
        let timeout = service.need(SVC_ATTR_TIMEOUT)?;
        let netmask = service.need(SVC_ATTR_NETMASK)?;
        let [flags, mask] = flags.words();
        let engine = service.get(SVC_ATTR_PE_NAME).map(|engine| engine.name()).transpose()?;
        Ok(Self {
            scheduler: scheduler.name()?,
            // An empty name is none, to the kernel too.
            persistence_engine: engine.filter(|name| !name.as_str().is_empty()),
            flags: FlagChange { flags: ServiceFlags(flags), mask: ServiceFlags(mask) },
            timeout: config::timeout(&timeout)?,
            netmask: match family {
                Family::Inet => Netmask::Inet(netmask.ipv4()),
                Family::Inet6 => Netmask::Inet6(netmask.u32()),
            },
        })
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.text(SVC_ATTR_SCHED_NAME, self.scheduler.as_str());
        if let Some(engine) = &self.persistence_engine {
            writer.text(SVC_ATTR_PE_NAME, engine.as_str());
        }
        encode_flags(writer, self.flags);
        writer.u32(SVC_ATTR_TIMEOUT, self.timeout);
        self.netmask.encode(writer);
    }
}

impl Service {
    /// Writes the nested attribute of a reply.
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.nest(CMD_ATTR_SERVICE, |writer| {
            self.key.encode(writer);
            writer.text(SVC_ATTR_SCHED_NAME, self.scheduler.as_str());
            if let Some(engine) = &self.persistence_engine {
                writer.text(SVC_ATTR_PE_NAME, engine.as_str());
            }
            let flags = self.flags | ServiceFlags::HASHED;
            encode_flags(writer, FlagChange { flags, mask: ServiceFlags(u32::MAX) });
            writer.u32(SVC_ATTR_TIMEOUT, self.timeout);
            self.netmask.encode(writer);
            self.stats.encode(writer, SVC_ATTR_STATS, SVC_ATTR_STATS64);
        });
    }
}

/// `struct ip_vs_flags`.
fn encode_flags(writer: &mut Writer, change: FlagChange) {
    writer.nest(SVC_ATTR_FLAGS, |writer| {
        writer.raw(&change.flags.0.to_ne_bytes());
        writer.raw(&change.mask.0.to_ne_bytes());
    });
}

impl Netmask {
    fn encode(self, writer: &mut Writer) {
        match self {
            Self::Inet(mask) => writer.attribute(SVC_ATTR_NETMASK, &mask.octets()),
            Self::Inet6(length) => writer.u32(SVC_ATTR_NETMASK, length),
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, address, port } => {
                match protocol {
                    6 => f.write_str("TCP ")?,
                    17 => f.write_str("UDP ")?,
                    132 => f.write_str("SCTP ")?,
                    other => write!(f, "protocol {other} ")?,
                }
                SocketAddr::new(*address, *port).fmt(f)
            }
            Self::Mark { family: Family::Inet, mark } => write!(f, "FWM {mark}"),
            Self::Mark { family: Family::Inet6, mark } => write!(f, "FWM {mark} IPv6"),
        }
    }
}
