//! The headers as they lie in a frame.

use zerocopy::byteorder::network_endian::{U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An Ethernet II header (IEEE 802.3).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// What follows.
    pub ether_type: [u8; 2],
}

/// An IPv4 header without options (RFC 791, section 3.1).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Ipv4 {
    /// Version in the upper four bits, header length in words of four bytes in the lower.
    pub version_and_length: u8,
    /// Type of service.
    pub service: u8,
    /// Length of header and data, in bytes.
    pub length: U16,
    /// Identification, for reassembly.
    pub identification: U16,
    /// Flags in the upper three bits, the fragment's offset in words of eight bytes in the lower.
    pub fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// The protocol above.
    pub protocol: u8,
    /// Checksum of the header, as it lies.
    pub checksum: [u8; 2],
    /// Source address.
    pub source: U32,
    /// Destination address.
    pub destination: U32,
}

impl Ipv4 {
    /// The "don't fragment" flag in [`Self::fragment`].
    pub const DONT_FRAGMENT: u16 = 0x4000;

    /// The "more fragments" flag and the offset in [`Self::fragment`]: not 0 in a fragment only.
    pub const IS_FRAGMENT: u16 = 0x3fff;

    /// The offset in [`Self::fragment`].
    pub const OFFSET: u16 = 0x1fff;

    /// The header's length with its options, in bytes.
    #[must_use]
    pub const fn header_length(&self) -> usize {
        ((self.version_and_length & 0x0f) as usize) * 4
    }
}

/// An IPv6 header without extensions (RFC 8200, section 3).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Ipv6 {
    /// Version in the upper four bits, then eight of the traffic class and twenty of the flow label.
    pub version_class_flow: U32,
    /// Length of what follows this header, in bytes.
    pub length: U16,
    /// The protocol above, or the kind of extension that follows.
    pub next: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Source address.
    pub source: U128,
    /// Destination address.
    pub destination: U128,
}

/// A TCP header without options (RFC 9293, section 3.1).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Tcp {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Sequence number.
    pub sequence: U32,
    /// Acknowledgment number.
    pub acknowledgment: U32,
    /// Header length in words of four bytes in the upper four bits.
    pub data_offset: u8,
    /// Control bits, see [`crate::tcp_flag`].
    pub flags: u8,
    /// Receive window.
    pub window: U16,
    /// Checksum, as it lies.
    pub checksum: [u8; 2],
    /// Urgent pointer.
    pub urgent: U16,
}

/// An SCTP common header (RFC 9260, section 3.1).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Sctp {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Verification tag.
    pub tag: U32,
    /// CRC32c, the least significant byte first.
    pub checksum: [u8; 4],
}

/// A UDP header (RFC 768).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Udp {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Length of header and data, in bytes.
    pub length: U16,
    /// Checksum, as it lies; 0: none.
    pub checksum: [u8; 2],
}
