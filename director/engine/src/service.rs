//! Virtual services and real servers, as an operator names them.

use std::fmt;

use director_packet::{Endpoint4, TCP, UDP};

/// A transport protocol that services exist for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp = TCP,
    /// UDP.
    Udp = UDP,
}

impl Protocol {
    /// The protocol of an IP protocol number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            TCP => Some(Self::Tcp),
            UDP => Some(Self::Udp),
            _ => None,
        }
    }

    /// Its IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What identifies a virtual service: its protocol, address and port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServiceKey {
    /// The protocol.
    pub protocol: Protocol,
    /// Address and port: the VIP.
    pub address: Endpoint4,
}

impl ServiceKey {
    /// The key in one word: address, port, protocol.
    #[must_use]
    pub const fn word(self) -> u64 {
        key_word(self.address, self.protocol as u8)
    }
}

/// An endpoint and a protocol in one word, the form in which services and clients are looked up.
#[inline]
#[must_use]
pub const fn key_word(end: Endpoint4, protocol: u8) -> u64 {
    end.word() | (protocol as u64) << 8
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol.name(), self.address)
    }
}

/// How new connections are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchedulerKind {
    /// Round robin, as IPVS: from the newest server to the oldest, weight 0 skipped.
    RoundRobin,
}

impl SchedulerKind {
    /// The scheduler of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        (name == "rr").then_some(Self::RoundRobin)
    }

    /// Its name, as ipvsadm knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
        }
    }
}

/// What may be changed of a virtual service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceSpec {
    /// How new connections are spread.
    pub scheduler: SchedulerKind,
    /// IPVS's flags of the scheduler (`-b`), shown as they were given.
    pub flags: u32,
}

/// What may be changed of a real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerSpec {
    /// Its share of new connections; 0: none.
    pub weight: u32,
    /// The server is overloaded from this many connections on; 0: never.
    pub upper: u32,
    /// And no longer below this many; 0: below three quarters of `upper`.
    pub lower: u32,
}

impl Default for ServerSpec {
    fn default() -> Self {
        Self { weight: 1, upper: 0, lower: 0 }
    }
}
