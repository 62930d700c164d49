//! The status as Prometheus reads it: its text format, version 0.0.4.

use std::fmt::{Display, Write};

use director_api::{Port, Server, Service, Status, Traffic, Worker};

/// Renders all numbers of the status.
pub(crate) fn render(status: &Status) -> String {
    let mut text = Text(String::new());
    text.one("forwarding", "Whether the director forwards; directorctl status says why it does not.", {
        u8::from(status.forwarding)
    });
    text.one("uptime_seconds", "Since the director's start.", status.uptime_seconds);
    ports(&mut text, &status.ports);
    workers(&mut text, &status.workers);
    connections(&mut text, status);
    text.family("dropped_packets_total", "counter", "Packets dropped, by reason.");
    for (reason, count) in &status.drops {
        text.sample("dropped_packets_total", &[("reason", reason)], count);
    }
    text.one("held_packets", "Packets that wait in the director.", status.totals.held);
    text.family("control_turn_seconds", "gauge", "How long turns of the control core took since the start.");
    let turns = [
        ("0.5", status.control.turn_microseconds_p50),
        ("0.99", status.control.turn_microseconds_p99),
        ("1", status.control.turn_microseconds_max),
    ];
    for (quantile, microseconds) in turns {
        // Below 2^53.
        text.sample("control_turn_seconds", &[("quantile", quantile)], microseconds as f64 / 1e6);
    }
    services(&mut text, &status.services);
    text.0
}

fn ports(text: &mut Text, ports: &[Port]) {
    type Counter = (&'static str, &'static str, fn(&Port) -> u64);
    let counters: [Counter; 8] = [
        ("port_receive_packets_total", "Received from the device.", |port| port.rx_packets),
        ("port_receive_bytes_total", "Received from the device.", |port| port.rx_bytes),
        ("port_transmit_packets_total", "Given to the device.", |port| port.tx_packets),
        ("port_transmit_bytes_total", "Given to the device.", |port| port.tx_bytes),
        ("port_dropped_packets_total", "Received here and dropped, for any reason.", |port| port.drops),
        ("port_missed_packets_total", "Lost by the device before the director saw them.", |port| port.missed),
        ("port_to_twin_packets_total", "Received here and given to the kernel twin.", |port| port.to_twin),
        ("port_from_twin_packets_total", "Sent by the kernel on the twin.", |port| port.from_twin),
    ];
    text.family("port_link_up", "gauge", "Whether a port has a link.");
    for port in ports {
        text.sample("port_link_up", &[("port", &port.name)], u8::from(port.link_up));
    }
    for (name, help, count) in counters {
        text.family(name, "counter", help);
        for port in ports {
            text.sample(name, &[("port", &port.name)], count(port));
        }
    }
}

fn workers(text: &mut Text, workers: &[Worker]) {
    type Counter = (&'static str, &'static str, fn(&Worker) -> u64);
    let counters: [Counter; 4] = [
        ("worker_receive_packets_total", "Received from a worker's queues.", |worker| worker.rx_packets),
        ("worker_receive_bytes_total", "Received from a worker's queues.", |worker| worker.rx_bytes),
        ("worker_transmit_packets_total", "Received packets that a worker sent.", |worker| worker.tx_packets),
        ("worker_transmit_bytes_total", "Received packets that a worker sent.", |worker| worker.tx_bytes),
    ];
    for (name, help, count) in counters {
        text.family(name, "counter", help);
        for worker in workers {
            text.sample(name, &[("lcore", &worker.lcore.to_string())], count(worker));
        }
    }
}

fn connections(text: &mut Text, status: &Status) {
    let all = &status.connections;
    for (name, help, v4, v6) in [
        ("connections", "Entries of the connection tables, in every state.", all.active, all.active_ipv6),
        ("connections_capacity", "Entries there is room for.", all.capacity, all.capacity_ipv6),
    ] {
        text.family(name, "gauge", help);
        text.sample(name, &[("family", "ipv4")], v4);
        text.sample(name, &[("family", "ipv6")], v6);
    }
    text.one("persistence_templates", "Persistence templates in use.", all.templates);
}

fn services(text: &mut Text, services: &[Service]) {
    let servers =
        || services.iter().flat_map(|service| service.servers.iter().map(move |one| (service, one)));
    text.family("server_weight", "gauge", "The weight of a real server; 0: no new connections.");
    for (service, server) in servers() {
        text.sample("server_weight", &labels(service, server), server.weight);
    }
    text.family("server_connections", "gauge", "ActiveConn and InActConn of a real server.");
    for (service, server) in servers() {
        for (state, count) in [("active", server.active), ("inactive", server.inactive)] {
            let [protocol, address, name] = labels(service, server);
            text.sample("server_connections", &[protocol, address, name, ("state", state)], count);
        }
    }
    type Counter = (&'static str, &'static str, fn(&Traffic) -> u64);
    let counters: [Counter; 5] = [
        ("server_connections_total", "Connections scheduled to a real server.", |all| all.connections),
        ("server_in_packets_total", "Packets of clients to a real server.", |all| all.in_packets),
        ("server_out_packets_total", "Packets of a real server to clients.", |all| all.out_packets),
        ("server_in_bytes_total", "Bytes of clients to a real server.", |all| all.in_bytes),
        ("server_out_bytes_total", "Bytes of a real server to clients.", |all| all.out_bytes),
    ];
    for (name, help, count) in counters {
        text.family(name, "counter", help);
        for (service, server) in servers() {
            text.sample(name, &labels(service, server), count(&server.traffic));
        }
    }
}

fn labels<'a>(service: &'a Service, server: &'a Server) -> [(&'static str, &'a str); 3] {
    [("protocol", &service.protocol), ("service", &service.address), ("server", &server.address)]
}

/// Metrics, one family after the other. (Writing to a String cannot fail.)
struct Text(String);

impl Text {
    /// Begins a family; its samples follow.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP director_{name} {help}\n# TYPE director_{name} {kind}");
    }

    /// Labels contain only what the configuration and ipvsadm allow: nothing that needs escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let _ = match labels.as_slice() {
            [] => writeln!(self.0, "director_{name} {value}"),
            labels => writeln!(self.0, "director_{name}{{{}}} {value}", labels.join(",")),
        };
    }

    /// A gauge that is one number.
    fn one(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use director_api::{Connections, ControlCore};

    #[test]
    fn each_family_is_announced_once_and_all_of_it_follows() {
        let traffic =
            Traffic { connections: 5, in_packets: 50, out_packets: 40, in_bytes: 5000, out_bytes: 9000 };
        let server =
            |address: &str| Server { address: address.into(), weight: 1, active: 3, inactive: 2, traffic };
        let status = Status {
            forwarding: true,
            uptime_seconds: 12.5,
            ports: ["front", "back"].map(|name| Port { name: name.into(), ..Port::default() }).into(),
            workers: vec![Worker { lcore: 1, rx_packets: 7, ..Worker::default() }],
            connections: Connections { active: 42, capacity: 1000, ..Connections::default() },
            drops: [("table_full".into(), 2), ("no_route".into(), 0)].into(),
            control: ControlCore { turn_microseconds_max: 3000, ..ControlCore::default() },
            services: vec![Service {
                protocol: "tcp".into(),
                address: "[2001:db8::1]:80".into(),
                servers: vec![server("192.168.2.72:9999"), server("192.168.2.71:9999")],
                ..Service::default()
            }],
            ..Status::default()
        };
        let text = render(&status);
        for line in [
            "director_forwarding 1",
            "director_uptime_seconds 12.5",
            "director_port_link_up{port=\"back\"} 0",
            "director_worker_receive_packets_total{lcore=\"1\"} 7",
            "director_connections{family=\"ipv4\"} 42",
            "director_connections_capacity{family=\"ipv6\"} 0",
            "director_dropped_packets_total{reason=\"table_full\"} 2",
            "director_control_turn_seconds{quantile=\"1\"} 0.003",
            "director_server_connections{protocol=\"tcp\",service=\"[2001:db8::1]:80\",server=\"192.168.2.71:9999\",state=\"inactive\"} 2",
            "director_server_out_bytes_total{protocol=\"tcp\",service=\"[2001:db8::1]:80\",server=\"192.168.2.72:9999\"} 9000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let mut family = "";
        let mut seen = Vec::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().unwrap();
                assert!(!seen.contains(&family), "{family} twice");
                seen.push(family);
            } else if !line.starts_with('#') {
                assert_eq!(line.split(['{', ' ']).next(), Some(family), "{line}");
            }
        }
    }
}
