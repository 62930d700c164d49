//! Bringing up the ports and their kernel twins, and who polls and fills which queue.

use std::cell::Cell;
use std::path::Path;

use anyhow::{Context, Result, bail};
use director_config::{Config, Port as PortConfiguration};
use director_packet::Mac;
use dpdk::{Attached, Handle, Pool, PoolConfig, Port, PortConfig, RssTypes, RxQueue, Started, TxQueue};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::rss::{self, Rss};
use crate::worker::{Input, Output};

/// Buffers in the kernel twins' own pool, for each twin: whatever comes in on the ports, there are buffers for what
/// the kernel sends. A tap keeps as many as it has descriptors.
const TWIN_MBUFS: u32 = 2048;

/// Descriptors of a twin's queues.
const TWIN_DESCRIPTORS: u16 = 512;

/// Descriptors of a queue whose port does not configure a number.
const DESCRIPTORS: u16 = 1024;

/// Devices whose device string sets the number of queues: all of them must be polled.
const FIXED_QUEUES: &[&str] =
    &["net_af_packet", "net_pcap", "net_af_xdp", "net_vhost", "net_virtio_user", "net_ring"];

/// Devices that have one queue of each kind unless the configuration says otherwise.
const ONE_QUEUE: &[&str] = &["net_tap", "net_memif", "net_null"];

/// A port in operation, and its twin.
pub(crate) struct PortRuntime {
    pub(crate) configuration: PortConfiguration,
    pub(crate) port: Port<Started>,
    pub(crate) driver: String,
    /// The MAC address of its twin, too.
    pub(crate) mac: Cell<Mac>,
    /// The number of the kernel interface that the device is opened on, once it is known.
    pub(crate) opened: Cell<Option<u32>>,
    pub(crate) rx_queues: u16,
    pub(crate) tx_queues: u16,
    /// How the device chooses the receive queue of a packet.
    pub(crate) rss: Rss,
    /// What it could choose by, according to the driver.
    pub(crate) rss_offered: RssTypes,
    pub(crate) twin: Option<TwinPort>,
}

/// The DPDK side of a kernel twin.
pub(crate) struct TwinPort {
    pub(crate) port: Port<Started>,
    pub(crate) rx: RxQueue,
    pub(crate) tx: TxQueue,
    pub(crate) is_tap: bool,
}

/// The queues of a port before they are distributed.
pub(crate) struct Queues {
    pub(crate) rx: Vec<RxQueue>,
    pub(crate) tx: Vec<TxQueue>,
}

/// The queues that one worker owns.
#[derive(Default)]
pub(crate) struct Share {
    pub(crate) inputs: Vec<Input>,
    /// By port.
    pub(crate) outputs: Vec<Option<Output>>,
    /// `PORT:QUEUE` of its inputs, for the operator.
    pub(crate) names: Vec<String>,
}

/// The result of [`deal`].
pub(crate) struct Dealt {
    pub(crate) workers: Vec<Share>,
    /// The control core's transmit queues, by port; none where a worker sends for it.
    pub(crate) control: Vec<Option<TxQueue>>,
    /// By port: which worker sends for each worker, and last for the control core.
    pub(crate) senders: Vec<Vec<usize>>,
}

/// Refuses twins whose names are those of existing interfaces. A tap of another director would be taken for this
/// one's, and set down when this one ends.
pub(crate) fn check_twins(config: &Config) -> Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    for port in config.ports.iter().filter(|port| port.twin) {
        let name = port.name.as_str();
        match name_to_index(&socket, name) {
            Err(Errno::NODEV) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("looking for an interface {name}"));
            }
            Ok(_) => bail!(
                "port \"{name}\": there is an interface {name} already, perhaps another director's; the kernel twin needs \
                 the name: give the port another one, or delete the interface (ip link delete {name})"
            ),
        }
    }
    Ok(())
}

/// Brings up every port and its twin.
pub(crate) fn bring_up(
    eal: &Handle,
    config: &Config,
    pool: &Pool,
    workers: u16,
) -> Result<Vec<(PortRuntime, Queues)>> {
    let twins = config.ports.iter().filter(|port| port.twin).count().max(1);
    // A configuration has few ports.
    let twin_config = PoolConfig { mbufs: TWIN_MBUFS * twins as u32, ..PoolConfig::default() };
    let twin_pool = Pool::new(eal, "twins", &twin_config).context("no buffers for the kernel twins")?;
    let mut ports: Vec<(PortRuntime, Queues)> = Vec::new();
    for configuration in &config.ports {
        let name = configuration.name.as_str();
        let port = bring_up_one(eal, configuration, pool, &twin_pool, workers)
            .with_context(|| format!("port \"{name}\""))?;
        ports.push(port);
    }
    rss::agree(ports.iter().map(|(port, _)| (&port.port, &port.rss, port.rx_queues)));
    Ok(ports)
}

fn bring_up_one(
    eal: &Handle,
    configuration: &PortConfiguration,
    pool: &Pool,
    twin_pool: &Pool,
    workers: u16,
) -> Result<(PortRuntime, Queues)> {
    let port = attach(eal, configuration.device.as_str())?;
    let info = port.info()?;
    let driver = info.driver.clone();
    let (rx, tx) = queue_counts(configuration, &driver, info.max_rx_queues, info.max_tx_queues, workers);
    let descriptors = configuration.descriptors.map_or(DESCRIPTORS, |descriptors| descriptors.get());
    let mut setup = PortConfig::new(rx, pool);
    setup.tx_queues = tx;
    setup.rx_descriptors = descriptors;
    setup.tx_descriptors = descriptors;
    setup.mtu = configuration.mtu.map(|mtu| mtu.get());
    let choices = rss::choices(configuration.side, rx, info.rss_types, info.hash_key_size);
    let mut attached = Some(port);
    let (port, rss) = rss::first_taken(choices, |rss| {
        setup.rss = rss.setting();
        // A port that has refused is closed.
        let port = attached.take().map_or_else(|| attach(eal, configuration.device.as_str()), Ok)?;
        Ok(port.configure(&setup)?)
    })?;
    if let Some(mac) = configuration.mac {
        port.set_mac(mac.octets())?;
    }
    let mac = Mac(port.mac()?);
    let (port, rx_queues, tx_queues) = port.start()?;
    let twin = if configuration.twin {
        Some(make_twin(eal, configuration.name.as_str(), mac, twin_pool).context("its kernel twin")?)
    } else {
        None
    };
    let runtime = PortRuntime {
        configuration: configuration.clone(),
        port,
        driver,
        mac: Cell::new(mac),
        opened: Cell::new(None),
        rx_queues: rx,
        tx_queues: tx,
        rss,
        rss_offered: info.rss_types,
        twin,
    };
    Ok((runtime, Queues { rx: rx_queues, tx: tx_queues }))
}

fn attach(eal: &Handle, device: &str) -> Result<Port<Attached>> {
    let mut ports = eal.attach(device)?;
    match (ports.pop(), ports.is_empty()) {
        (Some(port), true) => Ok(port),
        (Some(_), false) => {
            bail!("device {device} has more than one port; name one of them, as in {device},representor=0")
        }
        (None, _) => bail!("device {device} has no port"),
    }
}

/// How many receive and transmit queues a port gets: one of each for every worker if the device has as many, and one
/// more transmit queue for the control core.
fn queue_counts(
    configuration: &PortConfiguration,
    driver: &str,
    max_rx: u16,
    max_tx: u16,
    workers: u16,
) -> (u16, u16) {
    let is_one_of =
        |names: &[&str]| names.iter().any(|name| driver == *name || format!("net_{driver}") == *name);
    let asked = configuration.rx_queues.map(|queues| queues.get());
    let (rx, tx) = if is_one_of(FIXED_QUEUES) {
        (max_rx, max_tx)
    } else if is_one_of(ONE_QUEUE) {
        let queues = asked.unwrap_or(1);
        (queues, queues)
    } else {
        (asked.unwrap_or(workers), workers + 1)
    };
    (rx.clamp(1, max_rx.max(1)), tx.clamp(1, max_tx.max(1)))
}

/// Makes the kernel interface of a port: through vhost-net if the kernel has it, otherwise as a tap.
fn make_twin(eal: &Handle, name: &str, mac: Mac, pool: &Pool) -> Result<TwinPort> {
    let is_tap = !Path::new("/dev/vhost-net").exists();
    let devargs = if is_tap {
        format!("net_tap_{name},iface={name},mac={mac}")
    } else {
        format!("net_virtio_user_{name},path=/dev/vhost-net,queues=1,queue_size=1024,iface={name},mac={mac}")
    };
    let mut setup = PortConfig::new(1, pool);
    setup.rx_descriptors = TWIN_DESCRIPTORS;
    setup.tx_descriptors = TWIN_DESCRIPTORS;
    let port = attach(eal, &devargs)?.configure(&setup)?;
    let (port, mut rx, mut tx) = port.start()?;
    match (rx.pop(), tx.pop()) {
        (Some(rx), Some(tx)) => Ok(TwinPort { port, rx, tx, is_tap }),
        _ => bail!("the device has no queues"),
    }
}

/// Gives each receive queue to exactly one worker and each transmit queue to at most one thread.
///
/// Receive queue q of a port goes to worker q modulo the workers if each worker gets as many of the port's queues:
/// devices that choose the same queue number then choose the same worker. Otherwise queue q of port p goes to worker
/// (p + q) modulo the workers, so that the single queues of two ports go to two workers. A port's only transmit queue
/// then goes to the worker that receives on the port before it: with two ports, that is where the packets for the
/// port come from.
pub(crate) fn deal(ports: Vec<Queues>, names: &[String], workers: usize) -> Dealt {
    let mut shares: Vec<_> = std::iter::repeat_with(Share::default).take(workers).collect();
    let mut control = Vec::new();
    let mut senders = Vec::new();
    for (at, queues) in ports.into_iter().enumerate() {
        let first = if queues.rx.len() % workers == 0 { 0 } else { at };
        for (queue, rx) in queues.rx.into_iter().enumerate() {
            let share = &mut shares[(first + queue) % workers];
            share.names.push(format!("{}:{queue}", names[at]));
            // A configuration has few ports: their number fits.
            share.inputs.push(Input::new(at as u8, rx));
        }
        let mut owners: Vec<Option<usize>> = vec![None; workers];
        let mut spare = None;
        for share in &mut shares {
            share.outputs.push(None);
        }
        for (queue, tx) in queues.tx.into_iter().enumerate() {
            if queue < workers {
                let owner = (at + queue + workers - 1) % workers;
                shares[owner].outputs[at] = Some(Output::new(tx));
                owners[owner] = Some(owner);
            } else if spare.is_none() {
                spare = Some(tx);
            }
        }
        let own: Vec<_> = owners.iter().flatten().copied().collect();
        let mut sender: Vec<_> = owners
            .iter()
            .enumerate()
            .map(|(worker, own_one)| own_one.unwrap_or(own[worker % own.len()]))
            .collect();
        sender.push(own[0]);
        senders.push(sender);
        control.push(spare);
    }
    Dealt { workers: shares, control, senders }
}
