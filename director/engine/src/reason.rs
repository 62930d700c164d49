//! Why packets are dropped. Each reason has a counter of its own.

/// Declares the reasons once: the variant, the name shown to operators and what it means.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name of its counter.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// Too short for an Ethernet header.
    MalformedEthernet = "malformed_ethernet",
    /// Version, header length or total length of IPv4 is wrong (RFC 1812, section 5.2.2).
    MalformedIpv4 = "malformed_ipv4",
    /// Version or length of IPv6 is wrong (RFC 8200, section 3).
    MalformedIpv6 = "malformed_ipv6",
    /// The checksum of the IPv4 header is wrong.
    Ipv4Checksum = "ipv4_checksum",
    /// The checksum of an ICMP error about a connection is wrong.
    IcmpChecksum = "icmp_checksum",
    /// Too short for its TCP or UDP header, or for SCTP's and a chunk's.
    MalformedTransport = "malformed_transport",
    /// The headers do not lie in the first segment of the buffer.
    ScatteredHeaders = "scattered_headers",
    /// The frame is for another station's MAC address.
    OtherHost = "other_host",
    /// The source is an address of the director itself, or one no host can have.
    MartianSource = "martian_source",
    /// A fragment of a packet that was not complete in time.
    FragmentTimeout = "fragment_timeout",
    /// A fragment that had to make room for others, or for which there was none.
    FragmentTableFull = "fragment_table_full",
    /// A fragment of a packet of which two say something about the same bytes.
    FragmentOverlap = "fragment_overlap",
    /// A fragment of a packet whose fragments contradict each other, or that is too long.
    FragmentMalformed = "fragment_malformed",
    /// A fragment that came before.
    FragmentDuplicate = "fragment_duplicate",
    /// The virtual service has no real server that may take a new connection.
    NoServer = "no_server",
    /// A real server's packet of no connection, answered with an ICMP error (`nat_icmp_send`).
    NoConnection = "no_connection",
    /// The connection's real server was deleted.
    ServerGone = "server_gone",
    /// The connection table is full; existing connections go on.
    TableFull = "table_full",
    /// Too many connections share one place of the table.
    ChainFull = "chain_full",
    /// Every port that could stand for a client on the server's own link is in use towards this server.
    HairpinPortsFull = "hairpin_ports_full",
    /// There is no room for another persistence template.
    TemplatesFull = "templates_full",
    /// A datagram to a service of the persistence engine `sip` that has no Call-ID.
    NoCallId = "no_call_id",
    /// A new connection was refused by `drop_packet`.
    DropPacket = "drop_packet",
    /// There is no room for another control connection of FTP.
    FtpFull = "ftp_full",
    /// A segment of an FTP control connection that came before one it follows.
    FtpOutOfOrder = "ftp_out_of_order",
    /// An answer on an FTP control connection in which no other address can be put.
    FtpNoRoom = "ftp_no_room",
    /// There is no route to the destination.
    NoRoute = "no_route",
    /// The next hop does not answer.
    NeighbourUnreachable = "neighbour_unreachable",
    /// Too many packets wait for the next hop's MAC address.
    NeighbourQueueFull = "neighbour_queue_full",
    /// There are too many next hops.
    NeighbourTableFull = "neighbour_table_full",
    /// The time to live ended here.
    TtlExceeded = "ttl_exceeded",
    /// There is no room for the header of a tunnel in the packet's buffer.
    NoHeadroom = "no_headroom",
    /// An ICMP error about a packet in a tunnel: the client was told, if it is to be.
    TunnelError = "tunnel_error",
    /// Longer than the MTU of the way on.
    TooBig = "too_big",
    /// A server's packet, while `net.ipv4.ip_forward` is 0.
    ForwardingOff = "forwarding_off",
    /// The port's transmit queue is full.
    TransmitFull = "transmit_full",
    /// The port is down.
    PortDown = "port_down",
    /// The kernel twin did not take it.
    TwinFull = "twin_full",
    /// Of what a link needs, as ARP, there is more than the kernel takes.
    TwinLinkFull = "twin_link_full",
    /// Likewise of routing protocols.
    TwinRoutingFull = "twin_routing_full",
    /// Likewise of TCP connections of the director itself.
    TwinTcpFull = "twin_tcp_full",
    /// Likewise of ICMP.
    TwinIcmpFull = "twin_icmp_full",
    /// Likewise of all else.
    TwinOtherFull = "twin_other_full",
    /// The port has no kernel twin to take what is not the fast path's.
    NoTwin = "no_twin",
    /// There is no packet buffer left for a fragment that is to be sent.
    NoBuffer = "no_buffer",
    /// The ring to the worker that owns the transmit queue is full.
    HandoffFull = "handoff_full",
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn names_are_unique_and_numbered_in_order() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| at == *reason as usize));
    }

    #[test]
    fn the_guide_says_of_each_what_it_means_and_what_to_do() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/drops.md"));
        let page = page.unwrap();
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.trim_end_matches('`').to_owned();
            assert!(cells.next().is_some_and(|meaning| !meaning.is_empty()), "{line}");
            Some(name)
        };
        let mut documented: Vec<_> = page.lines().filter_map(row).collect();
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
        documented.sort_unstable();
        names.sort_unstable();
        assert_eq!(documented, names);
    }
}
