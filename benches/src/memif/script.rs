//! What the generator sends, and what must come back for it.

use std::fmt;
use std::net::SocketAddrV4;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::traffic::Script;
use crate::kind::Kind;
use crate::network::{GATEWAY, PORT_MAC, client_end, servers};
use crate::template::{Segment, Slot, TTL, Template, flags};

/// The real servers.
const SERVERS: usize = 4;

/// A connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    address: u32,
    port: u16,
    /// The place of its server.
    server: u8,
}

/// Connections of the clients of these numbers, each with a server until it is known which it has.
pub(super) fn flows(clients: &[u32]) -> Vec<Flow> {
    let flow = |(at, number): (usize, &u32)| {
        let client: SocketAddrV4 = client_end(*number);
        Flow { address: (*client.ip()).into(), port: client.port(), server: (at % SERVERS) as u8 }
    };
    clients.iter().enumerate().map(flow).collect()
}

/// The modes of testpmd of which it is known what must come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Swaps MAC addresses, IP addresses and ports
    #[value(name = "5tswap")]
    FiveTupleSwap,
    /// Swaps MAC addresses
    Macswap,
    /// Changes nothing
    Io,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", PossibleValue::get_name))
    }
}

/// SYNs that open connections, in an order of their own. Each tells which server its connection was given.
pub(super) struct Opening {
    flows: Vec<Flow>,
    /// Which connection's SYN is sent when.
    order: Vec<u32>,
    is_open: Vec<bool>,
    syn: Template,
    to_server: [Template; SERVERS],
}

impl Opening {
    pub(super) fn new(flows: Vec<Flow>, order: Vec<u32>) -> Self {
        let segment = Segment { flags: flags::SYN, numbers: (0, 0), data: 0 };
        let to_server = std::array::from_fn(|server| Template::to_server(Kind::TCP, segment, server));
        let is_open = vec![false; flows.len()];
        Self { flows, order, is_open, syn: Template::to_service(Kind::TCP, segment), to_server }
    }

    /// The connections, and those that are not open.
    pub(super) fn end(self) -> (Vec<Flow>, Vec<u32>) {
        let left = self.order.into_iter().filter(|flow| !self.is_open[*flow as usize]).collect();
        (self.flows, left)
    }
}

impl Script for Opening {
    fn count(&self) -> u64 {
        self.order.len() as u64
    }

    fn write(&self, number: u64, into: &mut Slot) {
        let Flow { address, port, .. } = self.flows[self.order[number as usize] as usize];
        self.syn.write_numbered(into, address, port, number as u32);
    }

    fn expect(&mut self, number: u64, frame: &[u8], into: &mut Slot) {
        let at = self.order[number as usize] as usize;
        let flow = &mut self.flows[at];
        // The MAC address says which server it was; if it says none, the frame is not what must come back for any.
        let server = servers().iter().position(|(_, mac)| frame.starts_with(mac)).unwrap_or(0);
        flow.server = server as u8;
        self.is_open[at] = true;
        self.to_server[server].write_numbered(into, flow.address, flow.port, number as u32);
    }
}

/// ACKs of connections that are open, for ever.
pub(super) struct Established {
    flows: Vec<Flow>,
    /// Whether servers send every second frame.
    both: bool,
    /// What is sent and what comes back for it, by [`Self::place`].
    sent: [Template; 2 * SERVERS],
    returned: [Template; 2 * SERVERS],
}

impl Established {
    /// `mode` is that of testpmd; none for the director.
    pub(super) fn new(flows: Vec<Flow>, both: bool, mode: Option<Mode>) -> Self {
        let segment = Segment { flags: flags::ACK, numbers: (0, 2001), data: 0 };
        let forth = |server: usize| {
            let sent = Template::to_service(Kind::TCP, segment);
            let returned = match mode {
                None => Template::to_server(Kind::TCP, segment, server),
                Some(Mode::FiveTupleSwap) => {
                    Template::from_service(Kind::TCP, segment).forwarded(PORT_MAC, GATEWAY.1, TTL)
                }
                Some(Mode::Macswap) => sent.forwarded(PORT_MAC, GATEWAY.1, TTL),
                Some(Mode::Io) => sent,
            };
            (sent, returned)
        };
        let back = |server: usize| {
            let (sent, mac) = (Template::to_client(Kind::TCP, segment, server), servers()[server].1);
            let returned = match mode {
                None => Template::from_service(Kind::TCP, segment),
                Some(Mode::FiveTupleSwap) => {
                    Template::to_server(Kind::TCP, segment, server).forwarded(PORT_MAC, mac, TTL)
                }
                Some(Mode::Macswap) => sent.forwarded(PORT_MAC, mac, TTL),
                Some(Mode::Io) => sent,
            };
            (sent, returned)
        };
        let frames: [_; 2 * SERVERS] =
            std::array::from_fn(|at| if at < SERVERS { forth(at) } else { back(at - SERVERS) });
        Self {
            flows,
            both,
            sent: frames.map(|(sent, _)| sent),
            returned: frames.map(|(_, returned)| returned),
        }
    }

    pub(super) fn end(self) -> Vec<Flow> {
        self.flows
    }

    /// Whose turn it is, and which of the templates is for it: of the client's frames, then of the server's.
    #[inline]
    fn place(&self, number: u64) -> (Flow, usize) {
        let count = self.flows.len() as u64;
        let (round, at) = (number / count, number % count);
        let flow = self.flows[at as usize];
        // Each connection has one of both in two rounds.
        let back = usize::from(self.both && (round + at) & 1 == 1);
        (flow, back * SERVERS + usize::from(flow.server))
    }
}

impl Script for Established {
    fn count(&self) -> u64 {
        u64::MAX
    }

    #[inline]
    fn write(&self, number: u64, into: &mut Slot) {
        let (flow, place) = self.place(number);
        self.sent[place].write_numbered(into, flow.address, flow.port, number as u32);
    }

    #[inline]
    fn expect(&mut self, number: u64, _: &[u8], into: &mut Slot) {
        let (flow, place) = self.place(number);
        self.returned[place].write_numbered(into, flow.address, flow.port, number as u32);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::traffic::LENGTH;
    use super::*;
    use crate::flows::{Random, draw};
    use crate::network::{SERVER_PORT, SERVICE};
    use crate::template;

    const COUNT: u32 = 1001;

    fn established(both: bool, mode: Option<Mode>) -> Established {
        Established::new(flows(&draw(COUNT, &mut Random::new(1))), both, mode)
    }

    /// What is sent, and what must come back, of the first frames.
    fn pairs(mut script: impl Script, count: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut slots = [Slot::EMPTY; 2];
        let pair = |number| {
            script.write(number, &mut slots[0]);
            script.expect(number, &[], &mut slots[1]);
            (slots[0].0[..LENGTH].to_vec(), slots[1].0[..LENGTH].to_vec())
        };
        (0..count).map(pair).collect()
    }

    /// The ends of a frame whose lengths and checksums are right, its TTL and its sequence number.
    fn judge(frame: &[u8]) -> ([SocketAddr; 2], u8, u32) {
        let (ends, ttl, ..) = template::tests::judge(frame);
        (ends, ttl, u32::from_be_bytes(frame[38..42].try_into().unwrap()))
    }

    #[test]
    fn the_director_translates_both_directions() {
        let clients: Vec<_> = draw(COUNT, &mut Random::new(1)).into_iter().map(client_end).collect();
        let service = SocketAddr::from(SERVICE);
        let mut backwards = 0;
        for (number, (sent, returned)) in pairs(established(true, None), 4004).iter().enumerate() {
            let client = SocketAddr::from(clients[number % COUNT as usize]);
            let (server, mac) = servers()[number % COUNT as usize % SERVERS];
            let server = SocketAddr::from((server, SERVER_PORT));
            let ((from, ttl, sequence), (to, less, same)) = (judge(sent), judge(returned));
            assert_eq!((ttl, less, sequence, same), (64, 63, number as u32, number as u32));
            let next_hop = if from == [client, service] {
                assert_eq!(to, [client, server]);
                mac
            } else {
                backwards += 1;
                assert_eq!((from, to), ([server, client], [service, client]));
                GATEWAY.1
            };
            assert_eq!(returned[..12], [next_hop, PORT_MAC].concat());
        }
        assert_eq!(backwards, 2002);
    }

    #[test]
    fn testpmd_swaps() {
        for (mode, ranges) in [
            (Mode::Io, &[][..]),
            (Mode::Macswap, &[(0, 6, 6)]),
            (Mode::FiveTupleSwap, &[(0, 6, 6), (26, 30, 4), (34, 36, 2)]),
        ] {
            for (mut sent, returned) in pairs(established(true, Some(mode)), 3003) {
                for &(one, other, length) in ranges {
                    for at in 0..length {
                        sent.swap(one + at, other + at);
                    }
                }
                assert_eq!(sent, returned, "{mode}");
                judge(&returned);
            }
        }
    }

    #[test]
    fn a_syn_that_comes_back_tells_the_server() {
        let all = flows(&draw(8, &mut Random::new(1)));
        let mut opening = Opening::new(all, (0..8).rev().collect());
        let mut slot = Slot::EMPTY;
        for number in 0..6_u64 {
            let mac = servers()[number as usize % 3].1;
            opening.expect(number, &mac, &mut slot);
            let ([_, to], _, _) = judge(&slot.0[..LENGTH]);
            assert_eq!(to.ip(), servers()[number as usize % 3].0);
        }
        let (flows, left) = opening.end();
        assert_eq!(left, [1, 0]);
        assert_eq!(flows[7 - 5].server, 2);
    }
}
