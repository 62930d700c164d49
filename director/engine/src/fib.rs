//! Where packets go next: a mirror of the kernel's main routing table.

use std::net::Ipv4Addr;

use prefix_trie::PrefixMap;

/// An IPv4 prefix: the address (host order) and its length.
pub type Prefix = (u32, u8);

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
        /// The gateway's address, host order.
        gateway: u32,
    },
    /// The destination is the director itself.
    Local,
    /// The way on is not through a port of the director, or there is none (`unreachable`, `blackhole`).
    Elsewhere,
}

/// The next hop of a destination.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hop {
    /// The port.
    pub port: u8,
    /// The address whose MAC address the frame gets, host order.
    pub address: u32,
}

/// The routing table, longest prefix first.
#[derive(Clone, Default, PartialEq)]
pub struct Fib {
    routes: PrefixMap<Prefix, Route>,
}

impl Fib {
    /// Sets the route of a prefix.
    pub fn insert(&mut self, prefix: Prefix, route: Route) {
        self.routes.insert(prefix, route);
    }

    /// The route of a destination (host order).
    #[must_use]
    pub fn route(&self, destination: u32) -> Option<Route> {
        self.routes.get_lpm(&(destination, 32)).map(|(_, route)| *route)
    }

    /// The next hop of a destination (host order), where a port leads to it.
    #[must_use]
    pub fn hop(&self, destination: u32) -> Option<Hop> {
        match self.route(destination)? {
            Route::Link { port } => Some(Hop { port, address: destination }),
            Route::Gateway { port, gateway } => Some(Hop { port, address: gateway }),
            Route::Local | Route::Elsewhere => None,
        }
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

impl std::fmt::Debug for Fib {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |prefix: &Prefix| format!("{}/{}", Ipv4Addr::from(prefix.0), prefix.1);
        f.debug_map().entries(self.routes.iter().map(|(prefix, route)| (text(&prefix), route))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let mut fib = Fib::default();
        assert_eq!(fib.hop(0x0a00_0001), None);
        fib.insert((0, 0), Route::Gateway { port: 1, gateway: 0xc0a8_0201 });
        fib.insert((0x0a00_0000, 8), Route::Link { port: 0 });
        fib.insert((0x0a01_0000, 16), Route::Elsewhere);
        fib.insert((0x0a00_0005, 32), Route::Local);
        assert_eq!(fib.hop(0x0a00_0001), Some(Hop { port: 0, address: 0x0a00_0001 }));
        assert_eq!(fib.hop(0x0a00_0005), None);
        assert_eq!(fib.hop(0x0a01_0203), None);
        assert_eq!(fib.hop(0x0b00_0000), Some(Hop { port: 1, address: 0xc0a8_0201 }));
    }
}
