//! Devices: attached by name at run time, detached when their ports are gone.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::advice;
use crate::eal::{Handle, Runtime};
use crate::error::Refusal;
use crate::log::{self, Level, Mark};
use crate::offload::{RssTypes, RxOffloads, TxOffloads};
use crate::port::{Attached, Port};

/// A device was not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No device string at all.
    #[error(
        "device {device:?}: a device is a PCI address (0000:03:00.0) or a driver's name with arguments (net_tap0,iface=front)"
    )]
    Name {
        /// What was given.
        device: String,
    },
    /// A `Port` of it exists.
    #[error("device {device} is in use: it was attached before")]
    InUse {
        /// The device.
        device: String,
    },
    /// It is attached but no Ethernet device.
    #[error("device {device} has no Ethernet port")]
    NoPort {
        /// The device.
        device: String,
    },
    /// DPDK or the driver refused.
    #[error("device {device} cannot be attached: {refusal}")]
    Refused {
        /// The device.
        device: String,
        /// Why.
        refusal: Refusal,
    },
}

/// What a device can do, as its driver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device's name: a PCI address, or as attached.
    pub name: String,
    /// The driver's name: `net_ixgbe`, `net_tap`, … Drivers differ in more than
    /// is said here: `net_tap` wants as many rx as tx queues; `net_pcap`,
    /// `net_af_packet`, `net_af_xdp` and `net_vhost` take their queues from the
    /// device string.
    pub driver: String,
    /// The kernel's index of the network interface the device stands on.
    pub interface_index: Option<u32>,
    /// The NUMA socket the device is attached to.
    pub socket: Option<u32>,
    /// The most receive queues.
    pub max_rx_queues: u16,
    /// The most transmit queues.
    pub max_tx_queues: u16,
    /// The least MTU in bytes.
    pub min_mtu: u16,
    /// The greatest MTU in bytes.
    pub max_mtu: u16,
    /// What it can do with received packets.
    pub rx_offloads: RxOffloads,
    /// What it can do with packets to send.
    pub tx_offloads: TxOffloads,
    /// What its RSS can hash.
    pub rss_types: RssTypes,
    /// Entries of its redirection table; 0 without one.
    pub reta_size: u16,
    /// Bytes of its RSS key; 0 where it does not matter.
    pub hash_key_size: u8,
}

/// What EAL says after whatever a driver said.
const GENERIC: &[&str] =
    &["EAL: Failed to attach device on primary process", "EAL: Driver cannot attach the device"];

impl Handle {
    /// Attaches a device by its string: a PCI address (`0000:03:00.0`) or a
    /// virtual device (`net_tap0,iface=front,mac=02:00:00:00:00:01`), with
    /// arguments of its driver. Gives its port, or ports. A device that EAL
    /// found as it started (PCI, `--vdev`) is taken over by its name.
    ///
    /// The device is detached once its ports and all their queues are dropped.
    ///
    /// # Errors
    /// [`AttachError`]: in use, no Ethernet device, or refused, with the
    /// driver's words and a remedy.
    pub fn attach(&self, device: &str) -> Result<Vec<Port<Attached>>, AttachError> {
        let named = || device.to_owned();
        let first = device.split(',').next().unwrap_or_default().trim();
        let c_device = CString::new(device)
            .ok()
            .filter(|_| !first.is_empty())
            .ok_or_else(|| AttachError::Name { device: named() })?;
        let name = advice::pci_address(device).unwrap_or_else(|| first.to_owned());

        let mut claimed = self.runtime.claimed_ports();
        if ports().any(|port| claimed.contains(&port) && device_name(port).as_deref() == Some(name.as_str()))
        {
            return Err(AttachError::InUse { device: named() });
        }
        let before: BTreeSet<u16> = ports().collect();
        let known = before.iter().any(|&port| device_name(port).as_deref() == Some(name.as_str()));
        if !known {
            let mark = Mark::now();
            // SAFETY: EAL runs; the string is NUL-terminated and copied. Devices
            // come and go only under the lock held in `claimed`.
            let status = unsafe { sys::rte_dev_probe(c_device.as_ptr()) };
            if status < 0 {
                let refusal = Refusal::new(status, &mark);
                let remedy = advice::attach(device, &refusal);
                let refusal = refusal.without(GENERIC);
                return Err(AttachError::Refused { device: named(), refusal: refusal.with_remedy(remedy) });
            }
        }
        let appeared: Vec<u16> = ports()
            .filter(|port| !claimed.contains(port))
            .filter(|port| !before.contains(port) || device_name(*port).as_deref() == Some(name.as_str()))
            .collect();
        let Some(device_of_port) = appeared.first().and_then(|&port| device_pointer(port)) else {
            return Err(AttachError::NoPort { device: named() });
        };
        let shared = Arc::new(Device { device: device_of_port, name, runtime: Arc::clone(&self.runtime) });
        claimed.extend(&appeared);
        drop(claimed);
        Ok(appeared.into_iter().map(|port| Port::attached(port, Arc::clone(&shared))).collect())
    }
}

/// An attached device, held by its ports.
pub(crate) struct Device {
    device: NonNull<sys::rte_device>,
    name: String,
    pub(crate) runtime: Arc<Runtime>,
}

// SAFETY: the pointer is used once, to remove the device, under the lock of
// `claimed_ports`; EAL keeps the device until then.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mark = Mark::now();
        let claimed = self.runtime.claimed_ports();
        // SAFETY: EAL runs (`runtime`), the device is there, since only this
        // removes it, and all its ports are closed, since they hold it.
        let status = unsafe { sys::rte_dev_remove(self.device.as_ptr()) };
        drop(claimed);
        if status < 0 {
            let refusal = Refusal::new(status, &mark);
            log::publish(Level::Warning, &format!("device {} was not detached: {refusal}", self.name));
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(&self.name).finish()
    }
}

/// The ports there are, but for those another device uses as its own (the
/// members of a bond).
fn ports() -> impl Iterator<Item = u16> {
    const NO_OWNER: u64 = 0;
    let next = |from: u16| {
        // SAFETY: looks through DPDK's table of ports; EAL runs.
        let port = unsafe { sys::rte_eth_find_next_owned_by(from, NO_OWNER) };
        u16::try_from(port).ok().filter(|&port| u32::from(port) < sys::RTE_MAX_ETHPORTS)
    };
    std::iter::successors(next(0), move |&port| next(port + 1))
}

/// What DPDK says about a port.
pub(crate) fn raw_info(port: u16) -> Result<sys::rte_eth_dev_info, i32> {
    let mut info = MaybeUninit::<sys::rte_eth_dev_info>::zeroed();
    // SAFETY: the struct is written by the call; all zeros is a valid one.
    unsafe {
        match sys::rte_eth_dev_info_get(port, info.as_mut_ptr()) {
            0 => Ok(info.assume_init()),
            status => Err(status),
        }
    }
}

fn device_pointer(port: u16) -> Option<NonNull<sys::rte_device>> {
    raw_info(port).ok().and_then(|info| NonNull::new(info.device))
}

fn device_name(port: u16) -> Option<String> {
    let device = device_pointer(port)?;
    // SAFETY: the device of a port that exists.
    c_string(unsafe { sys::rte_dev_name(device.as_ptr()) })
}

pub(crate) fn driver_name(port: u16) -> Option<String> {
    raw_info(port).ok().and_then(|info| c_string(info.driver_name))
}

fn c_string(text: *const c_char) -> Option<String> {
    // SAFETY: DPDK's names are NUL-terminated and stay as long as the device
    // or the driver; they are copied at once.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

pub(crate) fn describe(port: u16, name: &str) -> Result<DeviceInfo, i32> {
    let info = raw_info(port)?;
    // SAFETY: looks up a port that exists.
    let socket = unsafe { sys::rte_eth_dev_socket_id(port) };
    Ok(DeviceInfo {
        name: name.to_owned(),
        driver: c_string(info.driver_name).unwrap_or_default(),
        interface_index: (info.if_index != 0).then_some(info.if_index),
        socket: u32::try_from(socket).ok(),
        max_rx_queues: info.max_rx_queues,
        max_tx_queues: info.max_tx_queues,
        min_mtu: info.min_mtu,
        max_mtu: info.max_mtu,
        rx_offloads: RxOffloads::from_bits(info.rx_offload_capa),
        tx_offloads: TxOffloads::from_bits(info.tx_offload_capa),
        rss_types: RssTypes::from_bits(info.flow_type_rss_offloads),
        reta_size: info.reta_size,
        hash_key_size: info.hash_key_size,
    })
}
