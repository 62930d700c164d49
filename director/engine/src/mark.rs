//! Firewall marks: rules that give new connections a mark, for the virtual services of marks.

use std::num::NonZeroU32;

use director_packet::{Address, Endpoint};

use crate::fib::Prefix;

/// A rule. The first that matches counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MarkRule {
    /// The IP protocol; none: any.
    pub protocol: Option<u8>,
    /// The client's network; none: any, of either family.
    pub source: Option<Network>,
    /// The same for the connection's destination, as far as it is an address of the director's.
    pub destination: Option<Network>,
    /// The first and the last destination port.
    pub ports: (u16, u16),
    /// The mark.
    pub mark: NonZeroU32,
}

/// A network: address and mask, host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// Of IPv4.
    V4(u32, u32),
    /// Of IPv6.
    V6(u128, u128),
}

impl Network {
    /// Of a prefix.
    #[must_use]
    pub fn of((address, length): Prefix) -> Self {
        let beside = |bits: u8| u32::from(bits.saturating_sub(length));
        match address {
            Address::V4(address) => {
                let mask = u32::MAX.checked_shl(beside(32)).unwrap_or(0);
                Self::V4(address & mask, mask)
            }
            Address::V6(address) => {
                let mask = u128::MAX.checked_shl(beside(128)).unwrap_or(0);
                Self::V6(address & mask, mask)
            }
        }
    }

    pub(crate) fn contains(&self, address: Address) -> bool {
        match (*self, address) {
            (Self::V4(network, mask), Address::V4(address)) => address & mask == network,
            (Self::V6(network, mask), Address::V6(address)) => address & mask == network,
            _ => false,
        }
    }
}

impl MarkRule {
    /// All ports.
    pub const ANY_PORT: (u16, u16) = (0, u16::MAX);

    pub(crate) fn matches(&self, source: Address, destination: Endpoint, protocol: u8) -> bool {
        self.is_for(destination.address(), protocol)
            && self.source.is_none_or(|network| network.contains(source))
            && (self.ports.0..=self.ports.1).contains(&destination.port())
    }

    /// Whether something sent to this address may match.
    pub(crate) fn is_for(&self, destination: Address, protocol: u8) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
            && self.destination.is_none_or(|network| network.contains(destination))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let rule = MarkRule {
            protocol: Some(6),
            source: Some(Network::V4(0x0a00_0000, 0xff00_0000)),
            destination: Some(Network::V4(0xc0a8_123a, u32::MAX)),
            ports: (80, 443),
            mark: NonZeroU32::MIN,
        };
        let matches = |source, destination, port, protocol| {
            rule.matches(Address::V4(source), Endpoint::v4(destination, port), protocol)
        };
        assert!(matches(0x0a01_0203, 0xc0a8_123a, 80, 6));
        assert!(matches(0x0aff_ffff, 0xc0a8_123a, 443, 6));
        assert!(!matches(0x0b01_0203, 0xc0a8_123a, 80, 6));
        assert!(!matches(0x0a01_0203, 0xc0a8_123b, 80, 6));
        assert!(!matches(0x0a01_0203, 0xc0a8_123a, 79, 6));
        assert!(!matches(0x0a01_0203, 0xc0a8_123a, 444, 6));
        assert!(!matches(0x0a01_0203, 0xc0a8_123a, 80, 17));
        assert!(!rule.matches(Address::V6(0x0a01_0203), Endpoint::v6(0xc0a8_123a, 80), 6));
        let any =
            MarkRule { protocol: None, source: None, destination: None, ports: MarkRule::ANY_PORT, ..rule };
        assert!(any.matches(Address::V4(0), Endpoint::v4(u32::MAX, u16::MAX), 17));
        assert!(any.matches(Address::V6(u128::MAX), Endpoint::v6(0, 0), 6));
        let six = MarkRule { destination: Some(Network::V6(0xfd << 120, 0xff << 120)), ..any };
        assert!(six.matches(Address::V6(1), Endpoint::v6(0xfd << 120 | 7, 80), 6));
        assert!(!six.matches(Address::V6(1), Endpoint::v6(0xfc << 120 | 7, 80), 6));
    }
}
