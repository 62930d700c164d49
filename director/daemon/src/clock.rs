//! Time without a system call: the processor's counter, scaled.

use director_engine::Tick;

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
