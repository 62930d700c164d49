//! Time without a system call: the processor's counter, scaled.

use std::time::{Duration, SystemTime};

use director_engine::Tick;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Ticks at once, and then once every period. Ticks that were missed while the process was stopped are left out.
pub(crate) fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Milliseconds since midnight UT, of days without leap seconds.
pub(crate) fn since_midnight() -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Less than 2^32.
    (now.as_millis() % (24 * 60 * 60 * 1000)) as u32
}

/// Reads the time since the director's start.
#[derive(Clone, Copy)]
pub(crate) struct Coarse {
    start: u64,
    cycles_per_millisecond: u64,
}

impl Coarse {
    pub(crate) fn new(hz: u64) -> Self {
        Self { start: dpdk::clock::now(), cycles_per_millisecond: (hz / 1000).max(1) }
    }

    /// Milliseconds since the start.
    pub(crate) fn milliseconds(&self) -> u64 {
        dpdk::clock::now().saturating_sub(self.start) / self.cycles_per_millisecond
    }

    /// The tick of the timers, and milliseconds, which wrap.
    pub(crate) fn read(&self) -> (Tick, u32) {
        let milliseconds = self.milliseconds();
        (Tick::from_millis(milliseconds), milliseconds as u32)
    }
}

/// How many bursts in a row a worker uses one reading of the processor's counter for: reading it takes as long as
/// half a packet. These bursts take some microseconds.
const BURSTS: u32 = 8;

/// The same clock for a worker, which asks at every burst: it reads the counter only now and then, and converts it
/// once a millisecond.
pub(crate) struct Watch {
    coarse: Coarse,
    last: (Tick, u32),
    /// The value of the processor's counter up to which `last` is right.
    until: u64,
    /// For how many more bursts the counter is not read.
    rests: u32,
}

impl Watch {
    pub(crate) fn new(coarse: Coarse) -> Self {
        Self { coarse, last: (Tick(0), 0), until: 0, rests: 0 }
    }

    /// As [`Coarse::read`].
    #[inline]
    pub(crate) fn read(&mut self) -> (Tick, u32) {
        if self.rests > 0 {
            self.rests -= 1;
            return self.last;
        }
        self.rests = BURSTS - 1;
        if dpdk::clock::now() >= self.until {
            let Coarse { start, cycles_per_millisecond } = self.coarse;
            let milliseconds = self.coarse.milliseconds();
            self.last = (Tick::from_millis(milliseconds), milliseconds as u32);
            self.until = start + (milliseconds + 1) * cycles_per_millisecond;
        }
        self.last
    }

    /// What [`Self::read`] said last.
    #[inline]
    pub(crate) const fn last(&self) -> (Tick, u32) {
        self.last
    }

    /// To be called when no frame came: time may have passed.
    #[inline]
    pub(crate) fn wake(&mut self) {
        self.rests = 0;
    }
}
