//! The files that the kernel's IPVS shows under `/proc/net`, in its format.

use std::fmt::Write;
use std::net::Ipv6Addr;

use director_engine::catalog::{ServerRow, Service};
use director_engine::control::Connection;
use director_engine::estimator::Rates;
use director_engine::servers::Traffic;
use director_engine::service::{Engine, Persistence, Protocol, ServiceKey};
use director_engine::{Control, Tick};
use director_packet::Endpoint;

/// The kernel shows the timeout of persistence in units of its own; these are those of Debian's kernel.
const HZ: u64 = 250;

/// The first line of `ip_vs_conn`.
pub(crate) const CONNECTIONS: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

/// The first lines of `ip_vs`.
pub(crate) const SERVICES: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
    Prot LocalAddress:Port Scheduler Flags\n  \
    -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";

/// How far a listing of `ip_vs` has come: the service and server that were listed last.
#[derive(Default)]
pub(crate) struct Place {
    service: Option<ServiceKey>,
    server: Option<u64>,
}

/// The next lines of `ip_vs`, at most `most`. An empty text means that none are left.
pub(crate) fn services(control: &Control, place: &mut Place, most: usize) -> String {
    let mut text = String::new();
    for _ in 0..most {
        let service = place.service.and_then(|key| control.catalog.service(key));
        let server = service.and_then(|service| control.catalog.server_after(service, place.server));
        if let Some((number, server)) = server {
            server_line(&mut text, &server);
            place.server = Some(number);
            continue;
        }
        let Some(next) = control.catalog.services_after(place.service).next() else { break };
        service_line(&mut text, next);
        *place = Place { service: Some(next.key), server: None };
    }
    text
}

fn service_line(text: &mut String, service: &Service) {
    let protocol = name(service.key.protocol.number());
    let scheduler = service.spec.scheduler.name();
    let _ = match service.key.mark() {
        Some(mark) => write!(text, "FWM  {mark:08X} {scheduler} "),
        None => write!(text, "{protocol}  {} {scheduler} ", end(service.key.address, ':')),
    };
    if service.spec.one_packet {
        text.push_str("ops ");
    }
    if service.key.mark().is_none() {
        text.push(' ');
    }
    if let Some(Persistence { timeout, netmask }) = service.spec.persistence {
        // The kernel prints the length of a prefix like a mask in network order.
        let netmask = if service.key.address.is_v6() { netmask.swap_bytes() } else { netmask };
        let _ = write!(text, "persistent {} {netmask:08X}", u64::from(timeout) * HZ);
    }
    text.push('\n');
}

fn server_line(text: &mut String, server: &ServerRow) {
    let _ = writeln!(
        text,
        "  -> {}      {:<7} {:<6} {:<10} {:<10}",
        end(server.address, ':'),
        server.spec.forward.name(),
        server.spec.weight,
        server.load.active,
        server.load.inactive
    );
}

/// `/proc/net/ip_vs_stats`.
pub(crate) fn statistics(control: &Control) -> String {
    let (total, rates) = control.catalog.total();
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   \
         Conns  Packets  Packets            Bytes            Bytes\n\
         {}\n\n \
         Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
         {}\n",
        counted(total),
        a_second(rates),
    )
}

/// `/proc/net/ip_vs_stats_percpu`: a worker is a CPU. What each has counted `-Z` does not touch.
pub(crate) fn statistics_by_worker(control: &Control) -> String {
    let mut text = String::from(
        "       Total Incoming Outgoing         Incoming         Outgoing\n\
         CPU    Conns  Packets  Packets            Bytes            Bytes\n",
    );
    for (worker, traffic) in control.catalog.by_worker().enumerate() {
        let _ = writeln!(text, "{worker:3X} {}", counted(traffic));
    }
    let (total, rates) = control.catalog.total();
    let _ = write!(
        text,
        "  ~ {}\n\n     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n    {}\n",
        counted(total),
        a_second(rates),
    );
    text
}

fn counted(traffic: Traffic) -> String {
    let Traffic { connections, in_packets, out_packets, in_bytes, out_bytes } = traffic;
    format!("{connections:8X} {in_packets:8X} {out_packets:8X} {in_bytes:16X} {out_bytes:16X}")
}

fn a_second(rates: Rates) -> String {
    let Rates { connections, in_packets, out_packets, in_bytes, out_bytes } = rates;
    format!("{connections:8X} {in_packets:8X} {out_packets:8X} {in_bytes:16X} {out_bytes:16X}")
}

/// Lines of `ip_vs_conn` for `count` places of the table from `from` on, and where to go on.
pub(crate) fn connections(control: &Control, now: Tick, from: u64, count: u32) -> (String, Option<u64>) {
    let mut text = String::new();
    let next = control.connections(now, from, count, |connection| connection_line(&mut text, &connection));
    (text, next)
}

fn connection_line(text: &mut String, connection: &Connection) {
    let _ = write!(
        text,
        "{} {} {} {} {:<11} {:7}",
        name(connection.protocol),
        end(connection.client, ' '),
        end(connection.service, ' '),
        end(connection.server, ' '),
        connection.state_name(),
        connection.seconds
    );
    if let Some(call) = &connection.call {
        let _ = write!(text, " {} {}", Engine::Sip.name(), String::from_utf8_lossy(call.as_bytes()));
    }
    text.push('\n');
}

fn name(protocol: u8) -> &'static str {
    match Protocol::from_number(protocol) {
        Some(Protocol::Tcp) => "TCP",
        Some(Protocol::Udp) => "UDP",
        Some(Protocol::Sctp) => "SCTP",
        Some(Protocol::Any) | None => "IP ",
    }
}

fn end(end: Endpoint, separator: char) -> String {
    match end {
        Endpoint::V4(end) => format!("{:08X}{separator}{:04X}", end.address(), end.port()),
        Endpoint::V6(end) if separator == ':' => format!("[{}]:{:04X}", full(end.address()), end.port()),
        Endpoint::V6(end) => format!("{}{separator}{:04X}", full(end.address()), end.port()),
    }
}

/// An IPv6 address with all its digits, as the kernel's `%pI6`.
fn full(address: u128) -> String {
    let [a, b, c, d, e, f, g, h] = Ipv6Addr::from_bits(address).segments();
    format!("{a:04x}:{b:04x}:{c:04x}:{d:04x}:{e:04x}:{f:04x}:{g:04x}:{h:04x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use director_engine::control::Kind;
    use director_engine::sip::CallId;
    use director_engine::state::State;

    #[test]
    fn a_connection_as_recorded() {
        let mut text = String::new();
        let connection = Connection {
            kind: Kind::Connection,
            protocol: 6,
            client: Endpoint::v4(0xc0a8_120b, 0x0bba),
            service: Endpoint::v4(0xc0a8_123a, 0x50),
            server: Endpoint::v4(0xc0a8_0248, 0x50),
            call: None,
            state: State::SynRecv,
            seconds: 29,
        };
        connection_line(&mut text, &connection);
        assert_eq!(text, "TCP C0A8120B 0BBA C0A8123A 0050 C0A80248 0050 SYN_RECV         29\n");
        text.clear();
        let call = CallId::of(b"BYE x\r\nCall-ID: bbb@h\r\n");
        let kind = Kind::Template { assured: false };
        connection_line(
            &mut text,
            &Connection { kind, protocol: 17, call, state: State::None, ..connection },
        );
        assert_eq!(text, "UDP C0A8120B 0BBA C0A8123A 0050 C0A80248 0050 NONE             29 sip bbb@h\n");
        let end = |low: u128, port| Endpoint::v6(0x2001_0db8 << 96 | low, port);
        let connection = Connection {
            client: end(10, 0x0bba),
            service: end(0x58, 0x50),
            server: end(2 << 64 | 0x71, 0x50),
            ..connection
        };
        text.clear();
        connection_line(&mut text, &connection);
        let [client, service, server] =
            ["0000:0000:0000:000a", "0000:0000:0000:0058", "0002:0000:0000:0000:0071"];
        assert_eq!(
            text,
            format!(
                "TCP 2001:0db8:0000:0000:{client} 0BBA 2001:0db8:0000:0000:{service} 0050 \
                 2001:0db8:0000:{server} 0050 SYN_RECV         29\n"
            )
        );
        assert_eq!(super::end(end(1, 80), ':'), "[2001:0db8:0000:0000:0000:0000:0000:0001]:0050");
    }
}
