//! How many ICMP errors are sent: to one host, and in all, as the kernel's switches say.

use director_packet::Address;
use director_packet::icmp::Error;

use crate::fib::Fib;

/// How many errors in a row a host may be sent that was sent none for a while, as in Linux.
const BURST: u32 = 6;

/// Hosts remembered; another host takes the place of the one that shares it.
const PLACES: usize = 4096;

/// The kernel's switches for ICMP errors, with Linux's defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpLimits {
    /// Milliseconds between two errors to one host (`net.ipv4.icmp_ratelimit`); 0: no limit.
    pub interval: u32,
    /// The types that are limited, a bit each (`net.ipv4.icmp_ratemask`).
    pub types: u32,
    /// As [`Self::interval`], of IPv6 (`net.ipv6.icmp.ratelimit`): of hosts to which no route of their own leads, a part
    /// of it.
    pub interval_v6: u32,
    /// As [`Self::types`], of IPv6 (`net.ipv6.icmp.ratemask`), of the types below 128, which errors have.
    pub types_v6: u128,
    /// Errors a second to all hosts of either family together (`net.ipv4.icmp_msgs_per_sec`). Packets with forged sources
    /// are not to be turned into as many errors.
    pub per_second: u32,
    /// Of these, so many at once (`net.ipv4.icmp_msgs_burst`).
    pub at_once: u32,
}

impl Default for IcmpLimits {
    fn default() -> Self {
        Self {
            interval: 1000,
            // Destination unreachable, source quench, time exceeded, parameter problem.
            types: 1 << 3 | 1 << 4 | 1 << 11 | 1 << 12,
            interval_v6: 1000,
            // All but "packet too big".
            types_v6: !(1 << 2),
            per_second: 1000,
            at_once: 50,
        }
    }
}

impl IcmpLimits {
    /// Whether errors like this one are limited at all. Of IPv4 what the discovery of a path's MTU depends on is not; of
    /// IPv6 the mask says so.
    fn has_limit(&self, error: Error, to: Address) -> bool {
        match to {
            Address::V4(_) if matches!(error, Error::FragmentationNeeded(_)) => false,
            Address::V4(_) => self.types.checked_shr(error.kind(false).into()).unwrap_or(0) & 1 != 0,
            Address::V6(_) => self.types_v6.checked_shr(error.kind(true).into()).unwrap_or(0) & 1 != 0,
        }
    }

    /// Milliseconds between two errors to a host. Of IPv6 Linux divides them by the addresses that share its route: by two
    /// for each 32 bits that the prefix of the route leaves them.
    fn interval_to(&self, to: Address, fib: &Fib) -> u32 {
        match to {
            Address::V4(_) => self.interval,
            Address::V6(to) => self.interval_v6 >> ((128 - fib.prefix_v6(to).unwrap_or(0)) >> 5),
        }
    }
}

#[derive(Clone, Copy)]
struct Place {
    address: Address,
    /// The milliseconds saved up.
    credit: u32,
    last: u32,
}

/// A token bucket for each host, in a table of fixed size, and one for all of them.
pub(crate) struct Limiter {
    places: Box<[Place]>,
    /// Thousandths of errors in hand.
    all: u64,
    last: u32,
}

impl Default for Limiter {
    fn default() -> Self {
        let none = Place { address: Address::V4(0), credit: 0, last: 0 };
        Self { places: vec![none; PLACES].into(), all: u64::MAX, last: 0 }
    }
}

impl Limiter {
    /// Whether the host `to` may be sent this error now, at `now` milliseconds (which may wrap).
    pub(crate) fn allows(
        &mut self,
        limits: &IcmpLimits,
        fib: &Fib,
        error: Error,
        to: Address,
        now: u32,
    ) -> bool {
        if !limits.has_limit(error, to) {
            return true;
        }
        // What more than a second brings is too much for a burst, as in Linux.
        let passed = now.wrapping_sub(self.last).min(1000);
        self.last = now;
        let brought = u64::from(passed) * u64::from(limits.per_second);
        self.all = self.all.saturating_add(brought).min(u64::from(limits.at_once) * 1000);
        if self.all < 1000 {
            return false;
        }
        let interval = limits.interval_to(to, fib);
        let most = interval.saturating_mul(BURST);
        let at = (to.fold().wrapping_mul(0x9e37_79b1) >> 20) as usize % PLACES;
        let place = &mut self.places[at];
        if place.address != to {
            *place = Place { address: to, credit: most, last: now };
        }
        let passed = now.wrapping_sub(place.last);
        place.last = now;
        place.credit = place.credit.saturating_add(passed).min(most);
        let allowed = place.credit >= interval;
        if allowed {
            place.credit -= interval;
            self.all -= 1000;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::Route;

    const SEVEN: Address = Address::V4(7);
    const ERROR: Error = Error::PortUnreachable;

    struct Asked {
        limiter: Limiter,
        limits: IcmpLimits,
        fib: Fib,
    }

    impl Asked {
        fn under(limits: IcmpLimits) -> Self {
            Self { limiter: Limiter::default(), limits, fib: Fib::default() }
        }

        fn allows(&mut self, to: Address, now: u32) -> bool {
            self.limiter.allows(&self.limits, &self.fib, ERROR, to, now)
        }

        fn count(&mut self, to: Address, now: u32) -> usize {
            (0..100).filter(|_| self.allows(to, now)).count()
        }
    }

    #[test]
    fn one_a_second_after_the_burst() {
        let mut asked = Asked::under(IcmpLimits::default());
        assert_eq!(asked.count(SEVEN, 5), 6);
        assert!(!asked.allows(SEVEN, 1004));
        assert!(asked.allows(SEVEN, 1005));
        assert!(asked.allows(Address::V4(8), 1005), "another host");
        assert_eq!(asked.count(SEVEN, 60_000), 6);
    }

    #[test]
    fn of_ipv6_by_the_prefix_of_the_route() {
        for (length, interval) in [(0, 62), (48, 250), (64, 250), (96, 500), (97, 1000), (128, 1000)] {
            let (mut asked, host) = (Asked::under(IcmpLimits::default()), Address::V6(7));
            asked
                .fib
                .insert((Address::V6(if length < 128 { 0 } else { 7 }), length), Route::Link { port: 0 });
            assert_eq!(asked.count(host, 5), 6);
            assert!(!asked.allows(host, 4 + interval), "{length}");
            assert!(asked.allows(host, 5 + interval), "{length}");
        }
    }

    #[test]
    fn one_a_millisecond_to_all_hosts() {
        let mut asked = Asked::under(IcmpLimits::default());
        let mut hosts = 0..;
        let mut told = |now, count| {
            hosts.by_ref().take(count).filter(|&host| asked.allows(Address::V4(host), now)).count()
        };
        assert_eq!(told(0, 1000), 50);
        assert_eq!(told(7, 1000), 7);
        assert_eq!(told(1_000_000, 1000), 50);
        assert_eq!(told(999_999, 1000), 50, "a clock that wraps, or goes back, does not stop it for good");
    }

    #[test]
    fn as_the_switches_say() {
        let default = IcmpLimits::default();
        let mut asked = Asked::under(IcmpLimits { interval: 0, at_once: 8, per_second: 100, ..default });
        assert_eq!(asked.count(SEVEN, 0), 8, "no limit for one host");
        assert_eq!(asked.count(SEVEN, 50), 5);
        asked.limits.interval = 10;
        assert_eq!(asked.count(SEVEN, 10_000), 6, "a host that was not limited");
        asked.limits.types = 1 << 11;
        assert_eq!(asked.count(SEVEN, 10_000), 100, "another type");
        asked.limits = IcmpLimits { types_v6: 0, ..default };
        assert_eq!(asked.count(Address::V6(7), 10_000), 100);
        asked.limits = IcmpLimits { at_once: 0, ..default };
        assert_eq!(asked.count(SEVEN, 20_000), 0);
    }

    #[test]
    fn never_what_a_path_s_mtu_is_found_by() {
        let Asked { mut limiter, limits, fib } =
            Asked::under(IcmpLimits { at_once: 0, ..Default::default() });
        for to in [SEVEN, Address::V6(7)] {
            assert!(limiter.allows(&limits, &fib, Error::FragmentationNeeded(1400), to, 0));
        }
    }
}
