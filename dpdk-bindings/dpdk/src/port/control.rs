//! What can be asked of a port besides packets: addresses, MTU, link,
//! statistics, the redirection table.

use std::ffi::CStr;

use dpdk_sys as sys;

use super::{HasQueues, Port, PortError, State};
use crate::device::{self, DeviceInfo};
use crate::log::Mark;
use crate::stats::Stats;

/// The state of a port's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Its speed in Mb/s, where the driver knows.
    pub speed_mbps: Option<u32>,
    /// Whether both ends send at once.
    pub full_duplex: bool,
    /// Whether the speed was negotiated.
    pub autoneg: bool,
}

impl<S: State> Port<S> {
    /// DPDK's number of the port.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.core.id()
    }

    /// The name of its device.
    #[must_use]
    pub fn name(&self) -> &str {
        self.core.name()
    }

    /// The name of its driver.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.core.driver
    }

    /// What its device can do.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses.
    pub fn info(&self) -> Result<DeviceInfo, PortError> {
        let _settings = self.core.settings();
        let mark = Mark::now();
        device::describe(self.id(), self.name())
            .map_err(|status| self.core.refused("cannot be described", status, &mark))
    }

    /// Its MAC address.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses.
    pub fn mac(&self) -> Result<[u8; 6], PortError> {
        let mut address = sys::rte_ether_addr::default();
        // SAFETY: writes the struct.
        self.ask("cannot tell its MAC address", |id| unsafe { sys::rte_eth_macaddr_get(id, &mut address) })?;
        Ok(address.addr_bytes)
    }

    /// Its MTU in bytes.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses.
    pub fn mtu(&self) -> Result<u16, PortError> {
        let mut mtu = 0;
        // SAFETY: writes the number.
        self.ask("cannot tell its MTU", |id| unsafe { sys::rte_eth_dev_get_mtu(id, &mut mtu) })?;
        Ok(mtu)
    }

    /// Its link, as it is now.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses.
    pub fn link(&self) -> Result<Link, PortError> {
        let mut link = sys::dpdk_link::default();
        // SAFETY: writes the struct.
        self.ask("cannot tell its link", |id| unsafe { sys::dpdk_link_get_nowait(id, &mut link) })?;
        let known = !matches!(link.speed, sys::RTE_ETH_SPEED_NUM_NONE | sys::RTE_ETH_SPEED_NUM_UNKNOWN);
        Ok(Link {
            up: link.up != 0,
            speed_mbps: known.then_some(link.speed),
            full_duplex: link.full_duplex != 0,
            autoneg: link.autoneg != 0,
        })
    }

    /// Its counters, which every driver has.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses.
    pub fn stats(&self) -> Result<Stats, PortError> {
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: writes the struct.
        self.ask("cannot tell its statistics", |id| unsafe { sys::rte_eth_stats_get(id, &mut stats) })?;
        Ok(Stats::from_dpdk(&stats))
    }

    /// Sets its counters to zero.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses.
    pub fn reset_stats(&self) -> Result<(), PortError> {
        // SAFETY: takes nothing but the port.
        self.ask("cannot reset its statistics", |id| unsafe { sys::rte_eth_stats_reset(id) })
    }

    /// The driver's own counters with their names.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, PortError> {
        let id = self.id();
        let _settings = self.core.settings();
        let mark = Mark::now();
        let refused = |status| self.core.refused("cannot tell its extended statistics", status, &mark);
        // SAFETY: with a null array of no length the call just counts.
        let count = unsafe { sys::rte_eth_xstats_get(id, std::ptr::null_mut(), 0) };
        let length = u32::try_from(count).map_err(|_| refused(count))?;
        let mut values = vec![sys::rte_eth_xstat::default(); length as usize];
        let mut names =
            vec![sys::rte_eth_xstat_name { name: [0; sys::RTE_ETH_XSTATS_NAME_SIZE as usize] }; values.len()];
        // SAFETY: arrays of the length given.
        let (named, valued) = unsafe {
            (
                sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), length),
                sys::rte_eth_xstats_get(id, values.as_mut_ptr(), length),
            )
        };
        // A driver may have grown more meanwhile: then what fits was not written.
        let filled = |count: i32| usize::try_from(count).ok().filter(|&count| count <= values.len());
        let (Some(named), Some(valued)) = (filled(named), filled(valued)) else {
            return Err(refused(named.min(valued).min(-1)));
        };
        let named = names.get(..named).unwrap_or_default();
        let value = |value: &sys::rte_eth_xstat| {
            let name = named.get(usize::try_from(value.id).ok()?)?;
            // SAFETY: a NUL-terminated string in an array that had zeros only.
            let name = unsafe { CStr::from_ptr(name.name.as_ptr()) };
            Some((name.to_string_lossy().into_owned(), value.value))
        };
        Ok(values.iter().take(valued).filter_map(value).collect())
    }

    /// Makes one call on the port, alone.
    pub(super) fn ask(
        &self,
        operation: &'static str,
        call: impl FnOnce(u16) -> i32,
    ) -> Result<(), PortError> {
        let _settings = self.core.settings();
        let mark = Mark::now();
        match call(self.id()) {
            status if status < 0 => Err(self.core.refused(operation, status, &mark)),
            _ => Ok(()),
        }
    }
}

impl<S: HasQueues> Port<S> {
    /// Gives it another MAC address.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses; some do while it is started.
    pub fn set_mac(&self, address: [u8; 6]) -> Result<(), PortError> {
        let mut address = sys::rte_ether_addr { addr_bytes: address };
        // SAFETY: reads the struct.
        self.ask("cannot take the MAC address", |id| unsafe {
            sys::rte_eth_dev_default_mac_addr_set(id, &mut address)
        })
    }

    /// Sets its MTU in bytes.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses; some do while it is started.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), PortError> {
        // SAFETY: takes numbers only.
        self.ask("cannot take the MTU", |id| unsafe { sys::rte_eth_dev_set_mtu(id, mtu) })
    }

    /// Whether it receives packets for other MAC addresses too.
    #[must_use]
    pub fn promiscuous(&self) -> bool {
        let _settings = self.core.settings();
        // SAFETY: looks up a port that exists.
        unsafe { sys::rte_eth_promiscuous_get(self.id()) == 1 }
    }

    /// Makes it receive packets for other MAC addresses too, or not.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), PortError> {
        let call = if on { sys::rte_eth_promiscuous_enable } else { sys::rte_eth_promiscuous_disable };
        // SAFETY: takes nothing but the port.
        self.ask("cannot change promiscuous mode", |id| unsafe { call(id) })
    }

    /// The redirection table: the queue of each RSS hash modulo its length.
    /// Empty where the device has none.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses.
    pub fn reta(&self) -> Result<Vec<u16>, PortError> {
        let size = self.info()?.reta_size;
        let mut groups = reta_groups(usize::from(size));
        if size > 0 {
            // SAFETY: the array has a group for each 64 of `size` entries.
            self.ask("cannot tell its redirection table", |id| unsafe {
                sys::rte_eth_dev_rss_reta_query(id, groups.as_mut_ptr(), size)
            })?;
        }
        Ok(groups.iter().flat_map(|group| group.reta).take(usize::from(size)).collect())
    }

    /// Sets the redirection table: `queues` is repeated over its length.
    ///
    /// # Errors
    /// [`PortError`] where the driver refuses, as for a queue that is not
    /// there or a device without a table. Some drivers take it only while the
    /// port is started.
    pub fn set_reta(&self, queues: &[u16]) -> Result<(), PortError> {
        let size = self.info()?.reta_size;
        let mut groups = reta_groups(usize::from(size));
        let entries = groups.iter_mut().flat_map(|group| &mut group.reta);
        for (entry, queue) in entries.zip(queues.iter().cycle()) {
            *entry = *queue;
        }
        // SAFETY: the array has a group for each 64 of `size` entries.
        self.ask("cannot take the redirection table", |id| unsafe {
            sys::rte_eth_dev_rss_reta_update(id, groups.as_mut_ptr(), size)
        })
    }
}

/// Room for `size` entries, all of them meant.
fn reta_groups(size: usize) -> Vec<sys::rte_eth_rss_reta_entry64> {
    const GROUP: usize = sys::RTE_ETH_RETA_GROUP_SIZE as usize;
    let mask = |group: usize| match size - group * GROUP {
        rest if rest >= GROUP => u64::MAX,
        rest => (1 << rest) - 1,
    };
    (0..size.div_ceil(GROUP))
        .map(|group| sys::rte_eth_rss_reta_entry64 { mask: mask(group), reta: [0; GROUP] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masks_of_a_redirection_table_cover_it_and_no_more() {
        assert!(reta_groups(0).is_empty());
        for size in [1, 63, 64, 65, 128, 512, 513] {
            let bits: u32 = reta_groups(size).iter().map(|group| group.mask.count_ones()).sum();
            assert_eq!(bits as usize, size);
        }
    }
}
