//! Properties: no bytes make the decoder panic, and what is encoded is decoded the same.

use std::net::IpAddr;
use std::num::NonZeroU32;

use bolero::{TypeGenerator, check};

use crate::*;

/// Bytes, some of them a good message with a few bytes changed.
#[derive(Debug, TypeGenerator)]
enum Input {
    Noise(Vec<u8>),
    Damaged { request: Wanted, changes: Vec<(u16, u8)>, keep: u16 },
}

#[test]
fn no_bytes_are_too_much() {
    check!().with_type::<Input>().for_each(|input| {
        let bytes = match input {
            Input::Noise(bytes) => bytes.clone(),
            Input::Damaged { request, changes, keep } => {
                let mut bytes = client::encode(&request.request(), &Header::default());
                for (at, value) in changes {
                    let at = usize::from(*at) % bytes.len();
                    bytes[at] = *value;
                }
                bytes.truncate(usize::from(*keep).max(16));
                bytes
            }
        };
        let mut covered = 0;
        for message in Messages::new(&bytes) {
            let Ok(message) = message else { break };
            covered += 1;
            if let Err(malformed) = &message.request {
                assert!(!malformed.to_string().is_empty());
                let refusals = message.answer(Answer::Refused(malformed.errno()));
                assert_eq!(refusals.count(), 1);
            }
        }
        assert!(covered <= bytes.len() / 16);
    });
}

#[test]
fn requests_survive_the_way() {
    check!().with_type::<(Wanted, u32, u32, bool)>().for_each(|(wanted, sequence, port, ack)| {
        let request = wanted.request();
        let header = Header { sequence: *sequence, port: *port, flags: if *ack { 4 } else { 0 } };
        let bytes = client::encode(&request, &header);
        let mut messages = Messages::new(&bytes);
        let message = messages.next().unwrap().unwrap();
        assert_eq!(message.request, Ok(request));
        assert_eq!((message.header.sequence, message.header.port), (*sequence, *port));
        assert_eq!(message.header.ack(), *ack);
        assert!(messages.next().is_none());
    });
}

/// Covers every request there is, and none there is not.
#[derive(Debug, TypeGenerator)]
enum Wanted {
    Plain(u8),
    NewService(Key, Spec),
    SetService(Key, Spec),
    OfService(u8, Key),
    NewDest(Key, Server, Options),
    SetDest(Key, Server, Options),
    DelDest(Key, Server),
    NewDaemon(bool, Text, u32, [Option<u16>; 2], Option<u8>, Option<[u8; 16]>, bool),
    DelDaemon(bool),
    SetConfig([Option<u32>; 3]),
}

#[derive(Debug, TypeGenerator)]
enum Key {
    Mark(bool, NonZeroU32),
    Address(u16, Address, u16),
}

#[derive(Debug, TypeGenerator)]
enum Address {
    Inet([u8; 4]),
    Inet6([u8; 16]),
}

#[derive(Debug, TypeGenerator)]
struct Server(Address, u16);

#[derive(Debug, TypeGenerator)]
struct Spec {
    scheduler: Text,
    engine: Option<Text>,
    flags: u32,
    mask: u32,
    timeout: u32,
    netmask: [u8; 4],
}

#[derive(Debug, TypeGenerator)]
struct Options {
    forward: u8,
    weight: i32,
    thresholds: [u32; 2],
    tunnel: (u8, u16, u16),
}

/// A name of 1 to 15 letters.
#[derive(Debug, TypeGenerator)]
struct Text([u8; 15], u8);

impl Wanted {
    fn request(&self) -> Request {
        match self {
            Self::Plain(which) => match which % 9 {
                0 => Request::Nothing,
                1 => Request::GetFamily,
                2 => Request::GetServices,
                3 => Request::GetDaemons,
                4 => Request::GetConfig,
                5 => Request::GetInfo,
                6 => Request::Flush,
                _ => Request::Zero { service: None },
            },
            Self::NewService(key, spec) => {
                Request::NewService { service: key.key(), spec: spec.spec(key.key().family()) }
            }
            Self::SetService(key, spec) => {
                Request::SetService { service: key.key(), spec: spec.spec(key.key().family()) }
            }
            Self::OfService(which, key) => match which % 4 {
                0 => Request::DelService { service: key.key() },
                1 => Request::GetService { service: key.key() },
                2 => Request::GetDests { service: key.key() },
                _ => Request::Zero { service: Some(key.key()) },
            },
            Self::NewDest(key, server, options) => {
                Request::NewDest { service: key.key(), dest: server.dest(), spec: options.spec() }
            }
            Self::SetDest(key, server, options) => {
                Request::SetDest { service: key.key(), dest: server.dest(), spec: options.spec() }
            }
            Self::DelDest(key, server) => Request::DelDest { service: key.key(), dest: server.dest() },
            Self::NewDaemon(master, interface, sync_id, [max_length, port], ttl, group, inet) => {
                Request::NewDaemon(Daemon {
                    role: role(*master),
                    interface: interface.name(),
                    sync_id: *sync_id,
                    max_length: *max_length,
                    group: group.map(|[a, b, c, d, rest @ ..]| match inet {
                        true => IpAddr::from([0xe0 | a & 0xf, b, c, d]),
                        false => {
                            let mut group = [0xff; 16];
                            group[4..].copy_from_slice(&rest);
                            IpAddr::from(group)
                        }
                    }),
                    port: *port,
                    ttl: *ttl,
                })
            }
            Self::DelDaemon(master) => Request::DelDaemon { role: role(*master) },
            Self::SetConfig(timeouts) => {
                let [tcp, tcp_fin, udp] = timeouts.map(|timeout| timeout.map(|t| t % (MAX_TIMEOUT + 1)));
                Request::SetConfig(TimeoutChange { tcp, tcp_fin, udp })
            }
        }
    }
}

fn role(master: bool) -> DaemonRole {
    if master { DaemonRole::Master } else { DaemonRole::Backup }
}

impl Key {
    fn key(&self) -> ServiceKey {
        match self {
            Self::Mark(inet, mark) => {
                ServiceKey::Mark { family: if *inet { Family::Inet } else { Family::Inet6 }, mark: *mark }
            }
            Self::Address(protocol, address, port) => {
                ServiceKey::Address { protocol: *protocol, address: address.address(), port: *port }
            }
        }
    }
}

impl Address {
    fn address(&self) -> IpAddr {
        match self {
            Self::Inet(bytes) => IpAddr::from(*bytes),
            Self::Inet6(bytes) => IpAddr::from(*bytes),
        }
    }
}

impl Server {
    fn dest(&self) -> DestKey {
        DestKey { address: self.0.address(), port: self.1 }
    }
}

impl Spec {
    fn spec(&self, family: Family) -> ServiceSpec {
        ServiceSpec {
            scheduler: self.scheduler.name(),
            persistence_engine: self.engine.as_ref().map(Text::name),
            flags: FlagChange { flags: ServiceFlags(self.flags), mask: ServiceFlags(self.mask) },
            timeout: self.timeout % (MAX_TIMEOUT + 1),
            netmask: match family {
                Family::Inet => Netmask::Inet(self.netmask.into()),
                Family::Inet6 => Netmask::Inet6(u32::from_ne_bytes(self.netmask)),
            },
        }
    }
}

impl Options {
    fn spec(&self) -> DestSpec {
        let forwards =
            [Forward::Masquerade, Forward::Local, Forward::Tunnel, Forward::DirectRoute, Forward::Bypass];
        let kinds = [TunnelKind::Ipip, TunnelKind::Gue, TunnelKind::Gre];
        let (kind, port, flags) = self.tunnel;
        DestSpec {
            forward: forwards[usize::from(self.forward) % forwards.len()],
            weight: self.weight,
            upper_threshold: self.thresholds[0],
            lower_threshold: self.thresholds[1],
            tunnel: Tunnel { kind: kinds[usize::from(kind) % kinds.len()], port, flags },
        }
    }
}

impl Text {
    fn name(&self) -> Name {
        let length = 1 + usize::from(self.1) % self.0.len();
        let letters = self.0[..length].iter().map(|byte| char::from(b'a' + byte % 26));
        Name::new(letters.collect::<String>()).unwrap()
    }
}
