//! Ports: attached, then configured, then started. A type for each state, so
//! that nothing is asked of a port that it cannot do yet.

mod config;
mod control;

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys as sys;

use crate::device::{self, Device};
use crate::error::Refusal;
use crate::log::{self, Level, Mark};
use crate::pool::Pool;
use crate::queue::{RxQueue, TxQueue};

pub use self::config::{ConfigureError, PortConfig, RssConfig};
pub use self::control::Link;

/// Of a port: there, but without queues.
#[derive(Debug)]
pub enum Attached {}
/// Of a port: with queues, but no packet flows.
#[derive(Debug)]
pub enum Configured {}
/// Of a port: its queues are with their workers.
#[derive(Debug)]
pub enum Started {}

/// A state of a [`Port`].
pub trait State: sealed::Sealed {}
/// A state in which a port has its configuration.
pub trait HasQueues: State {}
/// A state in which a port may be configured.
pub trait Idle: State {}

impl State for Attached {}
impl State for Configured {}
impl State for Started {}
impl HasQueues for Configured {}
impl HasQueues for Started {}
impl Idle for Attached {}
impl Idle for Configured {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Attached {}
    impl Sealed for super::Configured {}
    impl Sealed for super::Started {}
}

/// A port of a device, for the core that controls it: its queues are apart
/// ([`RxQueue`], [`TxQueue`]).
///
/// Dropped, the port is stopped and closed, and its device detached, once the
/// last of its queues is dropped too.
pub struct Port<S: State> {
    core: Arc<PortCore>,
    state: PhantomData<fn() -> S>,
}

/// A port as it starts: for the core that controls it, and its receive and
/// transmit queues for the workers, in the order of their numbers.
pub type StartedPort = (Port<Started>, Vec<RxQueue>, Vec<TxQueue>);

/// The driver refused what was asked of a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("port {port} ({driver}): {operation}: {refusal}")]
pub struct PortError {
    /// The port's device.
    pub port: String,
    /// Its driver.
    pub driver: String,
    /// What was asked.
    pub operation: &'static str,
    /// Why not.
    pub refusal: Refusal,
}

/// A port did not stop.
#[derive(Debug, thiserror::Error)]
pub enum PortStopError {
    /// Its queues are still out: drop them first.
    #[error("port {}: {queues} queue(s) are still in use", .port.name())]
    QueuesInUse {
        /// The port, started as it was.
        port: Port<Started>,
        /// How many queues.
        queues: usize,
    },
    /// The driver refused. The port is closed.
    #[error(transparent)]
    Refused(#[from] PortError),
}

/// What a port and its queues share.
pub(crate) struct PortCore {
    id: u16,
    driver: String,
    started: AtomicBool,
    /// Queues handed out and not dropped yet.
    queues: AtomicUsize,
    /// Held during every call on the port but rx and tx: drivers' control
    /// functions are not made for several threads at once.
    settings: Mutex<Settings>,
    device: Arc<Device>,
}

/// What the port was configured with.
#[derive(Default)]
struct Settings {
    rx_queues: u16,
    tx_queues: u16,
    rx_descriptors: u16,
    tx_descriptors: u16,
    /// Drivers keep a pointer to the key and use it again at each start.
    rss_key: Option<Box<[u8]>>,
    /// Where the receive queues take their mbufs from. They keep EAL up, too.
    pools: Vec<Pool>,
}

impl Port<Attached> {
    /// The port's id must be in `claimed_ports`; it is this port's now.
    pub(crate) fn attached(id: u16, device: Arc<Device>) -> Self {
        let core = PortCore {
            id,
            driver: device::driver_name(id).unwrap_or_default(),
            started: AtomicBool::new(false),
            queues: AtomicUsize::new(0),
            settings: Mutex::default(),
            device,
        };
        Self { core: Arc::new(core), state: PhantomData }
    }
}

impl Port<Configured> {
    /// Starts the port: packets flow from now on. Its queues go each to one
    /// worker.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses. The port is closed then.
    pub fn start(self) -> Result<StartedPort, PortError> {
        let (rx_queues, tx_queues) = {
            let settings = self.core.settings();
            let mark = Mark::now();
            // SAFETY: a configured port of ours, with all its queues set up;
            // `settings` keeps other calls out.
            let status = unsafe { sys::rte_eth_dev_start(self.core.id) };
            if status < 0 {
                return Err(self.core.refused("cannot start", status, &mark));
            }
            (settings.rx_queues, settings.tx_queues)
        };
        // Relaxed: read by the last owner only, after all others are gone.
        self.core.started.store(true, Ordering::Relaxed);
        self.core.queues.store(usize::from(rx_queues) + usize::from(tx_queues), Ordering::Relaxed);
        let rx = (0..rx_queues).map(|queue| RxQueue::new(Arc::clone(&self.core), queue)).collect();
        let tx = (0..tx_queues).map(|queue| TxQueue::new(Arc::clone(&self.core), queue)).collect();
        Ok((self.become_state(), rx, tx))
    }
}

impl Port<Started> {
    /// Stops the port, once all its queues have been dropped.
    ///
    /// # Errors
    /// [`PortStopError`]: queues are still out (the error gives the port back),
    /// or the driver refuses.
    pub fn stop(self) -> Result<Port<Configured>, PortStopError> {
        // Acquire pairs with the release in `queue_dropped`: what workers did
        // with the queues came before.
        let queues = self.core.queues.load(Ordering::Acquire);
        if queues > 0 {
            return Err(PortStopError::QueuesInUse { port: self, queues });
        }
        {
            let _settings = self.core.settings();
            let mark = Mark::now();
            // SAFETY: a started port of ours, whose queues nobody polls: none
            // is left, and none can be made before the next start.
            let status = unsafe { sys::rte_eth_dev_stop(self.core.id) };
            if status < 0 {
                return Err(self.core.refused("cannot stop", status, &mark).into());
            }
        }
        // Relaxed: as in `start`.
        self.core.started.store(false, Ordering::Relaxed);
        Ok(self.become_state())
    }
}

impl<S: State> Port<S> {
    fn become_state<T: State>(self) -> Port<T> {
        Port { core: self.core, state: PhantomData }
    }
}

impl PortCore {
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    fn name(&self) -> &str {
        self.device.name()
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, operation: &'static str, status: i32, mark: &Mark) -> PortError {
        PortError {
            port: self.name().to_owned(),
            driver: self.driver.clone(),
            operation,
            refusal: Refusal::new(status, mark),
        }
    }

    pub(crate) fn queue_dropped(&self) {
        // Release pairs with the acquire in `stop`.
        self.queues.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for PortCore {
    fn drop(&mut self) {
        let mark = Mark::now();
        let mut claimed = self.device.runtime.claimed_ports();
        // SAFETY: a port of ours, which neither a `Port` nor a queue holds any
        // more: nobody uses it. `claimed` keeps its number from being given to
        // another before we are done.
        let status = unsafe {
            let stopped = if *self.started.get_mut() { sys::rte_eth_dev_stop(self.id) } else { 0 };
            let closed = sys::rte_eth_dev_close(self.id);
            if stopped < 0 { stopped } else { closed }
        };
        claimed.remove(&self.id);
        drop(claimed);
        if status < 0 {
            let error = self.refused("was not closed cleanly", status, &mark);
            log::publish(Level::Warning, &error.to_string());
        }
    }
}

impl<S: State> fmt::Debug for Port<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("id", &self.core.id)
            .field("name", &self.core.name())
            .field("driver", &self.core.driver)
            .finish_non_exhaustive()
    }
}
