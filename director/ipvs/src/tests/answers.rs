//! Datagrams of answers, byte by byte where the kernel's are known.

use std::iter;

use crate::attribute::{Kind, Policy};
use crate::uapi::*;
use crate::*;

/// The bytes of a literal in hexadecimal; blanks do not count.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn answers(request: &Request, flags: u16, answer: Answer<'_>) -> Vec<Vec<u8>> {
    let bytes = client::encode(request, &Header { sequence: 0x1234, port: 0x38f4, flags });
    let message = Messages::new(&bytes).next().unwrap().unwrap();
    assert_eq!(message.request.as_ref(), Ok(request));
    message.answer(answer).collect()
}

/// What Linux answers to `CTRL_CMD_GETFAMILY` for a family it does not have: the errno, the whole request.
#[test]
fn a_refusal_is_the_kernels() {
    let request = hex("20000000 1000 0500 34120000 f4380000 03 01 0000 0b00 0200 6e6f73756368 00 00");
    let message = Messages::new(&request).next().unwrap().unwrap();
    let errno = message.request.as_ref().unwrap_err().errno();
    let refusal = "34000000 0200 0000 34120000 f4380000 feffffff
                   20000000 1000 0500 34120000 f4380000 03010000 0b000200 6e6f73756368 0000";
    let answers: Vec<_> = message.answer(Answer::Refused(errno)).collect();
    assert_eq!(answers, [hex(refusal)]);
}

/// As above for a family it has: a success echoes the header alone and says so (`NLM_F_CAPPED`).
#[test]
fn an_acknowledgement_is_the_kernels() {
    let acknowledgement =
        hex("24000000 0200 0001 34120000 f4380000 00000000 20000000 1000 0500 34120000 f4380000");
    let mut all = answers(&Request::GetFamily, NLM_F_ACK, Answer::Family);
    assert_eq!(all.len(), 2);
    // Length and type of the request apart, which has a shorter name.
    assert_eq!(all.pop().unwrap()[..20], acknowledgement[..20]);
    assert_eq!(answers(&Request::GetFamily, 0, Answer::Family), all);
    assert_eq!(answers(&Request::Flush, 0, Answer::Done), [[0; 0]; 0]);
    assert_eq!(answers(&Request::Flush, NLM_F_ACK, Answer::Done).len(), 1);
    // A refusal is told to everyone, once.
    assert_eq!(answers(&Request::Flush, 0, Answer::Refused(Errno::EPERM)).len(), 1);
    assert_eq!(answers(&Request::Flush, NLM_F_ACK, Answer::Refused(Errno::EPERM)).len(), 1);
}

/// As Linux tells of a family, with our id and commands.
#[test]
fn the_family_is_told() {
    let all = answers(&Request::GetFamily, 0, Answer::Family);
    let start = hex("84010000 1000 0000 34120000 f4380000 01 02 0000
         0900 0200 49505653 00 000000
         0600 0100 1b00 0000
         0800 0300 01000000
         0800 0400 00000000
         0800 0500 06000000
         4401 0600
         1400 0100 0800 0100 01000000 0800 0200 0b000000");
    assert_eq!(all[0][..start.len()], start);
    // The one command that is a dump and not, and the last.
    let text: String = all[0].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(text.contains("140004000800010004000000080002000f000000"), "{text}");
    assert!(text.ends_with("140010000800010011000000080002000b000000"), "{text}");
    let list = answers(&Request::GetFamily, NLM_F_DUMP, Answer::Family);
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].len(), all[0].len() + 20, "the family and NLMSG_DONE");
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn stats() -> Stats {
    Stats {
        connections: 0x1_0000_0002,
        in_packets: 3,
        out_packets: 4,
        in_bytes: 0x5_0000_0005,
        out_bytes: 6,
        connection_rate: 7,
        in_packet_rate: 8,
        out_packet_rate: 9,
        in_byte_rate: 10,
        out_byte_rate: 11,
    }
}

const STATS: &str = "
    5c00 0a00
    0800 0100 02000000 0800 0200 03000000 0800 0300 04000000
    0c00 0400 0500000005000000 0c00 0500 0600000000000000
    0800 0600 07000000 0800 0700 08000000 0800 0800 09000000 0800 0900 0a000000 0800 0a00 0b000000
    7c00 0c00
    0c00 0100 0200000001000000 0c00 0200 0300000000000000 0c00 0300 0400000000000000
    0c00 0400 0500000005000000 0c00 0500 0600000000000000
    0c00 0600 0700000000000000 0c00 0700 0800000000000000 0c00 0800 0900000000000000
    0c00 0900 0a00000000000000 0c00 0a00 0b00000000000000";

#[test]
fn a_service_is_told_with_all_it_has() {
    let key = ServiceKey::Address { protocol: 6, address: [192, 168, 18, 58].into(), port: 80 };
    let service = Service {
        key,
        scheduler: name("wlc"),
        persistence_engine: Some(name("sip")),
        flags: ServiceFlags::PERSISTENT,
        timeout: 360,
        netmask: Netmask::Inet([255, 255, 255, 0].into()),
        stats: stats(),
    };
    let request = Request::GetService { service: key };
    let all = answers(&request, 0, Answer::Service(Box::new(service)));
    let expected = "48010000 1b00 0000 34120000 f4380000 01 01 0000
        3401 0100
        0600 0100 0200 0000
        0600 0200 0600 0000
        1400 0300 c0a8123a 000000000000000000000000
        0600 0400 0050 0000
        0800 0600 776c6300
        0800 0b00 73697000
        0c00 0700 03000000 ffffffff
        0800 0800 68010000
        0800 0900 ffffff00";
    assert_eq!(all, [hex(&(expected.to_owned() + STATS))]);
}

#[test]
fn a_server_is_told_with_all_it_has() {
    let service = ServiceKey::Mark { family: Family::Inet, mark: 7.try_into().unwrap() };
    let dest = Dest {
        key: DestKey { address: "2001:db8::2".parse().unwrap(), port: 8080 },
        spec: DestSpec {
            forward: Forward::Tunnel,
            weight: 100,
            upper_threshold: 20,
            lower_threshold: 10,
            tunnel: Tunnel { kind: TunnelKind::Gue, port: 6080, flags: 1 },
        },
        active: 1,
        inactive: 2,
        persistent: 3,
        stats: stats(),
    };
    let all = answers(&Request::GetDests { service }, 0, Answer::Dests(Box::new(iter::once(dest))));
    let expected = "64010000 1b00 0200 34120000 f4380000 05 01 0000
        5001 0200
        1400 0100 20010db8000000000000000000000002
        0600 0200 1f90 0000
        0800 0300 02000000
        0800 0400 64000000
        0500 0d00 01 000000
        0600 0e00 17c0 0000
        0600 0f00 0100 0000
        0800 0500 14000000
        0800 0600 0a000000
        0800 0700 01000000
        0800 0800 02000000
        0800 0900 03000000
        0600 0b00 0a00 0000";
    let done = "14000000 0300 0200 34120000 f4380000 00000000";
    assert_eq!(all, [hex(&(expected.to_owned() + STATS + done))]);
}

#[test]
fn information_and_timeouts_are_told() {
    let info = Info { version: 0x0001_0201, table_size: 4096 };
    assert_eq!(
        answers(&Request::GetInfo, 0, Answer::Info(info)),
        [hex("24000000 1b00 0000 34120000 f4380000 0e 01 0000 0800 0100 01020100 0800 0200 00100000")]
    );
    let timeouts = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };
    assert_eq!(
        answers(&Request::GetConfig, 0, Answer::Timeouts(timeouts)),
        [hex("2c000000 1b00 0000 34120000 f4380000 0c 01 0000
              0800 0400 84030000 0800 0500 78000000 0800 0600 2c010000")]
    );
}

#[test]
fn a_daemon_is_told() {
    let daemon = Daemon {
        role: DaemonRole::Backup,
        interface: name("eth1"),
        sync_id: 7,
        max_length: Some(1472),
        group: Some([224, 0, 0, 81].into()),
        port: Some(8848),
        ttl: Some(1),
    };
    assert_eq!(
        answers(&Request::GetDaemons, 0, Answer::Daemons(Box::new(iter::once(daemon)))),
        [hex("54000000 1b00 0200 34120000 f4380000 09 01 0000
              4000 0300 0800 0100 02000000 0900 0200 6574683100 000000 0800 0300 07000000
              0600 0400 c005 0000 0600 0700 9022 0000 0500 0800 01 000000 0800 0500 e0000051
              14000000 0300 0200 34120000 f4380000 00000000")]
    );
}

/// A listing of very many is drawn as it is sent, in datagrams a client's page-sized buffers bear.
#[test]
fn long_listings_come_in_pieces() {
    let dest = |n: u32| Dest {
        key: DestKey { address: std::net::Ipv4Addr::from(n).into(), port: 80 },
        spec: DestSpec {
            forward: Forward::Masquerade,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: Tunnel::default(),
        },
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: stats(),
    };
    let service = ServiceKey::Address { protocol: 17, address: [10, 0, 0, 1].into(), port: 53 };
    let bytes = client::encode(&Request::GetDests { service }, &Header::default());
    let message = Messages::new(&bytes).next().unwrap().unwrap();
    let drawn = std::sync::atomic::AtomicU32::new(0);
    let drawn_now = || drawn.load(std::sync::atomic::Ordering::Relaxed);
    let all = (0..100_000).map(|n| {
        drawn.store(n + 1, std::sync::atomic::Ordering::Relaxed);
        dest(n)
    });
    let mut seen = 0;
    let mut done = 0;
    for datagram in message.answer(Answer::Dests(Box::new(all))) {
        assert!(datagram.len() <= DATAGRAM_SIZE);
        for (kind, payload) in replies(&datagram) {
            match kind {
                FAMILY_ID => {
                    let address: [u8; 4] = payload[12..16].try_into().unwrap();
                    assert_eq!(u32::from_be_bytes(address), seen);
                    seen += 1;
                }
                NLMSG_DONE => done += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!(drawn_now(), seen, "no more is drawn than is sent");
    }
    assert_eq!((seen, done), (100_000, 1));
    let empty = message.answer(Answer::Dests(Box::new(iter::empty())));
    assert_eq!(empty.map(|datagram| datagram.len()).collect::<Vec<_>>(), [20]);
}

/// The longest objects there can be keep to the room reserved for one.
#[test]
fn the_longest_objects_fit() {
    let key = ServiceKey::Address { protocol: 6, address: "::".parse().unwrap(), port: 80 };
    let service = Service {
        key,
        scheduler: name("sixteen letters!"),
        persistence_engine: Some(name("sixteen letters!")),
        flags: ServiceFlags::default(),
        timeout: 0,
        netmask: Netmask::Inet6(128),
        stats: Stats::default(),
    };
    let all = answers(&Request::GetService { service: key }, 0, Answer::Service(Box::new(service)));
    assert!(all[0].len() <= 512, "{}", all[0].len());
}

/// The messages of a datagram of replies: type and what follows the header.
fn replies(datagram: &[u8]) -> Vec<(u16, &[u8])> {
    let mut rest = datagram;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
        all.push((u16::from_ne_bytes([rest[4], rest[5]]), &rest[16..length]));
        rest = &rest[length.next_multiple_of(4)..];
    }
    all
}

/// The tables that name attributes stand in the order of their numbers.
#[test]
fn attributes_have_their_numbers() {
    fn named<const N: usize>(policy: &Policy<N>, expected: &[(u16, &str)]) {
        assert!(matches!(policy.attributes[0].1, Kind::Any));
        for (number, name) in expected {
            let (known, _) = policy.attributes[usize::from(*number)];
            assert!(known.ends_with(name), "{known} is not {name}");
        }
    }
    named(&crate::service::SERVICE, &[(SVC_ATTR_FWMARK, "FWMARK"), (SVC_ATTR_STATS64, "STATS64")]);
    named(&crate::dest::DEST, &[(DEST_ATTR_STATS64, "STATS64"), (DEST_ATTR_TUN_FLAGS, "TUN_FLAGS")]);
    named(&crate::daemon::DAEMON, &[(DAEMON_ATTR_MCAST_TTL, "MCAST_TTL")]);
}
