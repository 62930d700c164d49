//! Virtual services and real servers, as an operator names them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;

use director_packet::{Address, Endpoint, SCTP, TCP, UDP};

/// A transport protocol that services exist for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Protocol {
    /// Any protocol: that of a firewall mark's service, as in the kernel (`IPPROTO_IP`).
    Any = 0,
    /// TCP.
    Tcp = TCP,
    /// UDP.
    Udp = UDP,
    /// SCTP.
    Sctp = SCTP,
}

impl Protocol {
    /// The protocol with an IP protocol number; none for any other number, 0 included.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            TCP => Some(Self::Tcp),
            UDP => Some(Self::Udp),
            SCTP => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Its IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "fwm",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// What identifies a virtual service: protocol, address and port, or a firewall mark and the family of its packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ServiceKey {
    /// Address and port: the VIP. For a firewall mark, the mark and port 0.
    pub address: Endpoint,
    /// The protocol.
    pub protocol: Protocol,
}

impl ServiceKey {
    /// The key of a firewall mark's service for IPv4.
    #[must_use]
    pub const fn of_mark(mark: NonZeroU32) -> Self {
        Self { protocol: Protocol::Any, address: Endpoint::v4(mark.get(), 0) }
    }

    /// The key of a firewall mark's service for IPv6.
    #[must_use]
    pub const fn of_mark_v6(mark: NonZeroU32) -> Self {
        Self { protocol: Protocol::Any, address: Endpoint::v6(mark.get() as u128, 0) }
    }

    /// The netmask of persistence that keeps clients' whole addresses.
    #[must_use]
    pub const fn whole_netmask(self) -> u32 {
        if self.address.is_v6() { u128::BITS } else { u32::MAX }
    }

    /// The firewall mark, if it is one.
    #[must_use]
    pub const fn mark(self) -> Option<NonZeroU32> {
        match (self.protocol, self.address) {
            (Protocol::Any, Endpoint::V4(mark)) => NonZeroU32::new(mark.address()),
            // It was made of 32 bits.
            (Protocol::Any, Endpoint::V6(mark)) => NonZeroU32::new(mark.address() as u32),
            _ => None,
        }
    }
}

/// An endpoint and a protocol, the form in which services and servers are looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EndKey {
    pub(crate) end: Endpoint,
    pub(crate) protocol: u8,
}

impl EndKey {
    #[inline]
    pub(crate) const fn new(end: Endpoint, protocol: u8) -> Self {
        Self { end, protocol }
    }
}

/// One word for IPv4, which a hasher takes in one step.
impl Hash for EndKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.end {
            Endpoint::V4(end) => state.write_u64(end.word() | u64::from(self.protocol) << 8),
            Endpoint::V6(_) => {
                self.end.hash(state);
                state.write_u8(self.protocol);
            }
        }
    }
}

impl From<ServiceKey> for EndKey {
    fn from(key: ServiceKey) -> Self {
        Self::new(key.address, key.protocol.number())
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mark() {
            Some(mark) if self.address.is_v6() => write!(f, "fwm {mark} for IPv6"),
            Some(mark) => write!(f, "fwm {mark}"),
            None => write!(f, "{} {}", self.protocol.name(), self.address),
        }
    }
}

/// How new connections are spread over the servers: IPVS's schedulers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchedulerKind {
    /// `rr`: one after the other.
    RoundRobin,
    /// `wrr`: one after the other, the heavier more often.
    WeightedRoundRobin,
    /// `lc`: the fewest connections.
    LeastConnection,
    /// `wlc`: the fewest connections for the weight.
    WeightedLeastConnection,
    /// `lblc`: by destination address, as long as its server is not overloaded.
    LocalityLeastConnection,
    /// `lblcr`: by destination address, of a set of servers that grows and shrinks.
    LocalityReplicated,
    /// `dh`: by a hash of the destination address.
    DestinationHash,
    /// `sh`: by a hash of the source address.
    SourceHash,
    /// `sed`: where one more active connection weighs least.
    ShortestExpectedDelay,
    /// `nq`: an idle server, else as `sed`.
    NeverQueue,
    /// `fo`: the heaviest.
    Failover,
    /// `ovf`: the heaviest that has no more active connections than its weight.
    Overflow,
    /// `mh`: by a consistent (Maglev) hash of the source address.
    Maglev,
}

impl SchedulerKind {
    /// All schedulers.
    pub const ALL: [Self; 13] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnection,
        Self::WeightedLeastConnection,
        Self::LocalityLeastConnection,
        Self::LocalityReplicated,
        Self::DestinationHash,
        Self::SourceHash,
        Self::ShortestExpectedDelay,
        Self::NeverQueue,
        Self::Failover,
        Self::Overflow,
        Self::Maglev,
    ];

    /// The scheduler with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name, as ipvsadm knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnection => "lc",
            Self::WeightedLeastConnection => "wlc",
            Self::LocalityLeastConnection => "lblc",
            Self::LocalityReplicated => "lblcr",
            Self::DestinationHash => "dh",
            Self::SourceHash => "sh",
            Self::ShortestExpectedDelay => "sed",
            Self::NeverQueue => "nq",
            Self::Failover => "fo",
            Self::Overflow => "ovf",
            Self::Maglev => "mh",
        }
    }
}

/// The flag of a scheduler (`-b`), of the bits that the kernel has for it in `linux/ip_vs.h`: `sh-fallback`
/// and `mh-fallback`, another server where the hash's own is not usable. Other schedulers ignore it.
pub const FALLBACK: u32 = 0x8;

/// Likewise: `sh-port` and `mh-port`, the source port is hashed too.
pub const PORT: u32 = 0x10;

/// Likewise: the third, which no scheduler has a use for.
pub const THIRD_FLAG: u32 = 0x20;

/// The names of a scheduler's flags, in ipvsadm's order.
pub fn flag_names(scheduler: SchedulerKind, flags: u32) -> impl Iterator<Item = &'static str> {
    let names = match scheduler {
        SchedulerKind::SourceHash => ["sh-fallback", "sh-port", "flag-3"],
        SchedulerKind::Maglev => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let bits = [FALLBACK, PORT, THIRD_FLAG];
    names.into_iter().zip(bits).filter(move |(_, bit)| flags & bit != 0).map(|(name, _)| name)
}

/// The settings of a virtual service that can be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceSpec {
    /// How new connections are spread.
    pub scheduler: SchedulerKind,
    /// IPVS's flags of the scheduler (`-b`): of [`FALLBACK`], [`PORT`] and [`THIRD_FLAG`].
    pub flags: u32,
    /// Whether connections of one client go to one server (`-p`).
    pub persistence: Option<Persistence>,
    /// What tells clients apart for persistence, besides the address (`--pe`). Without persistence it means nothing.
    pub engine: Option<Engine>,
    /// Whether each UDP datagram is scheduled alone (`-o`).
    pub one_packet: bool,
    /// Whether servers see clients on their own link under an address of the director's, so that their answers come
    /// back this way. IPVS has no such thing.
    pub hairpin_snat: bool,
}

impl ServiceSpec {
    /// A service with this scheduler and nothing else.
    #[must_use]
    pub const fn new(scheduler: SchedulerKind) -> Self {
        Self { scheduler, flags: 0, persistence: None, engine: None, one_packet: false, hairpin_snat: false }
    }
}

/// IPVS's persistence engines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// `sip`: the Call-ID of a UDP datagram.
    Sip,
}

impl Engine {
    /// The engine with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        (name == Self::Sip.name()).then_some(Self::Sip)
    }

    /// Its name, as ipvsadm knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sip => "sip",
        }
    }
}

/// How connections of one client are kept together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Persistence {
    /// The timeout in seconds, counted from the beginning of the last connection.
    pub timeout: u32,
    /// The part of a client's address that identifies the client (`-M`). For IPv4 a mask in host order, not
    /// necessarily that of a prefix; for IPv6 the length of a prefix, as in the kernel.
    pub netmask: u32,
}

impl Persistence {
    /// The part of a client's address that identifies the client.
    #[must_use]
    pub(crate) fn masked(self, client: Address) -> Address {
        match client {
            Address::V4(address) => Address::V4(address & self.netmask),
            Address::V6(address) => {
                let others = u128::BITS.saturating_sub(self.netmask);
                Address::V6(address & u128::MAX.checked_shl(others).unwrap_or(0))
            }
        }
    }
}

/// How a client's packets reach a real server: IPVS's forwarding methods. A connection keeps the one it began with.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Forward {
    /// Translated, both ways (`-m`).
    #[default]
    Masquerading = 0,
    /// As they are, to the server's MAC address (`-g`). The server has the VIP too and answers by itself.
    DirectRouting = 1,
    /// Inside packets to the server, which are of the same family (`-i`). The server has the VIP too and answers by
    /// itself.
    Tunnelling = 2,
}

impl Forward {
    /// Its name in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Masquerading => "Masq",
            Self::DirectRouting => "Route",
            Self::Tunnelling => "Tunnel",
        }
    }

    /// The method with a number from a record or a slot. An unknown number gives the method of 0.
    #[must_use]
    pub(crate) const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::DirectRouting,
            2 => Self::Tunnelling,
            _ => Self::Masquerading,
        }
    }

    /// Whether the director sees only the client's packets, because the server answers without it.
    #[must_use]
    pub const fn is_one_sided(self) -> bool {
        !matches!(self, Self::Masquerading)
    }
}

/// The settings of a real server that can be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerSpec {
    /// How packets reach it.
    pub forward: Forward,
    /// Its share of new connections; 0: none.
    pub weight: u32,
    /// The server is overloaded from this many connections on; 0: never.
    pub upper: u32,
    /// It stays overloaded until it has fewer than this many; 0: fewer than three quarters of `upper`.
    pub lower: u32,
}

impl Default for ServerSpec {
    fn default() -> Self {
        Self { forward: Forward::Masquerading, weight: 1, upper: 0, lower: 0 }
    }
}
