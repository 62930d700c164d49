//! Fragments by themselves: what is kept, for how long, and what comes out.

use director_flow::Tick;
use director_packet::ethernet::HEADER;
use director_packet::fragment::{Fragment, MAX_FRAME, cut, v6};
use etherparse::{IpHeaders, IpNumber, Ipv4Header, PacketBuilder};

use super::shard::{DATAGRAMS, PIECE, PIECES};
use super::{Added, Arrival, Fragments, SHARDS, Whole};
use crate::reason::Reason;

const START: Tick = Tick(5);

/// The frame of a datagram from one of many hosts.
fn frame(host: u16, identification: u16, data: usize) -> Vec<u8> {
    let [high, low] = host.to_be_bytes();
    let mut ip = Ipv4Header::new(0, 64, IpNumber::UDP, [10, 0, high, low], [10, 9, 9, 9]).unwrap();
    (ip.identification, ip.dont_fragment) = (identification, false);
    let payload: Vec<u8> = (8..data).map(|at| (at ^ at >> 8) as u8).collect();
    let mut frame = Vec::new();
    let start = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(IpHeaders::Ipv4(ip, Default::default()));
    start.udp(5, 6).write(&mut frame, &payload).unwrap();
    frame
}

/// Bytes `from..to` of the data of a packet, as a fragment.
fn part(frame: &[u8], from: usize, to: usize) -> Vec<u8> {
    let mut out = Box::new([0; MAX_FRAME]);
    let length = cut(frame, 20, from..to, &mut out);
    out[..length].to_vec()
}

/// As [`frame`], of IPv6 and behind hop-by-hop options; and a fragment of it.
fn frame_v6(host: u16, data: usize) -> Vec<u8> {
    let payload: Vec<u8> = (8..data).map(|at| (at ^ at >> 8) as u8).collect();
    let mut source = [0x20; 16];
    source[14..].copy_from_slice(&host.to_be_bytes());
    let mut frame = Vec::new();
    let start = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6(source, [0xfd; 16], 64);
    start.udp(5, 6).write(&mut frame, &payload).unwrap();
    frame[20] = 0;
    frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame
}

fn part_v6(frame: &[u8], identification: u32, from: usize, to: usize) -> Vec<u8> {
    let mut out = Box::new([0; MAX_FRAME]);
    let length = v6::cut(frame, 48, identification, from..to, &mut out);
    out[..length].to_vec()
}

fn add_at(fragments: &Fragments, part: &[u8], port: u8, now: Tick) -> Added {
    let fragment = Fragment::read(&part[HEADER..]).unwrap();
    let arrival = Arrival::new(part, fragment, port, now);
    let data = &part[HEADER + usize::from(fragment.header)..];
    fragments.add(&arrival, |from, bytes| {
        let found = data.get(from..from + bytes.len());
        found.map(|found| bytes.copy_from_slice(found)).is_some()
    })
}

fn add(fragments: &Fragments, part: &[u8]) -> Added {
    add_at(fragments, part, 0, START)
}

fn taken(fragments: &Fragments, added: Added) -> Whole {
    let Added::Complete(ticket) = added else { panic!("{added:?}") };
    let mut whole = Whole::new();
    fragments.take(ticket, &mut whole);
    whole
}

fn parts(whole: &mut Whole, mtu: u16) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some((frame, ..)) = whole.next_part(mtu) {
        parts.push(frame.to_vec());
    }
    parts
}

fn losses(fragments: &Fragments) -> Vec<(u8, &'static str, u64)> {
    let mut losses = Vec::new();
    fragments.take_losses(|port, reason, count| losses.push((port, reason.name(), count)));
    losses
}

/// Free packets and pieces of all tables.
fn room(fragments: &Fragments) -> (usize, usize) {
    let rooms = fragments.shards.iter().map(|shard| shard.lock().room());
    rooms.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
}

const ALL_FREE: (usize, usize) = (2 * SHARDS * DATAGRAMS, 2 * SHARDS * PIECES);

/// Cuts data of this length at random places; returns the ranges.
fn cuts_of(data: usize, cuts: &[u16]) -> Vec<(usize, usize)> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| usize::from(*cut) % data / 8 * 8).collect();
    ends.extend([8, data]);
    ends.retain(|end| *end > 0);
    ends.sort_unstable();
    ends.dedup();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends.iter().copied()).collect()
}

/// All fragments of a packet come in any order, with duplicates in between: the packet comes out as it was, and then
/// the same fragments in order.
fn comes_out(fragments: &Fragments, frame: &[u8], sent: &[Vec<u8>], order: &[u16]) {
    let mut shuffled: Vec<_> = (0..sent.len()).collect();
    for (at, other) in order.iter().enumerate() {
        shuffled.swap(at % sent.len(), usize::from(*other) % sent.len());
    }
    let (last, others) = shuffled.split_last().unwrap();
    for at in others {
        assert_eq!(add(fragments, &sent[*at]), Added::Kept);
        assert_eq!(add(fragments, &sent[*at]), Added::Refused(Reason::FragmentDuplicate));
    }
    let added = add(fragments, &sent[*last]);
    let mut whole = taken(fragments, added);
    let longest = sent.iter().map(Vec::len).max().unwrap() - HEADER;
    assert_eq!((whole.fault(), usize::from(whole.longest())), (None, longest));
    assert_eq!(whole.frame(), frame);
    assert_eq!(parts(&mut whole, u16::MAX), sent);
    assert_eq!(room(fragments), ALL_FREE);
}

#[test]
fn any_cuts_in_any_order() {
    let fragments = Fragments::new();
    bolero::check!().with_type::<(u16, Vec<u16>, Vec<u16>, u16)>().for_each(|(length, cuts, order, id)| {
        let frame = frame(1, *id, 16 + usize::from(*length) % 9_000);
        let cuts = cuts_of(frame.len() - HEADER - 20, cuts);
        let sent: Vec<_> = cuts.iter().map(|&(from, to)| part(&frame, from, to)).collect();
        comes_out(&fragments, &frame, &sent, order);
    });
    assert_eq!(losses(&fragments), []);
}

/// The fragment header of IPv6 is taken off, and put back.
#[test]
fn any_cuts_of_ipv6() {
    let fragments = Fragments::new();
    bolero::check!().with_type::<(u16, Vec<u16>, Vec<u16>, u32)>().for_each(|(length, cuts, order, id)| {
        let frame = frame_v6(1, 16 + usize::from(*length) % 9_000);
        let cuts = cuts_of(frame.len() - HEADER - 48, cuts);
        let sent: Vec<_> = cuts.iter().map(|&(from, to)| part_v6(&frame, *id, from, to)).collect();
        comes_out(&fragments, &frame, &sent, order);
    });
    assert_eq!(losses(&fragments), []);
}

/// In IPv6 the first fragment is shown with its fragment header.
#[test]
fn the_first_fragment_of_ipv6() {
    let fragments = Fragments::new();
    let frame = frame_v6(1, 3_000);
    let first = part_v6(&frame, 0x1234_5678, 0, 1_448);
    add_at(&fragments, &first, 3, START);
    let mut shown = Vec::new();
    fragments.expire(START.plus(600), |first| shown.push((first.port(), first.frame(usize::MAX))));
    assert_eq!(shown, [(3, first)]);
}

#[test]
fn what_ipv6_has_otherwise() {
    let fragments = Fragments::new();
    let frame = frame_v6(1, 3_000);
    // It waits twice as long as IPv4's; those are not kept longer because of it.
    assert_eq!(add(&fragments, &part_v6(&frame, 7, 0, 800)), Added::Kept);
    assert_eq!(add(&fragments, &part(&self::frame(1, 7, 3_000), 0, 800)), Added::Kept);
    fragments.expire(Tick(START.0 + 300), |_| ());
    assert_eq!(losses(&fragments), [(0, "fragment_timeout", 1)]);
    fragments.expire(Tick(START.0 + 599), |_| ());
    assert_eq!(losses(&fragments), []);
    fragments.expire(Tick(START.0 + 600), |_| ());
    assert_eq!(losses(&fragments), [(0, "fragment_timeout", 1)]);
    // An end within a unit, with more to come.
    assert_eq!(add(&fragments, &part_v6(&frame, 8, 0, 800)), Added::Kept);
    let mut odd = part_v6(&frame, 8, 800, 1_600);
    odd.truncate(odd.len() - 3);
    odd[19] -= 3;
    assert_eq!(add(&fragments, &odd), Added::Refused(Reason::FragmentMalformed));
    assert_eq!(losses(&fragments), [(0, "fragment_malformed", 1)]);
    // Fragments may tell of different headers behind theirs.
    assert_eq!(add(&fragments, &part_v6(&frame, 9, 0, 800)), Added::Kept);
    let mut last = part_v6(&frame, 9, 800, 3_000);
    last[HEADER + 48] = 6;
    let added = add(&fragments, &last);
    assert_eq!(taken(&fragments, added).frame(), &mut frame.clone()[..]);
    assert_eq!(room(&fragments), ALL_FREE);
}

/// Any fragments at all, of two packets: what is put together never has more than a plain model says, and every
/// fragment is accounted for.
#[test]
fn any_fragments_against_a_model() {
    /// A packet as bytes.
    #[derive(Default)]
    struct Model {
        bytes: std::collections::BTreeMap<usize, u8>,
        end: Option<usize>,
        fragments: u64,
    }
    let fragments = Fragments::new();
    bolero::check!().with_type::<Vec<(bool, u8, u8, bool, u8)>>().for_each(|arrivals| {
        let mut models = [Model::default(), Model::default()];
        let mut given_up = 0;
        for (which, offset, length, more, fill) in arrivals {
            let (model, start) = (&mut models[usize::from(*which)], usize::from(*offset % 8) * 8);
            let length = usize::from(*length % 40);
            let mut bytes = frame(0, u16::from(*which), 8);
            bytes.truncate(HEADER + 20);
            bytes.extend(vec![*fill; length]);
            let field = (start / 8) as u16 | if *more { 0x2000 } else { 0 };
            if field == 0 {
                continue; // No fragment.
            }
            bytes[16..18].copy_from_slice(&(20 + length as u16).to_be_bytes());
            bytes[20..22].copy_from_slice(&field.to_be_bytes());
            let length = if *more { length / 8 * 8 } else { length };
            let range = start..start + length;
            let last = model.bytes.keys().next_back().map_or(0, |at| at + 1);
            let contradicts = match (model.end, *more) {
                (Some(end), true) => range.end > end,
                (Some(end), false) => range.end != end,
                (None, true) => false,
                (None, false) => range.end < last,
            };
            let there = range.clone().filter(|at| model.bytes.contains_key(at)).count();
            let expected = if length == 0 || contradicts {
                Err(Reason::FragmentMalformed)
            } else if there == length {
                Err(Reason::FragmentDuplicate)
            } else if there > 0 {
                Err(Reason::FragmentOverlap)
            } else {
                Ok(())
            };
            match (add(&fragments, &bytes), expected) {
                (Added::Refused(reason), Err(expected)) => {
                    assert_eq!(reason, expected);
                    if reason != Reason::FragmentDuplicate {
                        given_up += std::mem::take(model).fragments;
                    }
                }
                (Added::Kept, Ok(())) => {
                    model.bytes.extend(range.clone().map(|at| (at, *fill)));
                    model.end = if *more { model.end } else { Some(range.end) };
                    model.fragments += 1;
                    assert!(model.end.is_none_or(|end| model.bytes.len() < end));
                }
                (added @ Added::Complete(_), Ok(())) => {
                    model.bytes.extend(range.clone().map(|at| (at, *fill)));
                    let mut whole = taken(&fragments, added);
                    let data: Vec<_> = model.bytes.values().copied().collect();
                    assert_eq!(whole.frame()[HEADER + 20..], data);
                    assert_eq!(parts(&mut whole, u16::MAX).len() as u64, model.fragments + 1);
                    *model = Model::default();
                }
                (added, expected) => panic!("{added:?}, expected {expected:?}"),
            }
        }
        let waiting: u64 = models.iter().map(|model| model.fragments).sum();
        fragments.expire(START.plus(300), |_| ());
        let lost = losses(&fragments);
        let timed_out =
            lost.iter().filter(|loss| loss.1 == "fragment_timeout").map(|loss| loss.2).sum::<u64>();
        assert_eq!(timed_out, waiting);
        assert_eq!(lost.iter().map(|loss| loss.2).sum::<u64>(), waiting + given_up);
        assert_eq!(room(&fragments), ALL_FREE);
    });
}

#[test]
fn given_up_after_half_a_minute() {
    let fragments = Fragments::new();
    let frame = frame(1, 1, 4_000);
    assert_eq!(add_at(&fragments, &part(&frame, 0, 1480), 3, START), Added::Kept);
    // What comes later does not make it wait longer.
    assert_eq!(add_at(&fragments, &part(&frame, 1480, 2960), 2, START.plus(200)), Added::Kept);
    fragments.expire(START.plus(299), |_| ());
    assert_eq!(losses(&fragments), []);
    fragments.expire(START.plus(300), |_| ());
    assert_eq!(losses(&fragments), [(2, "fragment_timeout", 1), (3, "fragment_timeout", 1)]);
    assert_eq!(room(&fragments), ALL_FREE);
    assert_eq!(
        add(&fragments, &part(&frame, 2960, 4000)),
        Added::Kept,
        "of another, as far as anybody knows"
    );
}

/// If the first fragment of a packet that is given up has come, it is shown as it came.
#[test]
fn the_first_fragment_of_what_is_given_up() {
    let fragments = Fragments::new();
    let shown = |now, most| {
        let mut shown = Vec::new();
        fragments.expire(now, |first| {
            assert_eq!(first.headers(), &first.frame(0)[..]);
            shown.push((first.port(), first.frame(most)));
        });
        shown
    };
    for (at, length) in (1..).zip([8, 504, 512, 520, 1024, 1032, 1472]) {
        let frame = frame(1, at, 4_000);
        let (first, others) =
            (part(&frame, 0, length), [part(&frame, 1480, 2960), part(&frame, 2960, 4_000)]);
        add_at(&fragments, &others[0], 2, START);
        add_at(&fragments, &first, 3, START);
        add_at(&fragments, &others[1], 4, START);
        let most = 548;
        let expected = first[..(HEADER + 20 + most).min(first.len())].to_vec();
        assert_eq!(shown(START.plus(300), most), [(3, expected)], "{length}");
        for other in &others {
            add_at(&fragments, other, 2, START);
        }
        assert_eq!(shown(START.plus(300), most), [], "without it nothing is shown");
    }
}

/// However many packets are begun, or how much of each comes, memory stays the same, the latest can be completed, and
/// every fragment is accounted for.
#[test]
fn a_flood_of_first_fragments() {
    let fragments = Fragments::new();
    for (length, floods) in [(16, 20_000), (9_000, 3_000)] {
        let mut kept = 0;
        for host in 0..floods {
            let flood = frame(host, 1, length + 8);
            assert_eq!(add(&fragments, &part(&flood, 0, length)), Added::Kept);
            kept += 1;
        }
        let latest = frame(7, 99, 3_000);
        assert_eq!(add(&fragments, &part(&latest, 1480, 2960)), Added::Kept);
        assert_eq!(add(&fragments, &part(&latest, 2960, 3000)), Added::Kept);
        let added = add(&fragments, &part(&latest, 0, 1480));
        assert_eq!(taken(&fragments, added).frame(), latest);
        let full: u64 = losses(&fragments).iter().map(|loss| loss.2).sum();
        fragments.expire(START.plus(300), |_| ());
        let late: u64 = losses(&fragments).iter().map(|loss| loss.2).sum();
        assert!(full > 0 && late > 0 && late <= (SHARDS * DATAGRAMS) as u64);
        assert_eq!(full + late, kept);
        assert_eq!(room(&fragments), ALL_FREE);
    }
}

/// A packet of more fragments than there is memory for is given up itself.
#[test]
fn a_packet_in_too_many_pieces() {
    let fragments = Fragments::new();
    let frame = frame(1, 1, 65_000);
    for at in 0..PIECES {
        assert_eq!(add(&fragments, &part(&frame, at * 8, at * 8 + 8)), Added::Kept);
    }
    let next = part(&frame, PIECES * 8, PIECES * 8 + 8);
    assert_eq!(add(&fragments, &next), Added::Refused(Reason::FragmentTableFull));
    assert_eq!(losses(&fragments), [(0, "fragment_table_full", PIECES as u64)]);
    assert_eq!(room(&fragments), ALL_FREE);
}

#[test]
fn the_longest_packet() {
    let fragments = Fragments::new();
    let longest = frame(1, 1, 65_515);
    for at in 0..63 {
        let added = add(&fragments, &part(&longest, at * 1024, (at + 1) * 1024));
        assert_eq!(added, Added::Kept);
    }
    let added = add(&fragments, &part(&longest, 63 * 1024, 65_515));
    let mut whole = taken(&fragments, added);
    assert_eq!((whole.fault(), whole.frame()), (None, &mut longest.clone()[..]));
    // A byte more than a packet can have, as the "ping of death" had it.
    let mut beyond = part(&longest, 65_512, 65_515);
    beyond[16..18].copy_from_slice(&24_u16.to_be_bytes());
    beyond.push(0);
    assert_eq!(add(&fragments, &beyond), Added::Refused(Reason::FragmentMalformed));
    assert_eq!(room(&fragments), ALL_FREE);
}

/// The options of a first fragment make the whole longer than the other fragments suggest.
#[test]
fn too_long_with_its_options() {
    let fragments = Fragments::new();
    let longest = frame(1, 1, 65_515);
    let mut first = part(&longest, 0, 64_000);
    first.splice(34..34, [1; 4]);
    first[14] = 0x46;
    first[16..18].copy_from_slice(&64_024_u16.to_be_bytes());
    assert_eq!(add(&fragments, &first), Added::Kept);
    let added = add(&fragments, &part(&longest, 64_000, 65_515));
    let mut whole = taken(&fragments, added);
    assert_eq!(whole.fault(), Some(Reason::FragmentMalformed));
    assert_eq!(parts(&mut whole, u16::MAX).len(), 2, "each is to be counted");
}

#[test]
fn congestion_is_passed_on() {
    let fragments = Fragments::new();
    let mut number = 0;
    let mut both = |first: u8, second: u8| {
        number += 1;
        let frame = frame(1, number, 3_000);
        let (mut one, mut other) = (part(&frame, 0, 1480), part(&frame, 1480, 3000));
        (one[15], other[15]) = (first, second);
        assert_eq!(add(&fragments, &one), Added::Kept);
        let added = add(&fragments, &other);
        let mut whole = taken(&fragments, added);
        whole.fault().map_or(Ok(whole.frame()[15]), Err)
    };
    assert_eq!(both(0x10, 0x10), Ok(0x10));
    assert_eq!(both(2, 3), Ok(3));
    assert_eq!(both(3, 1), Ok(3));
    assert_eq!(both(2, 1), Ok(2));
    assert_eq!(both(0, 3), Err(Reason::FragmentMalformed));
    assert_eq!(both(2, 0), Err(Reason::FragmentMalformed));
}

#[test]
fn what_cannot_be_read_is_not_kept() {
    let fragments = Fragments::new();
    let frame = frame(1, 1, 4_000);
    let part = part(&frame, 0, 4 * PIECE);
    let fragment = Fragment::read(&part[HEADER..]).unwrap();
    let arrival = Arrival::new(&part, fragment, 0, START);
    for readable in [0, 1, 3] {
        let added = fragments.add(&arrival, |from, _| from < readable * PIECE);
        assert_eq!(added, Added::Refused(Reason::ScatteredHeaders));
        assert_eq!(room(&fragments), ALL_FREE);
    }
    assert_eq!(losses(&fragments), []);
}

/// Workers add the fragments of the same packets, all mixed: each packet comes out once.
#[test]
fn several_workers_share_the_work() {
    const PACKETS: u16 = 300;
    let fragments = Fragments::new();
    let complete = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..3_usize {
            let (fragments, complete) = (&fragments, &complete);
            scope.spawn(move || {
                for number in 0..PACKETS {
                    let frame = frame(number % 5, number, 4_400);
                    let from = (worker + usize::from(number)) % 3 * 1480;
                    let added = add(fragments, &part(&frame, from, (from + 1480).min(4_400)));
                    if added != Added::Kept {
                        assert_eq!(taken(fragments, added).frame(), frame);
                        complete.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(complete.into_inner(), usize::from(PACKETS));
    assert_eq!((losses(&fragments), room(&fragments)), (Vec::new(), ALL_FREE));
}
