//! Debian's own ipvsadm on the director, by `directorctl exec`. What it has to print and to return is what
//! it did on a kernel (Linux 6.1, ipvsadm 1.31).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so tests fail")]

mod common;

use std::collections::BTreeSet;

use common::{Director, Done, run, tool};
use director_ipvs::{Messages, Request, Stats};

fn silent() -> Done {
    Done { stdout: String::new(), stderr: String::new(), code: 0 }
}

/// Runs commands that print nothing and succeed.
fn all_succeed(director: &Director, commands: &[&str]) {
    for command in commands {
        assert_eq!(director.ipvsadm(command), silent(), "ipvsadm {command}");
    }
}

/// Runs a command that succeeds and gives what it printed.
fn shown(director: &Director, command: &str) -> String {
    let Done { stdout, stderr, code } = director.ipvsadm(command);
    assert_eq!((stderr.as_str(), code), ("", 0), "ipvsadm {command}");
    stdout
}

/// Asserts a refusal that the kernel, not ipvsadm, decides.
fn refused(director: &Director, command: &str, message: &str) {
    let done = director.ipvsadm(command);
    let expected = Done { stdout: String::new(), stderr: format!("{message}\n"), code: 255 };
    assert_eq!(done, expected, "ipvsadm {command}");
}

const EVERY_KIND: &[&str] = &[
    "-A -t 192.168.18.58:0 -s rr -p 300",
    "-A -t 192.168.18.58:80",
    "-a -t 192.168.18.58:80 -r 127.0.0.1:80 -g",
    "-a -t 192.168.18.58:80 -r 192.168.2.71:8081 -m",
    "-a -t 192.168.18.58:80 -r 192.168.2.72:80 -m -w 65535",
    "-a -t 192.168.18.58:80 -r 192.168.2.80:80 -i",
    "-a -t 192.168.18.58:80 -r [2001:db8::2]:80 -i",
    "-A -t 192.168.18.58:83 -s rr -p -M 255.255.255.0",
    "-A -t 192.168.18.58:84 -s sh -b sh-port",
    "-A -t 192.168.18.58:85 -s sh -b sh-fallback,sh-port",
    "-A -t 192.168.18.58:86 -s mh -b mh-fallback,mh-port",
    "-A -t 192.168.18.58:87 -s rr -b flag-1,flag-2,flag-3",
    "-A -t 192.168.18.58:5060 -s rr -p 60 --pe sip",
    "-A -u 192.168.18.58:53 -s rr -o",
    "-A --sctp-service 192.168.18.58:90 -s rr",
    "-A -t [2001:db8::1]:80 -s rr",
    "-A -f 1 -s rr",
    "-A -f 10 -6 -s rr",
];

#[test]
fn lists_every_kind_of_service_and_server() {
    let director = Director::start();
    all_succeed(&director, EVERY_KIND);
    assert_eq!(
        shown(&director, "-Ln"),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.18.58:0 rr persistent 300
TCP  192.168.18.58:80 wlc
  -> 127.0.0.1:80                 Route   1      0          0         
  -> 192.168.2.71:8081            Masq    1      0          0         
  -> 192.168.2.72:80              Masq    65535  0          0         
  -> 192.168.2.80:80              Tunnel  1      0          0         
  -> [2001:db8::2]:80             Tunnel  1      0          0         
TCP  192.168.18.58:83 rr persistent 360 mask 255.255.255.0
TCP  192.168.18.58:84 sh (sh-port)
TCP  192.168.18.58:85 sh (sh-fallback,sh-port)
TCP  192.168.18.58:86 mh (mh-fallback,mh-port)
TCP  192.168.18.58:87 rr (flag-1,flag-2,flag-3)
TCP  192.168.18.58:5060 rr persistent 60 pe sip
UDP  192.168.18.58:53 rr ops
SCTP 192.168.18.58:90 rr
TCP  [2001:db8::1]:80 rr
FWM  1 rr
FWM  10 IPv6 rr
"
    );
    assert_eq!(
        shown(&director, "-Ln -u 192.168.18.58:53"),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
UDP  192.168.18.58:53 rr ops
"
    );
}

#[test]
fn saves_and_restores() {
    let director = Director::start();
    all_succeed(&director, EVERY_KIND);
    all_succeed(
        &director,
        &["-a -t 192.168.18.58:80 -r 192.168.2.81:80 -i --tun-type gue --tun-port 6080 --tun-nocsum"],
    );
    let saved = shown(&director, "-S -n");
    for line in [
        "-A -t 192.168.18.58:83 -s rr -p 360 -M 255.255.255.0",
        "-a -t 192.168.18.58:80 -r 192.168.2.71:8081 -m -w 1",
        "-A -t 192.168.18.58:85 -s sh -b sh-fallback,sh-port",
        "-A -u 192.168.18.58:53 -s rr -o",
        "-A -t 192.168.18.58:5060 -s rr -p 60 --pe sip",
        "-A --sctp-service 192.168.18.58:90 -s rr",
        "-A -f 10 -6 -s rr",
        "-a -t 192.168.18.58:80 -r 192.168.2.81:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum",
    ] {
        assert!(saved.lines().any(|saved| saved == line), "{line} is not in\n{saved}");
    }
    all_succeed(&director, &["-C"]);
    assert_eq!(shown(&director, "-S -n"), "");
    let restored = run(director.exec(&[tool("ipvsadm"), "-R"]), &saved);
    assert_eq!(restored, silent());
    assert_eq!(shown(&director, "-S -n"), saved);
}

/// A refusal is printed and the rest goes on; the last line decides the exit status.
#[test]
fn restores_past_a_refusal() {
    let director = Director::start();
    let lines =
        "-A -t 192.168.18.58:80 -s rr\n-A -t 192.168.18.58:80 -s rr\n\n-A -t 192.168.18.58:81 -s rr\n";
    let restored = run(director.exec(&[tool("ipvsadm"), "-R"]), lines);
    assert_eq!((restored.stderr.as_str(), restored.code), ("Service already exists\n", 0));
    assert_eq!(shown(&director, "-S -n").lines().count(), 2);
}

#[test]
fn edits_and_deletes() {
    let director = Director::start();
    all_succeed(
        &director,
        &[
            "-A -u 192.168.18.58:53 -s rr -o -p 60",
            "-E -u 192.168.18.58:53 -s wlc",
            "-a -u 192.168.18.58:53 -r 192.168.2.71 -m -w 3 -x 10 -y 5",
            "-e -u 192.168.18.58:53 -r 192.168.2.71 -m",
        ],
    );
    assert_eq!(
        shown(&director, "-S -n"),
        "-A -u 192.168.18.58:53 -s wlc\n-a -u 192.168.18.58:53 -r 192.168.2.71:53 -m -w 1\n"
    );
    all_succeed(&director, &["-d -u 192.168.18.58:53 -r 192.168.2.71", "-D -u 192.168.18.58:53"]);
    assert_eq!(shown(&director, "-S -n"), "");
}

/// A service with two servers that have counted.
fn counted() -> Director {
    let director = Director::start();
    all_succeed(
        &director,
        &[
            "-A -t 192.168.18.58:80 -s rr",
            "-a -t 192.168.18.58:80 -r 192.168.2.71:80 -m -x 100 -y 50",
            "-a -t 192.168.18.58:80 -r 192.168.2.72:80 -m",
        ],
    );
    let mut model = director.state().model.lock().unwrap();
    let stats = Stats {
        connections: 6,
        in_packets: 17,
        out_packets: 13,
        in_bytes: 680,
        out_bytes: 520,
        connection_rate: 1,
        in_packet_rate: 2,
        out_packet_rate: 3,
        in_byte_rate: 4,
        out_byte_rate: 5,
    };
    let (service, dests) = &mut model.services[0];
    service.stats = stats;
    let old = &mut dests[1];
    (old.stats, old.active, old.inactive, old.persistent) = (stats, 3, 2, 1);
    // (Of a server's connections ipvsadm shows the lower 32 bits only.)
    dests[0].stats = Stats { in_bytes: u64::MAX, ..Stats::default() };
    service.stats.connections = 5_000_000_000;
    drop(model);
    director
}

#[test]
fn shows_counters_and_zeroes_them() {
    let director = counted();
    assert_eq!(
        shown(&director, "-Ln --stats"),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  192.168.18.58:80                5000M       17       13      680      520
  -> 192.168.2.71:80                     6       17       13      680      520
  -> 192.168.2.72:80                     0        0        018446744T        0
"
    );
    assert!(shown(&director, "-Ln --stats --exact").contains("5000000000"));
    assert_eq!(
        shown(&director, "-Ln --rate"),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  192.168.18.58:80                    1        2        3        4        5
  -> 192.168.2.71:80                     1        2        3        4        5
  -> 192.168.2.72:80                     0        0        0        0        0
"
    );
    all_succeed(&director, &["-Z -t 192.168.18.58:80"]);
    let zeroed = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  192.168.18.58:80                    0        0        0        0        0
  -> 192.168.2.71:80                     0        0        0        0        0
  -> 192.168.2.72:80                     0        0        0        0        0
";
    assert_eq!(shown(&director, "-Ln --stats"), zeroed);
    all_succeed(&director, &["-Z"]);
}

#[test]
fn shows_connections_of_servers() {
    let director = counted();
    assert_eq!(
        shown(&director, "-Ln"),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.18.58:80 rr
  -> 192.168.2.71:80              Masq    1      3          2         
  -> 192.168.2.72:80              Masq    1      0          0         
"
    );
    assert_eq!(
        shown(&director, "-Ln --thresholds"),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  192.168.18.58:80 rr
  -> 192.168.2.71:80              100        50         3          2         
  -> 192.168.2.72:80              0          0          0          0         
"
    );
    assert_eq!(
        shown(&director, "-Ln --persistent-conn"),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  192.168.18.58:80 rr
  -> 192.168.2.71:80              1         1           3          2         
  -> 192.168.2.72:80              1         0           0          0         
"
    );
    // The order of the director: newest first.
    let unsorted = shown(&director, "-Ln --nosort");
    let servers: Vec<_> = unsorted.lines().filter(|line| line.contains("Masq")).collect();
    assert!(servers[0].contains("192.168.2.72") && servers[1].contains("192.168.2.71"), "{unsorted}");
}

#[test]
fn shows_tunnels() {
    let director = Director::start();
    all_succeed(
        &director,
        &[
            "-A -t 192.168.18.58:80 -s rr",
            "-a -t 192.168.18.58:80 -r 192.168.2.80:80 -i --tun-type gue --tun-port 6080 --tun-nocsum",
            "-a -t 192.168.18.58:80 -r 192.168.2.81:80 -i --tun-type gre --tun-csum",
            "-a -t 192.168.18.58:80 -r 192.168.2.77:80 -i",
            "-a -t 192.168.18.58:80 -r 192.168.2.71:8080 -m",
        ],
    );
    let shown = shown(&director, "-Ln --tun-info");
    let rows: Vec<_> = shown.lines().skip(2).collect();
    assert_eq!(
        rows,
        [
            "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn",
            "TCP  192.168.18.58:80 rr",
            "  -> 192.168.2.71:8080            Masq    n/a           1      0          0         ",
            "  -> 192.168.2.77:80              Tunnel  ipip          1      0          0         ",
            "  -> 192.168.2.80:80              Tunnel  gue:6080:-c   1      0          0         ",
            "  -> 192.168.2.81:80              Tunnel  gre:+c        1      0          0         ",
        ]
    );
}

#[test]
fn sets_timeouts() {
    let director = Director::start();
    assert_eq!(shown(&director, "-L --timeout"), "Timeout (tcp tcpfin udp): 900 120 300\n");
    all_succeed(&director, &["--set 50 40 30"]);
    assert_eq!(shown(&director, "-L --timeout"), "Timeout (tcp tcpfin udp): 50 40 30\n");
    all_succeed(&director, &["--set 0 7 0"]);
    assert_eq!(shown(&director, "-L --timeout"), "Timeout (tcp tcpfin udp): 50 7 30\n");
}

#[test]
fn runs_the_commands_of_the_sync_daemon() {
    let director = Director::start();
    assert_eq!(shown(&director, "-L --daemon"), "");
    refused(&director, "--stop-daemon master", "No daemon is running");
    refused(&director, "--start-daemon master --mcast-interface nosuch0", "No such device");
    all_succeed(
        &director,
        &[
            "--start-daemon master --mcast-interface eth0",
            "--start-daemon backup --mcast-interface eth1 --syncid 7",
        ],
    );
    refused(&director, "--start-daemon master --mcast-interface eth0", "Daemon has already run");
    assert_eq!(
        shown(&director, "-L --daemon"),
        "\
master sync daemon (mcast=eth0, syncid=0, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
backup sync daemon (mcast=eth1, syncid=7, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
"
    );
    all_succeed(&director, &["--stop-daemon master", "--stop-daemon backup"]);
    assert_eq!(shown(&director, "-L --daemon"), "");
}

#[test]
fn lists_connections() {
    let director = Director::start();
    assert_eq!(
        shown(&director, "-Lnc"),
        "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:59  ESTABLISHED 192.168.18.10:2001 192.168.18.58:80   192.168.2.71:80
UDP 04:59  UDP         192.168.18.10:3000 192.168.18.58:53   192.168.2.72:53
"
    );
}

#[test]
fn refuses_as_the_kernel_does() {
    let director = Director::start();
    all_succeed(&director, &["-A -t 192.168.18.58:80 -s rr", "-a -t 192.168.18.58:80 -r 192.168.2.71:80 -m"]);
    let invalid = "Invalid operation.  Possibly wrong module version, address not unicast, ...";
    for (command, message) in [
        ("-A -t 192.168.18.58:80 -s rr", "Service already exists"),
        ("-A -t 192.168.18.58:80 -s nosuch", "Service already exists"),
        ("-A -t 192.168.18.58:81 -s nosuch", "Scheduler or persistence engine not found"),
        ("-E -t 192.168.18.58:80 -s nosuch", "Scheduler or persistence engine not found"),
        ("-A -t 192.168.18.58:81 -s rr -p --pe nosuch", "Scheduler or persistence engine not found"),
        ("-E -t 192.168.18.58:81 -s rr", "No such service"),
        ("-D -t 192.168.18.58:81", "No such service"),
        ("-Z -t 192.168.18.58:81", "No such service"),
        ("-D -f 9", "No such service"),
        ("-a -t 192.168.18.58:81 -r 192.168.2.71:80 -m", "Service not defined"),
        ("-e -t 192.168.18.58:81 -r 192.168.2.71:80 -m", "Service not defined"),
        ("-d -t 192.168.18.58:81 -r 192.168.2.71:80", "Service not defined"),
        ("-a -t 192.168.18.58:80 -r 192.168.2.71:80 -m", "Destination already exists"),
        ("-e -t 192.168.18.58:80 -r 192.168.2.72:80 -m", "No such destination"),
        ("-d -t 192.168.18.58:80 -r 192.168.2.72:80", "No such destination"),
        ("-a -t 192.168.18.58:80 -r 224.0.0.1:80 -m", invalid),
        ("-a -t 192.168.18.58:80 -r 0.0.0.0:80 -m", invalid),
        ("-a -t 192.168.18.58:80 -r 192.168.2.72:80 -m -x 1 -y 2", "Numerical result out of range"),
        ("-e -t 192.168.18.58:80 -r 192.168.2.71:80 -m -y 2", "Numerical result out of range"),
        // A missing service comes before a wrong threshold.
        ("-a -t 192.168.18.58:81 -r 192.168.2.72:80 -m -x 1 -y 2", "Service not defined"),
    ] {
        refused(&director, command, message);
    }
    for command in ["-Ln -t 192.168.18.58:81", "-Ln -f 9"] {
        let done = director.ipvsadm(command);
        assert_eq!((done.stderr.as_str(), done.code), ("No such service\n", 1), "ipvsadm {command}");
    }
    // What ipvsadm finds itself never reaches the director.
    for (command, message) in [
        ("-a -t 192.168.18.58:80 -r 192.168.2.72:80 -m -w -1", "illegal weight specified"),
        ("-A -t 192.168.18.58:0 -s rr", "Zero port specified for non-persistent service"),
        (
            "-a -t 192.168.18.58:80 -r [2001:db8::2]:80 -m",
            "Different address family is allowed only for tunneling servers",
        ),
    ] {
        let done = director.ipvsadm(command);
        assert_eq!((done.stderr.as_str(), done.code), (format!("{message}\n").as_str(), 2), "{command}");
    }
    assert_eq!(shown(&director, "-S -n").lines().count(), 2);
}

/// Many datagrams, none of them cut, none of them twice.
#[test]
fn lists_very_many_servers() {
    let director = Director::start();
    all_succeed(&director, &["-A -t 192.168.18.58:80 -s rr", "-a -t 192.168.18.58:80 -r 10.0.0.0:80 -m"]);
    let count = 30_000_u32;
    {
        let mut model = director.state().model.lock().unwrap();
        let dests = &mut model.services[0].1;
        let first = dests[0];
        dests.extend((1..count).map(|n| {
            let mut dest = first;
            dest.key.address = std::net::Ipv4Addr::from((10 << 24) + n).into();
            dest
        }));
    }
    let listing = shown(&director, "-Ln");
    let servers: BTreeSet<_> = listing.lines().filter(|line| line.starts_with("  -> 10.")).collect();
    assert_eq!(servers.len(), count as usize);
}

/// Prints what ipvsadm sends, as the tests of `director-ipvs` have it in `src/tests/ipvsadm.txt`:
/// `cargo test -p directorctl --test ipvsadm -- --ignored --nocapture --exact record`.
#[test]
#[ignore = "records; it checks nothing"]
fn record() {
    let director = Director::start();
    println!(
        "# What Debian's ipvsadm 1.31 sends, in the order it was recorded. Each command starts with the"
    );
    println!("# question for the family and IPVS_CMD_GET_INFO; they stand with the first one only.");
    for (index, command) in [
        "-A -t 192.168.18.58:80 -s rr",
        "-A -u 192.168.18.58:53 -s wlc -o",
        "-A -t 192.168.18.58:5060 -s sh -p 60 -M 255.255.255.0 -b sh-port --pe sip",
        "-A -t [2001:db8::1]:443 -s rr -p -M 64",
        "-A -f 10 -s rr",
        "-A -f 10 -6 -s rr",
        "-E -t 192.168.18.58:80 -s wrr",
        "-a -t 192.168.18.58:80 -r 192.168.2.71:8080 -m -w 3 -x 100 -y 50",
        "-a -t 192.168.18.58:80 -r [2001:db8::2]:80 -i --tun-type gue --tun-port 6080 --tun-remcsum",
        "-a -t [2001:db8::1]:443 -r [2001:db8::2]:443",
        "-a -f 10 -r 192.168.2.72 -m",
        "-e -t 192.168.18.58:80 -r 192.168.2.71:8080 -m -w 0",
        "-Ln",
        "-Ln -t 192.168.18.58:80",
        "-Ln -f 10 -6",
        "-L --timeout",
        "--set 50 40 30",
        "--start-daemon master --mcast-interface eth0 --syncid 7",
        "--start-daemon backup --mcast-interface eth1 --sync-maxlen 1400 --mcast-group ff05::56 \
         --mcast-port 8849 --mcast-ttl 5",
        "-L --daemon",
        "--stop-daemon master",
        "-Z",
        "-Z -t 192.168.18.58:80",
        "-d -t 192.168.18.58:80 -r 192.168.2.71:8080",
        "-D -u 192.168.18.58:53",
        "-C",
    ]
    .into_iter()
    .enumerate()
    {
        director.state().received.lock().unwrap().clear();
        assert_eq!(director.ipvsadm(command).stderr, "", "{command}");
        println!("\n$ ipvsadm {}", command.split_whitespace().collect::<Vec<_>>().join(" "));
        // The first question is directorctl's own.
        for datagram in director.state().received.lock().unwrap().iter().skip(1) {
            let request = Messages::new(datagram).next().unwrap().unwrap().request;
            let start = matches!(request, Ok(Request::GetFamily | Request::GetInfo));
            if index == 0 || !start {
                println!("{}", datagram.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            }
        }
    }
}
