//! Keeps the kernel from hearing what the director hears.
//!
//! A packet socket, or AF_XDP in copy mode, leaves the frames to the kernel as well, which would answer ARP, ping and
//! TCP a second time. A chain on the interface's ingress hook that drops everything prevents this; the packet socket
//! is served before the hook. The table is owned by the socket that made it (`NFT_TABLE_F_OWNER`), so the kernel
//! removes it when the director ends, however it ends.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// From `<linux/netfilter/nfnetlink.h>` and `nf_tables.h`.
mod uapi {
    pub(super) const BATCH_BEGIN: u16 = 0x10;
    pub(super) const BATCH_END: u16 = 0x11;
    pub(super) const SUBSYS_NFTABLES: u16 = 10;
    pub(super) const NEWTABLE: u16 = SUBSYS_NFTABLES << 8;
    pub(super) const NEWCHAIN: u16 = (SUBSYS_NFTABLES << 8) | 3;
    pub(super) const FAMILY_NETDEV: u8 = 5;
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const TABLE_FLAGS: u16 = 2;
    pub(super) const TABLE_F_OWNER: u32 = 2;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const HOOK_DEVICE: u16 = 3;
    pub(super) const INGRESS: u32 = 0;
    pub(super) const DROP: u32 = 0;
    pub(super) const NESTED: u16 = 0x8000;
    pub(super) const REQUEST: u16 = 1;
    pub(super) const ACK: u16 = 4;
    pub(super) const CREATE: u16 = 0x400;
    pub(super) const NLMSG_ERROR: u16 = 2;
}

/// As long as it lives, everything that the kernel would hear on these interfaces is dropped.
pub(crate) struct Guard {
    _socket: Socket,
}

/// Netlink messages under construction, aligned to 4 bytes throughout.
#[derive(Default)]
struct Builder {
    bytes: Vec<u8>,
    messages: u32,
}

impl Builder {
    /// Adds a message of nf_tables with the attributes that `fill` writes.
    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.messages += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | uapi::REQUEST).to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        fill(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn text(bytes: &mut Vec<u8>, kind: u16, value: &str) {
    attribute(bytes, kind, &[value.as_bytes(), &[0]].concat());
}

impl Guard {
    /// Guards these interfaces. `name` is the table's; each director has its own.
    pub(crate) fn new(name: &str, interfaces: &[&str]) -> io::Result<Self> {
        let mut builder = Builder::default();
        builder.message(uapi::BATCH_BEGIN, 0, 0, uapi::SUBSYS_NFTABLES, |_| {});
        builder.message(uapi::NEWTABLE, uapi::CREATE | uapi::ACK, uapi::FAMILY_NETDEV, 0, |bytes| {
            text(bytes, uapi::TABLE_NAME, name);
            attribute(bytes, uapi::TABLE_FLAGS, &uapi::TABLE_F_OWNER.to_be_bytes());
        });
        for interface in interfaces {
            builder.message(uapi::NEWCHAIN, uapi::CREATE | uapi::ACK, uapi::FAMILY_NETDEV, 0, |bytes| {
                text(bytes, uapi::CHAIN_TABLE, name);
                text(bytes, uapi::CHAIN_NAME, interface);
                let mut hook = Vec::new();
                attribute(&mut hook, uapi::HOOK_NUMBER, &uapi::INGRESS.to_be_bytes());
                attribute(&mut hook, uapi::HOOK_PRIORITY, &i32::MIN.to_be_bytes());
                text(&mut hook, uapi::HOOK_DEVICE, interface);
                attribute(bytes, uapi::CHAIN_HOOK | uapi::NESTED, &hook);
                attribute(bytes, uapi::CHAIN_POLICY, &uapi::DROP.to_be_bytes());
                text(bytes, uapi::CHAIN_TYPE, "filter");
            });
        }
        builder.message(uapi::BATCH_END, 0, 0, uapi::SUBSYS_NFTABLES, |_| {});
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&builder.bytes, 0)?;
        for _ in 0..=interfaces.len() {
            expect_ack(&socket)?;
        }
        Ok(Self { _socket: socket })
    }
}

/// Reads an answer, which must report success.
fn expect_ack(socket: &Socket) -> io::Result<()> {
    let (answer, _) = socket.recv_from_full()?;
    let kind = answer.get(4..6).and_then(|bytes| bytes.first_chunk()).map(|bytes| u16::from_ne_bytes(*bytes));
    let code =
        answer.get(16..20).and_then(|bytes| bytes.first_chunk()).map(|bytes| i32::from_ne_bytes(*bytes));
    match (kind, code) {
        (Some(uapi::NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(uapi::NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an unexpected netlink message")),
    }
}
