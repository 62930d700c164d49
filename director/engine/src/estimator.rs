//! Rates as IPVS estimates them: every two seconds, in fixed point.

use crate::servers::Traffic;

/// Seconds between two estimates.
pub const INTERVAL: u32 = 2;

/// Rates a second, as listings show them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Rates {
    /// New connections.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}

/// A moving average: each interval it goes a quarter of the way to the rate of that interval.
#[derive(Clone, Copy, Default, Debug)]
struct Average(i64);

impl Average {
    fn add(&mut self, rate: u64) {
        self.0 += (rate as i64 - self.0) >> 2;
    }

    const fn shown(self, bits: u32) -> u64 {
        (self.0 as u64).wrapping_add((1 << (bits - 1)) - 1) >> bits
    }
}

/// Events count in 1024ths a second (two seconds an interval: 512 an event), bytes in 32nds.
const EVENT_BITS: u32 = 10;
const BYTE_BITS: u32 = 5;

/// The estimator of a server, a service or of all of them.
#[derive(Clone, Copy, Default, Debug)]
pub struct Estimator {
    last: Traffic,
    connections: Average,
    packets: [Average; 2],
    bytes: [Average; 2],
}

impl Estimator {
    /// An estimator of counters that stand at `now`.
    #[must_use]
    pub fn starting_at(now: Traffic) -> Self {
        Self { last: now, ..Self::default() }
    }

    /// An interval has passed; the counters stand at `now`.
    pub fn tick(&mut self, now: Traffic) {
        let new = now.since(self.last);
        self.last = now;
        self.connections.add(new.connections << (EVENT_BITS - 1));
        self.packets[0].add(new.in_packets << (EVENT_BITS - 1));
        self.packets[1].add(new.out_packets << (EVENT_BITS - 1));
        self.bytes[0].add(new.in_bytes << (BYTE_BITS - 1));
        self.bytes[1].add(new.out_bytes << (BYTE_BITS - 1));
    }

    /// The rates now.
    #[must_use]
    pub const fn rates(&self) -> Rates {
        Rates {
            connections: self.connections.shown(EVENT_BITS),
            in_packets: self.packets[0].shown(EVENT_BITS),
            out_packets: self.packets[1].shown(EVENT_BITS),
            in_bytes: self.bytes[0].shown(BYTE_BITS),
            out_bytes: self.bytes[1].shown(BYTE_BITS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_rates() {
        let mut estimator = Estimator::default();
        let mut traffic = Traffic::default();
        let mut seen = Vec::new();
        for interval in 0..12 {
            if interval < 4 {
                traffic.connections += 20;
            }
            estimator.tick(traffic);
            seen.push(estimator.rates().connections);
        }
        // 10 SYN/s for 8 s. Linux showed 1,3,5,7, its first interval being a short one, and then the same.
        assert_eq!(seen, [2, 4, 6, 7, 5, 4, 3, 2, 2, 1, 1, 1]);
        let mut burst = Estimator::default();
        let traffic = Traffic { in_packets: 1500, in_bytes: 1500 * 1040, ..Traffic::default() };
        burst.tick(traffic);
        assert_eq!(burst.rates().in_packets, 187);
        burst.tick(traffic);
        assert_eq!((burst.rates().in_packets, burst.rates().in_bytes), (141, 146_250));
    }
}
