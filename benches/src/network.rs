//! The network of the benchmarks: who is who in the frames and in the director's configuration.
//!
//! ```text
//! clients 198.19.0.0/16 ── gateway 198.18.0.254 ──┐
//!                                                 ├── the port: 198.18.0.1 (the VIP), 198.18.1.1
//! servers 198.18.1.11 … ──────────────────────────┘
//! ```
//! All of it lies in 198.18.0.0/15, the addresses of benchmarks (RFC 2544, appendix C.2.2). One port
//! carries both sides, so that one queue and one core see everything. Over IPv6 each address stands in the last
//! four bytes of one ([`Kind::address`](crate::kind::Kind::address)).

use std::net::{Ipv4Addr, SocketAddrV4};

/// A MAC address.
pub type Mac = [u8; 6];

/// The MAC address of the first `net_pcap` port of a process, which the driver makes up itself.
pub const PORT_MAC: Mac = [0x02, b'p', b'c', b'a', b'p', 0];

/// The MAC address of the port by which connections are opened.
pub const OPENER_MAC: Mac = [0x02, 0, 0, 0, 0x0e, 1];

/// The gateway behind which the clients are.
pub const GATEWAY: (Ipv4Addr, Mac) = (Ipv4Addr::new(198, 18, 0, 254), [0x02, 0, 0, 0, 0x0c, 0xfe]);

/// The director's addresses on the port, of prefix length 24 each; the first is the virtual one.
pub const PORT_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 1, 1)];

/// The virtual service.
pub const SERVICE: SocketAddrV4 = SocketAddrV4::new(PORT_ADDRESSES[0], 80);

/// The port number the real servers listen on.
pub const SERVER_PORT: u16 = 8080;

/// The real servers.
#[must_use]
pub fn servers() -> [(Ipv4Addr, Mac); 4] {
    std::array::from_fn(|at| {
        let number = 11 + at as u8;
        (Ipv4Addr::new(198, 18, 1, number), [0x02, 0, 0, 0, 0x0d, number])
    })
}

/// The network that all clients are in, and the length of its prefix.
pub const CLIENTS: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 19, 0, 0), 16);

/// The lowest port number of a client.
const LOWEST_CLIENT_PORT: u16 = 1024;

/// How many client ends there are.
pub const CLIENT_ENDS: u32 = (1 << 16) * (u16::MAX - LOWEST_CLIENT_PORT + 1) as u32;

/// A client end by its number, which is below [`CLIENT_ENDS`].
#[must_use]
pub fn client_end(number: u32) -> SocketAddrV4 {
    let address = CLIENTS.0.to_bits() | number & 0xffff;
    // Below 2^16 for every number below CLIENT_ENDS.
    let port = (number >> 16) as u16 + LOWEST_CLIENT_PORT;
    SocketAddrV4::new(address.into(), port)
}

/// A MAC address as it is written.
#[must_use]
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ends_go_from_the_first_port_of_the_first_address_to_the_last_of_the_last() {
        assert_eq!(client_end(0).to_string(), "198.19.0.0:1024");
        assert_eq!(client_end(0x1_0203).to_string(), "198.19.2.3:1025");
        assert_eq!(client_end(CLIENT_ENDS - 1).to_string(), "198.19.255.255:65535");
    }
}
