//! Packets that reach their server untranslated: as they are by direct routing, inside other packets by a tunnel.

use director_packet::ethernet::HEADER;
use director_packet::related::Related;
use director_packet::{Address, icmp, ipip};

use super::refusal::{LEAST_V6, decrement_ttl};
use super::related::{connection_of, may_be_cut};
use super::tables::Whose;
use super::{Core, DONT_FRAGMENT, Frames, Moment, Verdict, Way};
use crate::entry::{Entry, Load};
use crate::reason::Reason;
use crate::service::Forward;
use crate::sources;
use crate::state::Direction;

/// The least room in bytes that IP requires of a link (RFC 791; RFC 8200, section 5). A tunnel with less does not
/// work.
const fn least(server: Address) -> u16 {
    if matches!(server, Address::V6(_)) { LEAST_V6 } else { 68 }
}

/// The longest packet in bytes that can go this way by this method.
#[inline]
pub(super) fn room(forward: Forward, server: Address, mtu: u16) -> u16 {
    if forward == Forward::Tunnelling { mtu.saturating_sub(ipip::overhead(server) as u16) } else { mtu }
}

/// Makes a client's packet ready for its server. `was_split` means that it came in fragments.
pub(super) fn prepare(
    moment: &Moment<'_>,
    forward: Forward,
    server: Address,
    way: &Way<'_>,
    at: usize,
    was_split: bool,
    frames: &mut impl Frames,
) -> Result<(), Reason> {
    decrement_ttl(frames.head(at));
    if forward != Forward::Tunnelling {
        return Ok(());
    }
    if room(forward, server, way.out.mtu) < least(server) {
        return Err(Reason::TooBig);
    }
    let hop = moment.shared.adjacencies.hop(way.adjacency).ok_or(Reason::NoRoute)?;
    let source = sources::towards(&moment.snapshot.sources, hop, server).ok_or(Reason::NoRoute)?;
    if !frames.prepend(at, ipip::overhead(server)) {
        return Err(Reason::NoHeadroom);
    }
    let keeps_flag = moment.snapshot.sysctls.pmtu_disc;
    let flags = frames.head(at).get(ipip::overhead(server) + HEADER + 6);
    let is_never_split = keeps_flag && !was_split && flags.is_some_and(|flags| flags & DONT_FRAGMENT != 0);
    // As in the kernel: its fragments need an identification. (Tunnels of IPv6 have none.)
    let identification = if is_never_split { 0 } else { moment.shared.next_identification() };
    if ipip::wrap(frames.head(at), source, server, identification, keeps_flag) {
        Ok(())
    } else {
        Err(Reason::TooBig)
    }
}

impl Core {
    /// Counts an error that a client is told about its own packet on a connection that is not translated: the
    /// kernel's IPVS takes it for an answer.
    #[cold]
    pub(super) fn telling(
        &mut self,
        moment: &Moment<'_>,
        load: &Load,
        refuse: impl FnOnce(&mut Self) -> Verdict,
    ) -> Verdict {
        let before = self.refusals.replies().len();
        let verdict = refuse(self);
        if let Some(reply) = self.refusals.replies().get(before).filter(|_| load.forward.is_one_sided()) {
            // Not longer than an Ethernet frame.
            let length = (reply.frame().len() - HEADER) as u16;
            moment.shared.servers.count(self.local.id(), load.slot, Direction::Out, length);
        }
        verdict
    }

    /// A client's ICMP error about a packet of a connection that is not translated goes to the server unchanged.
    pub(super) fn pass_related(
        &mut self,
        moment: &Moment<'_>,
        at: usize,
        related: &Related,
        entry: Entry<'_>,
        longest: u16,
        frames: &mut impl Frames,
    ) -> Verdict {
        // As the kernel's IPVS, which checks the checksum of ICMPv6 only where it translates.
        if matches!(related.destination, Address::V4(_))
            && let Err(why) = related.verify(frames.head(at))
        {
            return Verdict::Drop(why.into());
        }
        let (forward, server) = (entry.forward(), entry.server().address());
        moment.shared.servers.count(self.local.id(), entry.slot(), Direction::In, related.length);
        if moment.snapshot.ends_here(server) {
            return Verdict::Kernel;
        }
        // No ICMP error is sent about an ICMP error (RFC 1122, section 3.2.2).
        let way = match Way::of(moment, entry, Direction::In) {
            Ok(way) => way,
            Err(reason) => return Verdict::Drop(reason),
        };
        if related.ttl <= 1 {
            return Verdict::Drop(Reason::TtlExceeded);
        }
        let is_long = longest > room(forward, server, way.out.mtu);
        if is_long && !may_be_cut(frames.head(at), Direction::In) {
            return Verdict::Drop(Reason::TooBig);
        }
        let is_split = is_long || longest != related.length;
        if let Err(reason) = prepare(moment, forward, server, &way, at, is_split, frames) {
            return Verdict::Drop(reason);
        }
        let verdict = way.take(frames.head(at));
        if is_long { verdict.split(way.out.mtu) } else { verdict }
    }

    /// An ICMP error about a packet in a tunnel to `server`, from a router on the way or from the server. The client
    /// is told as if the error were about its own packet, which is quoted in it. None: the packet is in none of our
    /// tunnels.
    pub(super) fn tunnel_error(
        &mut self,
        moment: &Moment<'_>,
        related: &Related,
        server: Address,
        frame: &mut [u8],
    ) -> Option<Verdict> {
        if !moment.snapshot.is_local(related.destination) {
            return None;
        }
        let (protocol, other, client) = connection_of(related);
        let whose = Whose { client, other, protocol, direction: Direction::In };
        let entry = self.local.find(moment, whose)?;
        if entry.forward() != Forward::Tunnelling || entry.server().address() != server {
            return None;
        }
        if let Err(why) = related.verify(frame) {
            return Some(Verdict::Drop(why.into()));
        }
        let done = Some(Verdict::Drop(Reason::TunnelError));
        let [kind, code, _, _, mtu @ ..] = *frame.get(related.icmp..)?.first_chunk::<8>()?;
        let mtu = u32::from_be_bytes(mtu);
        let packet = frame.get(related.quoted..HEADER + usize::from(related.length))?;
        let narrowed = |mtu: u16| {
            icmp::Error::FragmentationNeeded(room(Forward::Tunnelling, server, mtu).max(least(server)))
        };
        let error = match (server, kind, code) {
            (Address::V6(_), 2, _) => narrowed(u16::try_from(mtu).unwrap_or(u16::MAX)),
            // A parameter problem points into the outer packet, which means nothing to the client.
            (Address::V6(_), 4.., _) => return None,
            // The client allowed its packet to be split, so it must not be told that it is too long; the outer packet
            // was the director's choice.
            (Address::V4(_), 3, 4) if packet.get(6).is_none_or(|flags| flags & DONT_FRAGMENT == 0) => {
                return done;
            }
            (Address::V4(_), 3, 4) => narrowed(mtu as u16),
            _ => icmp::Error::As { kind, code },
        };
        let hop = moment.snapshot.fib.hop(related.quoted_source.address())?;
        let way = moment.shared.adjacencies.entry(hop).ok().and_then(|way| Way::by(moment, way).ok())?;
        // Not longer than the packet that it is in.
        let length = packet.len() as u16;
        moment.shared.servers.count(self.local.id(), entry.slot(), Direction::Out, length);
        self.reply_by(moment, error, packet, whose.other.address(), &way);
        done
    }
}
