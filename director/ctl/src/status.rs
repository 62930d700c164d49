//! The status as people read it.

use std::fmt::Write;

use director_api::{Connections, ControlCore, Service, Status};

use crate::table::{Cell, Table};

/// Renders the whole status.
pub(crate) fn render(status: &Status) -> String {
    let mut sections = vec![format!(
        "director {}, up {}, {}\n",
        status.version,
        duration(status.uptime_seconds),
        if status.forwarding { "forwarding" } else { "NOT forwarding" },
    )];
    if !status.ports.is_empty() {
        sections.push(ports(status));
    }
    if !status.workers.is_empty() {
        sections.push(workers(status));
    }
    sections.push(
        connections(&status.connections) + &control(&status.control) + &drops(status) + &totals(status),
    );
    if !status.services.is_empty() {
        sections.push(services(status));
    }
    sections.join("\n")
}

fn ports(status: &Status) -> String {
    let mut devices =
        Table::new(&["Port", "Link", "Device", "Driver", "MAC", ">MTU", ">RxQ", ">TxQ", "RSS", "Twin"]);
    let mut traffic = Table::new(&[
        "Port",
        ">RxPackets",
        ">RxBytes",
        ">TxPackets",
        ">TxBytes",
        ">Drops",
        ">Missed",
        ">ToTwin",
        ">FromTwin",
    ]);
    for port in &status.ports {
        devices.row([
            port.name.as_str().into(),
            if port.link_up { "up" } else { "down" }.into(),
            port.device.as_str().into(),
            port.driver.as_str().into(),
            port.mac.as_str().into(),
            port.mtu.into(),
            port.rx_queues.into(),
            port.tx_queues.into(),
            port.rss.as_str().into(),
            port.twin.as_deref().unwrap_or("none").into(),
        ]);
        let counters = [
            port.rx_packets,
            port.rx_bytes,
            port.tx_packets,
            port.tx_bytes,
            port.drops,
            port.missed,
            port.to_twin,
            port.from_twin,
        ];
        traffic.row([port.name.as_str().into()].into_iter().chain(counters.map(Cell::from)));
    }
    devices.render() + "\n" + &traffic.render()
}

fn workers(status: &Status) -> String {
    let mut table = Table::new(&[
        ">Worker",
        ">RxPackets",
        ">RxBytes",
        ">TxPackets",
        ">TxBytes",
        ">Drops",
        ">ToTwin",
        "Queues",
    ]);
    for worker in &status.workers {
        let counters = [
            worker.rx_packets,
            worker.rx_bytes,
            worker.tx_packets,
            worker.tx_bytes,
            worker.drops,
            worker.to_twin,
        ];
        table.row(
            [Cell::from(worker.lcore)]
                .into_iter()
                .chain(counters.map(Cell::from))
                .chain([worker.queues.join(" ").into()]),
        );
    }
    table.render()
}

fn connections(connections: &Connections) -> String {
    let templates = match connections.templates {
        0 => String::new(),
        templates => format!("; {templates} persistence templates"),
    };
    let v6 = match connections.active_ipv6 {
        0 => String::new(),
        active => format!("; {active} of {} over IPv6", connections.capacity_ipv6),
    };
    format!(
        "Connections  {} of {}, {:.1} bytes each, on pages of {}{v6}{templates}\n",
        connections.active,
        connections.capacity,
        connections.bytes_per_connection,
        page_size(connections.page_size),
    )
}

fn control(control: &ControlCore) -> String {
    format!(
        "Control      turns of {} us (median), {} us (99 %), {} us (longest)\n",
        control.turn_microseconds_p50, control.turn_microseconds_p99, control.turn_microseconds_max,
    )
}

/// The reasons with a count above 0.
fn drops(status: &Status) -> String {
    let mut reasons: Vec<_> = status.drops.iter().filter(|(_, count)| **count > 0).collect();
    if reasons.is_empty() {
        return "Drops        none\n".to_owned();
    }
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut text = String::new();
    let width = reasons.iter().map(|(_, count)| count.to_string().len()).max().unwrap_or(0);
    let mut label = "Drops";
    for (reason, count) in reasons {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{label:<11}  {count:>width$} {reason}");
        label = "";
    }
    text
}

fn totals(status: &Status) -> String {
    let totals = &status.totals;
    format!(
        "Packets      {} received = {} sent + {} to twins + {} dropped + {} held\n",
        totals.received, totals.sent, totals.to_twin, totals.dropped, totals.held,
    )
}

fn services(status: &Status) -> String {
    let mut table = Table::new(&["Service", "Scheduler", ">Weight", ">Active", ">Inactive"]);
    for service in &status.services {
        let name = format!("{} {}", service.protocol, service.address);
        let scheduler = scheduling(service);
        table.row([name.into(), scheduler.into()]);
        for server in &service.servers {
            table.row([
                format!("  -> {}", server.address).into(),
                "".into(),
                server.weight.into(),
                server.active.into(),
                server.inactive.into(),
            ]);
        }
    }
    table.render()
}

/// How a service schedules, as ipvsadm shows it, and what ipvsadm does not show.
fn scheduling(service: &Service) -> String {
    let mut text = service.scheduler.clone();
    if service.one_packet {
        text.push_str(" ops");
    }
    if let Some(seconds) = service.persistent {
        let _ = write!(text, " persistent {seconds}");
    }
    if let Some(netmask) = &service.netmask {
        let _ = write!(text, " mask {netmask}");
    }
    if let Some(engine) = &service.engine {
        let _ = write!(text, " pe {engine}");
    }
    if !service.flags.is_empty() {
        let _ = write!(text, " ({})", service.flags.join(","));
    }
    if service.hairpin_snat {
        text.push_str(" hairpin-snat");
    }
    text
}

/// `4 d 03:02:01`; without days if there are none.
fn duration(seconds: f64) -> String {
    // Whole seconds of an uptime; a cast of a float saturates.
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let clock = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if days == 0 { clock } else { format!("{days} d {clock}") }
}

fn page_size(bytes: u64) -> String {
    match bytes {
        n if n >= 1 << 30 && n % (1 << 30) == 0 => format!("{} GiB", n >> 30),
        n if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n if n >= 1 << 10 && n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
        n => format!("{n} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use director_api::{Port, Server, Service, Totals, Worker};

    fn sample() -> Status {
        Status {
            version: "0.1.0".into(),
            uptime_seconds: 93_784.9,
            forwarding: true,
            problems: Vec::new(),
            ports: vec![
                Port {
                    name: "front".into(),
                    device: "net_af_packet0,iface=veth-front".into(),
                    driver: "net_af_packet".into(),
                    mac: "02:00:00:00:00:01".into(),
                    link_up: true,
                    mtu: 1500,
                    rx_queues: 1,
                    tx_queues: 2,
                    side: "clients".into(),
                    rss: "source".into(),
                    rss_types: "ipv4-tcp l3-src-only l4-src-only".into(),
                    rss_offered: "ipv4-tcp l3-src-only l3-dst-only l4-src-only l4-dst-only".into(),
                    twin: Some("net_tap".into()),
                    rx_packets: 1000,
                    rx_bytes: 64_000,
                    tx_packets: 900,
                    tx_bytes: 57_600,
                    drops: 12,
                    missed: 0,
                    to_twin: 30,
                    from_twin: 20,
                },
                Port { name: "back".into(), device: "0000:03:00.0".into(), mtu: 9000, ..Port::default() },
            ],
            workers: vec![Worker {
                lcore: 1,
                rx_packets: 1000,
                rx_bytes: 64_000,
                tx_packets: 950,
                tx_bytes: 60_800,
                drops: 12,
                to_twin: 30,
                queues: vec!["front:0".into(), "back:0".into()],
            }],
            connections: Connections {
                active: 42,
                templates: 3,
                capacity: 1_000_000,
                active_ipv6: 3,
                capacity_ipv6: 1_000,
                bytes_per_connection: 81.25,
                page_size: 2 << 20,
            },
            drops: [("table_full".into(), 2), ("bad_header".into(), 10), ("no_route".into(), 0)].into(),
            control: ControlCore {
                turns: 5000,
                turn_microseconds_p50: 12,
                turn_microseconds_p99: 90,
                turn_microseconds_max: 3000,
            },
            totals: Totals { received: 1000, sent: 950, to_twin: 30, dropped: 12, held: 8 },
            services: vec![Service {
                protocol: "tcp".into(),
                address: "192.168.18.58:8888".into(),
                scheduler: "sh".into(),
                flags: vec!["sh-fallback".into(), "sh-port".into()],
                one_packet: false,
                persistent: None,
                netmask: None,
                engine: None,
                hairpin_snat: true,
                servers: vec![
                    Server {
                        address: "192.168.2.72:9999".into(),
                        weight: 1,
                        active: 3,
                        inactive: 0,
                        ..Server::default()
                    },
                    Server {
                        address: "192.168.2.71:9999".into(),
                        weight: 100,
                        active: 12,
                        inactive: 7,
                        ..Server::default()
                    },
                ],
            }],
        }
    }

    #[test]
    fn shows_everything_in_columns() {
        assert_eq!(
            render(&sample()),
            "\
director 0.1.0, up 1 d 02:03:04, forwarding

Port   Link  Device                           Driver         MAC                 MTU  RxQ  TxQ  RSS     Twin
front  up    net_af_packet0,iface=veth-front  net_af_packet  02:00:00:00:00:01  1500    1    2  source  net_tap
back   down  0000:03:00.0                                                       9000    0    0          none

Port   RxPackets  RxBytes  TxPackets  TxBytes  Drops  Missed  ToTwin  FromTwin
front       1000    64000        900    57600     12       0      30        20
back           0        0          0        0      0       0       0         0

Worker  RxPackets  RxBytes  TxPackets  TxBytes  Drops  ToTwin  Queues
     1       1000    64000        950    60800     12      30  front:0 back:0

Connections  42 of 1000000, 81.2 bytes each, on pages of 2 MiB; 3 of 1000 over IPv6; 3 persistence templates
Control      turns of 12 us (median), 90 us (99 %), 3000 us (longest)
Drops        10 bad_header
              2 table_full
Packets      1000 received = 950 sent + 30 to twins + 12 dropped + 8 held

Service                 Scheduler                              Weight  Active  Inactive
tcp 192.168.18.58:8888  sh (sh-fallback,sh-port) hairpin-snat
  -> 192.168.2.72:9999                                              1       3         0
  -> 192.168.2.71:9999                                            100      12         7
"
        );
    }

    #[test]
    fn a_director_without_anything_is_shown_too() {
        assert_eq!(
            render(&Status { version: "0.1.0".into(), ..Status::default() }),
            "\
director 0.1.0, up 00:00:00, NOT forwarding

Connections  0 of 0, 0.0 bytes each, on pages of 0 bytes
Control      turns of 0 us (median), 0 us (99 %), 0 us (longest)
Drops        none
Packets      0 received = 0 sent + 0 to twins + 0 dropped + 0 held
"
        );
    }

    #[test]
    fn page_sizes_have_their_names() {
        assert_eq!(page_size(4096), "4 KiB");
        assert_eq!(page_size(1 << 30), "1 GiB");
    }
}
