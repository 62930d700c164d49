//! Writing messages and attributes.

use std::net::IpAddr;

use crate::uapi::ADDRESS_SIZE;

/// A datagram under construction.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// The fields of `struct nlmsghdr` besides the length.
#[derive(Clone, Copy)]
pub(crate) struct MessageHeader {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) port: u32,
}

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a message whose payload `body` writes.
    pub(crate) fn message(&mut self, header: MessageHeader, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.raw(&0_u32.to_ne_bytes());
        self.raw(&header.kind.to_ne_bytes());
        self.raw(&header.flags.to_ne_bytes());
        self.raw(&header.sequence.to_ne_bytes());
        self.raw(&header.port.to_ne_bytes());
        body(self);
        // The payload is what this crate writes, or a request no longer than its own u32 length.
        let length = (self.bytes.len() - start) as u32;
        self.patch(start, &length.to_ne_bytes());
        self.align();
    }

    /// Appends a generic-netlink message.
    pub(crate) fn generic(
        &mut self,
        header: MessageHeader,
        command: u8,
        version: u8,
        body: impl FnOnce(&mut Self),
    ) {
        self.message(header, |writer| {
            writer.raw(&[command, version, 0, 0]);
            body(writer);
        });
    }

    /// The bytes unchanged.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An attribute whose value `body` writes. Like the kernel's replies, without `NLA_F_NESTED`.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.raw(&0_u16.to_ne_bytes());
        self.raw(&kind.to_ne_bytes());
        body(self);
        // Every value this crate writes, the list of 17 commands included, is under 1 KiB.
        let length = (self.bytes.len() - start) as u16;
        self.patch(start, &length.to_ne_bytes());
        self.align();
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |writer| writer.raw(value));
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.attribute(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// A port, in network order.
    pub(crate) fn port(&mut self, kind: u16, port: u16) {
        self.attribute(kind, &port.to_be_bytes());
    }

    /// A text with its NUL.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        self.nest(kind, |writer| {
            writer.raw(text.as_bytes());
            writer.raw(&[0]);
        });
    }

    /// An address in the 16 bytes of `union nf_inet_addr`.
    pub(crate) fn address(&mut self, kind: u16, address: IpAddr) {
        self.nest(kind, |writer| match address {
            IpAddr::V4(address) => {
                writer.raw(&address.octets());
                writer.raw(&[0; ADDRESS_SIZE - 4]);
            }
            IpAddr::V6(address) => writer.raw(&address.octets()),
        });
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(value) {
            *to = *from;
        }
    }

    /// Messages and attributes start at multiples of four; a datagram starts with a message.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
