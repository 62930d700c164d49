//! What a server answers on a control connection, as far as it is about data connections: 227 with the address and
//! port that it waits at (RFC 959), 229 with the port alone (RFC 2428).

use std::net::Ipv4Addr;

use super::command::{address_and_port, extended_port};

/// The longest address and port of 227.
pub(super) const ADDRESS: usize = "255,255,255,255,255,255".len();

/// Which answers are awaited.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Awaited {
    pub(crate) passive: bool,
    pub(crate) extended: bool,
}

/// What a byte of the stream shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// The byte before was the last of what might have been an address and is none.
    NoAddress,
    /// The byte before was the last of an address and a port.
    Address(Ipv4Addr, u16),
    /// The port of 229.
    Port(u16),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The code that an answer begins with.
    Code,
    /// In 227, before a number.
    Before227,
    /// In what may be an address and a port: digits and commas.
    Address,
    /// In 229, before the parenthesis.
    Before229,
    /// After it.
    Port,
    /// What is left of a line.
    Rest,
}

/// The line that a server is in the middle of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    phase: Phase,
    /// What the phase collects.
    text: [u8; ADDRESS],
    length: u8,
}

impl Reply {
    /// Nothing of it was seen yet.
    pub(crate) const fn new() -> Self {
        Self { phase: Phase::Code, text: [0; ADDRESS], length: 0 }
    }

    fn enter(&mut self, phase: Phase) {
        (self.phase, self.length) = (phase, 0);
    }

    /// Collects a byte. False: there is no room.
    fn collect(&mut self, byte: u8) -> bool {
        let Some(place) = self.text.get_mut(usize::from(self.length)) else { return false };
        *place = byte;
        self.length += 1;
        true
    }

    /// The part of an address that was seen so far; empty outside of one.
    pub(crate) fn address(&self) -> &[u8] {
        if self.phase == Phase::Address { self.collected() } else { &[] }
    }

    /// Whether this byte would be the first of an address.
    pub(crate) fn would_begin(&self, byte: u8) -> bool {
        self.phase == Phase::Before227 && byte.is_ascii_digit()
    }

    fn collected(&self) -> &[u8] {
        self.text.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn commas(&self) -> usize {
        self.collected().iter().filter(|byte| **byte == b',').count()
    }

    /// The next byte of the stream.
    pub(crate) fn push(&mut self, byte: u8, awaited: Awaited) -> Option<Found> {
        let mut found = None;
        match self.phase {
            Phase::Code => {
                self.collect(byte);
                match self.collected() {
                    b"227 " if awaited.passive => self.enter(Phase::Before227),
                    b"229 " if awaited.extended => self.enter(Phase::Before229),
                    [_, _, _, _] => self.enter(Phase::Rest),
                    _ => {}
                }
            }
            Phase::Before227 if byte.is_ascii_digit() => {
                self.enter(Phase::Address);
                self.collect(byte);
            }
            Phase::Address if byte.is_ascii_digit() || byte == b',' && self.commas() < 5 => {
                if !self.collect(byte) {
                    found = Some(Found::NoAddress);
                    self.enter(Phase::Rest);
                }
            }
            Phase::Address => found = Some(self.end_address()),
            Phase::Before229 if byte == b'(' => self.enter(Phase::Port),
            Phase::Port if byte == b')' => {
                found = extended_port(self.collected()).map(Found::Port);
                self.enter(if found.is_some() { Phase::Rest } else { Phase::Before229 });
            }
            Phase::Port => {
                if !self.collect(byte) {
                    self.enter(Phase::Rest);
                }
            }
            Phase::Before227 | Phase::Before229 | Phase::Rest => {}
        }
        if byte == b'\n' {
            self.enter(Phase::Code);
        }
        found
    }

    /// The address has ended, if it is one.
    pub(crate) fn end_address(&mut self) -> Found {
        let found = address_and_port(self.collected());
        self.enter(if found.is_some() { Phase::Rest } else { Phase::Before227 });
        found.map_or(Found::NoAddress, |(address, port)| Found::Address(address, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Awaited = Awaited { passive: true, extended: true };

    fn found(stream: &[u8], awaited: Awaited) -> Vec<Found> {
        let mut reply = Reply::new();
        stream.iter().filter_map(|byte| reply.push(*byte, awaited)).collect()
    }

    fn address(port: u16) -> Vec<Found> {
        vec![Found::Address(Ipv4Addr::new(192, 168, 2, 71), port)]
    }

    #[test]
    fn answers_about_data_connections() {
        let recorded = b"227 Entering Passive Mode (192,168,2,71,195,80).\r\n";
        assert_eq!(found(recorded, BOTH), address(50000));
        assert_eq!(found(b"220 x\r\n227 192,168,2,71,0,7\r\n", BOTH), address(7));
        // As the kernel takes them.
        assert_eq!(found(b"227 192,168,2,71,0,7,1,1\r\n", BOTH), address(7));
        assert_eq!(found(b"227 192,168,2,71,,7)\r\n", BOTH), address(7));
        let version = found(b"227 v2 (192,168,2,71,0,7)\n", BOTH);
        assert_eq!(version, [vec![Found::NoAddress], address(7)].concat());
        assert_eq!(found(b"229 Extended (|||50000|)\r\n", BOTH), [Found::Port(50000)]);
        assert_eq!(found(b"229 (x) (|||50000|)\r\n", BOTH), [Found::Port(50000)]);
    }

    #[test]
    fn what_is_not_awaited_is_not_looked_at() {
        let none = Awaited::default();
        assert_eq!(found(b"227 (192,168,2,71,195,80).\r\n229 (|||50000|)\r\n", none), []);
        let text = b"220-227 (192,168,2,71,195,80)\r\n227-(192,168,2,71,195,80)\r\n";
        assert_eq!(found(text, BOTH), []);
        assert_eq!(found(b"22\n7 (192,168,2,71,195,80)\r\n", BOTH), []);
    }

    #[test]
    fn an_address_that_is_none() {
        for text in ["1,2,3,4,5", "1,2,3,4,5,256", "1,2,3,4,0,0", "1234567890123456789012345"] {
            assert_eq!(found(format!("227 ({text})\r\n").as_bytes(), BOTH), [Found::NoAddress], "{text}");
        }
    }
}
