//! Addresses and transport endpoints: of IPv4, of IPv6, and of either.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A transport endpoint of IPv4, in one word: the address, the port and 16 zero bits.
///
/// The order of the parts makes comparing two endpoints one comparison of words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint4(pub(crate) u64);

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

/// A transport endpoint of IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint6 {
    /// The halves of the address.
    high: u64,
    low: u64,
    port: u16,
}

impl Endpoint6 {
    /// The endpoint of an address (host order) and a port.
    #[must_use]
    pub const fn new(address: u128, port: u16) -> Self {
        Self { high: (address >> 64) as u64, low: address as u64, port }
    }

    /// The address, host order.
    #[must_use]
    pub const fn address(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// The port.
    #[must_use]
    pub const fn port(self) -> u16 {
        self.port
    }
}

/// An address of either family, in host order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Address {
    /// Of IPv4.
    V4(u32),
    /// Of IPv6.
    V6(u128),
}

impl Address {
    /// Whether it is 0.0.0.0 or `::`, which is no host's.
    #[must_use]
    pub const fn is_unspecified(self) -> bool {
        matches!(self, Self::V4(0) | Self::V6(0))
    }

    /// One word of it, as the kernel folds an address for its hashes: that of IPv4, and of IPv6 its four words
    /// together (exclusive or).
    #[must_use]
    pub const fn fold(self) -> u32 {
        match self {
            Self::V4(address) => address,
            Self::V6(address) => {
                (address >> 96) as u32 ^ (address >> 64) as u32 ^ (address >> 32) as u32 ^ address as u32
            }
        }
    }
}

/// A transport endpoint of either family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Endpoint {
    /// Of IPv4.
    V4(Endpoint4),
    /// Of IPv6.
    V6(Endpoint6),
}

impl Endpoint {
    /// The least of all, and the greatest.
    pub const MIN: Self = Self::v4(0, 0);
    /// See [`Self::MIN`].
    pub const MAX: Self = Self::V6(Endpoint6::new(u128::MAX, u16::MAX));

    /// The endpoint of an address and a port.
    #[must_use]
    #[inline]
    pub const fn of(address: Address, port: u16) -> Self {
        match address {
            Address::V4(address) => Self::V4(Endpoint4::new(address, port)),
            Address::V6(address) => Self::V6(Endpoint6::new(address, port)),
        }
    }

    /// The endpoint of an IPv4 address (host order) and a port.
    #[must_use]
    #[inline]
    pub const fn v4(address: u32, port: u16) -> Self {
        Self::V4(Endpoint4::new(address, port))
    }

    /// The endpoint of an IPv6 address (host order) and a port.
    #[must_use]
    #[inline]
    pub const fn v6(address: u128, port: u16) -> Self {
        Self::V6(Endpoint6::new(address, port))
    }

    /// The address.
    #[must_use]
    #[inline]
    pub const fn address(self) -> Address {
        match self {
            Self::V4(end) => Address::V4(end.address()),
            Self::V6(end) => Address::V6(end.address()),
        }
    }

    /// The port.
    #[must_use]
    #[inline]
    pub const fn port(self) -> u16 {
        match self {
            Self::V4(end) => end.port(),
            Self::V6(end) => end.port(),
        }
    }

    /// The same address with another port.
    #[must_use]
    #[inline]
    pub const fn with_port(self, port: u16) -> Self {
        match self {
            Self::V4(end) => Self::v4(end.address(), port),
            Self::V6(end) => Self::V6(Endpoint6 { port, ..end }),
        }
    }

    /// Whether it is of IPv6.
    #[must_use]
    #[inline]
    pub const fn is_v6(self) -> bool {
        matches!(self, Self::V6(_))
    }
}

/// One word for IPv4, which a hasher takes in one step.
impl Hash for Endpoint {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::V4(end) => state.write_u64(end.word()),
            Self::V6(end) => {
                state.write_u64(end.high);
                state.write_u64(end.low);
                state.write_u64(u64::from(end.port) << 16);
            }
        }
    }
}

impl From<Endpoint4> for Endpoint {
    fn from(end: Endpoint4) -> Self {
        Self::V4(end)
    }
}

impl From<Endpoint6> for Endpoint {
    fn from(end: Endpoint6) -> Self {
        Self::V6(end)
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::V4(address.to_bits())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::V6(address.to_bits())
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address {
            Address::V4(address) => Self::V4(Ipv4Addr::from_bits(address)),
            Address::V6(address) => Self::V6(Ipv6Addr::from_bits(address)),
        }
    }
}

impl From<SocketAddrV4> for Endpoint4 {
    fn from(address: SocketAddrV4) -> Self {
        Self::new(address.ip().to_bits(), address.port())
    }
}

impl From<Endpoint4> for SocketAddrV4 {
    fn from(end: Endpoint4) -> Self {
        Self::new(Ipv4Addr::from_bits(end.address()), end.port())
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::of(address.ip().into(), address.port())
    }
}

impl From<SocketAddrV4> for Endpoint {
    fn from(address: SocketAddrV4) -> Self {
        Self::V4(address.into())
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(end: Endpoint) -> Self {
        match end {
            Endpoint::V4(end) => Self::V4(end.into()),
            Endpoint::V6(end) => {
                Self::V6(SocketAddrV6::new(Ipv6Addr::from_bits(end.address()), end.port(), 0, 0))
            }
        }
    }
}

impl fmt::Display for Endpoint4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddrV4::from(*self).fmt(f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_parts() {
        for text in ["192.168.18.58:80", "[2001:db8::1:0:0:8]:8080", "0.0.0.0:0", "[::]:0"] {
            let end = Endpoint::from(text.parse::<SocketAddr>().unwrap());
            assert_eq!(end.to_string(), text);
            assert_eq!(Endpoint::of(end.address(), end.port()), end);
            assert_eq!(end.with_port(7).port(), 7);
            assert_eq!(end.with_port(7).address(), end.address());
            assert!((Endpoint::MIN..=Endpoint::MAX).contains(&end));
            assert_eq!(end.is_v6(), text.starts_with('['));
        }
    }

    #[test]
    fn an_address_folded() {
        assert_eq!(Address::V4(0xc0a8_123a).fold(), 0xc0a8_123a);
        let address: IpAddr = "2001:db8:1:2:30::5".parse().unwrap();
        assert_eq!(Address::from(address).fold(), 0x2001_0db8 ^ 0x0001_0002 ^ 0x0030_0000 ^ 0x0000_0005);
    }
}
