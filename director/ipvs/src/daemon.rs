//! The daemons that synchronize connections between directors.

use std::net::IpAddr;

use crate::attribute::{Attribute, Attributes, Kind, Policy};
use crate::uapi::*;
use crate::writer::Writer;
use crate::{Errno, Malformed, Name};

/// A synchronization daemon: as a client starts it, and as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Sender or receiver.
    pub role: DaemonRole,
    /// The interface of the multicast traffic.
    pub interface: Name,
    /// Which directors belong together.
    pub sync_id: u32,
    /// Bytes of payload in a datagram; none: by the interface's MTU.
    pub max_length: Option<u16>,
    /// The multicast group; none: 224.0.0.81.
    pub group: Option<IpAddr>,
    /// The UDP port; none: 8848.
    pub port: Option<u16>,
    /// The time to live; none: 1.
    pub ttl: Option<u8>,
}

/// `IP_VS_STATE_MASTER` or `IP_VS_STATE_BACKUP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DaemonRole {
    /// It sends.
    Master,
    /// It receives.
    Backup,
}

pub(crate) static DAEMON: Policy<9> = Policy {
    nest: "IPVS_CMD_ATTR_DAEMON",
    attributes: [
        ("", Kind::Any),
        ("IPVS_DAEMON_ATTR_STATE", Kind::Number(4)),
        ("IPVS_DAEMON_ATTR_MCAST_IFN", Kind::Text(15)),
        ("IPVS_DAEMON_ATTR_SYNC_ID", Kind::Number(4)),
        ("IPVS_DAEMON_ATTR_SYNC_MAXLEN", Kind::Number(2)),
        ("IPVS_DAEMON_ATTR_MCAST_GROUP", Kind::Number(4)),
        ("IPVS_DAEMON_ATTR_MCAST_GROUP6", Kind::Exact(ADDRESS_SIZE)),
        ("IPVS_DAEMON_ATTR_MCAST_PORT", Kind::Number(2)),
        ("IPVS_DAEMON_ATTR_MCAST_TTL", Kind::Number(1)),
    ],
    wrong_length: Errno::EINVAL,
};

impl Daemon {
    pub(crate) fn decode(daemon: &Attributes<9>) -> Result<Self, Malformed> {
        let state = daemon.need(DAEMON_ATTR_STATE)?;
        let interface = daemon.need(DAEMON_ATTR_MCAST_IFN)?;
        let sync_id = daemon.need(DAEMON_ATTR_SYNC_ID)?;
        let group = match (daemon.get(DAEMON_ATTR_MCAST_GROUP), daemon.get(DAEMON_ATTR_MCAST_GROUP6)) {
            (Some(group), _) => Some((IpAddr::V4(group.ipv4()), group)),
            (None, Some(group)) => Some((IpAddr::V6(group.ipv6()), group)),
            (None, None) => None,
        };
        if let Some((address, attribute)) = group
            && !address.is_multicast()
        {
            return Err(attribute.wrong(&address, "it is no multicast group", Errno::EINVAL));
        }
        Ok(Self {
            role: DaemonRole::decode(&state)?,
            interface: interface.name()?,
            sync_id: sync_id.u32(),
            max_length: daemon.get(DAEMON_ATTR_SYNC_MAXLEN).map(|length| length.u16()),
            group: group.map(|(address, _)| address),
            // Unlike a service's, this port is in host order.
            port: daemon.get(DAEMON_ATTR_MCAST_PORT).map(|port| port.u16()),
            ttl: daemon.get(DAEMON_ATTR_MCAST_TTL).map(|ttl| ttl.u8()),
        })
    }

    /// Writes the nested attribute of a request or a reply.
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.nest(CMD_ATTR_DAEMON, |writer| {
            self.role.encode(writer);
            writer.text(DAEMON_ATTR_MCAST_IFN, self.interface.as_str());
            writer.u32(DAEMON_ATTR_SYNC_ID, self.sync_id);
            if let Some(length) = self.max_length {
                writer.u16(DAEMON_ATTR_SYNC_MAXLEN, length);
            }
            if let Some(port) = self.port {
                writer.u16(DAEMON_ATTR_MCAST_PORT, port);
            }
            if let Some(ttl) = self.ttl {
                writer.u8(DAEMON_ATTR_MCAST_TTL, ttl);
            }
            match self.group {
                Some(IpAddr::V4(group)) => {
                    writer.attribute(DAEMON_ATTR_MCAST_GROUP, &group.octets());
                }
                Some(IpAddr::V6(group)) => {
                    writer.attribute(DAEMON_ATTR_MCAST_GROUP6, &group.octets());
                }
                None => {}
            }
        });
    }
}

impl DaemonRole {
    pub(crate) fn decode(state: &Attribute) -> Result<Self, Malformed> {
        match state.u32() {
            1 => Ok(Self::Master),
            2 => Ok(Self::Backup),
            other => Err(state.wrong(&other, "1 is the master, 2 the backup", Errno::EINVAL)),
        }
    }

    pub(crate) fn encode(self, writer: &mut Writer) {
        let state = match self {
            Self::Master => 1,
            Self::Backup => 2,
        };
        writer.u32(DAEMON_ATTR_STATE, state);
    }
}
