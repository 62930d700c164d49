//! Headers, checksums and the NAT rewrite, on bytes.
//!
//! Everything here takes slices and numbers: no device, no clock, no configuration. A frame is checked
//! once, by [`parse()`], which says what the fast path needs to know of it; after that no accessor can
//! fail. What is rewritten is rewritten in place, with incremental checksums (RFC 1624).
#![deny(unsafe_code)]

pub mod checksum;
mod class;
pub mod crc32c;
mod endpoint;
pub mod ethernet;
pub mod fragment;
pub mod header;
pub mod icmp;
pub mod ipip;
pub mod ipv6;
pub mod nat;
pub mod options;
pub mod parse;
pub mod plain;
pub mod related;
pub mod sctp;
pub mod tcp;

pub use checksum::Delta;
pub use class::{Class, TcpSegment};
pub use endpoint::{Address, Endpoint, Endpoint4, Endpoint6};
pub use ethernet::Mac;
pub use nat::Change;
pub use parse::{Malformed, Segment, Verdict, parse};

/// The IP protocol number of ICMP (RFC 792).
pub const ICMP: u8 = 1;
/// The IP protocol number of ICMPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;
/// The IP protocol number of TCP (RFC 9293).
pub const TCP: u8 = 6;
/// The IP protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;
/// The IP protocol number of SCTP (RFC 9260).
pub const SCTP: u8 = 132;
/// The IP protocol number of IPsec's encapsulating security payload (RFC 4303).
pub const ESP: u8 = 50;
/// The IP protocol number of IPsec's authentication header (RFC 4302). In IPv6 it is an extension header.
pub const AH: u8 = 51;

/// Whether a protocol is one of IPsec's.
#[must_use]
pub const fn is_ipsec(protocol: u8) -> bool {
    matches!(protocol, ESP | AH)
}

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
