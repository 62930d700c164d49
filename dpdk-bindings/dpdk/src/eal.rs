//! EAL, DPDK's environment: started once, stopped once everything made in it
//! is gone.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys as sys;

use crate::advice;
use crate::error::Refusal;
use crate::lcore::{self, LaunchError, Lcore, LcoreJob};
use crate::log::{self, Level, Mark};

/// EAL did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// EAL starts once in a process, whatever came of it.
    #[error("EAL was started in this process before; it starts once in the life of a process")]
    AlreadyStarted,
    /// An argument that EAL cannot be given.
    #[error("EAL argument {argument:?}: {reason}")]
    Argument {
        /// The argument.
        argument: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// EAL refused to start.
    #[error("EAL did not start with {arguments:?}: {refusal}")]
    Refused {
        /// The arguments it was started with.
        arguments: Vec<String>,
        /// Why.
        refusal: Refusal,
    },
    /// EAL attached to another process's memory, which this crate cannot vouch
    /// for.
    #[error(
        "EAL started as a secondary process; this program is a primary one: give it a --file-prefix of its own"
    )]
    NotPrimary,
}

/// Something made in EAL still lives, so EAL was left running.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("EAL was left running: {}", .held.join(", "))]
pub struct StopError {
    /// What still lives, one phrase each.
    pub held: Vec<String>,
}

/// The process had its EAL; there is no second.
static STARTED: AtomicBool = AtomicBool::new(false);

/// EAL itself. It stays on the thread that started it, which became the main
/// lcore and is pinned; ports and pools are made through its [`Handle`].
///
/// Dropping it is [`stop`](Self::stop) with the error logged.
pub struct Eal {
    handle: Handle,
    /// `stop` was called; the destructor has nothing left to do.
    stopped: bool,
    /// EAL must be stopped, and lcores launched, from the main lcore's thread.
    _main_thread: PhantomData<*mut ()>,
}

/// A share in a running EAL, for any thread: what makes ports and pools.
/// While one exists, EAL does not stop.
#[derive(Clone)]
pub struct Handle {
    pub(crate) runtime: Arc<Runtime>,
}

/// What is alive in EAL.
pub(crate) struct Runtime {
    /// Every pool ever made: their memory stays until EAL stops, so that an
    /// mbuf may be freed at any time, by any thread, without counting.
    pools: Mutex<Vec<PoolRecord>>,
    /// Ports that a `Port` owns, and the lock of attaching and detaching,
    /// which DPDK does not take for us.
    claimed: Mutex<BTreeSet<u16>>,
    /// Pool handles alive, for the message of `stop` only; what
    /// decides is the count of the `Arc`.
    pub(crate) pool_handles: AtomicUsize,
}

struct PoolRecord {
    name: String,
    pool: NonNull<sys::rte_mempool>,
}

// SAFETY: a mempool is DPDK's thread-safe (multi-producer, multi-consumer) one,
// and the pointer is valid until EAL stops.
unsafe impl Send for PoolRecord {}

impl Runtime {
    pub(crate) fn keep_pool(&self, name: &str, pool: NonNull<sys::rte_mempool>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.push(PoolRecord { name: name.to_owned(), pool });
    }

    /// The ports in use, locked: devices come and go only under this lock.
    pub(crate) fn claimed_ports(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Eal {
    /// Starts EAL with `arguments`, DPDK's own (`-l 0-1`, `--no-huge`,
    /// `--file-prefix x`), without a program name.
    ///
    /// The calling thread becomes the main lcore: it is pinned to that lcore's
    /// CPUs, and so are the threads it spawns from then on. Drivers are loaded as plugins from the directory DPDK was built
    /// for.
    ///
    /// # Errors
    /// [`StartError`]: EAL was started before, an argument would end the
    /// process, or EAL refused (no huge pages, another process with the same
    /// file prefix, an lcore that does not exist, …).
    pub fn start<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Result<Self, StartError> {
        let arguments: Vec<String> =
            arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let mut argv = vec![c"EAL".to_owned()];
        argv.extend(check_arguments(&arguments)?);
        // Relaxed: only the exchange itself matters, nothing is published by it.
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(StartError::AlreadyStarted);
        }

        log::install();
        let mark = Mark::now();
        // EAL keeps pointers into its arguments: they stay for ever.
        let mut argv: Vec<*mut c_char> = argv.into_iter().map(CString::into_raw).collect();
        let count = c_int::try_from(argv.len()).unwrap_or(c_int::MAX);
        argv.push(std::ptr::null_mut());
        let argv = Box::leak(argv.into_boxed_slice());
        let quiet = log::Quiet::new();
        // SAFETY: `argv` is an array of `count` writable NUL-terminated strings
        // and a null pointer, as main() gets it, and is never freed. STARTED
        // keeps this the only call of the process.
        let status = unsafe { sys::rte_eal_init(count, argv.as_mut_ptr()) };
        drop(quiet);
        if status < 0 {
            let refusal = Refusal::from_rte_errno(&mark);
            let remedy = advice::start(&arguments, &refusal);
            return Err(StartError::Refused { arguments, refusal: refusal.with_remedy(remedy) });
        }
        // SAFETY: EAL runs.
        if unsafe { sys::rte_eal_process_type() } != sys::RTE_PROC_PRIMARY {
            // SAFETY: EAL runs, on this thread, and nothing was made in it yet.
            unsafe { sys::rte_eal_cleanup() };
            return Err(StartError::NotPrimary);
        }
        let runtime = Runtime {
            pools: Mutex::new(Vec::new()),
            claimed: Mutex::new(BTreeSet::new()),
            pool_handles: AtomicUsize::new(0),
        };
        Ok(Self { handle: Handle { runtime: Arc::new(runtime) }, stopped: false, _main_thread: PhantomData })
    }

    /// Stops EAL: its devices, its memory, its files.
    ///
    /// # Errors
    /// [`StopError`] where a port, a queue, a pool handle, an mbuf or a running
    /// job is left. EAL then stays as it is until the process ends, since what
    /// is left may still be used.
    pub fn stop(mut self) -> Result<(), StopError> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<(), StopError> {
        self.stopped = true;
        let mut held: Vec<String> =
            lcore::running().map(|lcore| format!("{lcore} still runs a job")).collect();
        let ports = self.handle.runtime.claimed_ports().len();
        if ports > 0 {
            held.push(format!("{ports} port(s) are open, or queues of them"));
        }
        // Relaxed: a number for a message.
        let pools = self.handle.runtime.pool_handles.load(Ordering::Relaxed);
        if pools > 0 {
            held.push(format!("{pools} handle(s) of pools are held"));
        }
        // This one alone decides: it has acquire ordering, so that all that the
        // holders of other shares did is seen.
        let Some(runtime) = Arc::get_mut(&mut self.handle.runtime) else {
            if held.is_empty() {
                held.push("a handle of EAL is held".to_owned());
            }
            return Err(StopError { held });
        };
        // From here on nobody can allocate, attach or launch any more. Mbufs
        // may still be held, by any thread: only pools found full are done with.
        let pools = runtime.pools.get_mut().unwrap_or_else(PoisonError::into_inner);
        for PoolRecord { name, pool } in pools {
            // SAFETY: pools stay valid until EAL stops.
            let out = unsafe { sys::rte_mempool_in_use_count(pool.as_ptr()) };
            if out > 0 {
                held.push(format!("{out} mbuf(s) of pool {name} are held"));
            }
        }
        if !held.is_empty() {
            return Err(StopError { held });
        }
        // SAFETY: this is the main lcore's thread (`Eal` is not Send). No
        // handle, port, queue or pool is left (`get_mut`), every worker lcore
        // waits, and every mbuf is back in its pool. Nobody is still busy
        // putting one back: a thread with a mempool cache of its own is a
        // worker lcore (waiting, seen with acquire) or this thread; any other
        // puts straight into the ring, whose count goes up as its last step.
        unsafe { sys::rte_eal_cleanup() };
        Ok(())
    }

    /// The lcore of the thread that started EAL: the lowest-numbered one, unless
    /// `--main-lcore` said otherwise.
    #[must_use]
    pub fn main_lcore(&self) -> Lcore {
        lcore::main()
    }

    /// The other lcores, in the order of their numbers.
    #[must_use]
    pub fn worker_lcores(&self) -> Vec<Lcore> {
        lcore::workers().collect()
    }

    /// Runs `job` on a worker lcore.
    ///
    /// A panic of the job ends the job, not the process (unless the program is
    /// built with `panic = "abort"`): [`LcoreJob::join`] reports it.
    ///
    /// # Errors
    /// [`LaunchError`] where the lcore is the main one, or busy.
    pub fn launch<T: Send + 'static>(
        &self,
        lcore: Lcore,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<LcoreJob<T>, LaunchError> {
        lcore::launch(lcore, job)
    }

    /// A share in EAL for another thread. It keeps EAL from stopping.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::clone(self)
    }
}

impl Deref for Eal {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        if let Err(error) = self.shut_down() {
            log::publish(Level::Warning, &error.to_string());
        }
    }
}

impl fmt::Debug for Eal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eal").finish_non_exhaustive()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// Ticks of [`clock::now`](crate::clock::now) in a second.
    #[must_use]
    pub fn tsc_hz(&self) -> u64 {
        // SAFETY: EAL runs, and has measured it.
        unsafe { sys::rte_get_tsc_hz() }
    }
}

/// The version of the DPDK linked at run time, as "DPDK 22.11.11".
#[must_use]
pub fn version() -> String {
    // SAFETY: returns a NUL-terminated string in static memory, which DPDK
    // writes on the first call only; callers of this crate come one at a time.
    static ONCE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| {
        // SAFETY: see above; OnceLock makes it one call.
        unsafe { CStr::from_ptr(sys::rte_version()) }.to_string_lossy().into_owned()
    })
    .clone()
}

/// Refuses what EAL would end the process on, with no word to us.
fn check_arguments(arguments: &[String]) -> Result<Vec<CString>, StartError> {
    let mut checked = Vec::new();
    let mut previous = "";
    for argument in arguments {
        let wrong = |reason| StartError::Argument { argument: argument.clone(), reason };
        // getopt_long takes any unambiguous beginning of a long option, getopt
        // several letters behind one hyphen.
        let long = argument.strip_prefix("--").filter(|rest| !rest.is_empty());
        let short = argument.strip_prefix('-').map(|rest| rest.trim_start_matches('v'));
        if long.is_some_and(|rest| "help".starts_with(rest))
            || short.is_some_and(|rest| rest.starts_with('h'))
        {
            return Err(wrong("prints EAL's usage and ends the process; `dpdk-testpmd --help` shows it"));
        }
        if argument == "--log-level=help" || (previous == "--log-level" && argument == "help") {
            return Err(wrong(
                "lists log types and ends the process; `dpdk-testpmd --log-level=help` shows them",
            ));
        }
        let (name, value) =
            long.and_then(|rest| rest.split_once('=')).unwrap_or((long.unwrap_or_default(), ""));
        let process_type = |name: &str| name.len() >= 2 && "proc-type".starts_with(name);
        let other_type = match previous.strip_prefix("--") {
            Some(name) if process_type(name) => argument != "primary",
            _ => process_type(name) && !["", "primary"].contains(&value),
        };
        if other_type {
            return Err(wrong("this program is a primary process: leave --proc-type out"));
        }
        checked.push(CString::new(argument.as_str()).map_err(|_| wrong("contains a NUL byte"))?);
        previous = argument;
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_end_the_process_are_refused() {
        for arguments in [&["-h"][..], &["--help"], &["--he"], &["-vh"], &["-l\0"], &["--log-level", "help"]]
        {
            let error = Eal::start(arguments).unwrap_err();
            let last = arguments[arguments.len() - 1];
            assert!(matches!(&error, StartError::Argument { argument, .. } if argument == last), "{error}");
        }
        let fine = [
            "--huge-dir=/dev/hugepages",
            "-v",
            "--",
            "--log-level",
            "pmd.*:debug",
            "--proc-type",
            "primary",
            "--proc-type=primary",
        ]
        .map(str::to_owned);
        assert!(check_arguments(&fine).is_ok());
    }

    #[test]
    fn the_version_is_the_librarys() {
        assert!(version().starts_with("DPDK "), "{}", version());
    }
}
