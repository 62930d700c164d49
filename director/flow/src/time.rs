//! The coarse clock.

/// Ticks of the coarse clock in a second.
pub const TICKS_PER_SECOND: u32 = 10;

/// A moment on the coarse clock, in units of 100 ms since an arbitrary start.
///
/// The number wraps after 13.6 years of uptime. Two ticks can be compared as long as they are less than half of that
/// apart, which is why this type has no total order.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
pub struct Tick(pub u32);

impl Tick {
    /// The tick that contains the moment `millis` milliseconds after the clock's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Tick((millis / (1000 / TICKS_PER_SECOND as u64)) as u32)
    }

    /// The moment `ticks` later.
    #[must_use]
    pub const fn plus(self, ticks: u32) -> Self {
        Tick(self.0.wrapping_add(ticks))
    }

    /// The moment `ticks` earlier.
    #[must_use]
    pub const fn minus(self, ticks: u32) -> Self {
        Tick(self.0.wrapping_sub(ticks))
    }

    /// Ticks gone by since `earlier`; 0 if `earlier` is not in the past.
    #[must_use]
    pub const fn since(self, earlier: Tick) -> u32 {
        let ticks = self.0.wrapping_sub(earlier.0) as i32;
        if ticks > 0 { ticks as u32 } else { 0 }
    }

    /// Whether `deadline` has come: this moment is not before it.
    #[must_use]
    pub const fn reached(self, deadline: Tick) -> bool {
        self.0.wrapping_sub(deadline.0) as i32 >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_survive_the_wrap() {
        let before = Tick(u32::MAX - 4);
        let after = before.plus(10);
        assert_eq!(after, Tick(5));
        assert_eq!(after.since(before), 10);
        assert_eq!(before.since(after), 0);
        assert!(after.reached(before) && after.reached(after) && !before.reached(after));
        assert_eq!(after.minus(10), before);
    }

    #[test]
    fn a_tick_is_100_ms() {
        assert_eq!(Tick::from_millis(0), Tick(0));
        assert_eq!(Tick::from_millis(99), Tick(0));
        assert_eq!(Tick::from_millis(100), Tick(1));
        assert_eq!(Tick::from_millis(10_050), Tick(100));
    }
}
