/* What dpdk-sys binds. bindgen sees this file, and so does the C file of
 * wrappers it writes for the inline functions.
 */
#ifndef DPDK_SYS_WRAPPER_H
#define DPDK_SYS_WRAPPER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stddef.h>
#include <stdio.h>

#include <rte_config.h>
#include <rte_version.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_rcu_qsbr.h>

/* rte_errno is a macro over a thread-local; bindgen can bind neither. */
static inline int dpdk_errno(void)
{
	return rte_errno;
}

/* struct rte_eth_link is made of bit-fields, in unions in newer releases. */
struct dpdk_link {
	uint32_t speed;
	uint8_t up;
	uint8_t full_duplex;
	uint8_t autoneg;
};

static inline int dpdk_link_get_nowait(uint16_t port_id, struct dpdk_link *out)
{
	struct rte_eth_link link = { 0 };
	int status = rte_eth_link_get_nowait(port_id, &link);

	if (status == 0) {
		out->speed = link.link_speed;
		out->up = link.link_status == RTE_ETH_LINK_UP;
		out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
		out->autoneg = link.link_autoneg == RTE_ETH_LINK_AUTONEG;
	}
	return status;
}

/* Where the fields of an mbuf lie: releases differ in the unions around them,
 * so the Rust path of bindgen's struct would differ too; the offsets do not.
 */
#define DPDK_MBUF(field) \
	static const size_t DPDK_MBUF_##field = offsetof(struct rte_mbuf, field)

DPDK_MBUF(buf_addr);
DPDK_MBUF(data_off);
DPDK_MBUF(refcnt);
DPDK_MBUF(nb_segs);
DPDK_MBUF(port);
DPDK_MBUF(ol_flags);
DPDK_MBUF(pkt_len);
DPDK_MBUF(data_len);
DPDK_MBUF(vlan_tci);
DPDK_MBUF(hash);
DPDK_MBUF(buf_len);
DPDK_MBUF(next);
DPDK_MBUF(tx_offload);
DPDK_MBUF(shinfo);
static const size_t DPDK_SHINFO_refcnt =
	offsetof(struct rte_mbuf_ext_shared_info, refcnt);

static const size_t DPDK_MEMPOOL_NAMESIZE = RTE_MEMPOOL_NAMESIZE;

/* Flag macros that expand to RTE_BIT64() or a cast are no integer literals to
 * bindgen; as constants they are.
 */
#define DPDK_U64(name) static const uint64_t DPDK_##name = (uint64_t)(name)

DPDK_U64(RTE_MBUF_F_INDIRECT);
DPDK_U64(RTE_MBUF_F_EXTERNAL);
DPDK_U64(RTE_MBUF_F_RX_VLAN);
DPDK_U64(RTE_MBUF_F_RX_VLAN_STRIPPED);
DPDK_U64(RTE_MBUF_F_RX_RSS_HASH);
DPDK_U64(RTE_MBUF_F_RX_IP_CKSUM_MASK);
DPDK_U64(RTE_MBUF_F_RX_IP_CKSUM_BAD);
DPDK_U64(RTE_MBUF_F_RX_IP_CKSUM_GOOD);
DPDK_U64(RTE_MBUF_F_RX_IP_CKSUM_NONE);
DPDK_U64(RTE_MBUF_F_RX_L4_CKSUM_MASK);
DPDK_U64(RTE_MBUF_F_RX_L4_CKSUM_BAD);
DPDK_U64(RTE_MBUF_F_RX_L4_CKSUM_GOOD);
DPDK_U64(RTE_MBUF_F_RX_L4_CKSUM_NONE);
DPDK_U64(RTE_MBUF_F_TX_OFFLOAD_MASK);
DPDK_U64(RTE_MBUF_F_TX_IPV4);
DPDK_U64(RTE_MBUF_F_TX_IPV6);
DPDK_U64(RTE_MBUF_F_TX_IP_CKSUM);
DPDK_U64(RTE_MBUF_F_TX_TCP_CKSUM);
DPDK_U64(RTE_MBUF_F_TX_UDP_CKSUM);
DPDK_U64(RTE_MBUF_F_TX_VLAN);

DPDK_U64(RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
DPDK_U64(RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
DPDK_U64(RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
DPDK_U64(RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
DPDK_U64(RTE_ETH_RX_OFFLOAD_TCP_LRO);
DPDK_U64(RTE_ETH_RX_OFFLOAD_VLAN_FILTER);
DPDK_U64(RTE_ETH_RX_OFFLOAD_SCATTER);
DPDK_U64(RTE_ETH_RX_OFFLOAD_KEEP_CRC);
DPDK_U64(RTE_ETH_RX_OFFLOAD_RSS_HASH);

DPDK_U64(RTE_ETH_TX_OFFLOAD_VLAN_INSERT);
DPDK_U64(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
DPDK_U64(RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
DPDK_U64(RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
DPDK_U64(RTE_ETH_TX_OFFLOAD_MULTI_SEGS);

DPDK_U64(RTE_ETH_RSS_IPV4);
DPDK_U64(RTE_ETH_RSS_FRAG_IPV4);
DPDK_U64(RTE_ETH_RSS_NONFRAG_IPV4_TCP);
DPDK_U64(RTE_ETH_RSS_NONFRAG_IPV4_UDP);
DPDK_U64(RTE_ETH_RSS_NONFRAG_IPV4_SCTP);
DPDK_U64(RTE_ETH_RSS_NONFRAG_IPV4_OTHER);
DPDK_U64(RTE_ETH_RSS_IPV6);
DPDK_U64(RTE_ETH_RSS_FRAG_IPV6);
DPDK_U64(RTE_ETH_RSS_NONFRAG_IPV6_TCP);
DPDK_U64(RTE_ETH_RSS_NONFRAG_IPV6_UDP);
DPDK_U64(RTE_ETH_RSS_NONFRAG_IPV6_SCTP);
DPDK_U64(RTE_ETH_RSS_NONFRAG_IPV6_OTHER);
DPDK_U64(RTE_ETH_RSS_L3_SRC_ONLY);
DPDK_U64(RTE_ETH_RSS_L3_DST_ONLY);
DPDK_U64(RTE_ETH_RSS_L4_SRC_ONLY);
DPDK_U64(RTE_ETH_RSS_L4_DST_ONLY);

#endif
