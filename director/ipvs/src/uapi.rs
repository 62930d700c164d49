//! The numbers of the kernel's interface, by the names of its headers.

/// The generic-netlink family id the director gives IPVS. The kernel gives ids out as families register;
/// a client learns it by name, so any id from 0x11 upward serves.
pub const FAMILY_ID: u16 = 0x1b;
/// The family's name, `IPVS_GENL_NAME`.
pub const FAMILY_NAME: &str = "IPVS";

/// `IPVS_GENL_VERSION`.
pub(crate) const FAMILY_VERSION: u8 = 1;

// <linux/netlink.h>
pub(crate) const NLMSG_HEADER: usize = 16;
pub(crate) const NLMSG_MIN_TYPE: u16 = 0x10;
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const NLM_F_REQUEST: u16 = 0x01;
pub(crate) const NLM_F_MULTI: u16 = 0x02;
pub(crate) const NLM_F_ACK: u16 = 0x04;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
/// Not Linux's, which has no meaning for it; see [`crate::Header::later`].
pub(crate) const NLM_F_LATER: u16 = 0x8000;
/// On an acknowledgement: only the request's header is echoed.
pub(crate) const NLM_F_CAPPED: u16 = 0x100;
pub(crate) const NLA_F_NESTED: u16 = 0x8000;
/// What is left of an attribute's type without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
pub(crate) const NLA_TYPE_MASK: u16 = 0x3fff;
pub(crate) const ATTRIBUTE_HEADER: usize = 4;

// <linux/genetlink.h>
pub(crate) const GENL_HEADER: usize = 4;
pub(crate) const GENL_ID_CTRL: u16 = NLMSG_MIN_TYPE;
pub(crate) const CTRL_VERSION: u8 = 2;
pub(crate) const CTRL_CMD_NEWFAMILY: u8 = 1;
pub(crate) const CTRL_CMD_GETFAMILY: u8 = 3;
pub(crate) const CTRL_ATTR_FAMILY_ID: u16 = 1;
pub(crate) const CTRL_ATTR_FAMILY_NAME: u16 = 2;
pub(crate) const CTRL_ATTR_VERSION: u16 = 3;
pub(crate) const CTRL_ATTR_HDRSIZE: u16 = 4;
pub(crate) const CTRL_ATTR_MAXATTR: u16 = 5;
pub(crate) const CTRL_ATTR_OPS: u16 = 6;
pub(crate) const CTRL_ATTR_OP_ID: u16 = 1;
pub(crate) const CTRL_ATTR_OP_FLAGS: u16 = 2;
pub(crate) const GENL_ADMIN_PERM: u32 = 0x01;
pub(crate) const GENL_CMD_CAP_DO: u32 = 0x02;
pub(crate) const GENL_CMD_CAP_DUMP: u32 = 0x04;
pub(crate) const GENL_CMD_CAP_HASPOL: u32 = 0x08;

// <linux/ip_vs.h>, commands
pub(crate) const CMD_NEW_SERVICE: u8 = 1;
pub(crate) const CMD_SET_SERVICE: u8 = 2;
pub(crate) const CMD_DEL_SERVICE: u8 = 3;
pub(crate) const CMD_GET_SERVICE: u8 = 4;
pub(crate) const CMD_NEW_DEST: u8 = 5;
pub(crate) const CMD_SET_DEST: u8 = 6;
pub(crate) const CMD_DEL_DEST: u8 = 7;
pub(crate) const CMD_GET_DEST: u8 = 8;
pub(crate) const CMD_NEW_DAEMON: u8 = 9;
pub(crate) const CMD_DEL_DAEMON: u8 = 10;
pub(crate) const CMD_GET_DAEMON: u8 = 11;
pub(crate) const CMD_SET_CONFIG: u8 = 12;
pub(crate) const CMD_GET_CONFIG: u8 = 13;
/// Only ever a reply, to `CMD_GET_INFO`.
pub(crate) const CMD_SET_INFO: u8 = 14;
pub(crate) const CMD_GET_INFO: u8 = 15;
pub(crate) const CMD_ZERO: u8 = 16;
pub(crate) const CMD_FLUSH: u8 = 17;

// <linux/ip_vs.h>, attributes
pub(crate) const CMD_ATTR_SERVICE: u16 = 1;
pub(crate) const CMD_ATTR_DEST: u16 = 2;
pub(crate) const CMD_ATTR_DAEMON: u16 = 3;
pub(crate) const CMD_ATTR_TIMEOUT_TCP: u16 = 4;
pub(crate) const CMD_ATTR_TIMEOUT_TCP_FIN: u16 = 5;
pub(crate) const CMD_ATTR_TIMEOUT_UDP: u16 = 6;
pub(crate) const CMD_ATTR_MAX: u16 = CMD_ATTR_TIMEOUT_UDP;

pub(crate) const SVC_ATTR_AF: u16 = 1;
pub(crate) const SVC_ATTR_PROTOCOL: u16 = 2;
pub(crate) const SVC_ATTR_ADDR: u16 = 3;
pub(crate) const SVC_ATTR_PORT: u16 = 4;
pub(crate) const SVC_ATTR_FWMARK: u16 = 5;
pub(crate) const SVC_ATTR_SCHED_NAME: u16 = 6;
pub(crate) const SVC_ATTR_FLAGS: u16 = 7;
pub(crate) const SVC_ATTR_TIMEOUT: u16 = 8;
pub(crate) const SVC_ATTR_NETMASK: u16 = 9;
pub(crate) const SVC_ATTR_STATS: u16 = 10;
pub(crate) const SVC_ATTR_PE_NAME: u16 = 11;
pub(crate) const SVC_ATTR_STATS64: u16 = 12;

pub(crate) const DEST_ATTR_ADDR: u16 = 1;
pub(crate) const DEST_ATTR_PORT: u16 = 2;
pub(crate) const DEST_ATTR_FWD_METHOD: u16 = 3;
pub(crate) const DEST_ATTR_WEIGHT: u16 = 4;
pub(crate) const DEST_ATTR_U_THRESH: u16 = 5;
pub(crate) const DEST_ATTR_L_THRESH: u16 = 6;
pub(crate) const DEST_ATTR_ACTIVE_CONNS: u16 = 7;
pub(crate) const DEST_ATTR_INACT_CONNS: u16 = 8;
pub(crate) const DEST_ATTR_PERSIST_CONNS: u16 = 9;
pub(crate) const DEST_ATTR_STATS: u16 = 10;
pub(crate) const DEST_ATTR_ADDR_FAMILY: u16 = 11;
pub(crate) const DEST_ATTR_STATS64: u16 = 12;
pub(crate) const DEST_ATTR_TUN_TYPE: u16 = 13;
pub(crate) const DEST_ATTR_TUN_PORT: u16 = 14;
pub(crate) const DEST_ATTR_TUN_FLAGS: u16 = 15;

pub(crate) const DAEMON_ATTR_STATE: u16 = 1;
pub(crate) const DAEMON_ATTR_MCAST_IFN: u16 = 2;
pub(crate) const DAEMON_ATTR_SYNC_ID: u16 = 3;
pub(crate) const DAEMON_ATTR_SYNC_MAXLEN: u16 = 4;
pub(crate) const DAEMON_ATTR_MCAST_GROUP: u16 = 5;
pub(crate) const DAEMON_ATTR_MCAST_GROUP6: u16 = 6;
pub(crate) const DAEMON_ATTR_MCAST_PORT: u16 = 7;
pub(crate) const DAEMON_ATTR_MCAST_TTL: u16 = 8;

pub(crate) const STATS_ATTR_CONNS: u16 = 1;
pub(crate) const STATS_ATTR_INPKTS: u16 = 2;
pub(crate) const STATS_ATTR_OUTPKTS: u16 = 3;
pub(crate) const STATS_ATTR_INBYTES: u16 = 4;
pub(crate) const STATS_ATTR_OUTBYTES: u16 = 5;
pub(crate) const STATS_ATTR_CPS: u16 = 6;
pub(crate) const STATS_ATTR_INPPS: u16 = 7;
pub(crate) const STATS_ATTR_OUTPPS: u16 = 8;
pub(crate) const STATS_ATTR_INBPS: u16 = 9;
pub(crate) const STATS_ATTR_OUTBPS: u16 = 10;

pub(crate) const INFO_ATTR_VERSION: u16 = 1;
pub(crate) const INFO_ATTR_CONN_TAB_SIZE: u16 = 2;

/// `IP_VS_CONN_F_FWD_MASK`: the forwarding method among a server's connection flags.
pub(crate) const CONN_F_FWD_MASK: u32 = 7;

/// `union nf_inet_addr`: an IPv4 address stands in its first four bytes.
pub(crate) const ADDRESS_SIZE: usize = 16;
