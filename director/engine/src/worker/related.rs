//! ICMP errors about packets of connections: translated outside and inside.
//!
//! A router or a server that cannot deliver a translated packet quotes it as it saw it. Whoever sent the
//! packet must find in the quotation what it sent, or it cannot tell which connection is meant (RFC 5508,
//! section 4.2); without that no path MTU is ever discovered through the director. As IPVS does:
//! destination unreachable, source quench and time exceeded are translated, and all errors of ICMPv6, both ways;
//! they count as packets of the connection, and neither its state nor its timer learns of them.

use director_packet::ethernet::{HEADER, ether_type};
use director_packet::related::{NotTranslated, Related, Shown};
use director_packet::{Address, Endpoint, ICMPV6, UDP, ipv6, is_ipsec};

use super::ipsec::KEY_EXCHANGE;
use super::refusal::decrement_ttl;
use super::tables::{Made, Whose};
use super::unknown::may_be_a_client;
use super::{Core, DONT_FRAGMENT, Frames, Moment, Verdict, Way};
use crate::entry::Entry;
use crate::reason::Reason;
use crate::snapshot::FTP_DATA;
use crate::state::{Direction, State};

impl From<NotTranslated> for Reason {
    fn from(why: NotTranslated) -> Self {
        match why {
            NotTranslated::Scattered => Self::ScatteredHeaders,
            NotTranslated::Checksum => Self::IcmpChecksum,
        }
    }
}

impl Core {
    /// Translates an ICMP error about a packet of a connection. None: the frame is something else.
    #[cold]
    pub(super) fn related(
        &mut self,
        moment: &Moment<'_>,
        at: usize,
        frames: &mut impl Frames,
    ) -> Option<Verdict> {
        let frame = frames.head(at);
        if ip_kind(frame, moment)? == ether_type::IPV6 {
            let packet = frame.get(HEADER..)?;
            if ipv6::upper(packet)?.protocol != ICMPV6 || ipv6::has_wrong_options(packet) {
                return None;
            }
            self.take_off_fragment_header(moment, at, frames);
        }
        let frame = frames.head(at);
        let mut related = Related::find(frame)?;
        if moment.snapshot.is_off(matches!(related.destination, Address::V6(_))) {
            return None;
        }
        if let Some(server) = related.tunnel {
            return self.tunnel_error(moment, &related, server, frame);
        }
        // A client's error quotes what the virtual service sent it; a server's, what the client sent. Wherever it is to
        // go, the former is looked at first; to the director no server's is translated.
        let is_local = moment.snapshot.is_local(related.destination);
        let (protocol, client, other) = connection_of(&related);
        let sent = Whose { client, other, protocol, direction: Direction::In };
        let got = Whose { client: other, other: client, protocol, direction: Direction::Out };
        let mut found = self.local.find(moment, sent).map(|entry| (entry, Direction::In));
        if found.is_none() && !is_local {
            found = self.local.find(moment, got).map(|entry| (entry, Direction::Out));
        }
        let (entry, direction) = match found {
            Some(found) => found,
            // What the kernel does not forward its IPVS does not see.
            None if !is_local
                && (related.ttl <= 1
                    || !moment.snapshot.forwards(client)
                    || moment.snapshot.fib.hop(related.destination).is_none()) =>
            {
                return None;
            }
            None => match self.schedule_related(moment, &related, sent)? {
                Ok(entry) => (entry, Direction::In),
                Err(reason) => return Some(Verdict::Drop(reason)),
            },
        };
        if entry.stand_in().is_some() {
            return None;
        }
        if !is_local {
            moment.snapshot.fib.hop(related.destination)?;
            if !moment.snapshot.forwards(entry.client()) {
                return Some(Verdict::Drop(Reason::ForwardingOff));
            }
            if direction == Direction::In {
                // The kernel is about to forward it, and does what that takes, when IPVS finds whose it is.
                if related.ttl <= 1 {
                    return Some(Verdict::Drop(Reason::TtlExceeded));
                }
                decrement_ttl(frame);
                related.ttl -= 1;
            }
        }
        self.held[at] = None;
        let longest = frames.longest(at, related.length);
        if entry.forward().is_one_sided() {
            return Some(self.pass_related(moment, at, &related, entry, longest, frames));
        }
        Some(self.forward_related(moment, &related, direction, entry, longest, frames.head(at)))
    }

    /// Under `schedule_icmp`, a client's error about a connection that is not known makes an entry of it. None: it is
    /// the kernel's, as without.
    fn schedule_related<'a>(
        &mut self,
        moment: &Moment<'a>,
        related: &Related,
        whose: Whose,
    ) -> Option<Result<Entry<'a>, Reason>> {
        let snapshot = moment.snapshot;
        if !snapshot.sysctls.schedule_icmp || is_ipsec(related.protocol) {
            return None;
        }
        let client = whose.client.address();
        let service = snapshot.service(client, whose.other, whose.protocol)?;
        if !may_be_a_client(snapshot, client) {
            return Some(Err(Reason::MartianSource));
        }
        if moment.shared.drops_one(&snapshot.sysctls) {
            return Some(Err(Reason::DropPacket));
        }
        if whose.client.port() == FTP_DATA {
            return None;
        }
        // About an ICMP error no ICMP error is sent: where there is no server nobody is told.
        let made = self.insert(moment, service, whose, State::None, None);
        Some(made.map(|(Made::New(entry) | Made::Existing(entry))| entry))
    }

    fn forward_related(
        &mut self,
        moment: &Moment<'_>,
        related: &Related,
        direction: Direction,
        entry: Entry<'_>,
        longest: u16,
        frame: &mut [u8],
    ) -> Verdict {
        if let Err(why) = related.verify(frame) {
            return Verdict::Drop(why.into());
        }
        let way = match direction {
            Direction::In => Way::of(moment, entry, direction),
            // Whom a server's side tells need not be the client. And a kept way is a sign that there was an answer,
            // which this is not.
            Direction::Out => Way::to(moment, related.destination),
        };
        let way = match way {
            Ok(way) => way,
            Err(reason) => return Verdict::Drop(reason),
        };
        // About an ICMP error no ICMP error is sent (RFC 1122, section 3.2.2).
        if related.ttl <= 1 {
            return Verdict::Drop(Reason::TtlExceeded);
        }
        if longest > way.out.mtu && !may_be_cut(frame, direction) {
            return Verdict::Drop(Reason::TooBig);
        }
        moment.shared.servers.count(self.local.id(), entry.slot(), direction, related.length);
        match direction {
            Direction::In => related.translate(frame, Shown::Destination, entry.server()),
            Direction::Out => related.translate(frame, Shown::Source, entry.service()),
        }
        let verdict = way.take(frame);
        if longest > way.out.mtu { verdict.split(way.out.mtu) } else { verdict }
    }
}

/// The EtherType of a frame that has an IP packet and is to the port it came in on. None: it is another.
pub(super) fn ip_kind(frame: &[u8], moment: &Moment<'_>) -> Option<[u8; 2]> {
    let [to @ .., _, _, _, _, _, _, high, low] = frame.first_chunk::<HEADER>()?;
    let kind = [*high, *low];
    ([ether_type::IPV4, ether_type::IPV6].contains(&kind) && *to == moment.port.mac.0).then_some(kind)
}

/// Of what connection the quoted packet is: its protocol, where it went, where it came from.
pub(super) fn connection_of(related: &Related) -> (u8, Endpoint, Endpoint) {
    let Related { protocol, quoted_source, quoted_destination, .. } = *related;
    if is_ipsec(protocol) {
        return (UDP, quoted_destination.with_port(KEY_EXCHANGE), quoted_source.with_port(KEY_EXCHANGE));
    }
    (protocol, quoted_destination, quoted_source)
}

/// Whether an ICMP error that is too long for its way on is cut: as IPVS does it, one of IPv4 to a server whatever it says.
pub(super) fn may_be_cut(frame: &[u8], direction: Direction) -> bool {
    let flags = frame.get(HEADER..).and_then(|packet| Some((packet.first()? >> 4, packet.get(6)?)));
    flags.is_some_and(|(version, flags)| {
        version == 4 && (direction == Direction::In || flags & DONT_FRAGMENT == 0)
    })
}
