//! What the real ipvsadm sends is understood.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::*;

/// The datagrams of each command.
fn recorded() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut commands = BTreeMap::new();
    let mut command = "";
    for line in include_str!("ipvsadm.txt").lines() {
        if let Some(next) = line.strip_prefix("$ ipvsadm ") {
            command = next;
            assert!(commands.insert(command, Vec::new()).is_none(), "{command} twice");
        } else if !line.is_empty() && !line.starts_with('#') {
            let digits = line.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            let datagram = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
            commands.get_mut(command).unwrap().push(datagram);
        }
    }
    commands
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service(protocol: u16, text: &str, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol, address: address(text), port }
}

fn mark(family: Family, mark: u32) -> ServiceKey {
    ServiceKey::Mark { family, mark: mark.try_into().unwrap() }
}

fn spec(scheduler: &str) -> ServiceSpec {
    ServiceSpec {
        scheduler: Name::new(scheduler).unwrap(),
        persistence_engine: None,
        flags: FlagChange { flags: ServiceFlags::default(), mask: ServiceFlags(u32::MAX) },
        timeout: 0,
        netmask: Netmask::Inet([255; 4].into()),
    }
}

fn flags(flags: ServiceFlags) -> FlagChange {
    FlagChange { flags, mask: ServiceFlags(u32::MAX) }
}

fn options(forward: Forward, weight: i32) -> DestSpec {
    DestSpec { forward, weight, upper_threshold: 0, lower_threshold: 0, tunnel: Tunnel::default() }
}

fn dest(text: &str, port: u16) -> DestKey {
    DestKey { address: address(text), port }
}

#[test]
fn every_command_of_ipvsadm_is_understood() {
    let http = service(6, "192.168.18.58", 80);
    let dns = service(17, "192.168.18.58", 53);
    let sip = service(6, "192.168.18.58", 5060);
    let https6 = service(6, "2001:db8::1", 443);
    let (mark4, mark6) = (mark(Family::Inet, 10), mark(Family::Inet6, 10));
    let server = dest("192.168.2.71", 8080);
    let server6 = dest("2001:db8::2", 80);
    let one = |request| vec![request];
    let expected: BTreeMap<&str, Vec<Request>> = [
        (
            "-A -t 192.168.18.58:80 -s rr",
            vec![
                Request::GetFamily,
                Request::GetFamily,
                Request::GetInfo,
                Request::GetFamily,
                Request::NewService { service: http, spec: spec("rr") },
            ],
        ),
        (
            "-A -u 192.168.18.58:53 -s wlc -o",
            one(Request::NewService {
                service: dns,
                spec: ServiceSpec { flags: flags(ServiceFlags::ONE_PACKET), ..spec("wlc") },
            }),
        ),
        (
            "-A -t 192.168.18.58:5060 -s sh -p 60 -M 255.255.255.0 -b sh-port --pe sip",
            one(Request::NewService {
                service: sip,
                spec: ServiceSpec {
                    persistence_engine: Some(Name::new("sip").unwrap()),
                    flags: flags(ServiceFlags::PERSISTENT | ServiceFlags::SCHED2),
                    timeout: 60,
                    netmask: Netmask::Inet([255, 255, 255, 0].into()),
                    ..spec("sh")
                },
            }),
        ),
        (
            "-A -t [2001:db8::1]:443 -s rr -p -M 64",
            one(Request::NewService {
                service: https6,
                spec: ServiceSpec {
                    flags: flags(ServiceFlags::PERSISTENT),
                    timeout: 360,
                    netmask: Netmask::Inet6(64),
                    ..spec("rr")
                },
            }),
        ),
        ("-A -f 10 -s rr", one(Request::NewService { service: mark4, spec: spec("rr") })),
        (
            "-A -f 10 -6 -s rr",
            one(Request::NewService {
                service: mark6,
                spec: ServiceSpec { netmask: Netmask::Inet6(128), ..spec("rr") },
            }),
        ),
        ("-E -t 192.168.18.58:80 -s wrr", one(Request::SetService { service: http, spec: spec("wrr") })),
        (
            "-a -t 192.168.18.58:80 -r 192.168.2.71:8080 -m -w 3 -x 100 -y 50",
            one(Request::NewDest {
                service: http,
                dest: server,
                spec: DestSpec {
                    upper_threshold: 100,
                    lower_threshold: 50,
                    ..options(Forward::Masquerade, 3)
                },
            }),
        ),
        (
            "-a -t 192.168.18.58:80 -r [2001:db8::2]:80 -i --tun-type gue --tun-port 6080 --tun-remcsum",
            one(Request::NewDest {
                service: http,
                dest: server6,
                spec: DestSpec {
                    tunnel: Tunnel { kind: TunnelKind::Gue, port: 6080, flags: 2 },
                    ..options(Forward::Tunnel, 1)
                },
            }),
        ),
        (
            "-a -t [2001:db8::1]:443 -r [2001:db8::2]:443",
            one(Request::NewDest {
                service: https6,
                dest: dest("2001:db8::2", 443),
                spec: options(Forward::DirectRoute, 1),
            }),
        ),
        (
            "-a -f 10 -r 192.168.2.72 -m",
            one(Request::NewDest {
                service: mark4,
                dest: dest("192.168.2.72", 0),
                spec: options(Forward::Masquerade, 1),
            }),
        ),
        (
            "-e -t 192.168.18.58:80 -r 192.168.2.71:8080 -m -w 0",
            one(Request::SetDest { service: http, dest: server, spec: options(Forward::Masquerade, 0) }),
        ),
        (
            "-Ln",
            vec![
                Request::GetServices,
                Request::GetDests { service: http },
                Request::GetDests { service: sip },
                Request::GetDests { service: dns },
                Request::GetDests { service: https6 },
                Request::GetDests { service: mark4 },
                Request::GetDests { service: mark6 },
            ],
        ),
        (
            "-Ln -t 192.168.18.58:80",
            vec![Request::GetService { service: http }, Request::GetDests { service: http }],
        ),
        ("-Ln -f 10 -6", vec![Request::GetService { service: mark6 }, Request::GetDests { service: mark6 }]),
        ("-L --timeout", one(Request::GetConfig)),
        (
            "--set 50 40 30",
            one(Request::SetConfig(TimeoutChange { tcp: Some(50), tcp_fin: Some(40), udp: Some(30) })),
        ),
        (
            "--start-daemon master --mcast-interface eth0 --syncid 7",
            one(Request::NewDaemon(Daemon {
                role: DaemonRole::Master,
                interface: Name::new("eth0").unwrap(),
                sync_id: 7,
                max_length: None,
                group: None,
                port: None,
                ttl: None,
            })),
        ),
        (
            "--start-daemon backup --mcast-interface eth1 --sync-maxlen 1400 --mcast-group ff05::56 \
             --mcast-port 8849 --mcast-ttl 5",
            one(Request::NewDaemon(Daemon {
                role: DaemonRole::Backup,
                interface: Name::new("eth1").unwrap(),
                sync_id: 0,
                max_length: Some(1400),
                group: Some(address("ff05::56")),
                port: Some(8849),
                ttl: Some(5),
            })),
        ),
        ("-L --daemon", one(Request::GetDaemons)),
        ("--stop-daemon master", one(Request::DelDaemon { role: DaemonRole::Master })),
        ("-Z", one(Request::Zero { service: None })),
        ("-Z -t 192.168.18.58:80", one(Request::Zero { service: Some(http) })),
        (
            "-d -t 192.168.18.58:80 -r 192.168.2.71:8080",
            one(Request::DelDest { service: http, dest: server }),
        ),
        ("-D -u 192.168.18.58:53", one(Request::DelService { service: dns })),
        ("-C", one(Request::Flush)),
    ]
    .into();

    let recorded = recorded();
    assert_eq!(recorded.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (command, datagrams) in &recorded {
        let decoded: Vec<_> = datagrams
            .iter()
            .flat_map(|datagram| Messages::new(datagram))
            .map(|message| {
                let message = message.unwrap();
                assert!(message.header.ack() && message.header.port != 0, "{command}");
                message.request.unwrap()
            })
            .collect();
        assert_eq!(decoded, expected[command], "ipvsadm {command}");
    }
}

#[test]
fn options_of_a_server_are_checked_against_its_service() {
    let http = service(6, "192.168.18.58", 80);
    let (server, server6) = (dest("192.168.2.71", 80), dest("2001:db8::2", 80));
    let nat = options(Forward::Masquerade, 1);
    assert_eq!(nat.check(&http, &server), Ok(()));
    assert_eq!(nat.check(&http, &server6), Err(Errno::EINVAL));
    assert_eq!(options(Forward::Tunnel, 1).check(&http, &server6), Ok(()));
    assert_eq!(options(Forward::Masquerade, -1).check(&http, &server), Err(Errno::ERANGE));
    let limits = |upper_threshold, lower_threshold| DestSpec { upper_threshold, lower_threshold, ..nat };
    assert_eq!(limits(2, 2).check(&http, &server), Ok(()));
    assert_eq!(limits(2, 3).check(&http, &server), Err(Errno::ERANGE));
    let gue = Tunnel { kind: TunnelKind::Gue, port: 0, flags: 0 };
    let gue = DestSpec { tunnel: gue, ..options(Forward::Tunnel, 1) };
    assert_eq!(gue.check(&http, &server), Err(Errno::EINVAL));
}

#[test]
fn flags_change_where_the_mask_says_so() {
    let before = ServiceFlags::PERSISTENT | ServiceFlags::SCHED1;
    let change = FlagChange {
        flags: ServiceFlags::ONE_PACKET | ServiceFlags::SCHED2,
        mask: ServiceFlags::ONE_PACKET | ServiceFlags::PERSISTENT,
    };
    assert_eq!(change.apply(before), ServiceFlags::ONE_PACKET | ServiceFlags::SCHED1);
    assert!(!change.apply(before).contains(ServiceFlags::SCHED2));
}
