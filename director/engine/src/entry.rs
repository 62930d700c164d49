//! What the engine keeps in a connection's record.
//!
//! The table owns the client end and the clock; word 0 is its own when an entry has a second key. The
//! others are:
//!
//! | word | bits 63–32 | 31–16 | 15–0 |
//! |---|---|---|---|
//! | 1 | virtual service: address | port | delta of the transport checksum, towards the server |
//! | 2 | real server: address | port | delta of the IPv4 header checksum, towards the server |
//!
//! | word | bits 63–40 | 39–20 | 19–0 |
//! |---|---|---|---|
//! | 3 | way to the server: epoch | adjacency | slot of the server |
//! | 4 | way to the client: epoch | adjacency | how packets reach the server |
//!
//! Only entries that are masqueraded keep ways, so that packets of all others go the general way. Of the words only
//! the ways change. Every value a worker stores there is right for its epoch, so
//! whichever of two stores comes last, plain stores do.

use director_flow::{Record, V4, V4End};
use director_packet::{Change, Delta, Endpoint4};

use crate::adjacency::{Adjacencies, Adjacency};
use crate::scheduler::ServerView;
use crate::servers::MAX_SERVERS;
use crate::service::Forward;
use crate::state::{Direction, State};

const SERVICE: usize = 1;
const SERVER: usize = 2;
const TO_SERVER: usize = 3;
const TO_CLIENT: usize = 4;

/// Bits of a slot, and where those of an adjacency and an epoch begin.
const ADJACENCY: u32 = 20;
const EPOCH: u32 = 40;
const SLOT_MASK: u64 = (1 << ADJACENCY) - 1;
const _: () = assert!(MAX_SERVERS <= 1 << ADJACENCY && Adjacencies::MAX <= 1 << (EPOCH - ADJACENCY));

/// The first epoch of the routing table: 0 is that of a way never found.
pub(crate) const FIRST_EPOCH: u32 = 1;

/// The epoch after this one, of those that a way can tell apart. Only an entry without a packet during
/// 16 million changes of the routing table would take an old way for a new one.
pub(crate) const fn next_epoch(epoch: u32) -> u32 {
    let next = (epoch + 1) % (1 << (64 - EPOCH));
    if next == 0 { FIRST_EPOCH } else { next }
}

/// The client end of an endpoint.
#[inline]
#[must_use]
pub(crate) const fn client_end(end: Endpoint4, protocol: u8) -> V4End {
    V4End::new(end.address(), end.port(), protocol)
}

/// Fills the words of a new entry of `vip` and a server of its.
pub(crate) fn fill(record: &Record<V4>, vip: Endpoint4, server: &ServerView) {
    let change = server.change;
    record.set_word(SERVICE, vip.word() | u64::from(change.transport.bits()));
    record.set_word(SERVER, server.address.word() | u64::from(change.network.bits()));
    record.set_word(TO_SERVER, u64::from(server.slot) & SLOT_MASK);
    record.set_word(TO_CLIENT, server.forward as u64);
}

/// Whether an entry is the one of a packet that goes `direction` between the client and `other`, the
/// virtual service or the real server.
#[inline]
#[must_use]
pub(crate) fn matches(record: &Record<V4>, client: V4End, direction: Direction, other: Endpoint4) -> bool {
    let (word, is_possible) = match direction {
        Direction::In => (record.word(SERVICE), true),
        Direction::Out => (record.word(SERVER), !forward(record).is_one_sided()),
    };
    record.end() == client && Endpoint4::from_word(word) == other && is_possible
}

/// How an entry's packets reach its server.
#[inline]
#[must_use]
pub(crate) fn forward(record: &Record<V4>) -> Forward {
    Forward::from_number(record.word(TO_CLIENT) as u8)
}

/// The virtual service of an entry.
#[inline]
#[must_use]
pub(crate) fn service(record: &Record<V4>) -> Endpoint4 {
    Endpoint4::from_word(record.word(SERVICE))
}

/// The real server of an entry.
#[inline]
#[must_use]
pub(crate) fn server(record: &Record<V4>) -> Endpoint4 {
    Endpoint4::from_word(record.word(SERVER))
}

/// The client of an entry.
#[inline]
#[must_use]
pub(crate) fn client(record: &Record<V4>) -> Endpoint4 {
    let end = record.end();
    Endpoint4::new(end.addr(), end.port())
}

/// The state of an entry.
#[inline]
#[must_use]
pub(crate) fn state(record: &Record<V4>) -> State {
    State::of(record.end().protocol(), record.clock().state())
}

/// The slot of an entry's real server.
#[inline]
#[must_use]
pub(crate) fn slot(record: &Record<V4>) -> u32 {
    (record.word(TO_SERVER) & SLOT_MASK) as u32
}

/// The translation of an entry's packets that go `direction`.
#[inline]
#[must_use]
pub(crate) fn change(record: &Record<V4>, direction: Direction) -> Change {
    let (to, network, transport) = match direction {
        Direction::In => Words::<false>(record).change(),
        Direction::Out => Words::<true>(record).change(),
    };
    Change { to, network, transport }
}

/// An entry's words for a packet that goes one way (`OUT`: from the server to the client). Each is read when it
/// is asked for, so that few are in registers at a time.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a, const OUT: bool>(pub(crate) &'a Record<V4>);

/// A way that an entry keeps.
#[derive(Clone, Copy)]
pub(crate) struct KeptWay(u64);

impl KeptWay {
    /// Whether it was found under this epoch.
    #[inline(always)]
    pub(crate) const fn is_of(self, epoch: u32) -> bool {
        self.0 >> EPOCH == epoch as u64
    }

    #[inline(always)]
    pub(crate) const fn next_hop(self) -> Adjacency {
        Adjacency::from_number((self.0 >> ADJACENCY) as u32 & ((1 << (EPOCH - ADJACENCY)) - 1))
    }
}

impl<const OUT: bool> Words<'_, OUT> {
    /// Whether `other` is the end that is not the client's.
    #[inline(always)]
    pub(crate) fn other_is(self, other: Endpoint4) -> bool {
        (self.0.word(if OUT { SERVER } else { SERVICE }) ^ other.word()) >> 16 == 0
    }

    #[inline(always)]
    pub(crate) fn way(self) -> KeptWay {
        KeptWay(self.0.word(if OUT { TO_CLIENT } else { TO_SERVER }))
    }

    #[inline(always)]
    pub(crate) fn slot(self) -> u32 {
        slot(self.0)
    }

    /// What is put in, and what it does to the checksums of IPv4 and of the transport.
    #[inline(always)]
    pub(crate) fn change(self) -> (Endpoint4, Delta, Delta) {
        let (service, server) = (self.0.word(SERVICE), self.0.word(SERVER));
        let (network, transport) = (Delta::from_bits(server as u16), Delta::from_bits(service as u16));
        if OUT {
            (Endpoint4::from_word(service), network.opposite(), transport.opposite())
        } else {
            (Endpoint4::from_word(server), network, transport)
        }
    }
}

const fn word_of(direction: Direction) -> usize {
    match direction {
        Direction::In => TO_SERVER,
        Direction::Out => TO_CLIENT,
    }
}

/// The next hop of an entry's packets that go `direction`, if it was found under this epoch of the
/// routing table.
#[inline]
#[must_use]
pub(crate) fn way(record: &Record<V4>, direction: Direction, epoch: u32) -> Option<Adjacency> {
    let way = KeptWay(record.word(word_of(direction)));
    way.is_of(epoch).then(|| way.next_hop())
}

/// Keeps the next hop found under an epoch, if the entry is one that keeps them.
pub(crate) fn set_way(record: &Record<V4>, direction: Direction, epoch: u32, adjacency: Adjacency) {
    if forward(record) != Forward::Masquerading {
        return;
    }
    let slot = record.word(word_of(direction)) & SLOT_MASK;
    let way = u64::from(epoch) << EPOCH | u64::from(adjacency.number()) << ADJACENCY;
    record.set_word(word_of(direction), way | slot);
}

#[cfg(test)]
mod tests {
    use super::*;
    use director_flow::{Clock, Inserted, Options, Table, Tick};

    #[test]
    fn epochs_pass_over_that_of_no_way() {
        assert_eq!(next_epoch(FIRST_EPOCH), 2);
        assert_eq!(next_epoch((1 << 24) - 2), (1 << 24) - 1);
        assert_eq!(next_epoch((1 << 24) - 1), FIRST_EPOCH);
    }

    #[test]
    fn every_field_keeps_to_itself() {
        let (vip, address) = (Endpoint4::new(0xc0a8_123a, 80), Endpoint4::new(0xc0a8_0247, 8080));
        let change = Change::between(vip, address);
        let forward = Forward::Masquerading;
        let server = ServerView { slot: MAX_SERVERS as u32 - 1, address, change, forward };
        let client = V4End::new(0xc0a8_120a, 2001, 6);
        let (table, mut workers, _) = Table::<V4>::create(&Options::new(10, 1)).unwrap();
        workers[0].quiescent();
        let make = |_, record: &Record<V4>| {
            fill(record, vip, &server);
            Ok::<_, ()>(Clock::new(Tick(0), 0, 1))
        };
        let Ok(Inserted::New(index)) = workers[0].insert(client, |_| false, make) else { panic!("not made") };
        let record = table.record(index);
        let far = (1 << 24) - 1;
        for direction in [Direction::In, Direction::Out] {
            assert_eq!(way(record, direction, FIRST_EPOCH), None);
        }
        set_way(record, Direction::In, far, Adjacency::from_number(Adjacencies::MAX as u32 - 1));
        assert_eq!(way(record, Direction::Out, far), None);
        set_way(record, Direction::Out, far, Adjacency::from_number(7));
        assert_eq!(way(record, Direction::In, far).unwrap().number(), Adjacencies::MAX as u32 - 1);
        assert_eq!(way(record, Direction::Out, far).unwrap().number(), 7);
        assert_eq!(way(record, Direction::In, far - 1), None);
        assert_eq!(
            (slot(record), super::service(record), super::server(record)),
            (server.slot, vip, address)
        );
        assert_eq!(super::change(record, Direction::In), change);
        assert_eq!(super::change(record, Direction::Out), change.opposite(vip));
        assert!(
            matches(record, client, Direction::In, vip) && matches(record, client, Direction::Out, address)
        );
        assert!(!matches(record, client, Direction::Out, vip));
    }
}
