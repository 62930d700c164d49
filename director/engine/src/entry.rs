//! What the engine keeps in a connection's record.
//!
//! The table owns the client end and the clock. Word 0 (of IPv6: 0 to 2) is what stands for the client towards the
//! server, where something does (`hairpin`): the entry's second key. The others are, of IPv4:
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
//! Of IPv6 each address has two words before that of its port: the service words 3 to 5, the server 6 to 8;
//! the ways are words 9 and 10.
//!
//! Only entries that are masqueraded and nothing else keep ways, but not those of FTP's control connections, so that packets of all
//! others go the general way. Of the words only the ways change. Every value a worker stores there is right for its epoch, so
//! whichever of two stores comes last, plain stores do.
//!
//! The short way reads records as they are ([`Words`]). Everything else has an [`Entry`], of either family.

use director_flow::{Clock, Family, Index, Record, Table, V4, V4End, V6, V6End};
use director_packet::{Address, Change, Delta, Endpoint, Endpoint4, Endpoint6, TCP};

use crate::adjacency::{Adjacencies, Adjacency};
use crate::scheduler::ServerView;
use crate::servers::MAX_SERVERS;
use crate::service::Forward;
use crate::snapshot::{FTP, Own};
use crate::state::{Direction, State};

/// Bits of a slot, and where those of an adjacency and an epoch begin.
const ADJACENCY: u32 = 20;
const EPOCH: u32 = 40;
const SLOT_MASK: u64 = (1 << ADJACENCY) - 1;
const _: () = assert!(MAX_SERVERS <= 1 << ADJACENCY && Adjacencies::MAX <= 1 << (EPOCH - ADJACENCY));

/// Of how packets reach the server: the number of the [`Forward`], and whether something stands for the client.
const METHOD: u64 = 0xf;
const STANDS_IN: u64 = 0x10;

/// The first epoch of the routing table: 0 is that of a way never found.
pub(crate) const FIRST_EPOCH: u32 = 1;

/// The epoch after this one, of those that a way can tell apart. Only an entry without a packet during
/// 16 million changes of the routing table would take an old way for a new one.
pub(crate) const fn next_epoch(epoch: u32) -> u32 {
    let next = (epoch + 1) % (1 << (64 - EPOCH));
    if next == 0 { FIRST_EPOCH } else { next }
}

/// Where the words of a family are, and how they hold an end.
pub(crate) trait Layout: Family {
    const IS_V6: bool;
    const SERVICE: usize;
    const SERVER: usize;
    const TO_SERVER: usize;
    const TO_CLIENT: usize;

    /// An endpoint of this family.
    type Endpoint: Copy + Into<Endpoint>;
    /// A client that there is not.
    const NOBODY: Self::End;
    /// What the short way notes of both ends: the client and the end that is not the client's, if they are little.
    /// Of many words it notes none, which are in the frame.
    type Noted: Copy;
    /// Of a client that there is not.
    const NOBODYS: Self::Noted;

    /// See [`Self::Noted`].
    fn note(client: Self::Endpoint, other: Self::Endpoint, protocol: u8) -> Self::Noted;

    /// Of both tables that of this family.
    fn table<'a>(v4: &'a Table<V4>, v6: &'a Table<V6>) -> &'a Table<Self>;
    /// Whether an endpoint's address is the director's own.
    fn is_own(own: &Own, end: Self::Endpoint) -> bool;
    /// The key of a client of this family.
    fn client_end(client: Self::Endpoint, protocol: u8) -> Self::End;
    /// Whether what was stored is this endpoint.
    fn is_end_at(record: &Record<Self>, at: usize, end: Self::Endpoint) -> bool;
    /// What was stored, the endpoint in its family's shape, and the 16 bits more.
    fn parts_at(record: &Record<Self>, at: usize) -> (Self::Endpoint, u16);
    /// The 16 bits more that were stored.
    fn rest_at(record: &Record<Self>, at: usize) -> u16;

    /// The key of a client; of another family's, one that no client has.
    fn key(client: Endpoint, protocol: u8) -> Self::End;
    /// The client of a key, and the protocol.
    fn client(end: Self::End) -> (Endpoint, u8);
    /// Stores an end with 16 bits more. One of another family is not stored.
    fn put_end(record: &Record<Self>, at: usize, end: Endpoint, rest: u16);
    /// What was stored.
    fn end_at(record: &Record<Self>, at: usize) -> (Endpoint, u16);
}

impl Layout for V4 {
    const IS_V6: bool = false;
    const SERVICE: usize = 1;
    const SERVER: usize = 2;
    const TO_SERVER: usize = 3;
    const TO_CLIENT: usize = 4;

    type Endpoint = Endpoint4;
    const NOBODY: V4End = V4End::from_bits(u64::MAX);
    type Noted = (V4End, Endpoint4);
    const NOBODYS: (V4End, Endpoint4) = (Self::NOBODY, Endpoint4::new(0, 0));

    #[inline(always)]
    fn note(client: Endpoint4, other: Endpoint4, protocol: u8) -> (V4End, Endpoint4) {
        (Self::client_end(client, protocol), other)
    }

    #[inline(always)]
    fn table<'a>(v4: &'a Table<V4>, _: &'a Table<V6>) -> &'a Table<V4> {
        v4
    }

    #[inline(always)]
    fn is_own(own: &Own, end: Endpoint4) -> bool {
        own.v4.contains(end.address())
    }

    #[inline(always)]
    fn client_end(client: Endpoint4, protocol: u8) -> V4End {
        V4End::from_bits(client.word() | u64::from(protocol) << 8)
    }

    #[inline(always)]
    fn is_end_at(record: &Record<V4>, at: usize, end: Endpoint4) -> bool {
        (record.word(at) ^ end.word()) >> 16 == 0
    }

    #[inline(always)]
    fn parts_at(record: &Record<V4>, at: usize) -> (Endpoint4, u16) {
        let word = record.word(at);
        (Endpoint4::from_word(word), word as u16)
    }

    #[inline(always)]
    fn rest_at(record: &Record<V4>, at: usize) -> u16 {
        record.word(at) as u16
    }

    #[inline]
    fn key(client: Endpoint, protocol: u8) -> V4End {
        match client {
            Endpoint::V4(client) => Self::client_end(client, protocol),
            Endpoint::V6(_) => Self::NOBODY,
        }
    }

    #[inline]
    fn client(end: V4End) -> (Endpoint, u8) {
        (Endpoint::v4(end.addr(), end.port()), end.protocol())
    }

    #[inline]
    fn put_end(record: &Record<V4>, at: usize, end: Endpoint, rest: u16) {
        if let Endpoint::V4(end) = end {
            record.set_word(at, end.word() | u64::from(rest));
        }
    }

    #[inline]
    fn end_at(record: &Record<V4>, at: usize) -> (Endpoint, u16) {
        let (end, rest) = Self::parts_at(record, at);
        (Endpoint::V4(end), rest)
    }
}

impl Layout for V6 {
    const IS_V6: bool = true;
    const SERVICE: usize = 3;
    const SERVER: usize = 6;
    const TO_SERVER: usize = 9;
    const TO_CLIENT: usize = 10;

    type Endpoint = Endpoint6;
    const NOBODY: V6End = V6End::new(0, 0, u8::MAX);
    type Noted = ();
    const NOBODYS: () = ();

    #[inline(always)]
    fn note(_: Endpoint6, _: Endpoint6, _: u8) {}

    #[inline(always)]
    fn table<'a>(_: &'a Table<V4>, v6: &'a Table<V6>) -> &'a Table<V6> {
        v6
    }

    #[inline(always)]
    fn is_own(own: &Own, end: Endpoint6) -> bool {
        own.v6.contains(end.address())
    }

    #[inline(always)]
    fn client_end(client: Endpoint6, protocol: u8) -> V6End {
        V6End::new(client.address(), client.port(), protocol)
    }

    #[inline(always)]
    fn is_end_at(record: &Record<V6>, at: usize, end: Endpoint6) -> bool {
        let address = end.address();
        let differs = |word: usize, value: u64| record.word(at + word) ^ value;
        let port = record.word(at + 2) >> 16 ^ u64::from(end.port());
        differs(0, (address >> 64) as u64) | differs(1, address as u64) | port == 0
    }

    #[inline(always)]
    fn parts_at(record: &Record<V6>, at: usize) -> (Endpoint6, u16) {
        let (high, low, rest) = (record.word(at), record.word(at + 1), record.word(at + 2));
        (Endpoint6::new(u128::from(high) << 64 | u128::from(low), (rest >> 16) as u16), rest as u16)
    }

    #[inline(always)]
    fn rest_at(record: &Record<V6>, at: usize) -> u16 {
        record.word(at + 2) as u16
    }

    fn key(client: Endpoint, protocol: u8) -> V6End {
        match client {
            Endpoint::V6(client) => Self::client_end(client, protocol),
            Endpoint::V4(_) => Self::NOBODY,
        }
    }

    fn client(end: V6End) -> (Endpoint, u8) {
        (Endpoint::v6(end.addr, end.port), end.protocol)
    }

    fn put_end(record: &Record<V6>, at: usize, end: Endpoint, rest: u16) {
        if let Address::V6(address) = end.address() {
            record.set_word(at, (address >> 64) as u64);
            record.set_word(at + 1, address as u64);
            record.set_word(at + 2, u64::from(end.port()) << 16 | u64::from(rest));
        }
    }

    fn end_at(record: &Record<V6>, at: usize) -> (Endpoint, u16) {
        let (end, rest) = Self::parts_at(record, at);
        (Endpoint::V6(end), rest)
    }
}

const _: () = assert!(V4::TO_CLIENT < V4::USER_WORDS && V6::TO_CLIENT < V6::USER_WORDS);

/// Fills the words of a new entry of `vip` and a server of its.
pub(crate) fn fill<F: Layout>(record: &Record<F>, vip: Endpoint, server: &ServerView) {
    let change = server.change;
    F::put_end(record, F::SERVICE, vip, change.transport.bits());
    F::put_end(record, F::SERVER, server.address, change.network.bits());
    record.set_word(F::TO_SERVER, u64::from(server.slot) & SLOT_MASK);
    record.set_word(F::TO_CLIENT, server.forward as u64);
}

/// Whether an entry is the one of a packet that goes `direction` between the client and `other`, the
/// virtual service or the real server.
#[inline]
#[must_use]
pub(crate) fn matches<F: Layout>(
    record: &Record<F>,
    client: F::End,
    direction: Direction,
    other: Endpoint,
) -> bool {
    let (at, is_possible) = match direction {
        Direction::In => (F::SERVICE, true),
        Direction::Out => (F::SERVER, is_plain(record)),
    };
    record.end() == client && F::end_at(record, at).0 == other && is_possible
}

/// How an entry's packets reach its server.
#[inline]
#[must_use]
fn forward<F: Layout>(record: &Record<F>) -> Forward {
    Forward::from_number((record.word(F::TO_CLIENT) & METHOD) as u8)
}

/// Whether an entry is masqueraded, and nothing else.
#[inline]
fn is_plain<F: Layout>(record: &Record<F>) -> bool {
    record.word(F::TO_CLIENT) & (METHOD | STANDS_IN) == Forward::Masquerading as u64
}

/// See [`Entry::is_ftp_control`].
#[inline]
#[must_use]
pub(crate) fn is_ftp_control<F: Layout>(record: &Record<F>) -> bool {
    let is_translated = forward(record) == Forward::Masquerading;
    service(record).0.port() == FTP && client(record).1 == TCP && is_translated
}

/// Has an end stand for the client of a new entry, after [`fill`].
pub(crate) fn put_stand_in<F: Layout>(record: &Record<F>, end: F::End) {
    record.store_alias_end(end);
    record.set_word(F::TO_CLIENT, record.word(F::TO_CLIENT) | STANDS_IN);
}

/// Whether an entry is the one of a packet from a server to what stands for a client.
#[must_use]
pub(crate) fn matches_stand_in<F: Layout>(record: &Record<F>, end: F::End, server: Endpoint) -> bool {
    let is_any = record.word(F::TO_CLIENT) & STANDS_IN != 0;
    is_any && record.alias_end() == end && F::end_at(record, F::SERVER).0 == server
}

fn stand_in<F: Layout>(record: &Record<F>) -> Option<Endpoint> {
    let is_any = record.word(F::TO_CLIENT) & STANDS_IN != 0;
    is_any.then(|| F::client(record.alias_end()).0)
}

/// The slot of an entry's real server.
#[inline]
#[must_use]
pub(crate) fn slot<F: Layout>(record: &Record<F>) -> u32 {
    slot_in(record.word(F::TO_SERVER))
}

#[inline]
const fn slot_in(word: u64) -> u32 {
    (word & SLOT_MASK) as u32
}

/// The state of an entry.
#[inline]
#[must_use]
pub(crate) fn state<F: Layout>(record: &Record<F>) -> State {
    State::of(client(record).1, record.clock().state())
}

/// A packet's server, its translation, the virtual service that it is for or from, how it goes to the server, and what
/// stands for its client there.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) slot: u32,
    pub(crate) change: Change,
    pub(crate) service: Endpoint,
    pub(crate) forward: Forward,
    pub(crate) stand_in: Option<Endpoint>,
}

#[inline]
fn load<F: Layout>(record: &Record<F>, direction: Direction) -> Load {
    let ((service, transport), (server, network)) = (service(record), server(record));
    let (transport, network) = (Delta::from_bits(transport), Delta::from_bits(network));
    let change = match direction {
        Direction::In => Change { to: server, network, transport },
        Direction::Out => {
            Change { to: service, network: network.opposite(), transport: transport.opposite() }
        }
    };
    Load { slot: slot(record), change, service, forward: forward(record), stand_in: stand_in(record) }
}

/// An entry of either table.
#[derive(Clone, Copy)]
pub(crate) enum Entry<'a> {
    V4(Index, &'a Record<V4>),
    V6(Index, &'a Record<V6>),
}

/// The same of a record of either family.
macro_rules! of_either {
    ($entry:expr, $record:ident => $value:expr) => {
        match $entry {
            Entry::V4(_, $record) => $value,
            Entry::V6(_, $record) => $value,
        }
    };
}

impl Entry<'_> {
    /// Its position in its table.
    #[inline]
    pub(crate) const fn index(self) -> Index {
        match self {
            Self::V4(index, _) | Self::V6(index, _) => index,
        }
    }

    /// The virtual service.
    #[inline]
    pub(crate) fn service(self) -> Endpoint {
        of_either!(self, record => service(record)).0
    }

    /// The real server.
    #[inline]
    pub(crate) fn server(self) -> Endpoint {
        of_either!(self, record => server(record)).0
    }

    /// The client.
    #[inline]
    pub(crate) fn client(self) -> Endpoint {
        of_either!(self, record => client(record)).0
    }

    /// The IP protocol number.
    #[inline]
    pub(crate) fn protocol(self) -> u8 {
        of_either!(self, record => client(record)).1
    }

    /// When it was last seen, its state, its timeout.
    #[inline]
    pub(crate) fn clock(self) -> Clock {
        of_either!(self, record => record.clock())
    }

    /// Replaces the clock if it still is `old`; the present one if it is not.
    #[inline]
    pub(crate) fn update(self, old: Clock, new: Clock) -> Result<(), Clock> {
        of_either!(self, record => record.update(old, new))
    }

    /// How its packets reach its server.
    #[inline]
    pub(crate) fn forward(self) -> Forward {
        of_either!(self, record => forward(record))
    }

    /// What stands for the client towards the server, if anything does.
    #[inline]
    pub(crate) fn stand_in(self) -> Option<Endpoint> {
        of_either!(self, record => stand_in(record))
    }

    /// Its state.
    #[inline]
    pub(crate) fn state(self) -> State {
        of_either!(self, record => state(record))
    }

    /// Whether it is that of a control connection of FTP, of which each packet is looked at.
    #[inline]
    pub(crate) fn is_ftp_control(self) -> bool {
        of_either!(self, record => is_ftp_control(record))
    }

    /// The slot of its real server.
    #[inline]
    pub(crate) fn slot(self) -> u32 {
        of_either!(self, record => slot(record))
    }

    /// What a packet that goes `direction` is translated and counted by.
    #[inline]
    pub(crate) fn load(self, direction: Direction) -> Load {
        of_either!(self, record => load(record, direction))
    }

    fn kept_way(self, direction: Direction) -> u64 {
        of_either!(self, record => kept_way(record, direction))
    }

    /// The next hop of its packets that go `direction`, if it was found under this epoch of the routing table.
    #[inline]
    pub(crate) fn way(self, direction: Direction, epoch: u32) -> Option<Adjacency> {
        KeptWay(self.kept_way(direction)).under(epoch)
    }

    /// Keeps the next hop found under an epoch, if it is an entry that keeps them.
    pub(crate) fn set_way(self, direction: Direction, epoch: u32, adjacency: Adjacency) {
        if !of_either!(self, record => is_plain(record)) || self.is_ftp_control() {
            return;
        }
        self.keep(direction, KeptWay::new(epoch, adjacency));
    }

    /// Keeps no next hop any more.
    pub(crate) fn forget_way(self, direction: Direction) {
        self.keep(direction, KeptWay::NONE);
    }

    fn keep(self, direction: Direction, way: KeptWay) {
        let rest = self.kept_way(direction) & SLOT_MASK;
        of_either!(self, record => keep_way(record, direction, way.0 | rest));
    }
}

#[inline]
fn service<F: Layout>(record: &Record<F>) -> (Endpoint, u16) {
    F::end_at(record, F::SERVICE)
}

#[inline]
fn server<F: Layout>(record: &Record<F>) -> (Endpoint, u16) {
    F::end_at(record, F::SERVER)
}

#[inline]
fn client<F: Layout>(record: &Record<F>) -> (Endpoint, u8) {
    F::client(record.end())
}

const fn way_of<F: Layout>(direction: Direction) -> usize {
    match direction {
        Direction::In => F::TO_SERVER,
        Direction::Out => F::TO_CLIENT,
    }
}

#[inline]
fn kept_way<F: Layout>(record: &Record<F>, direction: Direction) -> u64 {
    record.word(way_of::<F>(direction))
}

fn keep_way<F: Layout>(record: &Record<F>, direction: Direction, way: u64) {
    record.set_word(way_of::<F>(direction), way);
}

/// An entry's words for a packet that goes one way (`OUT`: from the server to the client). Each is read when it
/// is asked for, so that few are in registers at a time.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a, F: Layout, const OUT: bool>(pub(crate) &'a Record<F>);

/// A way that an entry keeps, beside what else is in that word; or a server.
#[derive(Clone, Copy)]
pub(crate) struct KeptWay(pub(crate) u64);

impl KeptWay {
    /// None was found yet.
    pub(crate) const NONE: Self = Self(0);

    /// A next hop that was found under an epoch.
    #[inline]
    pub(crate) const fn new(epoch: u32, next_hop: Adjacency) -> Self {
        Self((epoch as u64) << EPOCH | (next_hop.number() as u64) << ADJACENCY)
    }

    /// The number of the next hop, if the way was found under this epoch; if not, a number beyond that of any.
    #[inline(always)]
    pub(crate) const fn number_under(self, epoch: u32) -> u64 {
        (self.0 ^ (epoch as u64) << EPOCH) >> ADJACENCY
    }

    /// The next hop, if it was found under this epoch.
    #[inline(always)]
    pub(crate) fn under(self, epoch: u32) -> Option<Adjacency> {
        let number = self.number_under(epoch);
        (number < 1 << (EPOCH - ADJACENCY)).then(|| Adjacency::from_number(number as u32))
    }
}

impl<F: Layout, const OUT: bool> Words<'_, F, OUT> {
    /// Whether this is the end that is not the client's.
    #[inline(always)]
    pub(crate) fn other_is(self, other: F::Endpoint) -> bool {
        F::is_end_at(self.0, if OUT { F::SERVER } else { F::SERVICE }, other)
    }

    #[inline(always)]
    pub(crate) fn way(self) -> KeptWay {
        KeptWay(self.0.word(if OUT { F::TO_CLIENT } else { F::TO_SERVER }))
    }

    /// The server's slot, which lies beside the way to it: read again only for the other way.
    #[inline(always)]
    pub(crate) fn slot_beside(self, way: KeptWay) -> u32 {
        if OUT { slot(self.0) } else { slot_in(way.0) }
    }

    /// What is put in, and what it does to the checksums of IPv4 and of the transport.
    #[inline(always)]
    pub(crate) fn change(self) -> (F::Endpoint, Delta, Delta) {
        if OUT {
            let (to, transport) = F::parts_at(self.0, F::SERVICE);
            // There is no checksum of IPv6.
            let network = if F::IS_V6 { 0 } else { F::rest_at(self.0, F::SERVER) };
            (to, Delta::from_bits(network).opposite(), Delta::from_bits(transport).opposite())
        } else {
            let (to, network) = F::parts_at(self.0, F::SERVER);
            let transport = F::rest_at(self.0, F::SERVICE);
            (to, Delta::from_bits(network), Delta::from_bits(transport))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use director_flow::{Inserted, Options, Table, Tick};

    #[test]
    fn epochs_pass_over_that_of_no_way() {
        assert_eq!(next_epoch(FIRST_EPOCH), 2);
        assert_eq!(next_epoch((1 << 24) - 2), (1 << 24) - 1);
        assert_eq!(next_epoch((1 << 24) - 1), FIRST_EPOCH);
    }

    fn every_field_keeps_to_itself_of<F: Layout>(
        client: Endpoint,
        vip: Endpoint,
        address: Endpoint,
        entry_of: fn(Index, &Record<F>) -> Entry<'_>,
    ) {
        let change = Change::between(vip, address);
        let forward = Forward::Masquerading;
        let server = ServerView { slot: MAX_SERVERS as u32 - 1, address, change, forward };
        let key = F::key(client, 6);
        let (table, mut workers, _) = Table::<F>::create(&Options::new(10, 1)).unwrap();
        workers[0].quiescent();
        let make = |_, record: &Record<F>| {
            fill(record, vip, &server);
            Ok::<_, ()>(Clock::new(Tick(0), 0, 1))
        };
        let Ok(Inserted::New(index)) = workers[0].insert(key, |_| false, make) else { panic!("not made") };
        let record = table.record(index);
        let entry = entry_of(index, record);
        let far = (1 << 24) - 1;
        for direction in [Direction::In, Direction::Out] {
            assert_eq!(entry.way(direction, FIRST_EPOCH), None);
        }
        entry.set_way(Direction::In, far, Adjacency::from_number(Adjacencies::MAX as u32 - 1));
        assert_eq!(entry.way(Direction::Out, far), None);
        entry.set_way(Direction::Out, far, Adjacency::from_number(7));
        assert_eq!(entry.way(Direction::In, far).unwrap().number(), Adjacencies::MAX as u32 - 1);
        assert_eq!(entry.way(Direction::Out, far).unwrap().number(), 7);
        assert_eq!(entry.way(Direction::In, far - 1), None);
        assert_eq!((entry.slot(), entry.service(), entry.server()), (server.slot, vip, address));
        assert_eq!((entry.client(), entry.protocol(), entry.index()), (client, 6, index));
        assert_eq!(entry.load(Direction::In).change, change);
        assert_eq!(entry.load(Direction::Out).change, change.opposite(vip));
        assert!(matches(record, key, Direction::In, vip) && matches(record, key, Direction::Out, address));
        assert!(!matches(record, key, Direction::Out, vip));
        assert_eq!((entry.stand_in(), matches_stand_in(record, key, address)), (None, false));
        let own = vip.with_port(61_000);
        put_stand_in(record, F::key(own, 6));
        assert_eq!((entry.stand_in(), entry.service(), entry.server()), (Some(own), vip, address));
        assert!(
            matches_stand_in(record, F::key(own, 6), address) && matches(record, key, Direction::In, vip)
        );
        assert!(!matches(record, key, Direction::Out, address), "its answers come to the director");
        assert_eq!((entry.slot(), entry.way(Direction::Out, far).unwrap().number()), (server.slot, 7));
    }

    #[test]
    fn every_field_keeps_to_itself() {
        every_field_keeps_to_itself_of::<V4>(
            Endpoint::v4(0xc0a8_120a, 2001),
            Endpoint::v4(0xc0a8_123a, 80),
            Endpoint::v4(0xc0a8_0247, 8080),
            |index, record| Entry::V4(index, record),
        );
        let address = |low: u64| 0x2001_0db8_0001_0002_0000_0000_0000_0000 | u128::from(low);
        every_field_keeps_to_itself_of::<V6>(
            Endpoint::v6(address(10), 2001),
            Endpoint::v6(address(u64::MAX), 80),
            Endpoint::v6(u128::MAX, u16::MAX),
            |index, record| Entry::V6(index, record),
        );
    }
}
