//! What workers know of the configuration: immutable, swapped as a whole.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use director_packet::sctp::Event;
use director_packet::{Address, Endpoint, Mac, SCTP, TCP, UDP};

use crate::adjacency::Exit;
use crate::control::Network;
use crate::directory::Directory;
use crate::fib::{Fib, Prefix, Route};
use crate::limiter::IcmpLimits;
use crate::mark::{self, MarkRule};
use crate::scheduler::ServiceView;
use crate::service::{EndKey, ServiceKey};
use crate::sources::Source;
use crate::state::{self, Direction, State, Timeouts};

/// IPVS's sysctls (`net.ipv4.vs.*`) that the director has, with the kernel's defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sysctls {
    /// A TCP connection may begin with any segment but a RST.
    pub sloppy_tcp: bool,
    /// Whether a SYN on an entry in `TIME_WAIT` or `CLOSE` is a new connection: unless 0.
    pub conn_reuse_mode: u32,
    /// Whether the connections of a deleted server end, instead of going on when it is added again.
    pub expire_nodest_conn: bool,
    /// 3: every `am_droprate`-th new connection is dropped, beginning with the first. 0 to 2: none.
    pub drop_packet: u32,
    /// See [`Self::drop_packet`].
    pub am_droprate: u32,
    /// Whether a real server's packet without a connection is answered with an ICMP error.
    pub nat_icmp_send: bool,
    /// Whether about one in 32 entries of connections that are not established yet is deleted each second.
    pub drop_entry: bool,
    /// A TCP connection is established by its server alone.
    pub secure_tcp: bool,
    /// Whether an ICMP error to a virtual service about an unknown connection makes an entry.
    pub schedule_icmp: bool,
    /// An SCTP association may begin with any packet but an ABORT.
    pub sloppy_sctp: bool,
    /// Whether a persistence template is no longer used when its server has the weight 0.
    pub expire_quiescent_template: bool,
    /// FTP: whether data connections may lead to other hosts than those of the control connection, and to privileged
    /// ports.
    pub ftp_loose: bool,
    /// Whether a packet that must not be split is put only into tunnel packets that must not be split either.
    pub pmtu_disc: bool,
}

impl Default for Sysctls {
    fn default() -> Self {
        Self {
            sloppy_tcp: false,
            conn_reuse_mode: 1,
            expire_nodest_conn: false,
            drop_packet: 0,
            am_droprate: 10,
            nat_icmp_send: false,
            drop_entry: false,
            secure_tcp: false,
            schedule_icmp: false,
            sloppy_sctp: false,
            expire_quiescent_template: false,
            ftp_loose: false,
            pmtu_disc: true,
        }
    }
}

/// A port as workers need to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortView {
    /// Its MAC address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Whether frames may be sent on it.
    pub up: bool,
    /// Whether it has a kernel twin.
    pub twin: bool,
    /// The source address of its ICMP errors, in host order; 0: none.
    pub address: u32,
    /// Likewise of IPv6.
    pub address_v6: u128,
}

impl PortView {
    /// The source address of ICMP errors about this client's packets.
    pub(crate) const fn address_for(&self, client: Endpoint) -> Address {
        if client.is_v6() { Address::V6(self.address_v6) } else { Address::V4(self.address) }
    }

    pub(crate) fn exit(&self) -> Exit {
        Exit { mac: self.mac, mtu: if self.up { self.mtu } else { 0 } }
    }
}

/// The port of FTP's control connections, and the port from which servers open data connections. As in the kernel,
/// what a client sends from the latter is never a new connection, to whichever service.
pub(crate) const FTP: u16 = 21;
pub(crate) const FTP_DATA: u16 = 20;

/// The configuration at one moment. Its large parts are shared with the snapshots before and after.
#[derive(Clone, Debug)]
pub struct Snapshot {
    directory: Directory,
    own: Arc<Own>,
    /// Distinguishes this snapshot from every other that a worker may have seen lately.
    pub(crate) serial: u32,
    /// The ports.
    pub ports: Vec<PortView>,
    /// The routing table.
    pub fib: Arc<Fib>,
    /// The addresses that the director's own packets come from.
    pub(crate) sources: Arc<[Source]>,
    /// Changes with every change of the routing table. It has 24 bits and is never 0.
    pub fib_epoch: u32,
    /// The timeouts of the states.
    pub timeouts: Timeouts,
    /// The switches.
    pub sysctls: Sysctls,
    /// The kernel's `net.ipv4.ip_forward`.
    pub ip_forward: bool,
    /// The kernel's `net.ipv6.conf.all.forwarding`.
    pub ip_forward_v6: bool,
    /// Its switches for ICMP errors.
    pub(crate) icmp_limits: IcmpLimits,
    /// Which new connections have a firewall mark.
    marks: Arc<[MarkRule]>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            directory: Directory::default(),
            own: Arc::default(),
            serial: 0,
            ports: Vec::new(),
            fib: Arc::default(),
            sources: Arc::new([]),
            fib_epoch: 0,
            timeouts: Timeouts::default(),
            sysctls: Sysctls::default(),
            ip_forward: true,
            ip_forward_v6: true,
            icmp_limits: IcmpLimits::default(),
            marks: Arc::new([]),
        }
    }
}

impl Snapshot {
    /// The configuration that these make up.
    pub(crate) fn new(
        network: &Network,
        own: Arc<Own>,
        fib_epoch: u32,
        timeouts: Timeouts,
        sysctls: Sysctls,
        marks: Arc<[MarkRule]>,
        directory: Directory,
    ) -> Self {
        Self {
            directory,
            own,
            serial: 0,
            ports: network.ports.clone(),
            fib: network.fib.clone(),
            sources: network.sources.clone(),
            fib_epoch,
            timeouts,
            sysctls,
            ip_forward: network.ip_forward,
            ip_forward_v6: network.ip_forward_v6,
            icmp_limits: network.icmp_limits,
            marks,
        }
    }

    /// The state after a packet; `flags` are as in [`Segment`](director_packet::Segment).
    #[inline]
    pub(crate) fn next_state(&self, state: State, direction: Direction, protocol: u8, flags: u8) -> State {
        if protocol == UDP {
            return State::Udp;
        }
        if protocol == SCTP {
            return state::sctp::next(state, direction, Event::from_number(flags));
        }
        if self.sysctls.secure_tcp {
            return state::next_secure(state, direction, flags);
        }
        state::next(state, direction, flags)
    }

    /// As [`Self::next_state`], for a client's packet of a connection whose server answers without the director.
    pub(crate) fn next_one_sided(&self, state: State, protocol: u8, flags: u8) -> State {
        if protocol == UDP {
            return State::Udp;
        }
        if protocol == SCTP {
            return state::sctp::next_one_sided(state, Event::from_number(flags));
        }
        if self.sysctls.secure_tcp {
            return state::next_one_sided_secure(state, flags);
        }
        state::next_one_sided(state, flags)
    }

    /// Whether the kernel forwards packets of a client's family.
    #[inline]
    pub(crate) const fn forwards(&self, client: Endpoint) -> bool {
        if client.is_v6() { self.ip_forward_v6 } else { self.ip_forward }
    }

    /// Whether there is no service at all of this family. Then nothing of the family is translated, not even for
    /// existing connections.
    #[inline]
    #[must_use]
    pub fn is_off(&self, is_v6: bool) -> bool {
        self.directory.is_empty(is_v6)
    }

    /// The service of a client's new connection: that of its firewall mark, else that of the address and port, else
    /// that of all ports of the address, which refuses the connection if it is not persistent. For the ports of data
    /// connections, a service with FTP's control port comes before that of all ports: it takes the connection if it
    /// is persistent, and leaves it to the kernel if not.
    #[must_use]
    pub fn service(&self, client: Address, address: Endpoint, protocol: u8) -> Option<&Arc<ServiceView>> {
        let marked = |rule: &&MarkRule| rule.matches(client, address, protocol);
        let of_mark = if address.is_v6() { ServiceKey::of_mark_v6 } else { ServiceKey::of_mark };
        if let Some(rule) = self.marks.iter().find(marked)
            && let Some(view) = self.directory.service(of_mark(rule.mark).into())
        {
            return Some(view);
        }
        let of_port = |port| {
            let of = EndKey::new(address.with_port(port), protocol);
            self.directory.service(of)
        };
        if let Some(view) = of_port(address.port()) {
            return Some(view);
        }
        let may_be_ftp = protocol == TCP && (address.port() == FTP_DATA || address.port() >= 1024);
        if may_be_ftp && let Some(view) = of_port(FTP) {
            return view.persistence.is_some().then_some(view);
        }
        if self.directory.has_any_port() { of_port(0) } else { None }
    }

    /// The service to which datagrams without an entry from this server's address and port belong, and the server's
    /// slot there: if there is exactly one, and it schedules each datagram alone or has a persistence engine.
    #[must_use]
    pub(crate) fn one_packet_service(
        &self,
        server: Endpoint,
        protocol: u8,
    ) -> Option<(&Arc<ServiceView>, u32)> {
        let (service, slot) = self.directory.one_packet(EndKey::new(server, protocol))?;
        Some((self.directory.service(EndKey::new(service, protocol))?, slot))
    }

    /// Whether a service may have this address, on any port.
    #[must_use]
    pub fn has_service_on(&self, address: Address, protocol: u8) -> bool {
        self.directory.has_address(address, protocol)
            || self.marks.iter().any(|rule| rule.is_for(address, protocol))
    }

    /// Whether this is a real server of a service, as `nat_icmp_send` sees it.
    #[must_use]
    pub fn has_server(&self, address: Endpoint, protocol: u8) -> bool {
        self.directory.has_server(EndKey::new(address, protocol))
    }

    /// The director's own addresses, to be asked for a burst.
    #[inline(always)]
    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    /// Whether packets to an address end at the director: to its own addresses, and where its routing table says so.
    pub(crate) fn ends_here(&self, address: Address) -> bool {
        self.is_local(address) || self.fib.route(address) == Some(Route::Local)
    }

    /// Whether an address is the director's own.
    #[inline]
    #[must_use]
    pub fn is_local(&self, address: Address) -> bool {
        self.own.contains(address)
    }
}

/// The director's own addresses.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub(crate) v4: Local<u32>,
    pub(crate) v6: Local<u128>,
    /// Networks that are local by a route alone (`ip route add local`); only the general way knows of them.
    networks: Vec<mark::Network>,
}

impl Own {
    /// Of the addresses of interfaces, and of what routes say.
    pub(crate) fn new(addresses: &[Address], routes: &[Prefix]) -> Self {
        let is_whole = |prefix: &&Prefix| matches!(prefix, (Address::V4(_), 32) | (Address::V6(_), 128));
        let all = || addresses.iter().chain(routes.iter().filter(is_whole).map(|(address, _)| address));
        let v4 = all().filter_map(|address| match address {
            Address::V4(address) => Some(*address),
            Address::V6(_) => None,
        });
        let v6 = all().filter_map(|address| match address {
            Address::V6(address) => Some(*address),
            Address::V4(_) => None,
        });
        // What is to a loopback address does not come from a network.
        let is_loopback =
            |prefix: &Prefix| matches!(prefix, (Address::V4(address), _) if address >> 24 == 127);
        let networks = routes.iter().filter(|prefix| !is_whole(prefix) && !is_loopback(prefix));
        Self {
            v4: Local::new(v4),
            v6: Local::new(v6),
            networks: networks.map(|prefix| mark::Network::of(*prefix)).collect(),
        }
    }

    /// Whether an address is one of them.
    #[inline]
    pub(crate) fn contains(&self, address: Address) -> bool {
        let is_one = match address {
            Address::V4(address) => self.v4.contains(address),
            Address::V6(address) => self.v6.contains(address),
        };
        is_one || !self.networks.is_empty() && self.is_in_network(address)
    }

    #[inline(never)]
    fn is_in_network(&self, address: Address) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }
}

/// An address in host order: a `u32` or a `u128`.
pub(crate) trait Bits: Copy + Eq + Hash {
    /// No host's.
    const UNSPECIFIED: Self;
    /// One of another [place](Self::place).
    const ANOTHER: Self;

    /// A number of [`PLACE_BITS`] bits; good enough to spread a few addresses.
    fn place(self) -> usize;
}

impl Bits for u32 {
    const UNSPECIFIED: Self = 0;
    const ANOTHER: Self = 1;

    #[inline(always)]
    fn place(self) -> usize {
        (self.wrapping_mul(0x9e37_79b1) >> (Self::BITS - PLACE_BITS)) as usize
    }
}

impl Bits for u128 {
    const UNSPECIFIED: Self = 0;
    const ANOTHER: Self = 1;

    #[inline(always)]
    fn place(self) -> usize {
        let halves = self as u64 ^ (self >> 64) as u64;
        (halves.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PLACE_BITS)) as usize
    }
}

/// The director's own addresses of a family. Every packet asks for them.
#[derive(Clone, Debug)]
pub(crate) struct Local<A> {
    all: HashSet<A, ahash::RandomState>,
    /// By place: its only address. Where a place has none or several, an address that belongs to another place.
    only: Only<A>,
    /// The places of several, of which `all` knows.
    several: u64,
}

/// A small array, so that no index into it need be checked.
#[derive(Clone, Debug)]
struct Only<A>([A; 1 << PLACE_BITS]);

const PLACE_BITS: u32 = u64::BITS.ilog2();

impl<A: Bits> Default for Local<A> {
    fn default() -> Self {
        let only = std::array::from_fn(Self::none_of);
        Self { all: HashSet::default(), only: Only(only), several: 0 }
    }
}

impl<A: Bits> Local<A> {
    fn new(addresses: impl Iterator<Item = A>) -> Self {
        let all = addresses.filter(|&address| address != A::UNSPECIFIED).collect();
        let mut local = Self { all, ..Self::default() };
        for &address in &local.all {
            let place = address.place();
            let only = &mut local.only.0[place];
            if only.place() == place {
                local.several |= 1 << place;
            }
            *only = if local.several & 1 << place == 0 { address } else { Self::none_of(place) };
        }
        local
    }

    fn none_of(place: usize) -> A {
        if A::UNSPECIFIED.place() == place { A::ANOTHER } else { A::UNSPECIFIED }
    }

    /// Whether an address (host order) is one of them.
    #[inline(always)]
    pub(crate) fn contains(&self, address: A) -> bool {
        let place = address.place();
        self.only.0[place] == address || self.several & 1 << place != 0 && self.is_in_all(address)
    }

    #[inline(never)]
    fn is_in_all(&self, address: A) -> bool {
        self.all.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees_with_a_list<A: Bits>(own: &[A], others: &[A]) {
        let set = Local::new(own.iter().copied());
        let is_one = |address| own.contains(&address) && address != A::UNSPECIFIED;
        assert!(own.iter().chain(others).all(|&address| set.contains(address) == is_one(address)));
        for address in [A::UNSPECIFIED, A::ANOTHER] {
            assert_eq!(set.contains(address), is_one(address));
            assert!(!Local::default().contains(address));
        }
    }

    #[test]
    fn local_addresses() {
        bolero::check!()
            .with_type::<(Vec<u32>, Vec<u32>)>()
            .for_each(|(own, others)| agrees_with_a_list(own, others));
        bolero::check!()
            .with_type::<(Vec<u128>, Vec<u128>)>()
            .for_each(|(own, others)| agrees_with_a_list(own, others));
        // More than there are places, so that several share one.
        let near: Vec<u128> = (0..200).map(|low| 0x2001_0db8 << 96 | low).collect();
        agrees_with_a_list(&near[..100], &near);
    }
}
