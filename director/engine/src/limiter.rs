//! How many ICMP errors are sent: to one host, Linux's `icmp_ratelimit`, and in all, its
//! `icmp_msgs_per_sec`.

use director_packet::Address;

/// Milliseconds between two errors to one host (`net.ipv4.icmp_ratelimit`).
const INTERVAL: u32 = 1000;

/// Likewise of IPv6 (`net.ipv6.icmp.ratelimit`, which Linux takes a quarter of where a route of 64 bits leads).
const INTERVAL_V6: u32 = 250;

/// A host that was sent nothing for a while may be sent this many at once, as Linux allows.
const BURST: u32 = 6;

/// Errors to all hosts together: one a millisecond (`net.ipv4.icmp_msgs_per_sec`), and so many at once
/// (`net.ipv4.icmp_msgs_burst`). Packets with forged sources are not to be turned into as many errors.
const ALL_AT_ONCE: u32 = 50;

/// Hosts remembered; another host takes the place of the one that shares it.
const PLACES: usize = 4096;

#[derive(Clone, Copy)]
struct Place {
    address: Address,
    /// Milliseconds in hand.
    credit: u32,
    last: u32,
}

/// A token bucket for each host, in a table of fixed size, and one for all of them.
pub(crate) struct Limiter {
    places: Box<[Place]>,
    all: u32,
    last: u32,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            places: vec![Place { address: Address::V4(0), credit: 0, last: 0 }; PLACES].into(),
            all: ALL_AT_ONCE,
            last: 0,
        }
    }
}

impl Limiter {
    /// Whether the host `address` may be sent an error now, at `now` milliseconds (which may wrap).
    pub(crate) fn allows(&mut self, address: Address, now: u32) -> bool {
        let interval = match address {
            Address::V4(_) => INTERVAL,
            Address::V6(_) => INTERVAL_V6,
        };
        let at = (address.fold().wrapping_mul(0x9e37_79b1) >> 20) as usize % PLACES;
        let place = &mut self.places[at];
        if place.address != address {
            *place = Place { address, credit: BURST * interval, last: now };
        }
        let passed = now.wrapping_sub(place.last);
        place.last = now;
        place.credit = place.credit.saturating_add(passed).min(BURST * interval);
        self.all = self.all.saturating_add(now.wrapping_sub(self.last)).min(ALL_AT_ONCE);
        self.last = now;
        let allowed = place.credit >= interval && self.all > 0;
        if allowed {
            place.credit -= interval;
            self.all -= 1;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVEN: Address = Address::V4(7);

    #[test]
    fn one_a_second_after_the_burst() {
        let mut limiter = Limiter::default();
        let allowed = (0..20).filter(|_| limiter.allows(SEVEN, 5)).count();
        assert_eq!(allowed, 6);
        assert!(!limiter.allows(SEVEN, 1004));
        assert!(limiter.allows(SEVEN, 1005));
        assert!(limiter.allows(Address::V4(8), 1005), "another host");
        assert_eq!((0..20).filter(|_| limiter.allows(SEVEN, 60_000)).count(), 6);
    }

    #[test]
    fn four_a_second_to_a_host_of_ipv6() {
        let mut limiter = Limiter::default();
        let host = Address::V6(7);
        assert_eq!((0..20).filter(|_| limiter.allows(host, 5)).count(), 6);
        assert!(!limiter.allows(host, 254));
        assert!(limiter.allows(host, 255));
    }

    #[test]
    fn one_a_millisecond_to_all_hosts() {
        let mut limiter = Limiter::default();
        let mut hosts = 0..;
        let mut told = |now, count| {
            hosts.by_ref().take(count).filter(|&host| limiter.allows(Address::V4(host), now)).count()
        };
        assert_eq!(told(0, 1000), 50);
        assert_eq!(told(7, 1000), 7);
        assert_eq!(told(1_000_000, 1000), 50);
        assert_eq!(told(999_999, 1000), 50, "a clock that wraps, or goes back, does not stop it for good");
    }
}
