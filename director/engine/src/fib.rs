//! Where packets go next: a mirror of the kernel's main routing tables.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use director_packet::Address;
use prefix_trie::PrefixMap;

mod ranges;

use ranges::Ranges;

/// A prefix: the address and its length in bits.
pub type Prefix = (Address, u8);

/// What a route does with its packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The destination is on the link of this port.
    Link {
        /// The port.
        port: u8,
    },
    /// The destination is behind a gateway on the link of this port.
    Gateway {
        /// The port.
        port: u8,
        /// The gateway's address.
        gateway: Address,
    },
    /// The destination is the director itself.
    Local,
    /// The way on is not through a port of the director, or there is no way (`unreachable`, `blackhole`).
    Elsewhere,
}

/// The next hop of a destination.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hop {
    /// The port.
    pub port: u8,
    /// The address whose MAC address the frame gets.
    pub address: Address,
}

/// The routing tables of both families, longest prefix first.
///
/// It is filled as a trie; workers look in what [`Self::prepare`] makes of it.
#[derive(Clone, Default)]
pub struct Fib {
    v4: PrefixMap<(u32, u8), Route>,
    v6: PrefixMap<(u128, u8), Route>,
    prepared: OnceLock<Prepared>,
}

/// What [`Fib::prepare`] makes of the routes.
#[derive(Clone)]
struct Prepared {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// The prefixes of [`Route::Local`].
    local: Vec<Prefix>,
}

impl PartialEq for Fib {
    fn eq(&self, other: &Self) -> bool {
        self.v4 == other.v4 && self.v6 == other.v6
    }
}

impl Fib {
    /// Sets the route of a prefix.
    pub fn insert(&mut self, (address, length): Prefix, route: Route) {
        self.prepared.take();
        match address {
            Address::V4(address) => self.v4.insert((address, length), route),
            Address::V6(address) => self.v6.insert((address, length), route),
        };
    }

    /// Prepares it for lookups. For the control core, before workers see it.
    pub fn prepare(&self) {
        self.prepared();
    }

    fn prepared(&self) -> &Prepared {
        self.prepared.get_or_init(|| {
            let v4 = || self.v4.iter().map(|((address, length), route)| (address, length, *route));
            let v6 = || self.v6.iter().map(|((address, length), route)| (address, length, *route));
            let local_v4 = v4().map(|(address, length, route)| (Address::V4(address), length, route));
            let local_v6 = v6().map(|(address, length, route)| (Address::V6(address), length, route));
            let local = local_v4.chain(local_v6).filter(|(.., route)| *route == Route::Local);
            let local = local.map(|(address, length, _)| (address, length)).collect();
            Prepared { v4: Ranges::new(v4()), v6: Ranges::new(v6()), local }
        })
    }

    /// The prefixes of which every address is the director itself.
    pub(crate) fn local(&self) -> &[Prefix] {
        &self.prepared().local
    }

    /// The route of a destination.
    #[must_use]
    pub fn route(&self, destination: Address) -> Option<Route> {
        if let Some(Prepared { v4, v6, .. }) = self.prepared.get() {
            return match destination {
                Address::V4(address) => v4.route(address),
                Address::V6(address) => v6.route(address),
            };
        }
        match destination {
            Address::V4(address) => self.v4.get_lpm(&(address, 32)).map(|(_, route)| *route),
            Address::V6(address) => self.v6.get_lpm(&(address, 128)).map(|(_, route)| *route),
        }
    }

    /// The next hop of a destination, where a port leads to it.
    #[must_use]
    pub fn hop(&self, destination: Address) -> Option<Hop> {
        match self.route(destination)? {
            Route::Link { port } => Some(Hop { port, address: destination }),
            Route::Gateway { port, gateway } => Some(Hop { port, address: gateway }),
            Route::Local | Route::Elsewhere => None,
        }
    }

    /// Whether two addresses are in the same network on one link, so that each reaches the other without the
    /// director.
    #[must_use]
    pub fn share_a_link(&self, one: Address, other: Address) -> bool {
        let (first, second) = match (one, other) {
            (Address::V4(one), Address::V4(other)) => {
                let network = |address| {
                    let ((address, length), route) = self.v4.get_lpm(&(address, 32))?;
                    Some((u128::from(address), length, *route))
                };
                (network(one), network(other))
            }
            (Address::V6(one), Address::V6(other)) => {
                let network = |address| {
                    let ((address, length), route) = self.v6.get_lpm(&(address, 128))?;
                    Some((address, length, *route))
                };
                (network(one), network(other))
            }
            _ => return false,
        };
        matches!(first, Some((_, _, Route::Link { .. }))) && first == second
    }

    /// The length in bits of the prefix whose route leads to an address of IPv6 (host order).
    pub(crate) fn prefix_v6(&self, destination: u128) -> Option<u8> {
        self.v6.get_lpm(&(destination, 128)).map(|((_, length), _)| length)
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for Fib {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let v4 = |prefix: (u32, u8)| format!("{}/{}", Ipv4Addr::from(prefix.0), prefix.1);
        let v6 = |prefix: (u128, u8)| format!("{}/{}", Ipv6Addr::from(prefix.0), prefix.1);
        let all = self.v4.iter().map(|(prefix, route)| (v4(prefix), route));
        f.debug_map().entries(all.chain(self.v6.iter().map(|(prefix, route)| (v6(prefix), route)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let mut fib = Fib::default();
        let v4 = Address::V4;
        assert_eq!(fib.hop(v4(0x0a00_0001)), None);
        fib.insert((v4(0), 0), Route::Gateway { port: 1, gateway: v4(0xc0a8_0201) });
        fib.insert((v4(0x0a00_0000), 8), Route::Link { port: 0 });
        fib.insert((v4(0x0a01_0000), 16), Route::Elsewhere);
        fib.insert((v4(0x0a00_0005), 32), Route::Local);
        assert_eq!(fib.hop(v4(0x0a00_0001)), Some(Hop { port: 0, address: v4(0x0a00_0001) }));
        assert_eq!(fib.hop(v4(0x0a00_0005)), None);
        assert_eq!(fib.hop(v4(0x0a01_0203)), None);
        assert_eq!(fib.hop(v4(0x0b00_0000)), Some(Hop { port: 1, address: v4(0xc0a8_0201) }));
    }

    /// Prefixes of a few bits, so that they nest and touch. The trie serves as the model.
    #[test]
    fn a_prepared_table_says_the_same() {
        bolero::check!().with_type::<Vec<(u8, u8, u8)>>().for_each(|routes| {
            let mut fib = Fib::default();
            for (address, length, port) in routes {
                let (four, six) = (u32::from(*address) << 24, u128::from(*address) << 120);
                let length = length % 9;
                let mask = !(0xff_u8.checked_shr(length.into()).unwrap_or(0));
                let route = if port % 4 == 0 { Route::Local } else { Route::Link { port: *port } };
                fib.insert((Address::V4(four & u32::from(mask) << 24), length), route);
                fib.insert((Address::V6(six & u128::from(mask) << 120), length), route);
            }
            let prepared = fib.clone();
            prepared.prepare();
            for address in 0..=255_u8 {
                for low in [0, 1, 0x00ff_ffff] {
                    let (four, six) =
                        (u32::from(address) << 24 | low, u128::from(address) << 120 | u128::from(low));
                    assert_eq!(
                        prepared.route(Address::V4(four)),
                        fib.route(Address::V4(four)),
                        "{address}: {fib:?}"
                    );
                    assert_eq!(
                        prepared.route(Address::V6(six)),
                        fib.route(Address::V6(six)),
                        "{address}: {fib:?}"
                    );
                }
            }
        });
    }

    #[test]
    fn who_shares_a_link() {
        let mut fib = Fib::default();
        let v4 = Address::V4;
        fib.insert((v4(0), 0), Route::Gateway { port: 1, gateway: v4(0xc0a8_0201) });
        fib.insert((v4(0xc0a8_0200), 24), Route::Link { port: 1 });
        fib.insert((v4(0xc0a8_1200), 24), Route::Link { port: 1 });
        assert!(fib.share_a_link(v4(0xc0a8_0247), v4(0xc0a8_0248)));
        assert!(fib.share_a_link(v4(0xc0a8_0247), v4(0xc0a8_0247)));
        assert!(!fib.share_a_link(v4(0xc0a8_0247), v4(0xc0a8_120a)), "another network of that link");
        assert!(!fib.share_a_link(v4(0x0101_0101), v4(0x0101_0102)), "behind one gateway");
        assert!(!fib.share_a_link(v4(0xc0a8_0247), Address::V6(1)));
    }

    #[test]
    fn each_family_has_its_own() {
        let mut fib = Fib::default();
        let v6 = |text: &str| Address::from(text.parse::<Ipv6Addr>().unwrap());
        fib.insert((Address::V4(0), 0), Route::Link { port: 0 });
        assert_eq!(fib.hop(v6("2001:db8::1")), None);
        fib.insert((v6("::"), 0), Route::Gateway { port: 1, gateway: v6("fe80::1") });
        fib.insert((v6("2001:db8::"), 64), Route::Link { port: 0 });
        assert_eq!(fib.hop(v6("2001:db8::1")), Some(Hop { port: 0, address: v6("2001:db8::1") }));
        assert_eq!(fib.hop(v6("2001:db8:1::1")), Some(Hop { port: 1, address: v6("fe80::1") }));
        assert_eq!(fib.len(), 3);
    }
}
