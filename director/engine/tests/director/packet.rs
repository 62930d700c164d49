//! Packets as a test writes them, and frames as an independent parser reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use director_packet::{Mac, crc32c, ipv6};
use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv4Slice,
    Ipv6ExtensionSlice, Ipv6Header, Ipv6Slice, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket,
    TcpHeader, TcpOptionElement, TcpOptions, TcpSlice, TransportSlice, UdpHeader,
};

/// The MAC address of a host of the simulated network, whose addresses are 2001:db8:X::Y where they are of IPv6.
pub(crate) fn mac_of(address: IpAddr) -> Mac {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            Mac([2, 0x10, a, b, c, d])
        }
        IpAddr::V6(address) => {
            let [.., network, _, _, _, _, _, _, _, _, high, low] = address.octets();
            Mac([2, 0x60, 0, network, high, low])
        }
    }
}

/// Whose MAC address it is.
pub(crate) fn host_of(mac: Mac) -> Option<IpAddr> {
    match mac.0 {
        [2, 0x10, a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
        [2, 0x60, 0, network, high, low] => {
            let host = u16::from_be_bytes([high, low]);
            Some(Ipv6Addr::new(0x2001, 0xdb8, network.into(), 0, 0, 0, 0, host).into())
        }
        _ => None,
    }
}

pub(crate) fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[derive(Clone, Copy, PartialEq)]
enum Sum {
    Right,
    Wrong,
    None,
}

/// The header of a packet.
#[derive(Clone)]
enum Net {
    V4(Ipv4Header),
    V6(Ipv6Header),
}

impl Net {
    fn between(source: IpAddr, destination: IpAddr) -> Self {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                Self::V4(Ipv4Header::new(0, 64, IpNumber::UDP, source, destination).unwrap())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => Self::V6(Ipv6Header {
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            }),
            _ => panic!("{source} and {destination}: of two families"),
        }
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        match self {
            Self::V4(ip) => (Ipv4Addr::from(ip.source).into(), Ipv4Addr::from(ip.destination).into()),
            Self::V6(ip) => (Ipv6Addr::from(ip.source).into(), Ipv6Addr::from(ip.destination).into()),
        }
    }

    const fn ttl(&self) -> u8 {
        match self {
            Self::V4(ip) => ip.time_to_live,
            Self::V6(ip) => ip.hop_limit,
        }
    }

    /// The frame that such a packet begins.
    fn begin(self, from: Mac, to: Mac) -> PacketBuilderStep<IpHeaders> {
        PacketBuilder::ethernet2(from.0, to.0).ip(match self {
            Self::V4(ip) => IpHeaders::Ipv4(ip, Default::default()),
            Self::V6(ip) => IpHeaders::Ipv6(ip, Default::default()),
        })
    }

    fn sum_of_tcp(&self, tcp: &TcpHeader, data: &[u8]) -> u16 {
        match self {
            Self::V4(ip) => tcp.calc_checksum_ipv4(ip, data).unwrap(),
            Self::V6(ip) => tcp.calc_checksum_ipv6(ip, data).unwrap(),
        }
    }

    fn sum_of_udp(&self, udp: &UdpHeader, data: &[u8]) -> u16 {
        match self {
            Self::V4(ip) => udp.calc_checksum_ipv4(ip, data).unwrap(),
            Self::V6(ip) => udp.calc_checksum_ipv6(ip, data).unwrap(),
        }
    }
}

/// A TCP segment or UDP datagram.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// None: UDP.
    tcp: Option<TcpHeader>,
    net: Net,
    /// Extension headers of IPv6: the kind of each, and what comes after its "next header".
    extensions: Vec<(u8, Vec<u8>)>,
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
    fn new(source: SocketAddr, destination: SocketAddr, tcp: Option<TcpHeader>) -> Self {
        let mut net = Net::between(source.ip(), destination.ip());
        if let Net::V4(ip) = &mut net {
            ip.dont_fragment = true;
            ip.protocol = if tcp.is_some() { IpNumber::TCP } else { IpNumber::UDP };
        }
        Self { source, destination, tcp, net, extensions: Vec::new(), payload: Vec::new(), sum: Sum::Right }
    }

    pub(crate) const fn is_v6(&self) -> bool {
        matches!(self.net, Net::V6(_))
    }

    /// The MAC address of its sender.
    pub(crate) fn from(&self) -> Mac {
        mac_of(self.source.ip())
    }

    /// Time to live, or hop limit.
    pub(crate) fn ttl(mut self, ttl: u8) -> Self {
        match &mut self.net {
            Net::V4(ip) => ip.time_to_live = ttl,
            Net::V6(ip) => ip.hop_limit = ttl,
        }
        self
    }

    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// An IP packet of this length.
    pub(crate) fn length(mut self, length: usize) -> Self {
        let network = match &self.net {
            Net::V4(ip) => ip.header_len(),
            Net::V6(_) => 40 + self.extensions.iter().map(|(_, bytes)| 1 + bytes.len()).sum::<usize>(),
        };
        let header = self.tcp.as_ref().map_or(8, TcpHeader::header_len);
        self.payload = (0..length - network - header).map(|at| at as u8).collect();
        self
    }

    pub(crate) fn fragmentable(self) -> Self {
        self.ip(|ip| ip.dont_fragment = false)
    }

    /// A change of its header of IPv4.
    pub(crate) fn ip(mut self, change: impl FnOnce(&mut Ipv4Header)) -> Self {
        let Net::V4(ip) = &mut self.net else { panic!("of IPv6") };
        change(ip);
        self
    }

    /// Another extension header, before what is above them.
    pub(crate) fn extension(mut self, kind: u8, bytes: &[u8]) -> Self {
        self.extensions.push((kind, bytes.to_vec()));
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

    /// The IP packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.frame(Mac::default(), Mac::default())[14..].to_vec()
    }

    /// The frame that carries it.
    pub(crate) fn frame(&self, from: Mac, to: Mac) -> Vec<u8> {
        let mut frame = Vec::new();
        let start = self.net.clone().begin(from, to);
        let header = self.tcp.as_ref().map_or(8, TcpHeader::header_len);
        match &self.tcp {
            Some(header) => start.tcp_header(header.clone()).write(&mut frame, &self.payload).unwrap(),
            None => start
                .udp(self.source.port(), self.destination.port())
                .write(&mut frame, &self.payload)
                .unwrap(),
        }
        let sum_at = frame.len() - self.payload.len() - header + if self.tcp.is_some() { 16 } else { 6 };
        match self.sum {
            Sum::Right => {}
            Sum::Wrong => frame[sum_at] ^= 0x55,
            Sum::None => frame[sum_at..sum_at + 2].fill(0),
        }
        for (kind, bytes) in self.extensions.iter().rev() {
            let next = std::mem::replace(&mut frame[20], *kind);
            frame.splice(54..54, std::iter::once(next).chain(bytes.iter().copied()));
            let length = (frame.len() - 54) as u16;
            frame[18..20].copy_from_slice(&length.to_be_bytes());
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

/// An IP packet of SCTP with these chunks (`COOKIE-ECHO+DATA`).
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
    let mut frame = Vec::new();
    let start = Net::between(from.ip(), to.ip()).begin(Mac::default(), Mac::default());
    start.write(&mut frame, IpNumber::SCTP, &data).unwrap();
    frame.split_off(14)
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
    let names = if names.is_empty() { "-".to_owned() } else { names.join("+") };
    names + wrong
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
    let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut frame = Vec::new();
    let start = Net::between(source, destination).begin(mac_of(source), to);
    let written = match source {
        IpAddr::V4(_) => start.icmpv4_raw(kind, code, rest).write(&mut frame, quoted),
        IpAddr::V6(_) => start.icmpv6_raw(kind, code, rest).write(&mut frame, quoted),
    };
    written.unwrap();
    frame
}

/// A ping.
pub(crate) fn ping(source: &str, destination: &str, to: Mac) -> Vec<u8> {
    let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut frame = Vec::new();
    let start = Net::between(source, destination).begin(mac_of(source), to);
    let echo = IcmpEchoHeader { id: 1, seq: 1 };
    let written = match source {
        IpAddr::V4(_) => start.icmpv4(Icmpv4Type::EchoRequest(echo)).write(&mut frame, b"ping"),
        IpAddr::V6(_) => start.icmpv6(Icmpv6Type::EchoRequest(echo)).write(&mut frame, b"ping"),
    };
    written.unwrap();
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

/// What is said behind everything else: the time to live, the way that was recorded, the times, the extension headers.
fn note(net: &Net) -> String {
    // What a packet that came with 64 leaves with goes without saying.
    let ttl = if net.ttl() == 63 { String::new() } else { format!(" ttl {}", net.ttl()) };
    let Net::V4(header) = net else { return ttl };
    if let times @ [68, ..] = header.options.as_slice() {
        let bytes: Vec<_> = times.iter().map(|byte| format!("{byte:x}")).collect();
        return format!("{ttl} options {}", bytes.join("."));
    }
    let [7, length, free, addresses @ ..] = header.options.as_slice() else { return ttl };
    let recorded = addresses.chunks_exact(4).take(usize::from((*length).min(free - 1)) / 4);
    let recorded: Vec<_> = recorded.map(|a| Ipv4Addr::new(a[0], a[1], a[2], a[3]).to_string()).collect();
    format!("{ttl} record-route {}", recorded.join(","))
}

/// A fragment: where it begins, whether others follow, its identification, and "don't fragment".
type Part = (u16, bool, u32, &'static str);

/// What an independent parser says of the IP header of a frame: the header, what is to be said behind everything else,
/// what is above and its protocol, and which part of it, if it is a fragment.
fn network<'a>(
    packet: &SlicedPacket<'a>,
    frame: &'a [u8],
) -> (Net, String, IpNumber, &'a [u8], Option<Part>) {
    match packet.net.as_ref() {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            let sum = header.calc_header_checksum();
            assert_eq!(header.header_checksum, sum, "the IPv4 checksum of {frame:02x?}");
            assert!(usize::from(header.total_len) + 14 <= frame.len());
            let df = if header.dont_fragment { " DF" } else { "" };
            let part = (
                header.fragment_offset.byte_offset(),
                header.more_fragments,
                header.identification.into(),
                df,
            );
            let part = header.is_fragmenting_payload().then_some(part);
            let net = Net::V4(header);
            (net.clone(), note(&net), ip.payload().ip_number, ip.payload().payload, part)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            assert!(usize::from(header.payload_length) + 54 <= frame.len());
            let (mut names, mut part) = (String::new(), None);
            let mut payload = ip.payload().payload;
            for extension in ip.extensions().clone() {
                names += &match extension {
                    Ipv6ExtensionSlice::HopByHop(_) => " hop-by-hop".to_owned(),
                    Ipv6ExtensionSlice::DestinationOptions(_) => " destination-options".to_owned(),
                    Ipv6ExtensionSlice::Routing(header) => format!(" routing {}", header.slice()[3]),
                    Ipv6ExtensionSlice::Authentication(_) => " authentication".to_owned(),
                    Ipv6ExtensionSlice::Fragment(header) if header.is_fragmenting_payload() => {
                        let offset = header.fragment_offset().byte_offset();
                        part = Some((offset, header.more_fragments(), header.identification(), ""));
                        // The parser would go on in the data.
                        let end = 54 + usize::from(ip.header().payload_length());
                        let data = ipv6::upper(&frame[14..]).unwrap().at;
                        payload = &frame[14 + usize::from(data)..end];
                        break;
                    }
                    Ipv6ExtensionSlice::Fragment(_) => " atomic".to_owned(),
                };
            }
            let net = Net::V6(header);
            (net.clone(), note(&net) + &names, ip.payload().ip_number, payload, part)
        }
        other => panic!("{other:?}: {frame:02x?}"),
    }
}

/// A frame in words, as an independent parser sees it. A wrong IPv4 or ICMP checksum, or a length that
/// does not fit, is a failure; the state of the transport checksum is part of the answer.
pub(crate) fn describe(frame: &[u8]) -> String {
    let mut frame = frame.to_vec();
    if let Some(fragment) = ipv6::upper(&frame[14..]).and_then(|upper| upper.fragment)
        && frame[14] >> 4 == 6
        && fragment.offset != 0
    {
        // The parser would look for headers where a later fragment has anything: "no next header".
        frame[14 + usize::from(fragment.at)] = 59;
    }
    let frame = &frame[..];
    let packet = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    let (net, note, protocol, payload, part) = network(&packet, frame);
    let (source, destination) = net.ends();
    if let Some((from, more, identification, df)) = part {
        let last = if more { "" } else { " last" };
        let to = usize::from(from) + payload.len();
        return format!("{source} > {destination} part {from} {to}{last} id {identification}{df}{note}");
    }
    let ends = |from, to| format!("{} > {}", SocketAddr::new(source, from), SocketAddr::new(destination, to));
    if protocol == IpNumber::SCTP {
        let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
        return ends(port(0), port(2)) + " " + &describe_sctp(payload) + &note;
    }
    if [IpNumber::IPV4, IpNumber::IPV6].contains(&protocol) {
        let df = matches!(&net, Net::V4(ip) if ip.dont_fragment).then_some(" DF").unwrap_or_default();
        let kind = if protocol == IpNumber::IPV4 { [8, 0] } else { [0x86, 0xdd] };
        let inside = describe(&[&frame[..12], &kind, payload].concat());
        return format!("{source} > {destination} ipip{df}{note}: {inside}");
    }
    let Some(transport) = packet.transport.as_ref() else {
        return format!("{source} > {destination} ip {}{note}", protocol.0);
    };
    let (mut text, found, right) = match transport {
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let text = format!("{} {}", ends(tcp.source_port(), tcp.destination_port()), tcp_flags(&header));
            (text, tcp.checksum(), net.sum_of_tcp(&header, tcp.payload()))
        }
        TransportSlice::Udp(udp) => {
            let text = format!("{} UDP", ends(udp.source_port(), udp.destination_port()));
            if udp.checksum() == 0 {
                return text + &note + " without checksum";
            }
            (text, udp.checksum(), net.sum_of_udp(&udp.to_header(), udp.payload()))
        }
        TransportSlice::Icmpv4(icmp) => {
            assert_eq!(ones_sum(icmp.slice()), 0xffff, "the ICMP checksum of {frame:02x?}");
            return format!("{source} > {destination}: {}{note}", describe_icmp(icmp.slice()));
        }
        TransportSlice::Icmpv6(icmp) => {
            let Net::V6(header) = &net else { panic!("ICMPv6 over IPv4") };
            let is_right = icmp.is_checksum_valid(header.source, header.destination);
            assert!(is_right, "the ICMPv6 checksum of {frame:02x?}");
            return format!("{source} > {destination}: {}{note}", describe_icmp(icmp.slice()));
        }
        other => panic!("{other:?}"),
    };
    text += &note;
    if !same(found, right) {
        text += " wrong checksum";
    }
    if let Some(TransportSlice::Tcp(tcp)) = packet.transport {
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

/// The sum of 16-bit words in one's complement.
fn ones_sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

fn describe_icmp(message: &[u8]) -> String {
    let (kind, code, quoted) = (message[0], message[1], &message[8..]);
    let is_v6 = quoted[0] >> 4 == 6;
    let mtu = u32::from_be_bytes(*message[4..].first_chunk().unwrap());
    let mtu = if mtu == 0 { String::new() } else { format!(" mtu {mtu}") };
    assert!(mtu.is_empty() || (kind, code) == if is_v6 { (2, 0) } else { (3, 4) });
    format!("icmp {kind}/{code}{mtu} about {}", describe_quoted(quoted))
}

/// The packet that an ICMP error quotes, which may be cut short.
fn describe_quoted(quoted: &[u8]) -> String {
    let (net, protocol, rest, whole) = if quoted[0] >> 4 == 4 {
        let (header, rest) = Ipv4Header::from_slice(quoted).unwrap();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "the quoted IPv4 checksum");
        let whole = Ipv4Slice::from_slice(quoted).ok().filter(|ip| !ip.is_payload_fragmented());
        let whole = whole.map(|ip| ip.payload().payload);
        (Net::V4(header.clone()), header.protocol, rest, whole)
    } else {
        let (header, _) = Ipv6Header::from_slice(quoted).unwrap();
        let lax = Ipv6Slice::from_slice_lax(quoted).unwrap();
        let (protocol, rest) = (lax.payload().ip_number, lax.payload().payload);
        let whole = Ipv6Slice::from_slice(quoted).ok().filter(|ip| !ip.is_payload_fragmented());
        (Net::V6(header), protocol, rest, whole.map(|ip| ip.payload().payload))
    };
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let (source, destination) = net.ends();
    if ![IpNumber::TCP, IpNumber::UDP, IpNumber::SCTP].contains(&protocol) {
        return format!("{source} > {destination} ip {} ttl {}", protocol.0, net.ttl());
    }
    let (from, to) = (SocketAddr::new(source, port(0)), SocketAddr::new(destination, port(2)));
    let mut text = format!("{from} > {to} ttl {}", net.ttl());
    if let Some(payload) = whole {
        let right = if protocol == IpNumber::TCP {
            TcpHeader::from_slice(payload).map(|(tcp, data)| same(tcp.checksum, net.sum_of_tcp(&tcp, data)))
        } else if protocol == IpNumber::SCTP {
            // Quoted as it was sent, its port aside.
            return text;
        } else {
            let (udp, data) = UdpHeader::from_slice(payload).unwrap();
            Ok(udp.checksum == 0 || same(udp.checksum, net.sum_of_udp(&udp, data)))
        };
        if right.is_ok_and(|right| !right) {
            text += " wrong checksum";
        }
    }
    text
}
