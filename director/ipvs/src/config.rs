//! The timeouts of connections, and the director's version and size.

use crate::attribute::{Attribute, Attributes};
use crate::uapi::*;
use crate::writer::Writer;
use crate::{Errno, Malformed};

/// The longest timeout in seconds, including that of persistence: the 31 days that ipvsadm and keepalived accept at
/// most. From other tools the kernel takes up to 8,589,934 seconds, and any timeout of persistence.
pub const MAX_TIMEOUT: u32 = 31 * 24 * 60 * 60;

/// The timeouts `ipvsadm --set` sets, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Of an established TCP connection.
    pub tcp: u32,
    /// Of a TCP connection after a FIN (state `FIN_WAIT`).
    pub tcp_fin: u32,
    /// Of UDP.
    pub udp: u32,
}

/// A change of [`Timeouts`]; a value that is none or 0 stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutChange {
    /// Of an established TCP connection.
    pub tcp: Option<u32>,
    /// Of a TCP connection after a FIN.
    pub tcp_fin: Option<u32>,
    /// Of UDP.
    pub udp: Option<u32>,
}

/// What `IPVS_CMD_GET_INFO` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// IPVS's version, a byte a part; that of Linux 6.1 is 1.2.1, `0x01_02_01`.
    pub version: u32,
    /// Buckets of the connection table.
    pub table_size: u32,
}

impl TimeoutChange {
    pub(crate) fn decode(command: &Attributes<7>) -> Result<Self, Malformed> {
        let read = |kind| command.get(kind).map(|attribute| timeout(&attribute)).transpose();
        Ok(Self {
            tcp: read(CMD_ATTR_TIMEOUT_TCP)?,
            tcp_fin: read(CMD_ATTR_TIMEOUT_TCP_FIN)?,
            udp: read(CMD_ATTR_TIMEOUT_UDP)?,
        })
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        for (kind, timeout) in [
            (CMD_ATTR_TIMEOUT_TCP, self.tcp),
            (CMD_ATTR_TIMEOUT_TCP_FIN, self.tcp_fin),
            (CMD_ATTR_TIMEOUT_UDP, self.udp),
        ] {
            if let Some(timeout) = timeout {
                writer.u32(kind, timeout);
            }
        }
    }

    /// The timeouts after the change.
    #[must_use]
    pub fn apply(self, before: Timeouts) -> Timeouts {
        let new = |change: Option<u32>, before| change.filter(|&t| t != 0).unwrap_or(before);
        Timeouts {
            tcp: new(self.tcp, before.tcp),
            tcp_fin: new(self.tcp_fin, before.tcp_fin),
            udp: new(self.udp, before.udp),
        }
    }
}

/// Reads a timeout; a longer one is refused with EINVAL.
pub(crate) fn timeout(attribute: &Attribute) -> Result<u32, Malformed> {
    let seconds = attribute.u32();
    if seconds > MAX_TIMEOUT {
        return Err(attribute.wrong(&seconds, "it is 2678400 seconds at most", Errno::EINVAL));
    }
    Ok(seconds)
}

impl Timeouts {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.u32(CMD_ATTR_TIMEOUT_TCP, self.tcp);
        writer.u32(CMD_ATTR_TIMEOUT_TCP_FIN, self.tcp_fin);
        writer.u32(CMD_ATTR_TIMEOUT_UDP, self.udp);
    }
}

impl Info {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.u32(INFO_ATTR_VERSION, self.version);
        writer.u32(INFO_ATTR_CONN_TAB_SIZE, self.table_size);
    }
}
