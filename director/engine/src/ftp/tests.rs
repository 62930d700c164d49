//! Both streams of a control connection between two hosts that send, lose and repeat segments of any size.

use std::net::Ipv4Addr;

use director_packet::tcp::Edge;
use director_packet::tcp_flag::{ACK, FIN, SYN};

use super::control::{Control, Expected, Segment, Text};
use crate::reason::Reason;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const FIRST: u32 = 0xffff_ff00;
const ROOM: usize = 1460;

fn vip(port: u16) -> Text {
    Text::of(Ipv4Addr::new(192, 168, 18, 58), port)
}

/// What the client is told: the server's own address becomes the virtual service's.
fn told(expected: Expected) -> Result<Option<Text>, Reason> {
    Ok(match expected {
        Expected::FromClient(Some(SERVER), port) => Some(vip(port)),
        _ => None,
    })
}

/// A connection on which so many PASV and EPSV were asked for, with all that was expected.
fn asked(commands: &[u8]) -> Control {
    let mut control = Control::new(true);
    let open = Segment { sequence: 99, flags: SYN, payload: &[], opens: true };
    assert_eq!(control.client_sends(&open, |_| Ok(())), Ok(()));
    let segment = Segment { sequence: 100, flags: ACK, payload: commands, opens: false };
    assert_eq!(control.client_sends(&segment, |_| Ok(())), Ok(()));
    let answer = Segment { sequence: FIRST - 1, flags: SYN | ACK, payload: &[], opens: true };
    let sent = control.server_sends(&answer, ROOM, told).unwrap();
    assert_eq!((sent.sequence, sent.head), (FIRST - 1, 0));
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
    let segment = Segment { sequence: FIRST, flags: ACK, payload, opens: false };
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
    let segment = Segment { sequence: next, flags: ACK, payload: b"226 x\r\n", opens: false };
    assert_eq!(control.server_sends(&segment, ROOM, told).unwrap().sequence, end);
}

#[test]
fn what_is_ahead_is_refused() {
    let mut control = asked(b"");
    let ahead = Segment { sequence: FIRST.wrapping_add(1), flags: ACK, payload: b"x", opens: false };
    assert_eq!(control.server_sends(&ahead, ROOM, told), Err(Reason::FtpOutOfOrder));
    let ahead = Segment { sequence: 101, flags: ACK, payload: b"x", opens: false };
    assert_eq!(control.client_sends(&ahead, |_| Ok(())), Err(Reason::FtpOutOfOrder));
    let probe = Segment { sequence: FIRST.wrapping_add(1), flags: ACK, payload: b"", opens: false };
    assert!(control.server_sends(&probe, ROOM, told).is_ok());
}

#[test]
fn what_cannot_be_expected_changes_nothing() {
    let mut control = asked(b"");
    let segment = Segment { sequence: 100, flags: ACK, payload: b"PORT 1,2,3,4,5,6\r\n", opens: false };
    assert_eq!(control.client_sends(&segment, |_| Err(Reason::TableFull)), Err(Reason::TableFull));
    let mut ports = Vec::new();
    let again = control.client_sends(&segment, |expected| {
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
        let is_whole = line.ends_with('\n') && !line.contains(",9)");
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
            let segment = Segment { sequence, flags, payload, opens: false };
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
        let mut control = Control::new(true);
        let open = Segment { sequence: 99, flags: SYN, payload: &[], opens: true };
        let mut found = Vec::new();
        control.client_sends(&open, |_| Ok(())).unwrap();
        let mut read = 0;
        let mut chosen = steps.iter().copied();
        while read < stream.len() {
            let (size, back) = chosen.next().unwrap_or((255, 0));
            let from = read - usize::from(back).min(read);
            let end = (from + usize::from(size)).min(stream.len());
            let sequence = 100 + from as u32;
            let segment = Segment { sequence, flags: ACK, payload: &stream[from..end], opens: false };
            let expect = |expected| {
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
            let segment = Segment { sequence, flags: ACK, payload, opens: false };
            let sent = control.server_sends(&segment, ROOM, told).unwrap();
            let number = receiver.take(sent.sequence, &bytes(payload, &sent), false).unwrap();
            control.acknowledge(number);
            assert_eq!(control.as_received(Edge::End, number), FIRST.wrapping_add(from), "{size}");
        }
        let seen = String::from_utf8(receiver.stream).unwrap();
        assert_eq!(seen, expected(std::str::from_utf8(stream).unwrap()));
    }
}
