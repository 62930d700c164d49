//! Destinations, IPVS's word for the real servers of a service.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::attribute::{Attributes, Kind, Policy};
use crate::service::{Family, ServiceKey};
use crate::uapi::*;
use crate::writer::Writer;
use crate::{Errno, Malformed, Stats};

/// What names a server within its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestKey {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0: the port the client asked for.
    pub port: u16,
}

/// The options of a server, as a client sets them; an edit sets all of them anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestSpec {
    /// How packets reach it.
    pub forward: Forward,
    /// Its share; 0: no new connections.
    pub weight: i32,
    /// Connections from which on it gets no new ones; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; 0: three quarters of the upper threshold.
    pub lower_threshold: u32,
    /// How packets are wrapped, with [`Forward::Tunnel`].
    pub tunnel: Tunnel,
}

/// A server as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dest {
    /// Its name.
    pub key: DestKey,
    /// Its options.
    pub spec: DestSpec,
    /// Connections in an active state.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// What it has carried.
    pub stats: Stats,
}

/// A forwarding method, `IP_VS_CONN_F_*` within `IP_VS_CONN_F_FWD_MASK`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Forward {
    /// Masquerading (NAT), `-m`.
    #[default]
    Masquerade,
    /// The director itself serves.
    Local,
    /// Tunnelling, `-i`.
    Tunnel,
    /// Direct routing, `-g`.
    DirectRoute,
    /// Past the cache, to the original destination.
    Bypass,
}

/// A tunnel's wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// Its kind.
    pub kind: TunnelKind,
    /// The UDP port of GUE.
    pub port: u16,
    /// `IP_VS_TUNNEL_ENCAP_FLAG_*`: 1 checksums, 2 remote checksum offload.
    pub flags: u16,
}

/// `IP_VS_CONN_F_TUNNEL_TYPE_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation.
    Gre,
}

pub(crate) static DEST: Policy<16> = Policy {
    nest: "IPVS_CMD_ATTR_DEST",
    attributes: [
        ("", Kind::Any),
        ("IPVS_DEST_ATTR_ADDR", Kind::Binary(ADDRESS_SIZE)),
        ("IPVS_DEST_ATTR_PORT", Kind::Number(2)),
        ("IPVS_DEST_ATTR_FWD_METHOD", Kind::Number(4)),
        ("IPVS_DEST_ATTR_WEIGHT", Kind::Number(4)),
        ("IPVS_DEST_ATTR_U_THRESH", Kind::Number(4)),
        ("IPVS_DEST_ATTR_L_THRESH", Kind::Number(4)),
        ("IPVS_DEST_ATTR_ACTIVE_CONNS", Kind::Number(4)),
        ("IPVS_DEST_ATTR_INACT_CONNS", Kind::Number(4)),
        ("IPVS_DEST_ATTR_PERSIST_CONNS", Kind::Number(4)),
        ("IPVS_DEST_ATTR_STATS", Kind::Nested),
        ("IPVS_DEST_ATTR_ADDR_FAMILY", Kind::Number(2)),
        ("IPVS_DEST_ATTR_STATS64", Kind::Any),
        ("IPVS_DEST_ATTR_TUN_TYPE", Kind::Number(1)),
        ("IPVS_DEST_ATTR_TUN_PORT", Kind::Number(2)),
        ("IPVS_DEST_ATTR_TUN_FLAGS", Kind::Number(2)),
    ],
    wrong_length: Errno::EINVAL,
};

impl DestKey {
    pub(crate) fn decode(dest: &Attributes<16>, service: &ServiceKey) -> Result<Self, Malformed> {
        let address = dest.need(DEST_ATTR_ADDR)?;
        let port = dest.need(DEST_ATTR_PORT)?;
        let family = match dest.get(DEST_ATTR_ADDR_FAMILY) {
            // Older clients do not know it: then it is the service's.
            Some(family) if family.u16() != 0 => Family::decode(&family)?,
            _ => service.family(),
        };
        Ok(Self { address: address.address(family), port: port.port() })
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.address(DEST_ATTR_ADDR, self.address);
        writer.port(DEST_ATTR_PORT, self.port);
    }

    pub(crate) fn encode_family(&self, writer: &mut Writer) {
        writer.u16(DEST_ATTR_ADDR_FAMILY, Family::of(self.address).number());
    }
}

impl DestSpec {
    pub(crate) fn decode(dest: &Attributes<16>) -> Result<Self, Malformed> {
        let forward = dest.need(DEST_ATTR_FWD_METHOD)?;
        let weight = dest.need(DEST_ATTR_WEIGHT)?;
        let upper = dest.need(DEST_ATTR_U_THRESH)?;
        let lower = dest.need(DEST_ATTR_L_THRESH)?;
        let kind = match dest.get(DEST_ATTR_TUN_TYPE) {
            None => TunnelKind::Ipip,
            Some(kind) => TunnelKind::from_number(kind.u8())
                .ok_or_else(|| kind.wrong(&kind.u8(), "0 is IPIP, 1 is GUE, 2 is GRE", Errno::EINVAL))?,
        };
        Ok(Self {
            forward: Forward::from_number(forward.u32() & CONN_F_FWD_MASK).ok_or_else(|| {
                forward.wrong(&forward.u32(), "its last three bits say 0 to 4", Errno::EINVAL)
            })?,
            weight: weight.u32().cast_signed(),
            upper_threshold: upper.u32(),
            lower_threshold: lower.u32(),
            tunnel: Tunnel {
                kind,
                port: dest.get(DEST_ATTR_TUN_PORT).map_or(0, |port| port.port()),
                flags: dest.get(DEST_ATTR_TUN_FLAGS).map_or(0, |flags| flags.u16()),
            },
        })
    }

    /// Whether a server of these options can belong to `service`: what the kernel refuses before it looks
    /// whether there is such a server, and after it has found that there is the service.
    ///
    /// Adding a server has one more rule, behind this and EEXIST: its address must be a unicast one, else
    /// EINVAL. That takes the routing table to decide.
    ///
    /// # Errors
    /// EINVAL for a server of the other address family without tunnelling, or GUE without a port; ERANGE
    /// for a negative weight or a lower threshold above the upper one.
    pub fn check(&self, service: &ServiceKey, dest: &DestKey) -> Result<(), Errno> {
        let mixed = service.family() != Family::of(dest.address);
        if mixed && self.forward != Forward::Tunnel {
            return Err(Errno::EINVAL);
        }
        if self.weight < 0 || self.lower_threshold > self.upper_threshold {
            return Err(Errno::ERANGE);
        }
        if self.tunnel.kind == TunnelKind::Gue && self.tunnel.port == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.u32(DEST_ATTR_FWD_METHOD, self.forward.number());
        writer.u32(DEST_ATTR_WEIGHT, self.weight.cast_unsigned());
        writer.u8(DEST_ATTR_TUN_TYPE, self.tunnel.kind.number());
        writer.port(DEST_ATTR_TUN_PORT, self.tunnel.port);
        writer.u16(DEST_ATTR_TUN_FLAGS, self.tunnel.flags);
        writer.u32(DEST_ATTR_U_THRESH, self.upper_threshold);
        writer.u32(DEST_ATTR_L_THRESH, self.lower_threshold);
    }
}

impl Dest {
    /// Writes the nested attribute of a reply.
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.nest(CMD_ATTR_DEST, |writer| {
            self.key.encode(writer);
            self.spec.encode(writer);
            writer.u32(DEST_ATTR_ACTIVE_CONNS, self.active);
            writer.u32(DEST_ATTR_INACT_CONNS, self.inactive);
            writer.u32(DEST_ATTR_PERSIST_CONNS, self.persistent);
            self.key.encode_family(writer);
            self.stats.encode(writer, DEST_ATTR_STATS, DEST_ATTR_STATS64);
        });
    }
}

impl Forward {
    const ALL: [Self; 5] = [Self::Masquerade, Self::Local, Self::Tunnel, Self::DirectRoute, Self::Bypass];

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|forward| forward.number() == number)
    }

    /// The number the messages carry.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Masquerade => 0,
            Self::Local => 1,
            Self::Tunnel => 2,
            Self::DirectRoute => 3,
            Self::Bypass => 4,
        }
    }
}

impl TunnelKind {
    const ALL: [Self; 3] = [Self::Ipip, Self::Gue, Self::Gre];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The number the messages carry.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Ipip => 0,
            Self::Gue => 1,
            Self::Gre => 2,
        }
    }
}

impl fmt::Display for DestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}
