//! An entry's clock: everything that its life depends on, in one word that only changes by compare-and-swap.

use std::fmt;

use crate::time::{TICKS_PER_SECOND, Tick};

/// By how many ticks [`Clock::seen`] may lag behind the last packet of an entry, so that not every packet of a busy
/// connection writes to it: [`Record::touch`](crate::Record::touch) lets half a second pass.
pub const SEEN_LAG: u32 = 4;

/// The longest timeout in seconds: 31 days, as in `ipvsadm`.
pub const MAX_TIMEOUT: u32 = 2_678_400;

/// When an entry was last seen, its state and its timeout, as one value.
///
/// Last seen 32 bits | flags 6 | state 4 | timeout in seconds 22. Because all of it is one atomic word, the control
/// core can say "dead, unless a packet came in between" with one compare-and-swap, and a worker that refreshes an entry
/// cannot bring a dead one back to life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Clock(u64);

const TIMEOUT_BITS: u32 = 22;
const STATE_SHIFT: u32 = TIMEOUT_BITS;
const FLAGS_SHIFT: u32 = STATE_SHIFT + 4;
const SEEN_SHIFT: u32 = 32;
const TIMEOUT_MASK: u64 = (1 << TIMEOUT_BITS) - 1;
const STATE_MASK: u64 = 0xf << STATE_SHIFT;
/// The four flags that belong to the caller.
const USER_FLAGS_MASK: u64 = 0xf << FLAGS_SHIFT;
/// The entry is over: lookups skip it, and the control core unlinks it.
const DEAD: u64 = 1 << (FLAGS_SHIFT + 4);
/// The entry was given a second key.
const ALIAS: u64 = 1 << (FLAGS_SHIFT + 5);

impl Clock {
    /// The clock word of a record that holds no entry. No [`Clock::new`] gives it: a timeout is at least 1 s.
    pub(crate) const FREE: Clock = Clock(0);

    /// The clock of an entry last seen at `seen`.
    ///
    /// `state` is the caller's, 0 to 15 (higher bits are cut off); `timeout` is in seconds and brought into
    /// 1..=[`MAX_TIMEOUT`].
    #[must_use]
    pub const fn new(seen: Tick, state: u8, timeout: u32) -> Self {
        Clock((seen.0 as u64) << SEEN_SHIFT).with_state(state).with_timeout(timeout)
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Clock(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// When a packet of the entry was last seen.
    #[must_use]
    pub const fn seen(self) -> Tick {
        Tick((self.0 >> SEEN_SHIFT) as u32)
    }

    /// The caller's state, 0 to 15.
    #[must_use]
    pub const fn state(self) -> u8 {
        ((self.0 & STATE_MASK) >> STATE_SHIFT) as u8
    }

    /// The timeout in seconds.
    #[must_use]
    pub const fn timeout(self) -> u32 {
        (self.0 & TIMEOUT_MASK) as u32
    }

    /// The caller's four flags.
    #[must_use]
    pub const fn flags(self) -> u8 {
        ((self.0 & USER_FLAGS_MASK) >> FLAGS_SHIFT) as u8
    }

    /// The same clock, last seen at another time.
    #[must_use]
    pub const fn with_seen(self, seen: Tick) -> Self {
        Clock(self.0 & 0xffff_ffff | (seen.0 as u64) << SEEN_SHIFT)
    }

    /// The same clock with another state (4 bits).
    #[must_use]
    pub const fn with_state(self, state: u8) -> Self {
        Clock(self.0 & !STATE_MASK | (state as u64) << STATE_SHIFT & STATE_MASK)
    }

    /// The same clock with another timeout in seconds, brought into 1..=[`MAX_TIMEOUT`].
    #[must_use]
    pub const fn with_timeout(self, timeout: u32) -> Self {
        let timeout = if timeout == 0 {
            1
        } else if timeout > MAX_TIMEOUT {
            MAX_TIMEOUT
        } else {
            timeout
        };
        Clock(self.0 & !TIMEOUT_MASK | timeout as u64)
    }

    /// The same clock with other flags (4 bits).
    #[must_use]
    pub const fn with_flags(self, flags: u8) -> Self {
        Clock(self.0 & !USER_FLAGS_MASK | (flags as u64) << FLAGS_SHIFT & USER_FLAGS_MASK)
    }

    /// Whether the entry is over. Nothing revives it.
    #[must_use]
    pub const fn is_dead(self) -> bool {
        self.0 & DEAD != 0
    }

    /// Whether this is the clock of an entry that is not over (and not that of a record without an entry).
    #[must_use]
    pub const fn is_live(self) -> bool {
        self.0 & DEAD == 0 && self.0 & TIMEOUT_MASK != 0
    }

    /// Whether the entry was given a second key.
    #[must_use]
    pub const fn has_alias(self) -> bool {
        self.0 & ALIAS != 0
    }

    pub(crate) const fn is_free(self) -> bool {
        self.0 & TIMEOUT_MASK == 0
    }

    pub(crate) const fn dead(self) -> Self {
        Clock(self.0 | DEAD)
    }

    pub(crate) const fn aliased(self) -> Self {
        Clock(self.0 | ALIAS)
    }

    /// The caller's part of `new` with this crate's own flags from `self`.
    pub(crate) const fn succeeded_by(self, new: Clock) -> Self {
        Clock(new.0 & !(DEAD | ALIAS) | self.0 & (DEAD | ALIAS))
    }

    /// The tick from which on the entry is over.
    ///
    /// Some ticks more than the timeout: packets that were not noted may have come since ([`SEEN_LAG`]), the last of
    /// them at the very end of its tick. An entry never ends early, and ends less than a second late.
    #[must_use]
    pub const fn deadline(self) -> Tick {
        self.seen().plus(self.timeout() * TICKS_PER_SECOND + SEEN_LAG + 1)
    }

    /// Whether a packet at `now` is to be noted.
    #[inline(always)]
    #[must_use]
    pub const fn is_stale(self, now: Tick) -> bool {
        now.since(self.seen()) > SEEN_LAG
    }

    /// By how many ticks this clock is younger than `other`, if the two differ only in when they were last seen;
    /// otherwise more than any number of ticks.
    #[inline(always)]
    #[must_use]
    pub const fn younger_by(self, other: Clock) -> u64 {
        // Equal lower halves leave the difference of the upper ones, and nothing else is as small.
        self.0.wrapping_sub(other.0).rotate_left(32)
    }

    /// Seconds left at `now`, rounded down as `ipvsadm -Lnc` prints them (59 right after a packet, of 60).
    #[must_use]
    pub const fn seconds_left(self, now: Tick) -> u32 {
        let end = self.timeout() * TICKS_PER_SECOND;
        let gone = now.since(self.seen());
        if gone + 1 >= end { 0 } else { (end - gone - 1) / TICKS_PER_SECOND }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("seen", &self.seen().0)
            .field("state", &self.state())
            .field("timeout", &self.timeout())
            .field("flags", &self.flags())
            .field("dead", &self.is_dead())
            .field("alias", &self.has_alias())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_keeps_to_itself() {
        let clock = Clock::new(Tick(u32::MAX), 15, MAX_TIMEOUT).with_flags(15);
        assert_eq!(
            (clock.seen(), clock.state(), clock.timeout(), clock.flags()),
            (Tick(u32::MAX), 15, MAX_TIMEOUT, 15)
        );
        assert!(clock.is_live() && !clock.is_dead() && !clock.has_alias());

        let other = clock.with_seen(Tick(7)).with_state(3).with_timeout(60).with_flags(5);
        assert_eq!((other.seen(), other.state(), other.timeout(), other.flags()), (Tick(7), 3, 60, 5));

        // Bits that do not fit are cut off, and touch nothing else.
        let cut = other.with_state(0xf4).with_flags(0xf2);
        assert_eq!((cut.state(), cut.flags(), cut.timeout(), cut.seen()), (4, 2, 60, Tick(7)));
        assert!(cut.is_live() && !cut.has_alias());
    }

    #[test]
    fn a_timeout_is_between_one_second_and_31_days() {
        assert_eq!(Clock::new(Tick(0), 0, 0).timeout(), 1);
        assert_eq!(Clock::new(Tick(0), 0, u32::MAX).timeout(), MAX_TIMEOUT);
        assert!(Clock::new(Tick(0), 0, 0).is_live());
        assert!(!Clock::FREE.is_live() && !Clock::FREE.is_dead() && Clock::FREE.is_free());
    }

    #[test]
    fn a_successor_neither_revives_nor_kills() {
        let live = Clock::new(Tick(1), 1, 10);
        assert!(live.dead().succeeded_by(live).is_dead());
        assert!(!live.succeeded_by(live.dead()).is_dead());
        assert!(live.aliased().succeeded_by(live.with_state(2)).has_alias());
        assert!(!live.succeeded_by(live.aliased()).has_alias());
    }

    #[test]
    fn seconds_left_are_rounded_down_as_ipvs_does() {
        let clock = Clock::new(Tick(100), 0, 60);
        assert_eq!(clock.seconds_left(Tick(100)), 59);
        assert_eq!(clock.seconds_left(Tick(109)), 59);
        assert_eq!(clock.seconds_left(Tick(110)), 58);
        assert_eq!(clock.seconds_left(Tick(700)), 0);
        assert_eq!(clock.seconds_left(Tick(9000)), 0);
        // A worker's tick may be ahead of the reader's.
        assert_eq!(clock.seconds_left(Tick(98)), 59);
    }

    #[test]
    fn a_deadline_is_never_early() {
        assert_eq!(Clock::new(Tick(100), 0, 60).deadline(), Tick(701 + SEEN_LAG));
        assert_eq!(Clock::new(Tick(u32::MAX), 0, 1).deadline(), Tick(10 + SEEN_LAG));
        let far = Clock::new(Tick(0), 0, MAX_TIMEOUT);
        assert_eq!(far.deadline(), Tick(MAX_TIMEOUT * 10 + 1 + SEEN_LAG));
    }

    #[test]
    fn a_deadline_is_less_than_a_second_late() {
        for seen in [Tick(100), Tick(u32::MAX - 3), Tick(u32::MAX)] {
            let clock = Clock::new(seen, 0, 60);
            // No packet has come after the one that was noted. The control core looks once a tick, and the wheel may
            // be a tick late.
            assert!(clock.deadline().plus(2).since(seen) < 61 * TICKS_PER_SECOND);
            // A packet that was not noted came at the very end of the last tick in which that is allowed.
            let last = seen.plus(SEEN_LAG);
            assert!(!clock.is_stale(last) && clock.is_stale(last.plus(1)));
            assert_eq!(clock.deadline(), last.plus(1).plus(60 * TICKS_PER_SECOND));
        }
    }

    #[test]
    fn a_clock_is_stale_after_half_a_second_across_the_wrap_and_never_for_a_tick_behind() {
        for seen in [Tick(0), Tick(3), Tick(1000), Tick(u32::MAX - 2), Tick(u32::MAX)] {
            let clock = Clock::new(seen, 0, 60);
            let stale: Vec<u32> = (0..10).filter(|&ticks| clock.is_stale(seen.plus(ticks))).collect();
            assert_eq!(stale, [5, 6, 7, 8, 9]);
            assert!((1..100).all(|ticks| !clock.is_stale(seen.minus(ticks))));
        }
    }

    #[test]
    fn an_age_is_small_for_the_same_life_only() {
        for seen in [Tick(0), Tick(100), Tick(u32::MAX - 1)] {
            let clock = Clock::new(seen, 3, 60);
            for ticks in 0..1000 {
                assert_eq!(clock.with_seen(seen.plus(ticks)).younger_by(clock), u64::from(ticks));
            }
            assert_eq!(
                clock.with_seen(seen.minus(1)).younger_by(clock),
                u64::from(u32::MAX),
                "a tick behind"
            );
            let others = [
                clock.with_state(4),
                clock.with_timeout(61),
                clock.with_timeout(59),
                clock.with_flags(1),
                clock.dead(),
                clock.aliased(),
                Clock::FREE,
            ];
            for other in others {
                for ticks in 0..10 {
                    assert!(clock.with_seen(seen.plus(ticks)).younger_by(other) > u64::from(u32::MAX));
                }
            }
        }
    }
}
