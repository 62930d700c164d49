//! Tools other than ipvsadm under `directorctl exec`: keepalived drives the director, and what has nothing
//! to do with IPVS works as without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so tests fail")]

mod common;

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{Director, run, tool};
use director_ipvs::{Dest, Forward, Timeouts};

#[test]
fn other_netlink_goes_to_the_kernel() {
    let director = Director::start();
    for command in [
        vec![tool("ip"), "-details", "link", "show", "lo"],
        vec![tool("ip"), "route", "show", "table", "local"],
        // Features go over the generic-netlink family `ethtool`.
        vec![tool("ethtool"), "--show-features", "lo"],
        vec![tool("genl"), "ctrl", "get", "name", "nlctrl"],
    ] {
        let mut plain = Command::new(command[0]);
        plain.args(&command[1..]);
        let (plain, under) = (run(plain, ""), run(director.exec(&command), ""));
        assert_eq!(plain.code, 0, "{command:?}: {plain:?}");
        assert_eq!(plain, under, "{command:?}");
    }
    assert_eq!(director.state().received.lock().unwrap().len(), 4, "the question of each exec");
}

/// A client with a netlink library of its own, iproute2's.
#[test]
fn genl_finds_the_family() {
    let director = Director::start();
    let done = run(director.exec(&[tool("genl"), "ctrl", "get", "name", "IPVS"]), "");
    assert_eq!((done.stderr.as_str(), done.code), ("", 0));
    for part in ["Name: IPVS", "ID: 0x1b", "Version: 0x1", "max attribs: 6", "#16:  ID-0x11"] {
        assert!(done.stdout.contains(part), "{part} is not in {}", done.stdout);
    }
}

#[test]
fn scripts_read_the_files() {
    let director = Director::start();
    let head = run(director.exec(&[tool("head"), "-n1", "/proc/net/ip_vs"]), "");
    assert_eq!(head.stdout, "IP Virtual Server version 1.2.1 (size=4096)\n");
    let script = "while read -r protocol rest; do echo $protocol; done < /proc/net/ip_vs_conn; \
                  grep -c ESTABLISHED /proc/net/ip_vs_conn; cat /proc/net/ip_vs_stats | wc -l";
    let shell = run(director.exec(&[tool("sh"), "-c", script]), "");
    assert_eq!((shell.stdout.as_str(), shell.stderr.as_str()), ("Pro\nTCP\nUDP\n1\n3\n", ""));
}

/// Netlink has no end of file: a director that goes while it is asked must not look like success.
#[test]
fn a_director_that_dies_is_an_error() {
    let director = Director::start();
    *director.state().mute.lock().unwrap() = true;
    let done = director.ipvsadm("-A -t 192.168.18.58:80 -s rr");
    assert_ne!(done.code, 0, "{done:?}");
    assert_ne!(done.stderr, "");
}

// ---- keepalived

const CONFIG: &str = "\
global_defs {
    lvs_timeouts tcp 50 tcpfin 40 udp 30
    process_names
}
virtual_server 127.0.0.1 8080 {
    delay_loop 1
    lb_algo rr
    lb_kind NAT
    protocol TCP
    real_server 127.0.0.1 PORT1 {
        weight 3
        TCP_CHECK {
            connect_timeout 1
            retry 0
        }
    }
    real_server 127.0.0.1 PORT2 {
        weight 2
        inhibit_on_failure
        TCP_CHECK {
            connect_timeout 1
            retry 0
        }
    }
}
";

#[test]
fn keepalived_checks_servers() {
    enter_network_namespace();
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (one, two) = (listen(), listen());
    let ports = [one.local_addr().unwrap().port(), two.local_addr().unwrap().port()];
    let director = Director::start();
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("keepalived.conf");
    std::fs::write(
        &config,
        CONFIG.replace("PORT1", &ports[0].to_string()).replace("PORT2", &ports[1].to_string()),
    )
    .unwrap();
    let log = files.path().join("log");
    let pid = |name: &str| files.path().join(name).display().to_string();

    let file = std::fs::File::create(&log).unwrap();
    let mut command = director.exec(&[tool("keepalived"), "--dont-fork", "--log-console", "--log-detail"]);
    command
        .args(["--check", "--use-file", &config.display().to_string()])
        .args(["--pid", &pid("main.pid"), "--checkers_pid", &pid("check.pid")])
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let mut keepalived = Running(command.spawn().unwrap());
    let fail = |what: &str| -> ! { panic!("{what}\n{}", std::fs::read_to_string(&log).unwrap()) };
    let dest = |port: u16| -> Option<Dest> {
        let model = director.state().model.lock().unwrap();
        let (_, dests) = model.services.first()?;
        dests.iter().find(|dest| dest.key.port == port).copied()
    };
    let until = |what: &str, seen: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !seen() {
            if start.elapsed() > Duration::from_secs(30) {
                fail(what);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };

    until("both servers are added", &|| dest(ports[0]).is_some() && dest(ports[1]).is_some());
    let first = dest(ports[0]).unwrap();
    assert_eq!((first.spec.forward, first.spec.weight), (Forward::Masquerade, 3));
    let timeouts = director.state().model.lock().unwrap().timeouts;
    assert_eq!(timeouts, Timeouts { tcp: 50, tcp_fin: 40, udp: 30 });

    drop(one);
    until("a server that fails is removed", &|| dest(ports[0]).is_none());
    drop(two);
    until("an inhibited server that fails loses its weight", &|| {
        dest(ports[1]).is_some_and(|dest| dest.spec.weight == 0)
    });
    let _one = std::net::TcpListener::bind(("127.0.0.1", ports[0])).expect("the same port again");
    until("a server that comes back is added", &|| dest(ports[0]).is_some());

    keepalived.terminate();
    until("keepalived removes the service as it ends", &|| {
        director.state().model.lock().unwrap().services.is_empty()
    });
    assert!(keepalived.0.wait().unwrap().success());
    let timeouts = director.state().model.lock().unwrap().timeouts;
    assert_eq!(timeouts, Timeouts { tcp: 900, tcp_fin: 120, udp: 300 });
}

/// Gives this thread, its sockets and its children a network of their own; only root can.
fn enter_network_namespace() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // SAFETY: no memory and no descriptor is unshared, only what network later sockets are made in.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("a namespace");
    let mut up = Command::new(tool("ip"));
    up.args(["link", "set", "lo", "up"]);
    assert_eq!(run(up, "").code, 0);
}

/// A process that does not outlive the test.
struct Running(Child);

impl Running {
    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Its checker is its child and ends with it.
            self.terminate();
            let _ = self.0.wait();
        }
    }
}
