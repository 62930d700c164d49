//! How many ICMP errors a host is sent: Linux's `icmp_ratelimit`.

/// Milliseconds between two errors to one host (`net.ipv4.icmp_ratelimit`).
const INTERVAL: u32 = 1000;

/// A host that was sent nothing for a while may be sent this many at once, as Linux allows.
const BURST: u32 = 6;

/// Hosts remembered; another host takes the place of the one that shares it.
const PLACES: usize = 4096;

#[derive(Clone, Copy)]
struct Place {
    address: u32,
    /// Milliseconds in hand.
    credit: u32,
    last: u32,
}

/// A token bucket for each host, in a table of fixed size.
pub(crate) struct Limiter {
    places: Box<[Place]>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { places: vec![Place { address: 0, credit: 0, last: 0 }; PLACES].into() }
    }
}

impl Limiter {
    /// Whether the host `address` may be sent an error now, at `now` milliseconds (which may wrap).
    pub(crate) fn allows(&mut self, address: u32, now: u32) -> bool {
        let at = (address.wrapping_mul(0x9e37_79b1) >> 20) as usize % PLACES;
        let place = &mut self.places[at];
        if place.address != address {
            *place = Place { address, credit: BURST * INTERVAL, last: now };
        }
        let passed = now.wrapping_sub(place.last);
        place.last = now;
        place.credit = place.credit.saturating_add(passed).min(BURST * INTERVAL);
        let allowed = place.credit >= INTERVAL;
        if allowed {
            place.credit -= INTERVAL;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_after_the_burst() {
        let mut limiter = Limiter::default();
        let allowed = (0..20).filter(|_| limiter.allows(7, 5)).count();
        assert_eq!(allowed, 6);
        assert!(!limiter.allows(7, 1004));
        assert!(limiter.allows(7, 1005));
        assert!(limiter.allows(8, 1005), "another host");
        assert_eq!((0..20).filter(|_| limiter.allows(7, 60_000)).count(), 6);
    }
}
