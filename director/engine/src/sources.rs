//! The director's own addresses by their ports, for packets that it sends in its own name.

use director_packet::Address;

use crate::fib::Hop;

/// An address of the director's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The port it is on.
    pub port: u8,
    /// The address.
    pub address: Address,
    /// The length of its network's prefix.
    pub prefix: u8,
}

impl Source {
    fn is_in_network_of(&self, address: Address) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.address, address) {
            (Address::V4(own), Address::V4(other)) => {
                (own ^ other) & !u32::MAX.checked_shr(prefix).unwrap_or(0) == 0
            }
            (Address::V6(own), Address::V6(other)) => {
                (own ^ other) & !u128::MAX.checked_shr(prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// Whether an address is the broadcast address of its network.
    #[must_use]
    pub fn is_broadcast(&self, address: Address) -> bool {
        let (Address::V4(own), Address::V4(address)) = (self.address, address) else { return false };
        // Networks of 31 bits have none (RFC 3021).
        self.prefix < 31 && own | u32::MAX >> self.prefix == address
    }
}

/// The source address of packets through a next hop to a host beyond the link: of the addresses of the port and the
/// host's family, the first in the next hop's network, or else the first. Linux does so where the route names none.
/// Link-local addresses of IPv6 do not count.
#[must_use]
pub(crate) fn towards(sources: &[Source], hop: Hop, host: Address) -> Option<Address> {
    let is_v6 = |address| matches!(address, Address::V6(_));
    // fe80::/10 (RFC 4291, section 2.5.6).
    let is_far = |address| !matches!(address, Address::V6(address) if address >> 118 == 0xfe80 >> 6);
    let of_both = |source: &&Source| {
        source.port == hop.port && is_v6(source.address) == is_v6(host) && is_far(source.address)
    };
    let mut on_port = sources.iter().filter(of_both);
    let first = on_port.clone().next();
    let near = on_port.find(|source| source.is_in_network_of(hop.address));
    near.or(first).map(|source| source.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broadcast_address() {
        let of = |prefix| Source { port: 0, address: Address::V4(0xc0a8_123a), prefix };
        assert!(of(24).is_broadcast(Address::V4(0xc0a8_12ff)));
        assert!(of(0).is_broadcast(Address::V4(u32::MAX)));
        assert!(!of(24).is_broadcast(Address::V4(0xc0a8_1200)));
        assert!(!of(24).is_broadcast(Address::V6(0xc0a8_12ff)));
        assert!(!of(31).is_broadcast(Address::V4(0xc0a8_123b)));
        assert!(!of(32).is_broadcast(Address::V4(0xc0a8_123a)));
    }

    #[test]
    fn the_address_in_the_network_of_the_next_hop() {
        let source = |port, address, prefix| Source { port, address: Address::V4(address), prefix };
        let all = [
            source(0, 0xc0a8_123a, 24),
            source(1, 0xc0a8_123b, 32),
            source(1, 0xc0a8_025a, 24),
            source(1, 0xc0a8_025b, 24),
            source(1, 0x0a00_0001, 0),
        ];
        let to = |port, address| match towards(
            &all,
            Hop { port, address: Address::V4(address) },
            Address::V4(address),
        ) {
            Some(Address::V4(address)) => Some(address),
            _ => None,
        };
        assert_eq!(to(1, 0xc0a8_0247), Some(0xc0a8_025a));
        assert_eq!(to(1, 0x0102_0304), Some(0x0a00_0001));
        assert_eq!(to(0, 0xc0a8_0247), Some(0xc0a8_123a));
        assert_eq!(to(1, 0xc0a8_123b), Some(0xc0a8_123b));
        assert_eq!(to(2, 1), None);
        // By a next hop of the other family.
        let hop = Hop { port: 1, address: Address::V6(1) };
        assert_eq!(towards(&all, hop, Address::V4(7)), Some(Address::V4(0xc0a8_123b)));
        assert_eq!(towards(&all, hop, Address::V6(7)), None);
    }

    #[test]
    fn no_address_of_the_link() {
        let v6 = |text: &str| Address::from(text.parse::<std::net::Ipv6Addr>().unwrap());
        let source = |address: &str| Source { port: 0, address: v6(address), prefix: 64 };
        let all = [source("fe80::1"), source("2001:db8:1::1"), source("2001:db8:2::1")];
        let to = |address: &str| towards(&all, Hop { port: 0, address: v6(address) }, v6(address));
        assert_eq!(to("2001:db8:2::71"), Some(v6("2001:db8:2::1")));
        assert_eq!(to("fe80::7"), Some(v6("2001:db8:1::1")));
        assert_eq!(towards(&all[..1], Hop { port: 0, address: v6("fe80::7") }, v6("fe80::7")), None);
    }
}
