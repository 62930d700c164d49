//! Fragments are kept until their packet is complete. It then goes the way of any packet, and leaves in parts again.

use director_packet::ethernet::HEADER;
use director_packet::fragment::{Fragment, v6};
use director_packet::ipv6::DESTINATION_OPTIONS;
use director_packet::{Address, Endpoint, ICMP, ICMPV6, SCTP, TCP, UDP, icmp, ipv6, is_ipsec, parse};

use super::{BURST, Core, Frames, Lane, Moment, Verdict, Worker};
use crate::fragments::{Added, Arrival, Ticket, Whole};
use crate::reason::Reason;
use director_flow::Tick;

/// Protocols above IP, other than a transport, in which a packet may still belong to a connection: an ICMP error is
/// about one, and destination options come before the transport.
const ABOVE: [u8; 3] = [ICMP, ICMPV6, DESTINATION_OPTIONS];

/// A part of a packet that was put together, or is split.
pub struct Part<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// The port it came in on.
    pub port: u8,
    /// What becomes of it: never [`Verdict::Keep`] or a verdict with an MTU.
    pub verdict: Verdict,
    /// The virtual service it was for; none for a server's packet.
    pub service: Option<Endpoint>,
    /// Whether it stands for a frame that was received. False for further parts of a frame that was too long.
    pub is_received: bool,
}

/// What a worker needs for fragments.
pub(super) struct Reassembly {
    /// Packets that became complete with a frame of the last burst.
    complete: [Ticket; BURST],
    count: usize,
    /// None while the core decides about the packet.
    whole: Option<Whole>,
    /// What becomes of its parts, how many bytes they may have, and which virtual service they are for.
    verdict: Verdict,
    mtu: u16,
    service: Option<Endpoint>,
}

impl Reassembly {
    pub(super) fn new() -> Self {
        Self {
            complete: [Ticket::NONE; BURST],
            count: 0,
            whole: Some(Whole::new()),
            verdict: Verdict::Keep,
            mtu: u16::MAX,
            service: None,
        }
    }

    /// Sets what becomes of the parts.
    fn send(&mut self, verdict: Verdict, service: Option<Endpoint>) {
        self.service = service;
        (self.verdict, self.mtu) = match verdict {
            Verdict::SendSplit(port, mtu) => (Verdict::Send(port), mtu),
            Verdict::HoldSplit(way, mtu) => (Verdict::Hold(way), mtu),
            other => (other, u16::MAX),
        };
    }
}

/// A packet that was put together, as a burst of one.
struct One<'a>(&'a mut Whole);

impl Frames for One<'_> {
    fn count(&self) -> usize {
        1
    }

    fn head(&mut self, _: usize) -> &mut [u8] {
        self.0.frame()
    }

    fn length(&self, _: usize) -> usize {
        self.0.length()
    }

    fn longest(&self, _: usize, _: u16) -> u16 {
        self.0.longest()
    }

    fn prepend(&mut self, _: usize, count: usize) -> bool {
        self.0.prepend(count)
    }
}

impl Moment<'_> {
    /// The verdict on a packet that was put together: no part of it may be longer than the MTU of the way on. A part
    /// can be too long although no fragment was: where only the first fragment had options, the others get as many
    /// bytes of "no operation", as in Linux.
    fn bounded(&self, verdict: Verdict) -> Verdict {
        let port = match verdict {
            Verdict::Send(port) => port,
            Verdict::Hold(way) => self.shared.adjacencies.link(way).port,
            other => return other,
        };
        self.snapshot.ports.get(usize::from(port)).map_or(verdict, |port| verdict.split(port.mtu))
    }
}

impl Core {
    /// A fragment. It is kept only if it can belong to a connection.
    #[cold]
    pub(super) fn fragment(&mut self, moment: &Moment<'_>, at: usize, frames: &mut impl Frames) -> Verdict {
        let head = frames.head(at);
        let Some(fragment) = head.get(HEADER..).and_then(Fragment::read) else { return Verdict::Kernel };
        let Fragment { source, destination, protocol, .. } = fragment;
        if !Self::is_ours(moment, source, destination, protocol) {
            return Verdict::Kernel;
        }
        if fragment.is_too_short() {
            return Verdict::Drop(Reason::FragmentMalformed);
        }
        let Reassembly { complete, count, .. } = &mut self.reassembly;
        let Some(place) = complete.get_mut(*count) else {
            return Verdict::Drop(Reason::FragmentTableFull);
        };
        let arrival = Arrival::new(head, fragment, moment.port_number, moment.now);
        let data = HEADER + usize::from(fragment.header);
        match moment.shared.fragments.add(&arrival, |from, bytes| frames.read(at, data + from, bytes)) {
            Added::Kept => Verdict::Keep,
            Added::Complete(ticket) => {
                *place = ticket;
                *count += 1;
                Verdict::Keep
            }
            Added::Refused(reason) => Verdict::Drop(reason),
        }
    }

    /// Whether a packet can belong to a connection, as far as that is known without its ports: a packet to a virtual
    /// service's address, one from a real server's address, or ICMP from anybody to anybody.
    fn is_ours(moment: &Moment<'_>, source: Address, destination: Address, protocol: u8) -> bool {
        let (snapshot, servers) = (moment.snapshot, &moment.shared.servers);
        if snapshot.is_off(matches!(destination, Address::V6(_))) {
            return false;
        }
        let protocol = if is_ipsec(protocol) { UDP } else { protocol };
        let has_service = |protocol| snapshot.has_service_on(destination, protocol);
        if snapshot.is_local(destination) {
            has_service(protocol)
                || ABOVE.contains(&protocol) && [TCP, UDP, SCTP].into_iter().any(has_service)
                || servers.may_have_hairpins() && servers.may_have(source)
        } else {
            [ICMP, ICMPV6].contains(&protocol) || servers.may_have(source)
        }
    }

    /// Takes off the fragment header of a whole IPv6 packet (RFC 6946), as the kernel's reassembly does before IPVS
    /// sees it. False: there is none, or the packet is not ours.
    #[cold]
    pub(super) fn take_off_fragment_header(
        &mut self,
        moment: &Moment<'_>,
        at: usize,
        frames: &mut impl Frames,
    ) -> bool {
        let length = frames.length(at);
        // A packet that was put together keeps its headers, behind which it is cut again.
        if frames.head(at).len() != length || !frames.resize(at, length) {
            return false;
        }
        let frame = frames.head(at);
        let Some(packet) = frame.get_mut(HEADER..) else { return false };
        let (Some((source, destination)), Some(upper)) = (icmp::ends(packet), ipv6::upper(packet)) else {
            return false;
        };
        if !Self::is_ours(moment, source, destination, upper.protocol) || !v6::take_off_header(packet) {
            return false;
        }
        // If the frame cannot be made shorter, the rest is padding.
        frames.resize(at, length - ipv6::FRAGMENT_HEADER);
        true
    }

    /// Decides about a packet that was put together.
    fn whole(&mut self, moment: &Moment<'_>, whole: &mut Whole) -> Verdict {
        let length = whole.length();
        let parsed = parse(whole.frame(), length, moment.port.mac);
        let mut frames = One(whole);
        match parsed {
            director_packet::Verdict::Segment(segment) if !moment.snapshot.is_off(segment.source.is_v6()) => {
                let longest = frames.longest(0, segment.length);
                let lane = Lane { longest, ..Lane::new(moment.snapshot, 0, segment) };
                self.segment(moment, &lane, &mut frames)
            }
            // It is no longer a fragment.
            director_packet::Verdict::Fragment { .. } => Verdict::Kernel,
            other => self.not_a_segment(moment, 0, other, &mut frames),
        }
    }
}

impl Worker {
    /// Decides about the next packet that a fragment of the last burst completed. [`Self::next_part`] then gives its
    /// parts, and [`Self::replies`] has one more ICMP error if one is to be sent. False: there is none left. To be
    /// called after the verdicts of the burst were carried out.
    pub fn reassemble(&mut self, now: Tick, milliseconds: u32) -> bool {
        let Self { table, table_v6, shared, snapshot, core, .. } = self;
        let Some(last) = core.reassembly.count.checked_sub(1) else { return false };
        // Taken out while the core decides about the packet in it.
        let Some(mut whole) = core.reassembly.whole.take() else { return false };
        // The oldest first; there is rarely more than one.
        core.reassembly.complete.get_mut(..=last).unwrap_or_default().rotate_left(1);
        core.reassembly.count = last;
        shared
            .fragments
            .take(core.reassembly.complete.get(last).copied().unwrap_or(Ticket::NONE), &mut whole);
        let snapshot = snapshot.load();
        let port_number = whole.port();
        core.held[0] = None;
        let verdict = match (whole.fault(), snapshot.ports.get(usize::from(port_number))) {
            (Some(reason), _) => Verdict::Drop(reason),
            (None, None) => Verdict::Drop(Reason::PortDown),
            (None, Some(port)) => {
                let moment =
                    Moment { now, milliseconds, port, port_number, snapshot, table, table_v6, shared };
                let verdict = core.whole(&moment, &mut whole);
                moment.bounded(verdict)
            }
        };
        core.reassembly.whole = Some(whole);
        core.reassembly.send(verdict, core.held[0]);
        true
    }

    /// Takes up a frame of the last burst that its verdict says to send in fragments; [`Self::next_part`] gives them.
    /// `read` copies the frame, of `length` bytes, and says whether it could.
    pub fn split(
        &mut self,
        at: usize,
        port: u8,
        verdict: Verdict,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> bool,
    ) {
        let service = self.held_for(at);
        let reassembly = &mut self.core.reassembly;
        let is_loaded = reassembly.whole.as_mut().is_some_and(|whole| whole.load(port, length, read));
        reassembly.send(if is_loaded { verdict } else { Verdict::Drop(Reason::ScatteredHeaders) }, service);
    }

    /// The next part of the packet that [`Self::reassemble`] or [`Self::split`] took up.
    pub fn next_part(&mut self) -> Option<Part<'_>> {
        let Reassembly { whole, verdict, mtu, service, .. } = &mut self.core.reassembly;
        let (frame, port, is_received) = whole.as_mut()?.next_part(*mtu)?;
        Some(Part { frame, port, verdict: *verdict, service: *service, is_received })
    }
}
