//! Both streams of a control connection between two hosts that send, lose and repeat segments of any size.

use std::net::Ipv4Addr;

use director_packet::tcp::Edge;
use director_packet::tcp_flag::{ACK, FIN, SYN};

use super::Ftp;
use super::control::{Control, Expected, Segment, Text};
use crate::reason::Reason;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const FIRST: u32 = 0xffff_ff00;
const ROOM: usize = 1460;

fn vip(port: u16) -> Text {
    Text::of(Ipv4Addr::new(192, 168, 18, 58), port)
}

/// What the client is told: the server's own address becomes the virtual service's.
fn told(expected: Expected, _: Option<Expected>) -> Result<Option<Text>, Reason> {
    Ok(match expected {
        Expected::FromClient(Some(SERVER), port) => Some(vip(port)),
        _ => None,
    })
}

/// A segment that counts, and says nothing.
const HEARD: Segment<'static> =
    Segment { sequence: 0, flags: ACK, payload: &[], acknowledged: None, is_heard: true };

/// The server accepts a connection; what number the client is given.
fn accept(control: &mut Control, sequence: u32, client: u32) -> u32 {
    let answer = Segment { sequence, flags: SYN | ACK, payload: &[], acknowledged: Some(client), ..HEARD };
    let sent = control.server_sends(&answer, ROOM, told).unwrap();
    assert_eq!((sent.flags, sent.head, sent.text), (SYN | ACK, 0, None));
    sent.sequence
}

/// A connection of which it is known where the streams begin: the client's at 100, the server's at [`FIRST`].
fn begun() -> Control {
    let one = |sequence, other| Segment { sequence, payload: b"x", acknowledged: Some(other), ..HEARD };
    let mut by_client = Control::begin(true, &one(100, FIRST), false);
    let by_server = Control::begin(true, &one(FIRST, 100), true);
    assert_eq!(format!("{by_client:?}"), format!("{by_server:?}"));
    // Not another connection.
    assert_eq!(accept(&mut by_client, FIRST - 1, 100), FIRST - 1);
    by_client
}

/// A connection on which so many PASV and EPSV were asked for, with all that was expected.
fn asked(commands: &[u8]) -> Control {
    let mut control = begun();
    let segment = Segment { sequence: 100, payload: commands, ..HEARD };
    assert_eq!(control.client_sends(&segment, |_, _| Ok(())), Ok(()));
    control.acknowledge(FIRST);
    control
}

fn bytes(payload: &[u8], sent: &super::control::Sent) -> Vec<u8> {
    let text = sent.text.as_ref().map_or(&[][..], Text::as_bytes);
    [&payload[..sent.head], text, &payload[sent.tail.0..sent.tail.1]].concat()
}

#[test]
fn the_recorded_answer() {
    let mut control = asked(b"PASV\r\n");
    let payload = b"227 Entering Passive Mode (10,0,0,7,195,80).\r\n";
    let segment = Segment { sequence: FIRST, payload, ..HEARD };
    let told_of = b"227 Entering Passive Mode (192,168,18,58,195,80).\r\n";
    // And once more, as the record says that IPVS does not.
    for _ in 0..2 {
        let sent = control.server_sends(&segment, ROOM, told).unwrap();
        assert_eq!((sent.sequence, sent.flags, bytes(payload, &sent)), (FIRST, ACK, told_of.to_vec()));
    }
    let end = FIRST.wrapping_add(told_of.len() as u32);
    control.acknowledge(end);
    assert_eq!(control.as_received(Edge::End, end), FIRST.wrapping_add(payload.len() as u32));
    assert_eq!(control.as_received(Edge::End, FIRST), FIRST);
    let next = FIRST.wrapping_add(payload.len() as u32);
    let segment = Segment { sequence: next, payload: b"226 x\r\n", ..HEARD };
    assert_eq!(control.server_sends(&segment, ROOM, told).unwrap().sequence, end);
}

#[test]
fn what_is_ahead_is_refused() {
    let mut control = asked(b"");
    let ahead = Segment { sequence: FIRST.wrapping_add(1), payload: b"x", ..HEARD };
    assert_eq!(control.server_sends(&ahead, ROOM, told), Err(Reason::FtpOutOfOrder));
    let ahead = Segment { sequence: 101, payload: b"x", ..HEARD };
    assert_eq!(control.client_sends(&ahead, |_, _| Ok(())), Err(Reason::FtpOutOfOrder));
    let probe = Segment { sequence: FIRST.wrapping_add(1), payload: b"", ..HEARD };
    assert!(control.server_sends(&probe, ROOM, told).is_ok());
    // So far ahead that nobody would send what is missing: the stream goes on there.
    let elsewhere = Segment { sequence: 5_000_000, payload: b"PASV\r\n", ..HEARD };
    assert_eq!(control.client_sends(&elsewhere, |_, _| Ok(())), Ok(()));
    let ahead = Segment { sequence: 5_000_007, payload: b"x", ..HEARD };
    assert_eq!(control.client_sends(&ahead, |_, _| Ok(())), Err(Reason::FtpOutOfOrder));
}

#[test]
fn what_cannot_be_expected_changes_nothing() {
    let mut control = asked(b"");
    let segment = Segment { sequence: 100, payload: b"PORT 1,2,3,4,5,6\r\n", ..HEARD };
    assert_eq!(control.client_sends(&segment, |_, _| Err(Reason::TableFull)), Err(Reason::TableFull));
    let mut ports = Vec::new();
    let again = control.client_sends(&segment, |expected, _| {
        ports.push(expected);
        Ok(())
    });
    assert_eq!(again, Ok(()));
    assert_eq!(ports, [Expected::FromServer("1.2.3.4".parse().unwrap(), 0x0506)]);
}

/// A sender of a stream that has no more of it on its way than it must: it begins anew at what is acknowledged, with
/// segments of other sizes.
struct Sender<'a> {
    stream: &'a [u8],
    acknowledged: usize,
    next: usize,
}

/// A receiver that keeps what it can use at once.
#[derive(Default)]
struct Receiver {
    stream: Vec<u8>,
    is_closed: bool,
}

impl Receiver {
    /// Takes a segment; gives what it acknowledges, unless there is nothing to say.
    fn take(&mut self, sequence: u32, payload: &[u8], fin: bool) -> Option<u32> {
        let expected = FIRST.wrapping_add(self.stream.len() as u32 + u32::from(self.is_closed));
        let skip = expected.wrapping_sub(sequence) as i32;
        if skip >= 0 {
            let fresh = payload.get(skip as usize..).unwrap_or_default();
            assert!(!self.is_closed || fresh.is_empty());
            self.stream.extend(fresh);
            let end = FIRST.wrapping_add(self.stream.len() as u32);
            self.is_closed |= fin && sequence.wrapping_add(payload.len() as u32) == end;
        }
        let is_probe = sequence != expected;
        let says = !payload.is_empty() || fin || is_probe;
        says.then(|| FIRST.wrapping_add(self.stream.len() as u32 + u32::from(self.is_closed)))
    }
}

const LINES: [&str; 9] = [
    "220 hello\r\n",
    "227 Entering Passive Mode (10,0,0,7,195,80).\r\n",
    "227 10,0,0,7,1,1\r\n",
    "227 (10,0,0,8,1,1)\r\n",
    "227 (10,0,0,7,1,1,9)\r\n",
    "227-(10,0,0,7,1,1)\r\n",
    "229 Entering (|||50000|)\r\n",
    "227 v1 (10,0,0,7,200,200)\r\n",
    "227 (10,0,0,7,9",
];

/// What the client is to see of a stream.
fn expected(stream: &str) -> String {
    let lines = stream.split_inclusive('\n').map(|line| {
        let is_whole = line.ends_with('\n');
        let is_reply = line.starts_with("227 ") && is_whole;
        if is_reply { line.replace("10,0,0,7,", "192,168,18,58,") } else { line.to_owned() }
    });
    lines.collect()
}

/// Choices: lines; then for each step the size of a segment, whether it is lost on the way to the client, whether the
/// acknowledgment is lost, and whether the sender begins anew.
#[test]
fn any_segments_make_the_same_stream() {
    type Choices = (Vec<u8>, Vec<(u8, bool, bool, bool)>, bool);
    bolero::check!().with_type::<Choices>().for_each(|(lines, steps, closes)| {
        let mut text: String =
            lines.iter().take(12).map(|line| LINES[usize::from(*line) % (LINES.len() - 1)]).collect();
        if *closes && !steps.is_empty() {
            text += LINES[LINES.len() - 1];
        }
        let text = text.as_bytes();
        let mut control = asked(&b"PASV\r\nEPSV\r\n".repeat(40));
        let mut sender = Sender { stream: text, acknowledged: 0, next: 0 };
        let mut receiver = Receiver::default();
        let total = text.len() + 1;
        // After the choices nothing is lost any more, and what is sent is all there is.
        let calm = (255, false, false, true);
        let mut calm_steps = 0;
        let mut chosen = steps.iter().take(200).copied();
        while sender.acknowledged < total {
            let step = chosen.next();
            let (size, lost, ack_lost, anew) = step.unwrap_or(calm);
            calm_steps += usize::from(step.is_none());
            assert!(calm_steps < 40, "it never ends: {} of {total}", sender.acknowledged);
            if anew || sender.next >= total {
                sender.next = sender.acknowledged;
            }
            let end = (sender.next + 1 + usize::from(size) % 60).min(text.len());
            let end = if step.is_none() { text.len() } else { end };
            let payload = sender.stream.get(sender.next..end).unwrap_or_default();
            let fin = end == text.len();
            let sequence = FIRST.wrapping_add(sender.next as u32);
            sender.next = end.max(sender.next) + usize::from(fin && sender.next <= text.len());
            let flags = ACK | if fin { FIN } else { 0 };
            let segment = Segment { sequence, flags, payload, ..HEARD };
            let sent = match control.server_sends(&segment, ROOM, told) {
                Ok(sent) => sent,
                // After a part that had to wait, and that the sender must repeat.
                Err(Reason::FtpOutOfOrder) => continue,
                Err(other) => panic!("{other:?}"),
            };
            if lost {
                continue;
            }
            let Some(number) = receiver.take(sent.sequence, &bytes(payload, &sent), sent.flags & FIN != 0)
            else {
                continue;
            };
            if ack_lost {
                continue;
            }
            control.acknowledge(number);
            let number = control.as_received(Edge::End, number).wrapping_sub(FIRST) as usize;
            assert!(number <= sender.next.max(total) && number <= total, "{number} of {total}");
            if number > sender.acknowledged {
                sender.acknowledged = number;
                sender.next = sender.next.max(number);
            }
        }
        let seen = String::from_utf8(receiver.stream).unwrap();
        assert_eq!(seen, expected(std::str::from_utf8(text).unwrap()));
        assert!(receiver.is_closed);
    });
}

/// A client's commands are found wherever they are cut, once each, and what is repeated says nothing new.
#[test]
fn any_segments_are_the_same_commands() {
    let stream = b"USER x\r\nPORT 1,2,3,4,5,6\r\nPASV\r\nEPRT |1|1.2.3.4|1543|\r\n";
    bolero::check!().with_type::<Vec<(u8, u8)>>().for_each(|steps| {
        let mut control = begun();
        let mut found = Vec::new();
        let mut read = 0;
        let mut chosen = steps.iter().copied();
        while read < stream.len() {
            let (size, back) = chosen.next().unwrap_or((255, 0));
            let from = read - usize::from(back).min(read);
            let end = (from + usize::from(size)).min(stream.len());
            let sequence = 100 + from as u32;
            let segment = Segment { sequence, payload: &stream[from..end], ..HEARD };
            let expect = |expected, _| {
                found.push(expected);
                Ok(())
            };
            control.client_sends(&segment, expect).unwrap();
            read = read.max(end);
        }
        let address = "1.2.3.4".parse().unwrap();
        assert_eq!(found, [Expected::FromServer(address, 0x0506), Expected::FromServer(address, 0x0607)]);
    });
}

/// Of a sender that waits until the last byte has arrived (Nagle) none is asked for twice.
#[test]
fn a_sender_that_waits_is_not_kept_waiting() {
    for size in 1..8 {
        let stream = b"227 Entering (10,0,0,7,195,80).\r\n227 (10,0,0,8,1,1)\r\n";
        let mut control = asked(b"PASV\r\nPASV\r\n");
        let mut receiver = Receiver::default();
        let mut from = 0;
        for payload in stream.chunks(size) {
            let sequence = FIRST.wrapping_add(from);
            from += payload.len() as u32;
            let segment = Segment { sequence, payload, ..HEARD };
            let sent = control.server_sends(&segment, ROOM, told).unwrap();
            let number = receiver.take(sent.sequence, &bytes(payload, &sent), false).unwrap();
            control.acknowledge(number);
            assert_eq!(control.as_received(Edge::End, number), FIRST.wrapping_add(from), "{size}");
        }
        let seen = String::from_utf8(receiver.stream).unwrap();
        assert_eq!(seen, expected(std::str::from_utf8(stream).unwrap()));
    }
}

/// Both ends have begun anew, with other numbers, and nobody has said that the old connection is over: nothing of that
/// counts any more. The same SYN again, or one that nobody accepts, changes nothing.
#[test]
fn another_connection_of_the_same_ends() {
    let payload = b"227 Entering Passive Mode (10,0,0,7,195,80).\r\n";
    let told_of = b"227 Entering Passive Mode (192,168,18,58,195,80).\r\n";
    let shift = (told_of.len() - payload.len()) as u32;
    let answered = |control: &mut Control, first: u32| {
        let segment = Segment { sequence: first, payload, ..HEARD };
        let sent = control.server_sends(&segment, ROOM, told).unwrap();
        assert_eq!((sent.sequence, bytes(payload, &sent)), (first, told_of.to_vec()));
    };
    let mut control = asked(b"PASV\r\n");
    answered(&mut control, FIRST);
    let end = FIRST.wrapping_add(payload.len() as u32);
    control.acknowledge(end.wrapping_add(shift));
    // Late, and a SYN of the client that the server does not take for one.
    assert_eq!(accept(&mut control, FIRST - 1, 100), FIRST - 1);
    let syn = Segment { sequence: 70_000, flags: SYN, payload: b"PASV\r\n", ..HEARD };
    assert_eq!(control.client_sends(&syn, |_, _| Ok(())), Ok(()));
    assert_eq!(control.as_received(Edge::End, end.wrapping_add(shift)), end);
    for (server, client) in [(7_000_000, 70_001), (FIRST.wrapping_sub(2_000_000), 9), (5, 0x8000_0000)] {
        assert_eq!(accept(&mut control, server, client), server);
        assert_eq!(control.as_received(Edge::End, server + 1), server + 1);
        let segment = Segment { sequence: client, payload: b"PASV\r\n", ..HEARD };
        control.client_sends(&segment, |_, _| Ok(())).unwrap();
        control.acknowledge(server + 1);
        answered(&mut control, server + 1);
        let end = server + 1 + payload.len() as u32;
        control.acknowledge(end + shift);
        assert_eq!(control.as_received(Edge::End, end + shift), end);
    }
}

/// Of one segment so many are expected, and of one connection; the oldest gives way.
#[test]
fn no_more_than_a_few_are_awaited() {
    let mut control = asked(b"");
    let mut seen = Vec::new();
    let port = |port: u16| Expected::FromServer("1.2.3.4".parse().unwrap(), port);
    let mut sequence = 100;
    let mut say = |control: &mut Control, ports: std::ops::Range<u16>| {
        let text: String = ports.map(|port| format!("PORT 1,2,3,4,1,{}\r\n", port - 256)).collect();
        let segment = Segment { sequence, payload: text.as_bytes(), ..HEARD };
        sequence += text.len() as u32;
        let expect = |expected, gone| {
            seen.push((expected, gone));
            Ok(())
        };
        control.client_sends(&segment, expect).unwrap();
        std::mem::take(&mut seen)
    };
    let first: Vec<_> = (257..261).map(|at| (port(at), None)).collect();
    assert_eq!(say(&mut control, 257..330), first, "the others are not expected");
    assert_eq!(say(&mut control, 300..301), [(port(300), Some(port(257)))]);
    assert_eq!(say(&mut control, 259..260), [(port(259), None)], "the same again");
    let more: Vec<_> = [258, 260, 300, 259].into_iter().zip(301..).collect();
    assert_eq!(
        say(&mut control, 301..320),
        more.iter().map(|(old, new)| (port(*new), Some(port(*old)))).collect::<Vec<_>>()
    );
    // 229 too.
    let ask = Segment { sequence, payload: &b"EPSV\r\n".repeat(9), ..HEARD };
    control.client_sends(&ask, |_, _| Ok(())).unwrap();
    let text = b"229 (|||1025|)\r\n229 (|||1026|)\r\n".repeat(4);
    let segment = Segment { sequence: FIRST, payload: &text, ..HEARD };
    let mut seen = Vec::new();
    let sent = control.server_sends(&segment, ROOM, |expected, gone| {
        seen.push((expected, gone));
        Ok(None)
    });
    assert_eq!(sent.map(|sent| sent.head), Ok(text.len()));
    let [odd, even] = [1025, 1026].map(|port| Expected::FromClient(None, port));
    assert_eq!(seen, [(odd, Some(port(301))), (even, Some(port(302))), (odd, None), (even, None)]);
}

/// Half of the places are for those that a server's payload asks for. Who has one needs no other; it comes back with its
/// last data connection, and if its entry ended while it was taken.
#[test]
fn places_are_given_and_come_back() {
    let ftp = Ftp::new(10);
    ftp.begin();
    let begun = Control::new(true);
    let open = |control, by_server| match ftp.has_place(control) {
        true => Ok(()),
        false => ftp.open(control, begun, by_server, || false),
    };
    for round in 0..3 {
        let results: Vec<_> = (0..6).map(|control| open(control, false)).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5, "{round}");
        assert_eq!((results[5], open(0, false)), (Err(Reason::FtpFull), Ok(())));
        assert_eq!((5..9).map(|control| open(control, true)).collect::<Vec<_>>(), [Ok(()); 4]);
        assert_eq!(ftp.open(9, begun, true, || true), Ok(()));
        assert!(ftp.with(9, |_| ()).is_none() && ftp.with(8, |_| ()).is_some());
        ftp.adopt(8, 9, true);
        assert!(ftp.is_of(8, 9) && !ftp.is_of(7, 9) && !ftp.is_of(8, 8));
        assert!(ftp.holds(8) && !ftp.holds(7) && ftp.has_unclaimed());
        (0..10).for_each(|entry| ftp.leave(entry, true));
        assert!(!ftp.has_unclaimed() && !ftp.is_of(8, 9));
    }
    assert_eq!((0..10).map(|control| open(control, true)).collect::<Vec<_>>(), [Ok(()); 10]);
}

/// Two workers with the first payloads of both directions, while the control core ends the entry: one place is taken,
/// and comes back.
#[test]
#[cfg_attr(miri, ignore = "too much for an interpreter")]
fn two_open_and_one_ends() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let ftp = Ftp::new(2);
    ftp.begin();
    for _ in 0..20_000 {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    assert_eq!(ftp.open(0, Control::new(true), true, || is_over.load(SeqCst)), Ok(()));
                });
            }
            is_over.store(true, SeqCst);
            ftp.leave(0, true);
        });
        ftp.leave(0, true);
        assert_eq!(ftp.free.lock().len(), 2);
    }
}
