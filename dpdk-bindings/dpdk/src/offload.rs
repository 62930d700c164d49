//! Bit sets of what devices can do: offloads, and what RSS hashes.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

use dpdk_sys as sys;

macro_rules! bit_set {
    (
        $(#[$of_set:meta])* $set:ident {
            $($(#[$of_bit:meta])* $bit:ident = $value:ident $name:literal;)*
        }
    ) => {
        $(#[$of_set])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
        pub struct $set(u64);

        impl $set {
            /// None of them.
            pub const EMPTY: Self = Self(0);
            $($(#[$of_bit])* pub const $bit: Self = Self(sys::$value);)*

            const NAMES: &[(Self, &str)] = &[$((Self::$bit, $name)),*];

            /// As DPDK has it; bits without a name here are kept.
            pub(crate) const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }

            /// As DPDK has it (the `RTE_ETH_*` bits).
            #[must_use]
            pub const fn bits(self) -> u64 {
                self.0
            }

            /// Whether it has all of `other`.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether it has none at all.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }

        impl BitOr for $set {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl BitOrAssign for $set {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        impl BitAnd for $set {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }

        /// What the left one has and the right one has not.
        impl Sub for $set {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        /// The names, separated by spaces; `none` for the empty set.
        impl fmt::Display for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_names(f, self.0, Self::NAMES.iter().map(|&(bit, name)| (bit.0, name)))
            }
        }

        impl fmt::Debug for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($set))
            }
        }
    };
}

fn write_names<'a>(
    f: &mut fmt::Formatter<'_>,
    bits: u64,
    names: impl Iterator<Item = (u64, &'a str)>,
) -> fmt::Result {
    let mut rest = bits;
    let mut separator = "";
    for (bit, name) in names.filter(|(bit, _)| bits & bit == *bit) {
        write!(f, "{separator}{name}")?;
        separator = " ";
        rest &= !bit;
    }
    match (rest, bits) {
        (0, 0) => f.write_str("none"),
        (0, _) => Ok(()),
        (rest, _) => write!(f, "{separator}{rest:#x}"),
    }
}

bit_set! {
    /// What a device does with packets it receives.
    RxOffloads {
        /// Takes the VLAN tag off and reports it apart.
        VLAN_STRIP = DPDK_RTE_ETH_RX_OFFLOAD_VLAN_STRIP "vlan-strip";
        /// Checks the IPv4 header checksum.
        IPV4_CHECKSUM = DPDK_RTE_ETH_RX_OFFLOAD_IPV4_CKSUM "ipv4-checksum";
        /// Checks the UDP checksum.
        UDP_CHECKSUM = DPDK_RTE_ETH_RX_OFFLOAD_UDP_CKSUM "udp-checksum";
        /// Checks the TCP checksum.
        TCP_CHECKSUM = DPDK_RTE_ETH_RX_OFFLOAD_TCP_CKSUM "tcp-checksum";
        /// Joins TCP segments.
        TCP_LRO = DPDK_RTE_ETH_RX_OFFLOAD_TCP_LRO "tcp-lro";
        /// Filters by VLAN.
        VLAN_FILTER = DPDK_RTE_ETH_RX_OFFLOAD_VLAN_FILTER "vlan-filter";
        /// Spreads a long frame over several segments.
        SCATTER = DPDK_RTE_ETH_RX_OFFLOAD_SCATTER "scatter";
        /// Leaves the frame check sequence at the end of the frame.
        KEEP_CRC = DPDK_RTE_ETH_RX_OFFLOAD_KEEP_CRC "keep-crc";
        /// Reports the RSS hash.
        RSS_HASH = DPDK_RTE_ETH_RX_OFFLOAD_RSS_HASH "rss-hash";
    }
}

bit_set! {
    /// What a device does with packets it sends.
    ///
    /// `MBUF_FAST_FREE` is not among them: with it a device frees all mbufs of
    /// a queue to the pool of one of them, which no type here could vouch for.
    TxOffloads {
        /// Inserts a VLAN tag.
        VLAN_INSERT = DPDK_RTE_ETH_TX_OFFLOAD_VLAN_INSERT "vlan-insert";
        /// Computes the IPv4 header checksum.
        IPV4_CHECKSUM = DPDK_RTE_ETH_TX_OFFLOAD_IPV4_CKSUM "ipv4-checksum";
        /// Computes the UDP checksum.
        UDP_CHECKSUM = DPDK_RTE_ETH_TX_OFFLOAD_UDP_CKSUM "udp-checksum";
        /// Computes the TCP checksum.
        TCP_CHECKSUM = DPDK_RTE_ETH_TX_OFFLOAD_TCP_CKSUM "tcp-checksum";
        /// Sends mbufs of several segments.
        MULTI_SEGMENT = DPDK_RTE_ETH_TX_OFFLOAD_MULTI_SEGS "multi-segment";
    }
}

bit_set! {
    /// What RSS hashes to choose a queue.
    RssTypes {
        /// IPv4 addresses.
        IPV4 = DPDK_RTE_ETH_RSS_IPV4 "ipv4";
        /// IPv4 addresses of fragments.
        IPV4_FRAGMENT = DPDK_RTE_ETH_RSS_FRAG_IPV4 "ipv4-fragment";
        /// IPv4 addresses and ports of TCP.
        IPV4_TCP = DPDK_RTE_ETH_RSS_NONFRAG_IPV4_TCP "ipv4-tcp";
        /// IPv4 addresses and ports of UDP.
        IPV4_UDP = DPDK_RTE_ETH_RSS_NONFRAG_IPV4_UDP "ipv4-udp";
        /// IPv4 addresses and ports of SCTP.
        IPV4_SCTP = DPDK_RTE_ETH_RSS_NONFRAG_IPV4_SCTP "ipv4-sctp";
        /// IPv4 addresses of any other protocol.
        IPV4_OTHER = DPDK_RTE_ETH_RSS_NONFRAG_IPV4_OTHER "ipv4-other";
        /// IPv6 addresses.
        IPV6 = DPDK_RTE_ETH_RSS_IPV6 "ipv6";
        /// IPv6 addresses of fragments.
        IPV6_FRAGMENT = DPDK_RTE_ETH_RSS_FRAG_IPV6 "ipv6-fragment";
        /// IPv6 addresses and ports of TCP.
        IPV6_TCP = DPDK_RTE_ETH_RSS_NONFRAG_IPV6_TCP "ipv6-tcp";
        /// IPv6 addresses and ports of UDP.
        IPV6_UDP = DPDK_RTE_ETH_RSS_NONFRAG_IPV6_UDP "ipv6-udp";
        /// IPv6 addresses and ports of SCTP.
        IPV6_SCTP = DPDK_RTE_ETH_RSS_NONFRAG_IPV6_SCTP "ipv6-sctp";
        /// IPv6 addresses of any other protocol.
        IPV6_OTHER = DPDK_RTE_ETH_RSS_NONFRAG_IPV6_OTHER "ipv6-other";
        /// Of the addresses only the source.
        L3_SRC_ONLY = DPDK_RTE_ETH_RSS_L3_SRC_ONLY "l3-src-only";
        /// Of the addresses only the destination.
        L3_DST_ONLY = DPDK_RTE_ETH_RSS_L3_DST_ONLY "l3-dst-only";
        /// Of the ports only the source.
        L4_SRC_ONLY = DPDK_RTE_ETH_RSS_L4_SRC_ONLY "l4-src-only";
        /// Of the ports only the destination.
        L4_DST_ONLY = DPDK_RTE_ETH_RSS_L4_DST_ONLY "l4-dst-only";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_behave_as_sets() {
        let wanted = TxOffloads::IPV4_CHECKSUM | TxOffloads::TCP_CHECKSUM;
        let capable = TxOffloads::IPV4_CHECKSUM | TxOffloads::MULTI_SEGMENT;
        assert!(!capable.contains(wanted));
        assert!(capable.contains(TxOffloads::EMPTY));
        assert_eq!(wanted & capable, TxOffloads::IPV4_CHECKSUM);
        assert_eq!(wanted - capable, TxOffloads::TCP_CHECKSUM);
        assert!((wanted - wanted).is_empty());
    }

    #[test]
    fn sets_name_their_bits() {
        assert_eq!(RssTypes::EMPTY.to_string(), "none");
        assert_eq!((RssTypes::L3_SRC_ONLY | RssTypes::IPV4_TCP).to_string(), "ipv4-tcp l3-src-only");
        assert_eq!(RxOffloads::from_bits(1 << 63 | 1).to_string(), "vlan-strip 0x8000000000000000");
        assert_eq!(format!("{:?}", TxOffloads::VLAN_INSERT), "TxOffloads(vlan-insert)");
    }
}
