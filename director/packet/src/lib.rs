//! Headers, checksums and the NAT rewrite, on bytes.
//!
//! Everything here takes slices and numbers: no device, no clock, no configuration. A frame is checked
//! once, by [`parse()`], which says what the fast path needs to know of it; after that no accessor can
//! fail. What is rewritten is rewritten in place, with incremental checksums (RFC 1624).
#![deny(unsafe_code)]

pub mod checksum;
pub mod crc32c;
pub mod ethernet;
pub mod fragment;
pub mod header;
pub mod icmp;
pub mod nat;
pub mod parse;
pub mod plain;
pub mod sctp;

pub use checksum::Delta;
pub use ethernet::Mac;
pub use nat::Change;
pub use parse::{Malformed, Segment, Verdict, parse};

/// The IP protocol number of ICMP (RFC 792).
pub const ICMP: u8 = 1;
/// The IP protocol number of TCP (RFC 9293).
pub const TCP: u8 = 6;
/// The IP protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;
/// The IP protocol number of SCTP (RFC 9260).
pub const SCTP: u8 = 132;

/// TCP flags as they stand in byte 13 of the header (RFC 9293, section 3.1).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// A transport endpoint of IPv4, in one word: the address, the port and 16 zero bits.
///
/// The order of the parts makes comparing two endpoints one comparison of words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint4(u64);

impl Endpoint4 {
    /// The endpoint of an address (host order) and a port.
    #[must_use]
    pub const fn new(address: u32, port: u16) -> Self {
        Self((address as u64) << 32 | (port as u64) << 16)
    }

    /// The address, host order.
    #[must_use]
    pub const fn address(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The port.
    #[must_use]
    pub const fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The word: address in bits 63–32, port in bits 31–16, zeros below.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The endpoint in the upper 48 bits of a word, whatever stands below.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word & !0xffff)
    }
}

impl From<std::net::SocketAddrV4> for Endpoint4 {
    fn from(address: std::net::SocketAddrV4) -> Self {
        Self::new(u32::from(*address.ip()), address.port())
    }
}

impl From<Endpoint4> for std::net::SocketAddrV4 {
    fn from(end: Endpoint4) -> Self {
        Self::new(end.address().into(), end.port())
    }
}

impl std::fmt::Display for Endpoint4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::net::SocketAddrV4::from(*self).fmt(f)
    }
}
