//! What passed to and from the servers. Each worker counts for itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use zerocopy::FromZeros;

use crate::state::Direction;

/// What passed to and from a server.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients, IP headers included.
    pub in_bytes: u64,
    /// Bytes to clients, IP headers included.
    pub out_bytes: u64,
}

impl Traffic {
    /// The sum of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections.wrapping_add(other.connections),
            in_packets: self.in_packets.wrapping_add(other.in_packets),
            out_packets: self.out_packets.wrapping_add(other.out_packets),
            in_bytes: self.in_bytes.wrapping_add(other.in_bytes),
            out_bytes: self.out_bytes.wrapping_add(other.out_bytes),
        }
    }

    /// What came since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            connections: self.connections.wrapping_sub(earlier.connections),
            in_packets: self.in_packets.wrapping_sub(earlier.in_packets),
            out_packets: self.out_packets.wrapping_sub(earlier.out_packets),
            in_bytes: self.in_bytes.wrapping_sub(earlier.in_bytes),
            out_bytes: self.out_bytes.wrapping_sub(earlier.out_bytes),
        }
    }
}

/// One worker's counts of one server. Only that worker writes them, so an addition is a load and a store.
#[derive(FromZeros)]
#[repr(C, align(64))]
pub(crate) struct Counters {
    connections: AtomicU64,
    packets: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
}

#[inline(always)]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

impl Counters {
    /// Counts a packet of so many bytes.
    #[inline(always)]
    pub(crate) fn count(&self, direction: Direction, bytes: u32) {
        add(&self.packets[direction as usize], 1);
        add(&self.bytes[direction as usize], u64::from(bytes));
    }

    /// Counts a scheduled connection.
    pub(super) fn count_connection(&self) {
        add(&self.connections, 1);
    }

    /// What was counted.
    pub(super) fn traffic(&self) -> Traffic {
        let of = |pair: &[AtomicU64; 2], direction| pair[direction as usize].load(Relaxed);
        Traffic {
            connections: self.connections.load(Relaxed),
            in_packets: of(&self.packets, Direction::In),
            out_packets: of(&self.packets, Direction::Out),
            in_bytes: of(&self.bytes, Direction::In),
            out_bytes: of(&self.bytes, Direction::Out),
        }
    }
}
