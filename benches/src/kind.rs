//! Which packets a benchmark is of: their protocol and version of IP, and what follows from these for a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use clap::{Args, ValueEnum};
use director_packet::{TCP, UDP, ethernet};
use serde::Serialize;

/// The shortest frame of Ethernet without its frame check sequence; "64-byte packets" with it.
const SHORTEST: usize = 60;

/// What the IPv6 addresses of the benchmarks begin with, out of 2001:2::/48 (RFC 5180, section 8); an IPv4 address of
/// theirs follows.
const PREFIX: u128 = 0x2001_0002 << 96;

/// How much longer the prefix of a network is over IPv6.
const PREFIX_LENGTH: u8 = 96;

/// The protocol of the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
}

/// The version of IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
pub enum Family {
    /// IPv4
    #[default]
    #[value(name = "4")]
    #[serde(rename = "4")]
    V4,
    /// IPv6
    #[value(name = "6")]
    #[serde(rename = "6")]
    V6,
}

/// The packets of a benchmark.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kind {
    /// The protocol of the connections
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Protocol,
    /// The version of IP
    #[arg(long, value_enum, default_value_t)]
    pub family: Family,
}

impl Kind {
    /// TCP over IPv4.
    pub const TCP: Self = Self::of(Protocol::Tcp, Family::V4);
    /// UDP over IPv4.
    pub const UDP: Self = Self::of(Protocol::Udp, Family::V4);
    /// TCP over IPv6.
    pub const TCP_V6: Self = Self::of(Protocol::Tcp, Family::V6);
    /// UDP over IPv6.
    pub const UDP_V6: Self = Self::of(Protocol::Udp, Family::V6);

    /// All of them.
    pub const ALL: [Self; 4] = [Self::TCP, Self::UDP, Self::TCP_V6, Self::UDP_V6];

    const fn of(protocol: Protocol, family: Family) -> Self {
        Self { protocol, family }
    }

    /// Whether it goes over IPv6.
    #[must_use]
    pub const fn is_v6(self) -> bool {
        matches!(self.family, Family::V6)
    }

    /// The number of the protocol.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self.protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        }
    }

    /// Where the transport header begins in a frame.
    #[must_use]
    pub const fn transport(self) -> usize {
        ethernet::HEADER + if self.is_v6() { 40 } else { 20 }
    }

    /// Where the data begin.
    #[must_use]
    pub const fn data(self) -> usize {
        self.transport() + if matches!(self.protocol, Protocol::Tcp) { 20 } else { 8 }
    }

    /// The length in bytes of a frame without data.
    #[must_use]
    pub const fn length(self) -> usize {
        if self.data() < SHORTEST { SHORTEST } else { self.data() }
    }

    /// Bytes of table a connection is reckoned at when memory is reserved.
    #[must_use]
    pub const fn bytes_per_connection(self) -> u64 {
        if self.is_v6() { 168 } else { 96 }
    }

    /// What stands for an IPv4 address of the benchmarks.
    #[must_use]
    pub fn address(self, address: Ipv4Addr) -> IpAddr {
        match self.family {
            Family::V4 => address.into(),
            Family::V6 => Ipv6Addr::from_bits(PREFIX | u128::from(address.to_bits())).into(),
        }
    }

    /// What stands for an IPv4 endpoint of the benchmarks.
    #[must_use]
    pub fn end(self, end: SocketAddrV4) -> SocketAddr {
        SocketAddr::new(self.address(*end.ip()), end.port())
    }

    /// What stands for an IPv4 network of the benchmarks, of which an address and the prefix's length are given.
    #[must_use]
    pub fn network(self, address: Ipv4Addr, length: u8) -> (IpAddr, u8) {
        let more = if self.is_v6() { PREFIX_LENGTH } else { 0 };
        let mask = u32::MAX << (32 - u32::from(length));
        (self.address(Ipv4Addr::from_bits(address.to_bits() & mask)), length + more)
    }

    /// What the packets of established connections are called.
    #[must_use]
    pub const fn packets(self) -> &'static str {
        match (self.protocol, self.family) {
            (Protocol::Tcp, Family::V4) => "TCP ACKs",
            (Protocol::Tcp, Family::V6) => "TCP ACKs over IPv6",
            (Protocol::Udp, Family::V4) => "UDP datagrams",
            (Protocol::Udp, Family::V6) => "UDP datagrams over IPv6",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(Kind::ALL.map(Kind::length), [60, 60, 74, 62]);
    }

    #[test]
    fn every_address_has_one_of_ipv6() {
        assert_eq!(Kind::TCP_V6.end("198.18.0.1:80".parse().unwrap()).to_string(), "[2001:2::c612:1]:80");
        assert_eq!(
            Kind::TCP_V6.network(Ipv4Addr::new(198, 19, 7, 1), 16),
            ("2001:2::c613:0".parse().unwrap(), 112)
        );
        assert_eq!(Kind::TCP.network(Ipv4Addr::new(198, 18, 1, 7), 24), ("198.18.1.0".parse().unwrap(), 24));
    }
}
