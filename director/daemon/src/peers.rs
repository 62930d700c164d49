//! Who has a TCP connection with the kernel behind the twins, as far as what the kernel sends tells.
//!
//! A segment that comes in for the kernel may be forged, and so may a million a second, which would leave no room for the
//! answers to health checks. What the kernel itself sends, and does not only forward, cannot be forged from
//! outside. So segments have the room of their class only in a connection in which it has sent something of late.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use director_engine::Tick;
use director_packet::tcp_flag::{ACK, RST, SYN};
use director_packet::{Address, Class, Endpoint, TcpSegment};

/// How many connections are told apart; a power of two.
const PLACES: usize = 1 << 16;

/// For how many ticks a connection is known after the kernel has sent something in it: 20 s, which is longer than a health
/// check waits.
const KNOWN: u32 = Tick::from_millis(20_000).0;

/// When the kernel has last sent something, by a secret hash of the connection's ends. Two of one place are taken for the
/// same: which lets a segment pass that need not, and never keeps one out. Each place stands for itself, hence Relaxed.
pub(crate) struct Peers {
    hasher: RandomState,
    places: Box<[AtomicU32]>,
}

impl Peers {
    pub(crate) fn new() -> Self {
        let never = || AtomicU32::new(Tick(0).minus(KNOWN).0);
        Self { hasher: RandomState::new(), places: std::iter::repeat_with(never).take(PLACES).collect() }
    }

    fn place(&self, own: Endpoint, other: Endpoint) -> &AtomicU32 {
        let hash = self.hasher.hash_one((own.address(), own.port(), other.address(), other.port()));
        &self.places[hash as usize % PLACES]
    }

    /// The kernel sends a frame. What it forwards, or answers anybody with (RST, SYN-ACK), shows no connection of its own.
    pub(crate) fn sends(&self, frame: &[u8], now: Tick, is_own: impl FnOnce(Address) -> bool) {
        if let Some(TcpSegment { source, destination, flags }) = TcpSegment::of(frame)
            && flags & RST == 0
            && flags & (SYN | ACK) != SYN | ACK
            && is_own(source.address())
        {
            self.place(source, destination).store(now.0, Relaxed);
        }
    }

    /// The class of a frame that came in for the kernel.
    pub(crate) fn class(&self, frame: &[u8], now: Tick) -> Class {
        let is_known = |segment: TcpSegment| {
            let last = self.place(segment.destination, segment.source).load(Relaxed);
            now.since(Tick(last)) < KNOWN
        };
        match Class::of(frame) {
            Class::Tcp if !TcpSegment::of(frame).is_some_and(is_known) => Class::Other,
            class => class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment between two addresses and ports of IPv4, each the same number.
    fn segment(source: u8, destination: u8, flags: u8) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend([source; 4]);
        frame.extend([destination; 4]);
        frame.extend([source, source, destination, destination, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags]);
        frame.extend([0; 6]);
        frame
    }

    #[test]
    fn the_kernels_connections_are_told_from_forged_ones() {
        const NOW: Tick = Tick(1000);
        let peers = Peers::new();
        let class = |source, flags| peers.class(&segment(source, 9, flags), NOW);
        assert_eq!(class(1, ACK), Class::Other);
        // It opens a connection to one, has one of another's, and answers what two others have sent.
        for (peer, flags) in [(1, SYN), (2, ACK), (3, RST | ACK), (4, SYN | ACK)] {
            peers.sends(&segment(9, peer, flags), NOW, |_| true);
        }
        // It forwards what another sends.
        peers.sends(&segment(9, 5, ACK), NOW, |_| false);
        assert_eq!(class(5, ACK), Class::Other);
        let classes = [1, 2, 3, 4].map(|peer| class(peer, ACK));
        assert_eq!(classes, [Class::Tcp, Class::Tcp, Class::Other, Class::Other]);
        assert_eq!(class(1, SYN | ACK), Class::Tcp);
        // A SYN and what is no TCP are of the class that they were.
        assert_eq!(class(1, SYN), Class::Other);
        assert_eq!(peers.class(&[], NOW), Class::Other);
        // The other direction is none of its connections.
        assert_eq!(peers.class(&segment(9, 1, ACK), NOW), Class::Other);
    }

    #[test]
    fn what_has_been_silent_for_long_is_unknown() {
        let peers = Peers::new();
        assert_eq!(peers.class(&segment(1, 9, ACK), Tick(0)), Class::Other, "at the start");
        peers.sends(&segment(9, 1, ACK), Tick(1000), |_| true);
        // A worker's clock may be behind.
        for (now, class) in [(999, Class::Tcp), (1199, Class::Tcp), (1200, Class::Other)] {
            assert_eq!(peers.class(&segment(1, 9, ACK), Tick(now)), class, "{now}");
        }
    }
}
