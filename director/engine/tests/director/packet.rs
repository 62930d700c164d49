//! Packets as a test writes them, and frames as an independent parser reads them.

use std::net::{Ipv4Addr, SocketAddrV4};

use director_packet::{Mac, crc32c};
use etherparse::{
    IcmpEchoHeader, Icmpv4Slice, Icmpv4Type, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv4Slice,
    NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TcpOptions, TcpSlice, TransportSlice,
    UdpHeader,
};

/// The MAC address of a host of the simulated network.
pub(crate) fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    Mac([2, 0x10, a, b, c, d])
}

pub(crate) fn end(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

#[derive(Clone, Copy, PartialEq)]
enum Sum {
    Right,
    Wrong,
    None,
}

/// A TCP segment or UDP datagram.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    /// None: UDP.
    tcp: Option<TcpHeader>,
    ip: Ipv4Header,
    payload: Vec<u8>,
    sum: Sum,
}

/// A segment's sequence number and acknowledgment, if nobody says.
const NUMBERS: (u32, u32) = (1000, 7);

/// A TCP segment; `flags` as tcpdump has them (`S`, `SA`, `FA`, `R`, ...).
pub(crate) fn tcp(source: &str, destination: &str, flags: &str) -> Packet {
    let (from, to) = (end(source), end(destination));
    let mut header = TcpHeader::new(from.port(), to.port(), NUMBERS.0, 512);
    header.acknowledgment_number = NUMBERS.1;
    for flag in flags.chars() {
        match flag {
            'S' => header.syn = true,
            'A' => header.ack = true,
            'F' => header.fin = true,
            'R' => header.rst = true,
            'P' => header.psh = true,
            'U' => header.urg = true,
            '-' => {}
            other => panic!("no TCP flag: {other}"),
        }
    }
    Packet::new(from, to, Some(header))
}

/// A UDP datagram.
pub(crate) fn udp(source: &str, destination: &str) -> Packet {
    Packet::new(end(source), end(destination), None)
}

impl Packet {
    fn new(source: SocketAddrV4, destination: SocketAddrV4, tcp: Option<TcpHeader>) -> Self {
        let protocol = if tcp.is_some() { IpNumber::TCP } else { IpNumber::UDP };
        let mut ip =
            Ipv4Header::new(0, 64, protocol, source.ip().octets(), destination.ip().octets()).unwrap();
        ip.dont_fragment = true;
        Self { source, destination, tcp, ip, payload: Vec::new(), sum: Sum::Right }
    }

    pub(crate) fn ttl(mut self, ttl: u8) -> Self {
        self.ip.time_to_live = ttl;
        self
    }

    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// An IPv4 packet of this length.
    pub(crate) fn length(mut self, length: usize) -> Self {
        let header = self.tcp.as_ref().map_or(8, TcpHeader::header_len);
        self.payload = (0..length - self.ip.header_len() - header).map(|at| at as u8).collect();
        self
    }

    pub(crate) fn fragmentable(mut self) -> Self {
        self.ip.dont_fragment = false;
        self
    }

    pub(crate) fn ip(mut self, change: impl FnOnce(&mut Ipv4Header)) -> Self {
        change(&mut self.ip);
        self
    }

    pub(crate) fn tcp(mut self, change: impl FnOnce(&mut TcpHeader)) -> Self {
        change(self.tcp.as_mut().unwrap());
        self
    }

    pub(crate) fn ip_options(self, options: &[u8]) -> Self {
        let options = Ipv4Options::try_from(options).unwrap();
        self.ip(|ip| ip.options = options)
    }

    pub(crate) fn tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp.as_mut().unwrap().options = TcpOptions::try_from_slice(options).unwrap();
        self
    }

    /// The transport checksum is wrong.
    pub(crate) fn wrong(mut self) -> Self {
        self.sum = Sum::Wrong;
        self
    }

    /// The UDP checksum is not in use.
    pub(crate) fn without_checksum(mut self) -> Self {
        self.sum = Sum::None;
        self
    }

    /// The IPv4 packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.frame(Mac::default(), Mac::default())[14..].to_vec()
    }

    /// The frame that carries it.
    pub(crate) fn frame(&self, from: Mac, to: Mac) -> Vec<u8> {
        let mut frame = Vec::new();
        let ip = IpHeaders::Ipv4(self.ip.clone(), Default::default());
        let start = PacketBuilder::ethernet2(from.0, to.0).ip(ip);
        let sum_at = 14 + self.ip.header_len() + if self.tcp.is_some() { 16 } else { 6 };
        match &self.tcp {
            Some(header) => start.tcp_header(header.clone()).write(&mut frame, &self.payload).unwrap(),
            None => start
                .udp(self.source.port(), self.destination.port())
                .write(&mut frame, &self.payload)
                .unwrap(),
        }
        match self.sum {
            Sum::Right => {}
            Sum::Wrong => frame[sum_at] ^= 0x55,
            Sum::None => frame[sum_at..sum_at + 2].fill(0),
        }
        frame
    }
}

/// The names of SCTP's chunks, by their types (RFC 9260, section 3.2).
const CHUNKS: [&str; 15] = [
    "DATA",
    "INIT",
    "INIT-ACK",
    "SACK",
    "HEARTBEAT",
    "HEARTBEAT-ACK",
    "ABORT",
    "SHUTDOWN",
    "SHUTDOWN-ACK",
    "ERROR",
    "COOKIE-ECHO",
    "COOKIE-ACK",
    "ECNE",
    "CWR",
    "SHUTDOWN-COMPLETE",
];

/// An IPv4 packet of SCTP with these chunks (`COOKIE-ECHO+DATA`).
pub(crate) fn sctp(source: &str, destination: &str, chunks: &str) -> Vec<u8> {
    let (from, to) = (end(source), end(destination));
    let mut data = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    data.extend([1, 2, 3, 4, 0, 0, 0, 0]);
    for chunk in chunks.split('+') {
        let kind = CHUNKS.iter().position(|name| *name == chunk);
        // With a parameter of three bytes, and padded.
        data.extend([kind.unwrap_or_else(|| panic!("no chunk: {chunk}")) as u8, 0, 0, 7, 7, 7, 7, 0]);
    }
    let sum = crc32c::of(&data).to_le_bytes();
    data[8..12].copy_from_slice(&sum);
    let mut packet = Vec::new();
    PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64)
        .write(&mut packet, IpNumber::SCTP, &data)
        .unwrap();
    packet
}

fn describe_sctp(data: &[u8]) -> String {
    let (header, mut chunks) = data.split_at(12);
    let mut names = Vec::new();
    while let [kind, _, high, low, ..] = *chunks {
        names.push(CHUNKS[usize::from(kind)]);
        let length = usize::from(u16::from_be_bytes([high, low])).next_multiple_of(4);
        chunks = chunks.get(length..).unwrap_or_default();
    }
    let mut blank = data.to_vec();
    blank[8..12].fill(0);
    let wrong = if header[8..] == crc32c::of(&blank).to_le_bytes() { "" } else { " wrong checksum" };
    format!("{}{wrong}", names.join("+"))
}

/// The frame of an ICMP message that quotes `quoted`.
pub(crate) fn icmp(
    source: &str,
    destination: &str,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    quoted: &[u8],
    to: Mac,
) -> Vec<u8> {
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac_of(source).0, to.0)
        .ipv4(source.octets(), destination.octets(), 64)
        .icmpv4_raw(kind, code, rest)
        .write(&mut frame, quoted)
        .unwrap();
    frame
}

/// A ping.
pub(crate) fn ping(source: &str, destination: &str, to: Mac) -> Vec<u8> {
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac_of(source).0, to.0)
        .ipv4(source.octets(), destination.octets(), 64)
        .icmpv4(Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 1, seq: 1 }))
        .write(&mut frame, b"ping")
        .unwrap();
    frame
}

/// 0 and 0xffff are the same number in one's complement.
fn same(a: u16, b: u16) -> bool {
    a % 0xffff == b % 0xffff
}

fn tcp_flags(header: &TcpHeader) -> String {
    let bits = [
        (header.syn, 'S'),
        (header.fin, 'F'),
        (header.rst, 'R'),
        (header.psh, 'P'),
        (header.ack, 'A'),
        (header.urg, 'U'),
    ];
    let flags: String = bits.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if flags.is_empty() { "-".into() } else { flags }
}

/// The time to live and the way that was recorded.
fn note_ttl(header: &Ipv4Header) -> String {
    // What a packet that came with 64 leaves with goes without saying.
    let ttl = if header.time_to_live == 63 { String::new() } else { format!(" ttl {}", header.time_to_live) };
    let [7, length, free, addresses @ ..] = header.options.as_slice() else { return ttl };
    let recorded = addresses.chunks_exact(4).take(usize::from((*length).min(free - 1)) / 4);
    let recorded: Vec<_> = recorded.map(|a| Ipv4Addr::new(a[0], a[1], a[2], a[3]).to_string()).collect();
    format!("{ttl} record-route {}", recorded.join(","))
}

/// A frame in words, as an independent parser sees it. A wrong IPv4 or ICMP checksum, or a length that
/// does not fit, is a failure; the state of the transport checksum is part of the answer.
pub(crate) fn describe(frame: &[u8]) -> String {
    let packet = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!("not IPv4: {frame:02x?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "the IPv4 checksum of {frame:02x?}");
    assert!(usize::from(header.total_len) + 14 <= frame.len());
    let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
    if header.is_fragmenting_payload() {
        let (from, data) =
            (header.fragment_offset.byte_offset(), header.total_len - header.header_len() as u16);
        let df = if header.dont_fragment { " DF" } else { "" };
        let last = if header.more_fragments { "" } else { " last" };
        let part = format!("part {from} {}{last} id {}{df}", from + data, header.identification);
        return format!("{source} > {destination} {part}{}", note_ttl(&header));
    }
    let ends = |from: u16, to: u16| format!("{source}:{from} > {destination}:{to}");
    if header.protocol == IpNumber::SCTP {
        let data = &frame[14 + header.header_len()..14 + usize::from(header.total_len)];
        let port = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
        return ends(port(0), port(2)) + " " + &describe_sctp(data) + &note_ttl(&header);
    }
    if header.protocol == IpNumber::IPV4 {
        let df = if header.dont_fragment { " DF" } else { "" };
        let inside = describe(&[&frame[..14], ip.payload().payload].concat());
        return format!("{source} > {destination} ipip{df}{}: {inside}", note_ttl(&header));
    }
    let (mut text, found, right) = match packet.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let tcp_header = tcp.to_header();
            let text =
                format!("{} {}", ends(tcp.source_port(), tcp.destination_port()), tcp_flags(&tcp_header));
            (text, tcp.checksum(), tcp_header.calc_checksum_ipv4(&header, tcp.payload()).unwrap())
        }
        TransportSlice::Udp(udp) => {
            let udp_header = udp.to_header();
            let text = format!("{} UDP", ends(udp.source_port(), udp.destination_port()));
            if udp.checksum() == 0 {
                return text + &note_ttl(&header) + " without checksum";
            }
            (text, udp.checksum(), udp_header.calc_checksum_ipv4(&header, udp.payload()).unwrap())
        }
        TransportSlice::Icmpv4(icmp) => {
            let text = format!("{source} > {destination}: {}", describe_icmp(&icmp));
            return text + &note_ttl(&header);
        }
        other => panic!("{other:?}"),
    };
    text += &note_ttl(&header);
    if !same(found, right) {
        text += " wrong checksum";
    }
    if let Ok(packet) = SlicedPacket::from_ethernet(frame)
        && let Some(TransportSlice::Tcp(tcp)) = packet.transport
    {
        text += &describe_stream(&tcp);
    }
    text
}

/// What a TCP segment says of its stream: its numbers where they are not those that go without saying, a selective
/// acknowledgment, and its data if that is text.
fn describe_stream(tcp: &TcpSlice<'_>) -> String {
    let mut text = String::new();
    let (sequence, acknowledgment) = (tcp.sequence_number(), tcp.acknowledgment_number());
    if (sequence, acknowledgment) != NUMBERS {
        text += &format!(" seq {sequence} ack {acknowledgment}");
    }
    for option in tcp.options_iterator() {
        if let Ok(TcpOptionElement::SelectiveAcknowledgement((from, to), others)) = option {
            let others = others.into_iter().flatten();
            let blocks: Vec<String> =
                std::iter::once((from, to)).chain(others).map(|(from, to)| format!("{from},{to}")).collect();
            text += &format!(" sack {}", blocks.join(","));
        }
    }
    let data = tcp.payload();
    let is_text = |byte: &u8| byte.is_ascii_graphic() || b" \r\n".contains(byte);
    if !data.is_empty() && data.iter().all(is_text) {
        let data = String::from_utf8_lossy(data).replace('\r', "\\r").replace('\n', "\\n");
        text += &format!(" data {data}");
    }
    text
}

fn describe_icmp(icmp: &Icmpv4Slice<'_>) -> String {
    let message = icmp.slice();
    let mut blank = message.to_vec();
    blank[2..4].fill(0);
    let mut sum: u32 = blank
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert!(same(!(sum as u16), icmp.checksum()), "the ICMP checksum of {message:02x?}");
    let (kind, code) = (icmp.type_u8(), icmp.code_u8());
    let [_, _, high, low] = icmp.bytes5to8();
    let mtu = match (kind, code) {
        (3, 4) => format!(" mtu {}", u16::from_be_bytes([high, low])),
        _ => String::new(),
    };
    format!("icmp {kind}/{code}{mtu} about {}", describe_quoted(&message[8..]))
}

/// The packet that an ICMP error quotes, which may be cut short.
fn describe_quoted(quoted: &[u8]) -> String {
    let (header, rest) = Ipv4Header::from_slice(quoted).unwrap();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "the quoted IPv4 checksum");
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let ends = format!(
        "{}:{} > {}:{}",
        Ipv4Addr::from(header.source),
        port(0),
        Ipv4Addr::from(header.destination),
        port(2)
    );
    let mut text = format!("{ends} ttl {}", header.time_to_live);
    if let Ok(ip) = Ipv4Slice::from_slice(quoted) {
        let payload = ip.payload().payload;
        if header.is_fragmenting_payload() {
            return text;
        }
        let right = if header.protocol == IpNumber::TCP {
            TcpHeader::from_slice(payload)
                .map(|(tcp, data)| same(tcp.checksum, tcp.calc_checksum_ipv4(&header, data).unwrap()))
        } else if header.protocol == IpNumber::SCTP {
            // Quoted as it was sent, its port aside.
            return text;
        } else {
            let (udp, data) = UdpHeader::from_slice(payload).unwrap();
            Ok(udp.checksum == 0 || same(udp.checksum, udp.calc_checksum_ipv4(&header, data).unwrap()))
        };
        if right.is_ok_and(|right| !right) {
            text += " wrong checksum";
        }
    }
    text
}
