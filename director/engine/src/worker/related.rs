//! ICMP errors about packets of connections: translated outside and inside.
//!
//! A router or a server that cannot deliver a translated packet quotes it as it saw it. Whoever sent the
//! packet must find in the quotation what it sent, or it cannot tell which connection is meant (RFC 5508,
//! section 4.2); without that no path MTU is ever discovered through the director. As IPVS does:
//! destination unreachable, source quench and time exceeded are translated, and all errors of ICMPv6, both ways;
//! they count as packets of the connection, and neither its state nor its timer learns of them.

use director_packet::Address;
use director_packet::ethernet::{HEADER, ether_type};
use director_packet::related::{NotTranslated, Related, Shown};

use super::tables::{Made, Whose};
use super::unknown::may_be_a_client;
use super::{Core, Frames, Moment, Verdict, Way};
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
        let header = frame.first_chunk::<HEADER>()?;
        let is_ip = [ether_type::IPV4, ether_type::IPV6].iter().any(|kind| header[12..] == *kind);
        let is_ours = is_ip && header[..6] == moment.port.mac.0;
        if !is_ours {
            return None;
        }
        let related = Related::find(frame)?;
        if moment.snapshot.is_off(matches!(related.destination, Address::V6(_))) {
            return None;
        }
        if let Some(server) = related.tunnel {
            return self.tunnel_error(moment, &related, server, frame);
        }
        // A client's error quotes what the virtual service sent it; a server's, what the client sent.
        let (direction, client, other) = if moment.snapshot.is_local(related.destination) {
            (Direction::In, related.quoted_destination, related.quoted_source)
        } else {
            (Direction::Out, related.quoted_source, related.quoted_destination)
        };
        let whose = Whose { client, other, protocol: related.protocol, direction };
        let entry = match self.local.find(moment, whose) {
            Some(entry) => entry,
            None => match self.schedule_related(moment, &related, whose, frame)? {
                Ok(entry) => entry,
                Err(reason) => return Some(Verdict::Drop(reason)),
            },
        };
        if entry.stand_in().is_some() {
            return None;
        }
        self.held[at] = None;
        if entry.forward().is_one_sided() {
            return Some(self.pass_related(moment, at, &related, entry, frames));
        }
        Some(self.forward_related(moment, &related, direction, entry, frame))
    }

    /// Under `schedule_icmp`, a client's error about a connection that is not known makes an entry of it. None: it is
    /// the kernel's, as without.
    fn schedule_related<'a>(
        &mut self,
        moment: &Moment<'a>,
        related: &Related,
        whose: Whose,
        frame: &mut [u8],
    ) -> Option<Result<Entry<'a>, Reason>> {
        let snapshot = moment.snapshot;
        if !snapshot.sysctls.schedule_icmp || whose.direction == Direction::Out {
            return None;
        }
        let client = whose.client.address();
        let service = snapshot.service(client, whose.other, related.protocol)?;
        if let Err(why) = related.verify(frame) {
            return Some(Err(why.into()));
        }
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
        frame: &mut [u8],
    ) -> Verdict {
        if direction == Direction::Out && !moment.snapshot.forwards(entry.client()) {
            return Verdict::Drop(Reason::ForwardingOff);
        }
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
        if related.length > way.out.mtu {
            return Verdict::Drop(Reason::TooBig);
        }
        moment.shared.servers.count(self.local.id(), entry.slot(), direction, related.length);
        let (service, server) = (entry.service(), entry.server());
        match direction {
            Direction::In => related.translate(frame, Shown::Destination, service, server),
            Direction::Out => related.translate(frame, Shown::Source, server, service),
        }
        way.take(frame)
    }
}
