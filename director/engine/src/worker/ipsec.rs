//! IPsec's ESP and AH (RFC 4303, RFC 4302), which have no ports: as IPVS does, a client's that has a connection of UDP from
//! port 500 to port 500, where the keys are agreed on (RFC 7296), go where that goes, and back.

use director_packet::ethernet::HEADER;
use director_packet::{ESP, UDP, ipv6, is_ipsec, options};

use super::cut::{beginning, touch};
use super::related::ip_kind;
use super::{Core, Frames, Lane, Moment, Verdict, Way};
use crate::reason::Reason;
use crate::state::Direction;

/// The port of Internet Key Exchange.
pub(super) const KEY_EXCHANGE: u16 = 500;

impl Core {
    /// A packet of no protocol that has ports. None: it is none of a connection.
    #[cold]
    pub(super) fn ipsec(
        &mut self,
        moment: &Moment<'_>,
        at: usize,
        frames: &mut impl Frames,
    ) -> Option<Verdict> {
        let frame = frames.head(at);
        ip_kind(frame, moment)?;
        let (mut segment, _) = beginning(frame)?;
        let headers = frame.get(HEADER..HEADER + usize::from(segment.header))?;
        let is_v6 = segment.source.is_v6();
        let is_kernels =
            if is_v6 { ipv6::has_wrong_options(headers) } else { options::are_the_kernels(headers) };
        if !is_ipsec(segment.protocol) || is_kernels || moment.snapshot.is_off(is_v6) {
            return None;
        }
        segment.protocol = UDP;
        segment.source = segment.source.with_port(KEY_EXCHANGE);
        segment.destination = segment.destination.with_port(KEY_EXCHANGE);
        let mut lane = Lane::new(moment.snapshot, at, segment);
        lane.longest = frames.longest(at, segment.length);
        let entry = self.local.find(moment, lane.whose())?;
        if entry.stand_in().is_some() {
            return None;
        }
        // Only addresses are translated.
        lane.segment.protocol = ESP;
        if lane.direction == Direction::In && moment.shared.servers.is_gone(entry.slot()) {
            if moment.snapshot.sysctls.expire_nodest_conn {
                self.local.kill(entry);
                return None;
            }
            return Some(Verdict::Drop(Reason::ServerGone));
        }
        let way = Way::of(moment, entry, lane.direction);
        if lane.direction == Direction::Out {
            // `steady` takes a way for a sign that there was an answer of UDP.
            entry.forget_way(lane.direction);
            if let Some(verdict) = self.hindered(moment, &lane, &way, frames) {
                return Some(verdict);
            }
        }
        if !touch(moment, entry) {
            return None;
        }
        Some(self.carry(moment, &lane, entry.load(lane.direction), way, frames))
    }
}
