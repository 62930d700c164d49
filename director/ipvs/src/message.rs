//! Messages in a datagram (RFC 3549, section 2.2).

use crate::reply::{Answer, Datagrams};
use crate::uapi::*;
use crate::{Malformed, Request};

/// The messages of one datagram, in order.
///
/// It ends where the kernel stops reading: at the end, or at the first bytes with an impossible length, for which it
/// gives an error for the log. The client is not told.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    /// Where `rest` starts in the datagram.
    offset: usize,
}

/// One message of a client.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What an answer needs to know of its header.
    pub header: Header,
    /// What it asks, or why it is to be refused (with [`Malformed::errno`]).
    pub request: Result<Request, Malformed>,
    pub(crate) bytes: &'a [u8],
}

/// The fields of `struct nlmsghdr` that tie an answer to its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The client's number for this request.
    pub sequence: u32,
    /// The client's port id, `nlmsg_pid`.
    pub port: u32,
    /// `NLM_F_*`.
    pub flags: u16,
}

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Too few bytes for a header.
    #[error("{length} bytes at byte {offset} of the datagram are too few for a netlink header")]
    Short {
        /// Where they start.
        offset: usize,
        /// How many there are.
        length: usize,
    },
    /// A length that is smaller than a header or larger than the datagram.
    #[error("a message of {claimed} bytes, it says, at byte {offset} of a datagram that has {left} left")]
    Length {
        /// Where it starts.
        offset: usize,
        /// What its header says.
        claimed: u32,
        /// What there is.
        left: usize,
    },
}

impl Header {
    /// Whether the client wants success acknowledged (`NLM_F_ACK`).
    #[must_use]
    pub fn ack(&self) -> bool {
        self.flags & NLM_F_ACK != 0
    }

    /// Whether the answer need not wait until the change is in force (`NLM_F_LATER`): one client has many, and
    /// will ask for nothing, without this flag, to hear when all of them are. Linux knows no such flag.
    #[must_use]
    pub fn later(&self) -> bool {
        self.flags & NLM_F_LATER != 0
    }

    /// Whether the client wants a list (`NLM_F_DUMP`, both its bits).
    #[must_use]
    pub fn dump(&self) -> bool {
        self.flags & NLM_F_DUMP == NLM_F_DUMP
    }
}

impl<'a> Messages<'a> {
    /// The messages of `datagram`.
    #[must_use]
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram, offset: 0 }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, FramingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, offset) = (self.rest, self.offset);
        // What is left after an error is not read.
        self.rest = &[];
        if rest.is_empty() {
            return None;
        }
        let Some(header) = rest.first_chunk::<NLMSG_HEADER>() else {
            return Some(Err(FramingError::Short { offset, length: rest.len() }));
        };
        let claimed = word(header, 0);
        let Some(bytes) = usize::try_from(claimed)
            .ok()
            .filter(|&length| length >= NLMSG_HEADER)
            .and_then(|length| rest.get(..length))
        else {
            return Some(Err(FramingError::Length { offset, claimed, left: rest.len() }));
        };
        // The padding after the last message may be missing.
        self.rest = rest.get(bytes.len().next_multiple_of(4)..).unwrap_or_default();
        self.offset = offset + rest.len() - self.rest.len();
        Some(Ok(Message::decode(header, bytes)))
    }
}

impl<'a> Message<'a> {
    fn decode(raw: &[u8; NLMSG_HEADER], bytes: &'a [u8]) -> Self {
        let [.., type0, type1, flags0, flags1, _, _, _, _, _, _, _, _] = *raw;
        let header = Header {
            flags: u16::from_ne_bytes([flags0, flags1]),
            sequence: word(raw, 8),
            port: word(raw, 12),
        };
        let kind = u16::from_ne_bytes([type0, type1]);
        let request = if header.flags & NLM_F_REQUEST == 0 || kind < NLMSG_MIN_TYPE {
            Ok(Request::Nothing)
        } else {
            Request::decode(kind, &header, bytes)
        };
        Self { header, request, bytes }
    }

    /// The datagrams that answer this message, lazily.
    #[must_use]
    pub fn answer<'b>(&self, answer: Answer<'b>) -> Datagrams<'b> {
        Datagrams::new(self, answer)
    }
}

/// The `u32` at `at` of a header.
fn word(header: &[u8; NLMSG_HEADER], at: usize) -> u32 {
    header.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u32::from_ne_bytes)
}
