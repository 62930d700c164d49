//! What an SCTP packet says about its association, by its first chunk (RFC 9260, section 3.2).

/// What a chunk means for the state of an association. Others (SACK, HEARTBEAT, …) count as DATA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Event {
    /// DATA, and everything that is not named here.
    Data = 0,
    /// INIT: an association is to begin.
    Init = 1,
    /// INIT ACK.
    InitAck = 2,
    /// COOKIE ECHO.
    CookieEcho = 3,
    /// COOKIE ACK: the association is established.
    CookieAck = 4,
    /// SHUTDOWN.
    Shutdown = 5,
    /// SHUTDOWN ACK.
    ShutdownAck = 6,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete = 7,
    /// ERROR.
    Error = 8,
    /// ABORT.
    Abort = 9,
}

/// How many events there are.
pub const EVENTS: usize = 10;

/// The length of a chunk's header, in bytes: type, flags and the chunk's length.
pub const CHUNK_HEADER: usize = 4;

/// The type of the chunk that aborts an association.
const ABORT: u8 = 6;

impl Event {
    /// The event with a number; for an unknown one, [`Self::Data`].
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Init,
            2 => Self::InitAck,
            3 => Self::CookieEcho,
            4 => Self::CookieAck,
            5 => Self::Shutdown,
            6 => Self::ShutdownAck,
            7 => Self::ShutdownComplete,
            8 => Self::Error,
            9 => Self::Abort,
            _ => Self::Data,
        }
    }

    const fn of_chunk(kind: u8) -> Self {
        match kind {
            1 => Self::Init,
            2 => Self::InitAck,
            ABORT => Self::Abort,
            7 => Self::Shutdown,
            8 => Self::ShutdownAck,
            9 => Self::Error,
            10 => Self::CookieEcho,
            11 => Self::CookieAck,
            14 => Self::ShutdownComplete,
            _ => Self::Data,
        }
    }

    /// What the chunks of a packet mean, as far as they are at hand: the first one decides, except that an ABORT
    /// behind a cookie counts (section 3.3.7). None: not even the header of the first chunk is at hand.
    #[must_use]
    pub fn of_chunks(chunks: &[u8]) -> Option<Self> {
        let [kind, _, length @ ..] = *chunks.first_chunk::<CHUNK_HEADER>()?;
        let first = Self::of_chunk(kind);
        let length = usize::from(u16::from_be_bytes(length));
        if matches!(first, Self::CookieEcho | Self::CookieAck) && length >= CHUNK_HEADER {
            let second = chunks.get(length.next_multiple_of(4)..).and_then(|rest| rest.first());
            if second == Some(&ABORT) {
                return Some(Self::Abort);
            }
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_chunk_counts() {
        for (kind, event) in
            [(0, Event::Data), (1, Event::Init), (3, Event::Data), (14, Event::ShutdownComplete)]
        {
            assert_eq!(Event::of_chunks(&[kind, 0, 0, 4]), Some(event));
            assert_eq!(Event::from_number(event as u8), event);
        }
        assert_eq!(Event::of_chunks(&[255, 0, 0, 0]), Some(Event::Data));
        assert_eq!(Event::of_chunks(&[1, 0, 0]), None);
        assert_eq!(Event::of_chunks(&[1, 0, 0, 4, ABORT, 0, 0, 4]), Some(Event::Init));
    }

    #[test]
    fn but_for_an_abort_behind_a_cookie() {
        for (kind, event) in [(10, Event::CookieEcho), (11, Event::CookieAck)] {
            assert_eq!(Event::of_chunks(&[kind, 0, 0, 6, 1, 1, 0, 0, ABORT, 0, 0, 4]), Some(Event::Abort));
            assert_eq!(Event::of_chunks(&[kind, 0, 0, 6, 1, 1, 0, 0, 0, 0, 0, 4]), Some(event));
            assert_eq!(Event::of_chunks(&[kind, 0, 0, 6, 1, 1]), Some(event));
            assert_eq!(Event::of_chunks(&[kind, 0, 0, 3, ABORT, 0, 0, 4]), Some(event));
        }
    }

    #[test]
    fn any_bytes() {
        bolero::check!()
            .for_each(|bytes: &[u8]| assert_eq!(Event::of_chunks(bytes).is_some(), bytes.len() >= 4));
    }
}
