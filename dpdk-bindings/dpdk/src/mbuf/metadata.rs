//! What a device reports about a packet, and what it is asked to do with one.

use dpdk_sys as sys;

use super::Mbuf;
use super::edit::EditError;

/// What a device found of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It did not look.
    Unknown,
    /// Right.
    Good,
    /// Wrong.
    Bad,
    /// Not filled in, but the packet is known to be whole (it comes from a
    /// virtual machine or this one, over memory).
    Absent,
}

/// What a device found of a received packet's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RxChecksums {
    /// Of the IPv4 header.
    pub ip: Checksum,
    /// Of TCP or UDP.
    pub l4: Checksum,
}

/// The IP version of a packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A transport protocol whose checksum devices compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum L4Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Checksums for the device to compute as it sends.
///
/// The device must have the offload ([`TxOffloads`](crate::TxOffloads)) and the
/// port must be configured with it. For TCP and UDP, the packet's checksum field
/// must hold the sum of the pseudo header; for IPv4 it must be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TxOffload {
    /// The IP version.
    pub version: IpVersion,
    /// Bytes before the IP header: 14 for Ethernet without tags; at most 127.
    pub l2_len: usize,
    /// Bytes of the IP header, options included; at most 511.
    pub l3_len: usize,
    /// Whether to compute the IPv4 header's checksum.
    pub ipv4_checksum: bool,
    /// Whose checksum to compute.
    pub l4_checksum: Option<L4Protocol>,
}

/// Everything a device may be asked for that has to do with the headers, and
/// so all but a VLAN tag: a driver that delivered the packet may have set what
/// nothing here does.
const REQUESTS: u64 = sys::DPDK_RTE_MBUF_F_TX_OFFLOAD_MASK & !sys::DPDK_RTE_MBUF_F_TX_VLAN;

impl Mbuf {
    /// The port the packet came from; 65535 for one made here.
    #[inline]
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Says which port the packet came from.
    pub fn set_port(&mut self, port: u16) {
        self.0.set_port(port);
    }

    /// The RSS hash, where the device reported it.
    #[inline]
    #[must_use]
    pub fn rss_hash(&self) -> Option<u32> {
        self.has(sys::DPDK_RTE_MBUF_F_RX_RSS_HASH).then(|| self.0.rss_hash())
    }

    /// What the device found of the checksums.
    #[inline]
    #[must_use]
    pub fn rx_checksums(&self) -> RxChecksums {
        let flags = self.0.flags();
        let ip = match flags & sys::DPDK_RTE_MBUF_F_RX_IP_CKSUM_MASK {
            sys::DPDK_RTE_MBUF_F_RX_IP_CKSUM_GOOD => Checksum::Good,
            sys::DPDK_RTE_MBUF_F_RX_IP_CKSUM_BAD => Checksum::Bad,
            sys::DPDK_RTE_MBUF_F_RX_IP_CKSUM_NONE => Checksum::Absent,
            _ => Checksum::Unknown,
        };
        let l4 = match flags & sys::DPDK_RTE_MBUF_F_RX_L4_CKSUM_MASK {
            sys::DPDK_RTE_MBUF_F_RX_L4_CKSUM_GOOD => Checksum::Good,
            sys::DPDK_RTE_MBUF_F_RX_L4_CKSUM_BAD => Checksum::Bad,
            sys::DPDK_RTE_MBUF_F_RX_L4_CKSUM_NONE => Checksum::Absent,
            _ => Checksum::Unknown,
        };
        RxChecksums { ip, l4 }
    }

    /// The VLAN tag (priority, DEI and VLAN, 16 bits) that the device took off.
    #[inline]
    #[must_use]
    pub fn stripped_vlan(&self) -> Option<u16> {
        self.has(sys::DPDK_RTE_MBUF_F_RX_VLAN_STRIPPED).then(|| self.0.vlan_tci())
    }

    /// Asks the device to insert a VLAN tag as it sends.
    pub fn insert_vlan(&mut self, tci: u16) {
        self.0.set_vlan_tci(tci);
        self.0.set_flags(self.0.flags() | sys::DPDK_RTE_MBUF_F_TX_VLAN);
    }

    /// Asks the device to compute checksums as it sends. Set it last: whatever
    /// changes the length of the packet takes the request back.
    ///
    /// # Errors
    /// [`EditError::Headers`] where the headers are not all in the first
    /// segment, which drivers rely on, or too long for an mbuf's fields.
    #[inline]
    pub fn set_tx_offload(&mut self, offload: TxOffload) -> Result<(), EditError> {
        let TxOffload { version, l2_len, l3_len, ipv4_checksum, l4_checksum } = offload;
        let (l4_len, l4_flag) = match l4_checksum {
            None => (0, 0),
            Some(L4Protocol::Tcp) => (20, sys::DPDK_RTE_MBUF_F_TX_TCP_CKSUM),
            Some(L4Protocol::Udp) => (8, sys::DPDK_RTE_MBUF_F_TX_UDP_CKSUM),
        };
        let segment = self.data().len();
        let fits = l2_len < 1 << sys::RTE_MBUF_L2_LEN_BITS
            && l3_len < 1 << sys::RTE_MBUF_L3_LEN_BITS
            && l2_len + l3_len + l4_len <= segment;
        if !fits {
            return Err(EditError::Headers { l2_len, l3_len, l4_len, segment });
        }
        let mut flags = l4_flag
            | match version {
                IpVersion::V4 => sys::DPDK_RTE_MBUF_F_TX_IPV4,
                IpVersion::V6 => sys::DPDK_RTE_MBUF_F_TX_IPV6,
            };
        if ipv4_checksum && version == IpVersion::V4 {
            flags |= sys::DPDK_RTE_MBUF_F_TX_IP_CKSUM;
        }
        self.0.set_flags(self.0.flags() & !REQUESTS | flags);
        // The other fields of the word, segmentation and tunnels, stay 0.
        let lengths =
            (l2_len as u64) << sys::RTE_MBUF_L2_LEN_OFS | (l3_len as u64) << sys::RTE_MBUF_L3_LEN_OFS;
        self.0.set_tx_offload(lengths);
        Ok(())
    }

    /// Takes back what [`set_tx_offload`](Self::set_tx_offload), or the driver
    /// that delivered the packet, asked for.
    #[inline]
    pub fn clear_tx_offload(&mut self) {
        let flags = self.0.flags();
        if flags & REQUESTS != 0 {
            self.0.set_flags(flags & !REQUESTS);
        }
    }

    /// Takes over what a device reported about another packet; its requests for
    /// sending are not, since the segments may differ.
    pub(crate) fn copy_metadata(&mut self, other: &Self) {
        let foreign = sys::DPDK_RTE_MBUF_F_INDIRECT | sys::DPDK_RTE_MBUF_F_EXTERNAL;
        let kept = self.0.flags() & foreign;
        let reported = other.0.flags() & !foreign & !sys::DPDK_RTE_MBUF_F_TX_OFFLOAD_MASK;
        self.0.set_flags(kept | reported);
        self.0.set_port(other.0.port());
        self.0.set_vlan_tci(other.0.vlan_tci());
        self.0.set_rss_hash(other.0.rss_hash());
    }

    #[inline]
    fn has(&self, flag: u64) -> bool {
        self.0.flags() & flag != 0
    }
}
