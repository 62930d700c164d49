//! The parts of netlink that this library has to know: who asks for IPVS, and what addresses look like.

use std::mem::offset_of;

use libc::{sa_family_t, sockaddr_nl, sockaddr_un, socklen_t};

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// `GENL_ID_CTRL`, the type of messages to generic netlink's controller.
const CONTROLLER: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NAME: &[u8] = b"IPVS";
/// `NLMSG_ERROR`, which is an acknowledgement if its errno is 0.
const ERROR: u16 = 2;
/// `NLM_F_CAPPED`: an acknowledgement contains only the header of the request.
const CAPPED: u16 = 0x100;
/// `NLMSG_NOOP`.
const NOOP: u16 = 1;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const LATER: u16 = 0x8000;
const DUMP: u16 = 0x300;

/// Whether `length` bytes that start with `header` can be messages of netlink (RFC 3549): the first one's
/// length fits. Rules out nearly everything else that programs send.
pub(crate) fn plausible(&[a, b, c, d, ..]: &[u8; HEADER], length: usize) -> bool {
    usize::try_from(u32::from_ne_bytes([a, b, c, d]))
        .is_ok_and(|claimed| (HEADER..=length).contains(&claimed))
}

/// Whether a message among `bytes` asks the controller for the family `IPVS` by its name.
pub(crate) fn asks_for_ipvs(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(message) = first_message(rest) {
        if names_ipvs(message) {
            return true;
        }
        rest = rest.get(message.len().next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// Whether `bytes` are one request whose answer is short and ends with an acknowledgement or a refusal.
pub(crate) fn wants_short_answer(bytes: &[u8]) -> bool {
    let is_only =
        first_message(bytes).is_some_and(|message| message.len().next_multiple_of(4) >= bytes.len());
    let flags = word(bytes, 6).unwrap_or(0);
    is_only && flags & ACK != 0 && flags & DUMP == 0
}

/// Marks a request: its answer need not wait until the workers have been told of the change. Linux gives this flag no
/// meaning; to the director it is `NLM_F_LATER`.
pub(crate) fn set_later(request: &mut [u8]) {
    if let Some(flags) = word(request, 6)
        && let Some(field) = request.get_mut(6..8)
    {
        field.copy_from_slice(&(flags | LATER).to_ne_bytes());
    }
}

/// A request for an acknowledgement only, which comes when everything before it is in force.
pub(crate) fn nothing() -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let fields = [(0, HEADER as u16), (4, NOOP), (6, REQUEST | ACK)];
    for (at, value) in fields {
        if let Some(field) = bytes.get_mut(at..at + 2) {
            field.copy_from_slice(&value.to_ne_bytes());
        }
    }
    bytes
}

/// Whether a datagram begins with an acknowledgement or a refusal.
pub(crate) fn is_acknowledgement(bytes: &[u8]) -> bool {
    word(bytes, 4) == Some(ERROR)
}

/// The acknowledgement of a request (`struct nlmsgerr`), as the kernel and the director write it.
pub(crate) fn acknowledgement(request: &[u8]) -> Option<[u8; ACKNOWLEDGEMENT]> {
    let header = request.first_chunk::<HEADER>()?;
    let mut bytes = [0; ACKNOWLEDGEMENT];
    let (own, rest) = bytes.split_first_chunk_mut::<HEADER>()?;
    *own = *header;
    own[..4].copy_from_slice(&(ACKNOWLEDGEMENT as u32).to_ne_bytes());
    own[4..6].copy_from_slice(&ERROR.to_ne_bytes());
    own[6..8].copy_from_slice(&CAPPED.to_ne_bytes());
    rest.get_mut(4..)?.copy_from_slice(header);
    Some(bytes)
}

/// Its length: a header, an errno, the request's header.
const ACKNOWLEDGEMENT: usize = HEADER + 4 + HEADER;

/// Turns the answer to one request into that to another of its kind: they differ in sequence number and port id.
pub(crate) fn readdress(answer: &mut [u8], request: &[u8]) {
    if let (Some(to), Some(from)) = (answer.get_mut(8..HEADER), request.get(8..HEADER)) {
        to.copy_from_slice(from);
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// Writes a port id into the header of every message. The director answers with the port id it reads there; the
/// kernel ignores it, and takes that of the sender's socket.
pub(crate) fn set_port(bytes: &mut [u8], port: u32) {
    let mut rest = bytes;
    while let Some(length) = first_message(rest).map(<[u8]>::len) {
        if let Some(field) = rest.get_mut(12..16) {
            field.copy_from_slice(&port.to_ne_bytes());
        }
        rest = rest.get_mut(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn first_message(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    bytes.get(..length).filter(|message| message.len() >= HEADER)
}

fn names_ipvs(message: &[u8]) -> bool {
    let Some((&[_, _, _, _, k0, k1, ..], payload)) = message.split_first_chunk::<HEADER>() else {
        return false;
    };
    let Some((&[command, ..], mut attributes)) = payload.split_first_chunk::<4>() else {
        return false;
    };
    if u16::from_ne_bytes([k0, k1]) != CONTROLLER || command != CTRL_CMD_GETFAMILY {
        return false;
    }
    while let Some(&[l0, l1, t0, t1]) = attributes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = attributes.get(4..length) else { break };
        let kind = u16::from_ne_bytes([t0, t1]) & 0x3fff;
        if kind == CTRL_ATTR_FAMILY_NAME && value.split(|&byte| byte == 0).next() == Some(NAME) {
            return true;
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// A netlink address with this port id; the kernel's is 0.
pub(crate) fn address(port: u32) -> sockaddr_nl {
    // SAFETY: all zeros are a valid `sockaddr_nl`; its padding is private to the libc crate.
    let mut address: sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as sa_family_t;
    address.nl_pid = port;
    address
}

/// The abstract address a handed-over socket is bound to. It marks the socket, wherever its descriptor
/// goes, and keeps the netlink port id the kernel had given to the one it replaces:
/// `\0director-ipvs/PPPPPPPP/NNNNNNNNNNNNNNNN`, the port id and a number that makes it unique.
pub(crate) struct Mark {
    /// The netlink port id.
    pub(crate) port: u32,
    /// What makes the address unique.
    pub(crate) nonce: u64,
}

const PREFIX: &[u8] = b"\0director-ipvs/";
const PATH: usize = offset_of!(sockaddr_un, sun_path);
const MARK_LENGTH: usize = PATH + PREFIX.len() + 8 + 1 + 16;

impl Mark {
    /// The address to bind to.
    pub(crate) fn address(&self) -> (sockaddr_un, socklen_t) {
        let digits = |value: u64, count: u32| {
            (0..count).rev().map(move |digit| {
                let value = (value >> (4 * digit) & 0xf) as u8;
                if value < 10 { b'0' + value } else { b'a' + value - 10 }
            })
        };
        let bytes = PREFIX
            .iter()
            .copied()
            .chain(digits(u64::from(self.port), 8))
            .chain([b'/'])
            .chain(digits(self.nonce, 16));
        let mut address = sockaddr_un { sun_family: libc::AF_UNIX as sa_family_t, sun_path: [0; 108] };
        for (to, from) in address.sun_path.iter_mut().zip(bytes) {
            *to = from.cast_signed();
        }
        (address, MARK_LENGTH as socklen_t)
    }

    /// The mark that a socket's address stands for, if it is one.
    pub(crate) fn read(address: &sockaddr_un, length: socklen_t) -> Option<Self> {
        if address.sun_family != libc::AF_UNIX as sa_family_t || length as usize != MARK_LENGTH {
            return None;
        }
        let path = address.sun_path.map(i8::cast_unsigned);
        let (port, nonce) = path.strip_prefix(PREFIX)?.get(..8 + 1 + 16)?.split_at_checked(8)?;
        let number = |digits| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        Some(Self { port: number(port)?.try_into().ok()?, nonce: number(nonce.get(1..)?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get_family(name: &[u8]) -> Vec<u8> {
        let mut attribute = (4 + name.len() as u16).to_ne_bytes().to_vec();
        attribute.extend(CTRL_ATTR_FAMILY_NAME.to_ne_bytes());
        attribute.extend(name);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        let mut message = (20 + attribute.len() as u32).to_ne_bytes().to_vec();
        message.extend(CONTROLLER.to_ne_bytes());
        message.extend([5, 0, 1, 0, 0, 0, 7, 0, 0, 0]);
        message.extend([CTRL_CMD_GETFAMILY, 1, 0, 0]);
        message.extend(attribute);
        message
    }

    #[test]
    fn only_the_question_for_ipvs_counts() {
        assert!(asks_for_ipvs(&get_family(b"IPVS\0")));
        assert!(!asks_for_ipvs(&get_family(b"IPVSX\0")));
        assert!(!asks_for_ipvs(&get_family(b"ethtool\0")));
        let mut other_command = get_family(b"IPVS\0");
        other_command[16] = 1;
        assert!(!asks_for_ipvs(&other_command));
        let mut other_family = get_family(b"IPVS\0");
        other_family[4] = 0x1b;
        assert!(!asks_for_ipvs(&other_family));
    }

    #[test]
    fn a_question_behind_another_message_counts() {
        let mut both = get_family(b"nlctrl\0");
        both.extend(get_family(b"IPVS\0"));
        assert!(asks_for_ipvs(&both));
    }

    #[test]
    fn every_message_gets_the_port() {
        let mut both = get_family(b"nlctrl\0");
        let first = both.len();
        both.extend(get_family(b"IPVS\0"));
        let before = both.clone();
        set_port(&mut both, 0x0102_0304);
        assert_eq!(both[12..16], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(both[first + 12..first + 16], 0x0102_0304_u32.to_ne_bytes());
        set_port(&mut both, 7);
        assert_eq!(both, before);
        set_port(&mut both[..10], 7);
    }

    #[test]
    fn other_traffic_is_not_plausible() {
        assert!(!plausible(b"GET / HTTP/1.1\r\n", 400));
        assert!(!plausible(&[0; HEADER], 64));
        let message = get_family(b"IPVS\0");
        assert!(plausible(message.first_chunk().unwrap(), message.len()));
        assert!(!plausible(message.first_chunk().unwrap(), message.len() - 1));
    }

    #[test]
    fn every_cut_of_a_message_is_borne() {
        let whole = get_family(b"IPVS\0");
        for end in 0..whole.len() {
            assert!(!asks_for_ipvs(&whole[..end]), "{end}");
        }
        let mut short = whole.clone();
        for length in 0..=255 {
            short[20] = length;
            let _ = asks_for_ipvs(&short);
        }
    }

    #[test]
    fn a_mark_tells_its_port() {
        for port in [0, 1, 4242, u32::MAX] {
            let (address, length) = Mark { port, nonce: 0xfeed_beef_0000_0001 }.address();
            let read = Mark::read(&address, length).unwrap();
            assert_eq!((read.port, read.nonce), (port, 0xfeed_beef_0000_0001));
            assert!(Mark::read(&address, length - 1).is_none());
        }
        let (mut other, length) = Mark { port: 1, nonce: 1 }.address();
        other.sun_path[3] = 0;
        assert!(Mark::read(&other, length).is_none());
    }
}
