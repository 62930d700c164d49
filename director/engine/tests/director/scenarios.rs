//! Scenarios as data: the files in `tests/scenarios`, each run in simulated time. Their README has the format.

use std::net::Ipv4Addr;
use std::path::Path;

use director_engine::catalog::ServerRow;
use director_engine::fib::Route;
use director_engine::mark::{MarkRule, Network};
use director_engine::service::{
    Engine, FALLBACK, Forward, PORT, Persistence, Protocol, SchedulerKind, ServerSpec, ServiceKey,
    ServiceSpec, flag_names,
};
use director_engine::snapshot::Sysctls;
use director_engine::state::State;
use director_packet::fragment::{MAX_FRAME, cut, v6};
use director_packet::{Address, Endpoint};
use etherparse::{IpNumber, Ipv4Header, Ipv6Header};

use crate::lab::{BACK, FRONT, Lab, PORT_MACS, PORT_NAMES, RR, ip, key, point};
use crate::packet::{self, Packet, mac_of, tcp, udp};

/// In scenarios where packets without a new connection take locks (see `locks.rs`): of fragments, of services each
/// datagram of which is scheduled, of persistent ones and of FTP.
const MAY_LOCK: [&str; 4] = [" part ", " -o", " -p ", ":21 "];

#[test]
fn every_scenario_of_the_directory() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "scn"));
    files.sort();
    assert!(!files.is_empty());
    let failures: Vec<_> = files
        .iter()
        .filter_map(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let text = std::fs::read_to_string(path).unwrap();
            let failed = |(line, problem)| format!("{name}:{line}: {problem}");
            match run(&text) {
                Ok(locks) if locks > 0 && !MAY_LOCK.iter().any(|mark| text.contains(mark)) => {
                    Some(format!("{name}: packets without a new connection took {locks} locks"))
                }
                result => result.err().map(failed),
            }
        })
        .collect();
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// A failing scenario is seen to fail: each of these lies in one line.
#[test]
fn a_scenario_that_is_not_so_fails() {
    let truth = "ipvsadm -A -t 192.168.18.58:80 -s rr\n\
                 ipvsadm -a -t 192.168.18.58:80 -r 192.168.2.71:80 -m\n\
                 front tcp 192.168.18.10:1 > 192.168.18.58:80 S\n\
                 \t-> back 192.168.18.10:1 > 192.168.2.71:80 S\n\
                 ipvsadm -Lnc\n\
                 \tTCP 00:59 SYN_RECV 192.168.18.10:1 192.168.18.58:80 192.168.2.71:80\n";
    assert_eq!(run(truth), Ok(0));
    for (line, from, to) in [
        (3, "-m", ""),
        (3, " S\n\t-> back 192.168.18.10:1 > 192.168.2.71:80 S\n", " S\n"),
        (3, "192.168.2.71:80 S", "192.168.2.72:80 S"),
        (5, "00:59", "00:58"),
        (5, "\tTCP 00:59 SYN_RECV 192.168.18.10:1 192.168.18.58:80 192.168.2.71:80\n", ""),
        (3, "front tcp", "front tcpp"),
        (1, "-s rr", "-s rr -z"),
        (1, "ipvsadm -A", "wait for it\nipvsadm -A"),
    ] {
        let failed = run(&truth.replacen(from, to, 1)).unwrap_err();
        assert_eq!(failed.0, line, "{from} -> {to}: {}", failed.1);
    }
}

/// A line that is not indented, with those below it that are.
struct Step<'a> {
    line: usize,
    words: Vec<&'a str>,
    expected: Vec<String>,
}

/// Runs the cases of a file. How many locks were taken for packets without a new connection; what fails is said with its
/// line.
fn run(text: &str) -> Result<u64, (usize, String)> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default();
        let words: Vec<_> = content.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        if content.starts_with(char::is_whitespace) {
            let Some(step) = steps.last_mut() else { return Err((at + 1, "nothing stands above it".into())) };
            step.expected.push(words.join(" "));
        } else {
            steps.push(Step { line: at + 1, words, expected: Vec::new() });
        }
    }
    let mut scene = Scene::new();
    for step in steps {
        let found = scene.step(&step.words).map_err(|problem| (step.line, problem))?;
        if found != step.expected {
            let shown =
                |lines: &[String]| lines.iter().map(|line| format!("\n        {line}")).collect::<String>();
            let problem = format!(
                "{}\n    is to be{}\n    and is{}",
                step.words.join(" "),
                shown(&step.expected),
                shown(&found)
            );
            return Err((step.line, problem));
        }
    }
    Ok(scene.locks + scene.lab.locks[0])
}

struct Scene {
    lab: Lab,
    marks: Vec<MarkRule>,
    /// Of the cases before.
    locks: u64,
}

type Outcome = Result<Vec<String>, String>;

fn v4(address: &str) -> u32 {
    address.parse().map_or(0, |address: Ipv4Addr| address.into())
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("no number: {word}"))
}

impl Scene {
    fn new() -> Self {
        Self { lab: Lab::empty(1000, 1), marks: Vec::new(), locks: 0 }
    }

    /// What becomes visible by a step, line by line.
    fn step(&mut self, words: &[&str]) -> Outcome {
        match words {
            ["case", ..] => *self = Self { locks: self.locks + self.lab.locks[0], ..Self::new() },
            ["wait", seconds] => {
                let seconds: f64 = number(seconds)?;
                self.lab.pass((seconds * 1000.0) as u64);
                return Ok(self.lab.told().into_iter().map(|line| format!("-> {line}")).collect());
            }
            ["set", name, value] => self.set(name, number(value)?)?,
            ["ip_forward", value] => {
                self.lab.network.ip_forward = *value != "0";
                self.lab.renew_network();
            }
            ["ipv6_forwarding", value] => {
                self.lab.network.ip_forward_v6 = *value != "0";
                self.lab.renew_network();
            }
            ["icmp_limit", name, value] => {
                let (limits, value) = (&mut self.lab.network.icmp_limits, number(value)?);
                *match *name {
                    "icmp_ratelimit" => &mut limits.interval,
                    "icmp_ratemask" => &mut limits.types,
                    "icmp_msgs_per_sec" => &mut limits.per_second,
                    "icmp_msgs_burst" => &mut limits.at_once,
                    "icmp.ratelimit" => &mut limits.interval_v6,
                    _ => return Err(format!("no such limit: {name}")),
                } = value;
                self.lab.renew_network();
            }
            ["mtu", port, value] => {
                self.lab.network.ports[usize::from(port_of(port)?)].mtu = number(value)?;
                self.lab.renew_network();
            }
            ["address", address] => {
                self.lab.network.local.push(ip(address));
                self.lab.renew_network();
            }
            ["neighbour", port, host, state @ ("known" | "unknown")] => {
                self.lab.set_neighbour(port_of(port)?, host, *state == "known");
            }
            ["route", prefix, route @ ("none" | "local")] => {
                let (address, length) = prefix.split_once('/').ok_or("a prefix is ADDRESS/LENGTH")?;
                let route = if *route == "none" { Route::Elsewhere } else { Route::Local };
                self.lab.set_route(address, number(length)?, route);
            }
            ["mark", mark, protocol, destination, ports] => self.mark(mark, protocol, destination, ports)?,
            // A key of the configuration file.
            ["simulated"] => {}
            ["hairpin_snat", protocol @ ("-t" | "-u"), vip] => {
                let protocol = if *protocol == "-t" { Protocol::Tcp } else { Protocol::Udp };
                let spec = ServiceSpec { hairpin_snat: true, ..RR };
                let catalog = &mut self.lab.control.catalog;
                catalog.set_service(key(protocol, vip), spec).map_err(|error| error.to_string())?;
                self.commit();
            }
            ["ipvsadm", arguments @ ..] => return self.ipvsadm(arguments),
            [port @ ("front" | "back"), frame @ ..] => {
                let port = port_of(port)?;
                let outcome = self.lab.one(port, frame_of(frame, port)?);
                return Ok(outcome.split("; ").map(|line| format!("-> {line}")).collect());
            }
            [other, ..] => return Err(format!("no such step: {other}")),
            [] => {}
        }
        Ok(Vec::new())
    }

    fn set(&mut self, name: &str, value: i64) -> Result<(), String> {
        let mut sysctls: Sysctls = *self.lab.control.sysctls();
        let on = value != 0;
        match name {
            "sloppy_tcp" => sysctls.sloppy_tcp = on,
            "conn_reuse_mode" => sysctls.conn_reuse_mode = value.unsigned_abs() as u32,
            "expire_nodest_conn" => sysctls.expire_nodest_conn = on,
            "drop_packet" => sysctls.drop_packet = value as u32,
            "am_droprate" => sysctls.am_droprate = value as u32,
            "nat_icmp_send" => sysctls.nat_icmp_send = on,
            "secure_tcp" => sysctls.secure_tcp = value == 3,
            "schedule_icmp" => sysctls.schedule_icmp = on,
            "sloppy_sctp" => sysctls.sloppy_sctp = on,
            "ftp_loose" => sysctls.ftp_loose = on,
            "pmtu_disc" => sysctls.pmtu_disc = on,
            "expire_quiescent_template" => sysctls.expire_quiescent_template = on,
            _ => return Err(format!("no such sysctl: {name}")),
        }
        self.lab.control.set_sysctls(sysctls);
        Ok(())
    }

    /// A rule that gives new connections to these ports (`80`, `80-443`) of an address a firewall mark.
    fn mark(&mut self, mark: &str, protocol: &str, destination: &str, ports: &str) -> Result<(), String> {
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let protocol = known.into_iter().find(|known| known.name() == protocol).ok_or("no such protocol")?;
        self.marks.push(MarkRule {
            protocol: Some(protocol.number()),
            source: None,
            destination: Some(match ip(destination) {
                Address::V4(address) => Network::V4(address, u32::MAX),
                Address::V6(address) => Network::V6(address, u128::MAX),
            }),
            ports: (number(first)?, number(last)?),
            mark: number(mark)?,
        });
        self.lab.control.set_marks(self.marks.clone());
        Ok(())
    }

    fn ipvsadm(&mut self, arguments: &[&str]) -> Outcome {
        // What workers ended is no longer counted.
        self.lab.poll();
        match arguments {
            ["-Lnc"] => return Ok(self.connections(false)),
            ["-Lnc", "--persistent-conn"] => return Ok(self.connections(true)),
            ["-Ln"] => {
                return Ok(self.services(|row| {
                    let (load, forward) = (row.load, row.spec.forward.name());
                    format!("{forward} {} {} {}", row.spec.weight, load.active, load.inactive)
                }));
            }
            ["-Ln", "--persistent-conn"] => {
                return Ok(self.services(|row| {
                    let load = row.load;
                    format!("{} {} {} {}", row.spec.weight, load.persistent, load.active, load.inactive)
                }));
            }
            ["-Ln", "--stats"] => {
                return Ok(self.services(|row| {
                    let of = row.traffic;
                    let (packets, bytes) = ((of.in_packets, of.out_packets), (of.in_bytes, of.out_bytes));
                    format!("{} {} {} {} {}", of.connections, packets.0, packets.1, bytes.0, bytes.1)
                }));
            }
            ["-C"] => {
                self.lab.control.flush();
                self.commit();
                return Ok(Vec::new());
            }
            ["--set", seconds @ ..] => {
                for (state, seconds) in
                    [State::Established, State::FinWait, State::Udp].into_iter().zip(seconds)
                {
                    match number(seconds)? {
                        0 => {}
                        seconds => self.lab.timeout(state, seconds),
                    }
                }
                return Ok(Vec::new());
            }
            _ => {}
        }
        let mut command = "";
        let (mut service, mut server) = (None, None);
        let (mut spec, mut server_spec) = (RR, ServerSpec::default());
        let mut forward = Forward::DirectRouting;
        let (mut timeout, mut netmask) = (None, None);
        let mut is_v6 = false;
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut next = || words.next().copied().ok_or_else(|| format!("{word} of what?"));
            match *word {
                "-A" | "-E" | "-D" | "-a" | "-e" | "-d" => command = word,
                "-t" => service = Some(key(Protocol::Tcp, next()?)),
                "-u" => service = Some(key(Protocol::Udp, next()?)),
                "--sctp-service" => service = Some(key(Protocol::Sctp, next()?)),
                "-f" => service = Some(ServiceKey::of_mark(number(next()?)?)),
                "-p" => timeout = Some(number(next()?)?),
                "-M" => netmask = Some(next()?),
                "-6" => is_v6 = true,
                "-o" => spec.one_packet = true,
                "-b" => {
                    for flag in next()?.split(',') {
                        spec.flags |= match flag {
                            "sh-fallback" | "mh-fallback" => FALLBACK,
                            "sh-port" | "mh-port" => PORT,
                            _ => return Err(format!("no such flag: {flag}")),
                        };
                    }
                }
                "-r" => server = Some(point(next()?)),
                "-m" => forward = Forward::Masquerading,
                "-g" => forward = Forward::DirectRouting,
                "-i" => forward = Forward::Tunnelling,
                "-s" => spec.scheduler = SchedulerKind::from_name(next()?).ok_or("no such scheduler")?,
                "-w" => server_spec.weight = number(next()?)?,
                "--pe" => spec.engine = Some(Engine::from_name(next()?).ok_or("no such engine")?),
                "-x" => server_spec.upper = number(next()?)?,
                "-y" => server_spec.lower = number(next()?)?,
                other => return Err(format!("ipvsadm {other} is not for scenarios")),
            }
        }
        let mut service: ServiceKey = service.ok_or("which service?")?;
        if let Some(mark) = service.mark().filter(|_| is_v6) {
            service = ServiceKey::of_mark_v6(mark);
        }
        // An address of IPv4, the length of a prefix of IPv6.
        let netmask = match netmask {
            None => service.whole_netmask(),
            Some(text) => number(text).unwrap_or_else(|_| v4(text)),
        };
        spec.persistence = timeout.map(|timeout| Persistence { timeout, netmask });
        let catalog = &mut self.lab.control.catalog;
        server_spec.forward = forward;
        // As ipvsadm does it with -a and -e: a port that is not translated is the service's.
        let is_own = forward == Forward::Masquerading || command == "-d" || service.mark().is_some();
        let port = |server: Endpoint| if is_own { server } else { server.with_port(service.address.port()) };
        let server = || server.map(port).ok_or_else(|| "which server?".to_owned());
        let told = |error: &dyn std::error::Error| error.to_string();
        match command {
            "-A" => catalog.add_service(service, spec).map_err(|error| told(&error))?,
            "-E" => catalog.set_service(service, spec).map_err(|error| told(&error))?,
            "-D" => catalog.delete_service(service).map_err(|error| told(&error))?,
            "-a" => {
                catalog.add_server(service, server()?, server_spec).map_err(|error| told(&error))?;
            }
            "-e" => {
                catalog.set_server(service, server()?, server_spec).map_err(|error| told(&error))?;
            }
            "-d" => {
                catalog.delete_server(service, server()?).map_err(|error| told(&error))?;
            }
            _ => return Err("what is ipvsadm to do?".into()),
        }
        self.commit();
        Ok(Vec::new())
    }

    fn commit(&mut self) {
        self.lab.control.publish();
        self.lab.control.purge();
        self.lab.poll();
    }

    /// As `ipvsadm -Lnc` has it, sorted.
    fn connections(&self, shows_calls: bool) -> Vec<String> {
        let mut lines = Vec::new();
        self.lab.each_entry(|connection| {
            let call = connection.call.filter(|_| shows_calls);
            let call = call.map(|call| format!(" sip {}", String::from_utf8_lossy(call.as_bytes())));
            lines.push(format!(
                "{} {:02}:{:02} {} {} {} {}{}",
                Protocol::from_number(connection.protocol).map_or("IP", Protocol::name).to_uppercase(),
                connection.seconds / 60,
                connection.seconds % 60,
                connection.state_name(),
                connection.client,
                connection.service,
                connection.server,
                call.unwrap_or_default()
            ));
        });
        lines.sort();
        lines
    }

    /// As `ipvsadm -Ln` has it, each service's servers, newest first, with what is to be shown of them.
    fn services(&self, shown: impl Fn(&ServerRow) -> String) -> Vec<String> {
        let catalog = &self.lab.control.catalog;
        let mut services: Vec<_> = catalog.services().collect();
        services.sort_by_key(|service| service.key.to_string());
        let mut lines = Vec::new();
        for service in services {
            let mut line = format!("{} {}", service.key, service.spec.scheduler.name());
            // The protocol's name.
            line[..4].make_ascii_uppercase();
            let flags: Vec<_> = flag_names(service.spec.scheduler, service.spec.flags).collect();
            if !flags.is_empty() {
                line += &format!(" ({})", flags.join(","));
            }
            if let Some(Persistence { timeout, netmask }) = service.spec.persistence {
                line += &format!(" persistent {timeout}");
                if netmask != service.key.whole_netmask() {
                    let mask = if service.key.address.is_v6() {
                        netmask.to_string()
                    } else {
                        Ipv4Addr::from(netmask).to_string()
                    };
                    line += &format!(" mask {mask}");
                }
            }
            if service.spec.one_packet {
                line += " ops";
            }
            if let Some(engine) = service.spec.engine {
                line += &format!(" pe {}", engine.name());
            }
            lines.push(line);
            lines.extend(catalog.servers(service).map(|row| format!("-> {} {}", row.address, shown(&row))));
        }
        lines
    }
}

fn port_of(name: &str) -> Result<u8, String> {
    match name {
        "front" => Ok(FRONT),
        "back" => Ok(BACK),
        _ => Err(format!("a port is one of {PORT_NAMES:?}")),
    }
}

/// The frame that a line describes, as it comes in on a port.
fn frame_of(words: &[&str], port: u8) -> Result<Vec<u8>, String> {
    let mac = PORT_MACS[usize::from(port)];
    match words {
        [packet @ .., "part", from, to] => {
            let (frame, mut out) = (frame_of(packet, port)?, Box::new([0; MAX_FRAME]));
            let part = number(from)?..number(to)?;
            let length = if frame[14] >> 4 == 4 {
                cut(&frame, usize::from(frame[14] & 15) * 4, part, &mut out)
            } else {
                let id = packet.windows(2).find(|words| words[0] == "id").map_or("0", |words| words[1]);
                v6::cut(&frame, repeated(&frame), number(id)?, part, &mut out)
            };
            Ok(out[..length].to_vec())
        }
        ["ping", source, ">", destination] => Ok(packet::ping(source, destination, mac)),
        ["ip", protocol, source, ">", destination] => {
            let mut frame = packet::ping(source, destination, mac);
            let at = if frame[14] >> 4 == 4 { 23 } else { 20 };
            frame[at] = number(protocol)?;
            Ok(with_length(&frame, 24))
        }
        ["sctp", source, ">", destination, chunks, cut @ ..] => {
            let packet = packet::sctp(source, destination, chunks);
            let kind = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
            let frame = [&mac.0[..], &mac_of(packet::end(source).ip()).0, &kind, &packet].concat();
            match cut {
                [] => Ok(frame),
                ["cut", bytes] => Ok(with_length(&frame, number(bytes)?)),
                other => Err(format!("no option of an SCTP packet: {}", other.join(" "))),
            }
        }
        ["icmp", kind, source, ">", destination, rest @ ..] => {
            let (kind, code) = kind.split_once('/').ok_or("an ICMP error is TYPE/CODE")?;
            let (mtu, quoted) = match rest {
                ["mtu", mtu, "about", quoted @ ..] => (number(mtu)?, quoted),
                ["about", quoted @ ..] => (0_u32, quoted),
                _ => return Err("an ICMP error is about a packet".into()),
            };
            let quoted = whole(quoted)?;
            Ok(packet::icmp(
                source,
                destination,
                number(kind)?,
                number(code)?,
                mtu.to_be_bytes(),
                &quoted,
                mac,
            ))
        }
        _ => {
            let (packet, cut) = packet_of(words)?;
            let frame = packet.frame(packet.from(), mac);
            Ok(cut.map_or(frame.clone(), |cut| with_length(&frame, cut)))
        }
    }
}

/// How long the headers of IPv6 are that each fragment of a packet has (RFC 8200, section 4.5).
fn repeated(frame: &[u8]) -> usize {
    let (mut kind, mut at) = (frame[20], 40);
    while kind == 0 || kind == 43 || kind == 60 && frame[14 + at] == 43 {
        (kind, at) = (frame[14 + at], at + 8 * (1 + usize::from(frame[15 + at])));
    }
    at
}

/// The frame with so many bytes after its IP header, which says so.
fn with_length(frame: &[u8], bytes: usize) -> Vec<u8> {
    let (ethernet, packet) = frame.split_at(14);
    if packet[0] >> 4 == 6 {
        let (mut header, data) = Ipv6Header::from_slice(packet).unwrap();
        let bytes = bytes.min(data.len());
        header.payload_length = bytes as u16;
        return [ethernet, &header.to_bytes(), &data[..bytes]].concat();
    }
    let (mut header, data) = Ipv4Header::from_slice(packet).unwrap();
    let bytes = bytes.min(data.len());
    header.total_len = (20 + bytes) as u16;
    header.header_checksum = header.calc_header_checksum();
    [ethernet, &header.to_bytes(), &data[..bytes]].concat()
}

/// The IP packet that a line describes, the rest cut off.
fn whole(words: &[&str]) -> Result<Vec<u8>, String> {
    let (mut packet, cut) = match words {
        ["ipip", source, ">", destination, "with", inside @ ..] => {
            (wrapped(source, destination, inside)?, None)
        }
        ["ip", ..] => (frame_of(words, FRONT)?.split_off(14), None),
        ["sctp", source, ">", destination, chunks] => (packet::sctp(source, destination, chunks), None),
        ["sctp", source, ">", destination, chunks, "cut", cut] => {
            (packet::sctp(source, destination, chunks), Some(number(cut)?))
        }
        _ => {
            let (packet, cut) = packet_of(words)?;
            (packet.bytes(), cut)
        }
    };
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    packet.truncate(cut.map_or(usize::MAX, |cut: usize| header + cut));
    Ok(packet)
}

/// The IP packet with another of the same family in it.
fn wrapped(source: &str, destination: &str, inside: &[&str]) -> Result<Vec<u8>, String> {
    let inside = whole(inside)?;
    let length = inside.len() as u16;
    if let (Address::V6(source), Address::V6(destination)) = (ip(source), ip(destination)) {
        let outer = Ipv6Header {
            payload_length: length,
            next_header: IpNumber::IPV6,
            hop_limit: 63,
            source: source.to_be_bytes(),
            destination: destination.to_be_bytes(),
            ..Ipv6Header::default()
        };
        return Ok([&outer.to_bytes()[..], &inside].concat());
    }
    let address = |text: &str| text.parse::<std::net::Ipv4Addr>().map_err(|_| format!("no address: {text}"));
    let (source, destination) = (address(source)?.octets(), address(destination)?.octets());
    let mut outer = Ipv4Header::new(length, 63, IpNumber::IPV4, source, destination)
        .map_err(|error| error.to_string())?;
    outer.header_checksum = outer.calc_header_checksum();
    Ok([&outer.to_bytes()[..], &inside].concat())
}

/// An extension header with options, of which there is one: padding.
const OPTIONS: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// A TCP segment or UDP datagram, and how many bytes after the IP header it is to be cut to.
fn packet_of(words: &[&str]) -> Result<(Packet, Option<usize>), String> {
    let (mut packet, options) = match words {
        ["tcp", source, ">", destination, flags, options @ ..] => (tcp(source, destination, flags), options),
        ["udp", source, ">", destination, options @ ..] => (udp(source, destination), options),
        _ => return Err(format!("no packet: {}", words.join(" "))),
    };
    let mut cut = None;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut next = || options.next().copied().ok_or_else(|| format!("{option} of what?"));
        packet = match *option {
            "ttl" => packet.ttl(number(next()?)?),
            "length" => packet.length(number(next()?)?),
            "id" => {
                let id: u32 = number(next()?)?;
                // In IPv6 only fragments have one.
                if packet.is_v6() { packet } else { packet.ip(|ip| ip.identification = id as u16) }
            }
            "hop-by-hop" => packet.extension(0, &OPTIONS),
            "destination-options" => packet.extension(60, &OPTIONS),
            "options" => {
                let options: Result<Vec<u8>, _> =
                    next()?.split('.').map(|byte| u8::from_str_radix(byte, 16)).collect();
                let options = options.map_err(|error| error.to_string())?;
                if packet.is_v6() {
                    let length = [(options.len() / 8) as u8];
                    packet.extension(0, &[&length, &options[..]].concat())
                } else {
                    packet.ip_options(&options)
                }
            }
            "routing" => packet.extension(43, &[0, 0, number(next()?)?, 0, 0, 0, 0]),
            "authentication" => packet.extension(51, &[2, 0, 0, 0, 0, 0, 7, 0, 0, 0, 7, 0, 0, 0, 0]),
            "atomic" => packet.extension(44, &[0, 0, 0, 0, 0, 0, 7]),
            "fragmentable" => packet.fragmentable(),
            "wrong-checksum" => packet.wrong(),
            "no-checksum" => packet.without_checksum(),
            "seq" => {
                let sequence = number(next()?)?;
                packet.tcp(|tcp| tcp.sequence_number = sequence)
            }
            "ack" => {
                let acknowledgment = number(next()?)?;
                packet.tcp(|tcp| tcp.acknowledgment_number = acknowledgment)
            }
            "sack" => {
                let blocks: Result<Vec<u32>, _> = next()?.split(',').map(number).collect();
                let blocks = blocks?;
                let mut option = vec![1, 1, 5, 2 + 4 * blocks.len() as u8];
                option.extend(blocks.iter().flat_map(|edge| edge.to_be_bytes()));
                packet.tcp_options(&option)
            }
            "data" => {
                let text = options.as_slice().join(" ").replace("\\r", "\r").replace("\\n", "\n");
                options = [].iter();
                packet.payload(text.as_bytes())
            }
            "record-route" => {
                let room: u8 = number(next()?)?;
                packet
                    .ip_options(&[&[7, 3 + 4 * room, 4][..], &vec![0; 4 * usize::from(room)], &[0]].concat())
            }
            "cut" => {
                cut = Some(number(next()?)?);
                packet
            }
            other => return Err(format!("no option of a packet: {other}")),
        };
    }
    Ok((packet, cut))
}
