//! What a port is configured with, checked against what its device can do.

use dpdk_sys as sys;

use super::{Configured, Idle, Port, PortError, Settings, State};
use crate::device::{self, DeviceInfo};
use crate::log::Mark;
use crate::offload::{RssTypes, RxOffloads, TxOffloads};
use crate::pool::Pool;

/// What to configure a port with.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of each receive queue; the driver may adjust them.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue; the driver may adjust them.
    pub tx_descriptors: u16,
    /// The MTU in bytes, without the Ethernet header; `None` for the driver's
    /// own, mostly 1500. Drivers on a kernel interface change that one's MTU
    /// only in [`Port::set_mtu`].
    pub mtu: Option<u16>,
    /// What to do with received packets.
    pub rx_offloads: RxOffloads,
    /// What may be asked for packets to send.
    pub tx_offloads: TxOffloads,
    /// How to spread packets over the receive queues.
    pub rss: Option<RssConfig>,
    /// The pools of the receive queues: one for all, or one each.
    pub rx_pools: Vec<Pool>,
}

/// How RSS spreads packets over receive queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssConfig {
    /// What is hashed.
    pub types: RssTypes,
    /// The key, as long as [`DeviceInfo::hash_key_size`]; `None` for the
    /// driver's own.
    pub key: Option<Vec<u8>>,
}

impl PortConfig {
    /// So many queues of 1024 descriptors in each direction, nothing offloaded.
    #[must_use]
    pub fn new(queues: u16, rx_pool: &Pool) -> Self {
        Self {
            rx_queues: queues,
            tx_queues: queues,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
            rx_offloads: RxOffloads::EMPTY,
            tx_offloads: TxOffloads::EMPTY,
            rss: None,
            rx_pools: vec![rx_pool.clone()],
        }
    }
}

/// A port was not configured; it is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigureError {
    /// The device cannot do what was asked.
    #[error("port {port} ({driver}): {asked}, but {possible}")]
    Incapable {
        /// The port's device.
        port: String,
        /// Its driver.
        driver: String,
        /// What was asked.
        asked: String,
        /// What it can do.
        possible: String,
    },
    /// Neither one pool nor one for each queue.
    #[error("port {port}: {pools} pools for {queues} receive queues: one for all, or one each")]
    Pools {
        /// The port's device.
        port: String,
        /// How many pools.
        pools: usize,
        /// How many receive queues.
        queues: u16,
    },
    /// The driver refused.
    #[error(transparent)]
    Refused(#[from] PortError),
}

impl<S: Idle> Port<S> {
    /// Gives the port its queues, offloads and MTU; in place of those it had.
    ///
    /// # Errors
    /// [`ConfigureError`] where the device cannot do it, or refuses. The port
    /// is closed then.
    pub fn configure(self, config: &PortConfig) -> Result<Port<Configured>, ConfigureError> {
        self.check(&self.info()?, config)?;
        self.apply(config)?;
        Ok(self.become_state())
    }

    /// Says in our words what a driver would refuse with an errno.
    fn check(&self, info: &DeviceInfo, config: &PortConfig) -> Result<(), ConfigureError> {
        let incapable = |asked: String, possible: String| {
            Err(ConfigureError::Incapable {
                port: info.name.clone(),
                driver: info.driver.clone(),
                asked,
                possible,
            })
        };
        for (asked, most, direction) in [
            (config.rx_queues, info.max_rx_queues, "receive"),
            (config.tx_queues, info.max_tx_queues, "transmit"),
        ] {
            if asked == 0 || asked > most {
                return incapable(format!("{asked} {direction} queues asked"), format!("it has 1 to {most}"));
            }
        }
        if !matches!(config.rx_pools.len(), 1) && config.rx_pools.len() != usize::from(config.rx_queues) {
            let (port, pools) = (info.name.clone(), config.rx_pools.len());
            return Err(ConfigureError::Pools { port, pools, queues: config.rx_queues });
        }
        if let Some(mtu) = config.mtu.filter(|mtu| !(info.min_mtu..=info.max_mtu).contains(mtu)) {
            return incapable(
                format!("an MTU of {mtu} asked"),
                format!("it takes {} to {}", info.min_mtu, info.max_mtu),
            );
        }
        let missing = config.rx_offloads - info.rx_offloads;
        if !missing.is_empty() {
            return incapable(
                format!("receive offload {missing} asked"),
                format!("it has {}", info.rx_offloads),
            );
        }
        let missing = config.tx_offloads - info.tx_offloads;
        if !missing.is_empty() {
            return incapable(
                format!("transmit offload {missing} asked"),
                format!("it has {}", info.tx_offloads),
            );
        }
        if let Some(rss) = &config.rss {
            let missing = rss.types - info.rss_types;
            if !missing.is_empty() {
                return incapable(
                    format!("RSS on {missing} asked"),
                    format!("it can hash {}", info.rss_types),
                );
            }
            // The length has 8 bits; 0 says that any will do.
            let lengths = match info.hash_key_size {
                0 => 1..=u8::MAX,
                size => size..=size,
            };
            let fits = |key: &Vec<u8>| u8::try_from(key.len()).is_ok_and(|len| lengths.contains(&len));
            if let Some(key) = rss.key.as_ref().filter(|key| !fits(key)) {
                let takes = format!("it takes {} to {}", lengths.start(), lengths.end());
                return incapable(format!("an RSS key of {} bytes given", key.len()), takes);
            }
        }
        Ok(())
    }

    fn apply(&self, config: &PortConfig) -> Result<(), PortError> {
        let mut settings = self.core.settings();
        self.configure_device(config, &mut settings)?;
        let (rx_descriptors, tx_descriptors) = self.set_up_queues(config)?;
        *settings = Settings {
            rx_queues: config.rx_queues,
            tx_queues: config.tx_queues,
            rx_descriptors,
            tx_descriptors,
            rss_key: settings.rss_key.take(),
            pools: config.rx_pools.clone(),
        };
        Ok(())
    }

    /// Configures the device itself. `settings` gets the new RSS key.
    fn configure_device(&self, config: &PortConfig, settings: &mut Settings) -> Result<(), PortError> {
        let core = &self.core;
        let mark = Mark::now();
        let mut key: Option<Box<[u8]>> = None;
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.offloads = config.rx_offloads.bits();
        conf.rxmode.mtu = config.mtu.map_or(0, u32::from);
        conf.txmode.offloads = config.tx_offloads.bits();
        if let Some(rss) = config.rss.as_ref().filter(|rss| !rss.types.is_empty()) {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = rss.types.bits();
            if let Some(key) = rss.key.as_deref().map(|bytes| key.insert(bytes.into())) {
                conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
                // `check` saw that it fits.
                conf.rx_adv_conf.rss_conf.rss_key_len = u8::try_from(key.len()).unwrap_or(u8::MAX);
            }
        }
        // SAFETY: an idle port of ours; `settings` keeps other calls out. The
        // struct is copied; the key it points to is kept in `settings`.
        let status =
            unsafe { sys::rte_eth_dev_configure(core.id, config.rx_queues, config.tx_queues, &conf) };
        // Either way: a driver may hold the new key even if it then refuses, and
        // the old one until here.
        let old_key = std::mem::replace(&mut settings.rss_key, key);
        if status < 0 {
            // The port is about to be closed. The driver may use either key.
            settings.rss_key = settings.rss_key.take().or(old_key);
            return Err(core.refused("cannot be configured", status, &mark));
        }
        Ok(())
    }

    /// Sets up the queues of a configured device. Returns how many descriptors a receive queue and a transmit queue
    /// have, as the driver adjusted them.
    fn set_up_queues(&self, config: &PortConfig) -> Result<(u16, u16), PortError> {
        let core = &self.core;
        let mark = Mark::now();
        let checked = |operation: &'static str, status: i32| {
            if status < 0 { Err(core.refused(operation, status, &mark)) } else { Ok(()) }
        };
        let (mut rx_descriptors, mut tx_descriptors) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: two numbers to adjust; a configured port of ours.
        let status = unsafe {
            sys::rte_eth_dev_adjust_nb_rx_tx_desc(core.id, &mut rx_descriptors, &mut tx_descriptors)
        };
        checked("cannot adjust its descriptors", status)?;

        let info =
            device::raw_info(core.id).map_err(|status| core.refused("cannot be described", status, &mark))?;
        // SAFETY: looks up a port that exists. -1, "any", keeps its bits.
        let socket = unsafe { sys::rte_eth_dev_socket_id(core.id) } as u32;
        for queue in 0..config.rx_queues {
            let Some(pool) = config.rx_pools.get(usize::from(queue)).or(config.rx_pools.first()) else {
                continue;
            };
            // The driver's thresholds, but no offload that was not asked for.
            let rx_conf = sys::rte_eth_rxconf { offloads: 0, ..info.default_rxconf };
            // SAFETY: a configured port of ours with such a queue; the struct is
            // copied; the pool lives until EAL stops.
            let status = unsafe {
                sys::rte_eth_rx_queue_setup(core.id, queue, rx_descriptors, socket, &rx_conf, pool.as_ptr())
            };
            checked("cannot set up a receive queue", status)?;
        }
        for queue in 0..config.tx_queues {
            // Some drivers free fast by default, which only mbufs of one pool
            // in a queue allow.
            let tx_conf = sys::rte_eth_txconf { offloads: 0, ..info.default_txconf };
            // SAFETY: a configured port of ours with such a queue; the struct is
            // copied.
            let status =
                unsafe { sys::rte_eth_tx_queue_setup(core.id, queue, tx_descriptors, socket, &tx_conf) };
            checked("cannot set up a transmit queue", status)?;
        }
        Ok((rx_descriptors, tx_descriptors))
    }
}

impl<S: State> Port<S> {
    /// Descriptors of each receive and transmit queue, as the driver adjusted
    /// them; 0 before the port is configured.
    #[must_use]
    pub fn descriptors(&self) -> (u16, u16) {
        let settings = self.core.settings();
        (settings.rx_descriptors, settings.tx_descriptors)
    }

    /// The pools its receive queues take mbufs from.
    #[must_use]
    pub fn rx_pools(&self) -> Vec<Pool> {
        self.core.settings().pools.clone()
    }
}
