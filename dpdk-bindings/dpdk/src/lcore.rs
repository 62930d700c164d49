//! Lcores: EAL's pinned threads, and the jobs they run.

use std::any::Any;
use std::ffi::{c_int, c_uint, c_void};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use dpdk_sys as sys;

/// An lcore: a thread of EAL, pinned to the CPUs that `--lcores` gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lcore(c_uint);

impl Lcore {
    /// Its number in EAL's `-l` or `--lcores`.
    #[must_use]
    pub fn id(self) -> u32 {
        self.0
    }

    /// The NUMA socket of its CPUs: where its memory should be.
    #[must_use]
    pub fn socket(self) -> u32 {
        // SAFETY: an Lcore is made of a number that EAL gave.
        unsafe { sys::rte_lcore_to_socket_id(self.0) }
    }
}

impl fmt::Display for Lcore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lcore {}", self.0)
    }
}

/// A job was not launched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The main lcore runs the program itself.
    #[error("{lcore} is the main lcore; jobs run on the others")]
    Main {
        /// The lcore.
        lcore: Lcore,
    },
    /// The lcore runs another job.
    #[error("{lcore} still runs another job")]
    Busy {
        /// The lcore.
        lcore: Lcore,
    },
}

/// A job ended in a panic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job of {lcore} panicked: {message}")]
pub struct JobPanicked {
    /// Where it ran.
    pub lcore: Lcore,
    /// The panic's message.
    pub message: String,
}

/// A job on a worker lcore. Dropped, the job runs on by itself.
pub struct LcoreJob<T> {
    lcore: Lcore,
    /// Which launch of the lcore this was.
    launch: u32,
    outcome: Arc<Outcome<T>>,
}

/// Where a job leaves its result.
struct Outcome<T> {
    result: Mutex<Option<thread::Result<T>>>,
    left: Condvar,
}

impl<T> LcoreJob<T> {
    /// Where it runs.
    #[must_use]
    pub fn lcore(&self) -> Lcore {
        self.lcore
    }

    /// Whether the job has ended, so that `join` will not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.outcome.result.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits for the job to end; the lcore is then free for another.
    ///
    /// # Errors
    /// [`JobPanicked`] with the panic's message.
    pub fn join(self) -> Result<T, JobPanicked> {
        let mut result = self.outcome.result.lock().unwrap_or_else(PoisonError::into_inner);
        let result = loop {
            if let Some(result) = result.take() {
                break result;
            }
            result = self.outcome.left.wait(result).unwrap_or_else(PoisonError::into_inner);
        };
        // The lcore leaves the trampoline a moment later. Once another job has
        // been launched on it, it is no longer ours to wait for.
        while self.lcore.state() != sys::WAIT && self.lcore.launches() == self.launch {
            thread::yield_now();
        }
        result.map_err(|payload| JobPanicked { lcore: self.lcore, message: panic_message(payload.as_ref()) })
    }
}

impl<T> fmt::Debug for LcoreJob<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LcoreJob").field("lcore", &self.lcore).finish_non_exhaustive()
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

/// How often each lcore was launched.
static LAUNCHES: [AtomicU32; sys::RTE_MAX_LCORE as usize] =
    [const { AtomicU32::new(0) }; sys::RTE_MAX_LCORE as usize];

impl Lcore {
    fn launch_count(self) -> Option<&'static AtomicU32> {
        LAUNCHES.get(self.0 as usize)
    }

    fn launches(self) -> u32 {
        // Relaxed: a stale count costs `join` another turn.
        self.launch_count().map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn state(self) -> sys::rte_lcore_state_t {
        // SAFETY: an Lcore is made of a number that EAL gave. The load is an
        // acquire one, so that WAIT shows all that the lcore did before.
        unsafe { sys::rte_eal_get_lcore_state(self.0) }
    }
}

pub(crate) fn main() -> Lcore {
    // SAFETY: reads EAL's configuration; the caller has an Eal.
    Lcore(unsafe { sys::rte_get_main_lcore() })
}

pub(crate) fn workers() -> impl Iterator<Item = Lcore> {
    // SAFETY: reads EAL's configuration. The first argument wraps to 0 inside,
    // as RTE_LCORE_FOREACH_WORKER has it; skip_main = 1, wrap = 0.
    let next = |id: c_uint| unsafe { sys::rte_get_next_lcore(id, 1, 0) };
    let valid = |id: &c_uint| *id < sys::RTE_MAX_LCORE;
    std::iter::successors(Some(next(c_uint::MAX)).filter(valid), move |id| Some(next(*id)).filter(valid))
        .map(Lcore)
}

/// The worker lcores that run a job.
pub(crate) fn running() -> impl Iterator<Item = Lcore> {
    workers().filter(|lcore| lcore.state() != sys::WAIT)
}

type Job = Box<dyn FnOnce() + Send>;

/// Only for the main lcore's thread, which holds the `Eal`.
pub(crate) fn launch<T: Send + 'static>(
    lcore: Lcore,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<LcoreJob<T>, LaunchError> {
    if lcore == main() {
        return Err(LaunchError::Main { lcore });
    }
    let outcome = Arc::new(Outcome { result: Mutex::new(None), left: Condvar::new() });
    let theirs = Arc::clone(&outcome);
    let job: Job = Box::new(move || {
        let result = panic::catch_unwind(AssertUnwindSafe(job));
        *theirs.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        theirs.left.notify_all();
    });
    // A `dyn` pointer is two words wide; C carries one.
    let argument = Box::into_raw(Box::new(job));
    // SAFETY: `trampoline` takes a pointer made exactly so, once. `lcore` is a
    // worker lcore of EAL, and this thread the main one, as the call demands.
    let status = unsafe { sys::rte_eal_remote_launch(Some(trampoline), argument.cast(), lcore.0) };
    if status != 0 {
        // SAFETY: a refused launch (-EBUSY) did not take the argument.
        drop(unsafe { Box::from_raw(argument) });
        return Err(LaunchError::Busy { lcore });
    }
    // Relaxed: counts; the launches of one thread, in its own order.
    let launch = lcore.launch_count().map_or(0, |count| count.fetch_add(1, Ordering::Relaxed)) + 1;
    Ok(LcoreJob { lcore, launch, outcome })
}

/// Runs a job in C's clothes.
///
/// The job catches the panics of what it runs. What could still panic here is
/// the destructor of a result nobody waits for; that aborts, as the ABI has it,
/// rather than unwind into C.
///
/// # Safety
/// `argument` comes from `Box::into_raw(Box<Job>)` and is passed once.
unsafe extern "C" fn trampoline(argument: *mut c_void) -> c_int {
    // SAFETY: see above.
    let job = unsafe { Box::from_raw(argument.cast::<Job>()) };
    job();
    0
}
