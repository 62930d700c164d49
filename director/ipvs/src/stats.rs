//! Counters and rates.

use crate::uapi::*;
use crate::writer::Writer;

/// What a service or a server has carried, and its rates per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes of IP from clients.
    pub in_bytes: u64,
    /// Bytes of IP to clients.
    pub out_bytes: u64,
    /// Connections per second.
    pub connection_rate: u64,
    /// Packets per second from clients.
    pub in_packet_rate: u64,
    /// Packets per second to clients.
    pub out_packet_rate: u64,
    /// Bytes per second from clients.
    pub in_byte_rate: u64,
    /// Bytes per second to clients.
    pub out_byte_rate: u64,
}

impl Stats {
    /// Writes both forms: the older one of `u32`s (of which a large counter shows its lower half, as the
    /// kernel's does; the bytes are `u64` there too), and the newer one of `u64`s.
    pub(crate) fn encode(&self, writer: &mut Writer, stats: u16, stats64: u16) {
        writer.nest(stats, |writer| {
            writer.u32(STATS_ATTR_CONNS, self.connections as u32);
            writer.u32(STATS_ATTR_INPKTS, self.in_packets as u32);
            writer.u32(STATS_ATTR_OUTPKTS, self.out_packets as u32);
            writer.u64(STATS_ATTR_INBYTES, self.in_bytes);
            writer.u64(STATS_ATTR_OUTBYTES, self.out_bytes);
            writer.u32(STATS_ATTR_CPS, self.connection_rate as u32);
            writer.u32(STATS_ATTR_INPPS, self.in_packet_rate as u32);
            writer.u32(STATS_ATTR_OUTPPS, self.out_packet_rate as u32);
            writer.u32(STATS_ATTR_INBPS, self.in_byte_rate as u32);
            writer.u32(STATS_ATTR_OUTBPS, self.out_byte_rate as u32);
        });
        writer.nest(stats64, |writer| {
            writer.u64(STATS_ATTR_CONNS, self.connections);
            writer.u64(STATS_ATTR_INPKTS, self.in_packets);
            writer.u64(STATS_ATTR_OUTPKTS, self.out_packets);
            writer.u64(STATS_ATTR_INBYTES, self.in_bytes);
            writer.u64(STATS_ATTR_OUTBYTES, self.out_bytes);
            writer.u64(STATS_ATTR_CPS, self.connection_rate);
            writer.u64(STATS_ATTR_INPPS, self.in_packet_rate);
            writer.u64(STATS_ATTR_OUTPPS, self.out_packet_rate);
            writer.u64(STATS_ATTR_INBPS, self.in_byte_rate);
            writer.u64(STATS_ATTR_OUTBPS, self.out_byte_rate);
        });
    }
}
