//! The time stamp counter: the clock of the fast path.

/// The time stamp counter of this core. Invariant on every CPU DPDK supports:
/// it advances at [`Handle::tsc_hz`](crate::Handle::tsc_hz) whatever the core's
/// frequency, and is the same on all cores of a machine.
#[inline]
#[must_use]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC exists on every x86-64 processor; Linux lets user space use
    // it unless a process asked otherwise (prctl PR_SET_TSC).
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads the counter of the architecture, no memory.
    unsafe {
        dpdk_sys::rte_rdtsc()
    }
}
