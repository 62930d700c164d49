//! Answers, as datagrams.

use std::fmt;

use crate::config::{Info, Timeouts};
use crate::daemon::Daemon;
use crate::dest::Dest;
use crate::request::{COMMANDS, Form};
use crate::service::Service;
use crate::uapi::*;
use crate::writer::{MessageHeader, Writer};
use crate::{Errno, Header, Message};

/// The most bytes of a listing in one datagram. (Only the refusal of a longer request, which is echoed
/// whole, is longer.)
pub const DATAGRAM_SIZE: usize = 8192;

/// No object of a listing is as long as this: the longest, a server, takes about 420 bytes.
const LONGEST_OBJECT: usize = 1024;

/// What a client is told. [`Request`](crate::Request) says which requests get which answer.
pub enum Answer<'a> {
    /// It is done. The client is told if it asked for an acknowledgement.
    Done,
    /// It is refused.
    Refused(Errno),
    /// Our family: its id, version and commands.
    Family,
    /// Version and size.
    Info(Info),
    /// The timeouts.
    Timeouts(Timeouts),
    /// A service.
    Service(Box<Service>),
    /// Services; drawn from the iterator as datagrams are asked for.
    Services(Box<dyn Iterator<Item = Service> + 'a>),
    /// Servers of a service, likewise.
    Dests(Box<dyn Iterator<Item = Dest> + 'a>),
    /// Synchronization daemons, likewise.
    Daemons(Box<dyn Iterator<Item = Daemon> + 'a>),
}

/// The datagrams of an answer, made one by one; each is to be sent as one.
pub struct Datagrams<'a> {
    header: Header,
    ready: std::vec::IntoIter<Vec<u8>>,
    list: Option<List<'a>>,
}

/// Writes the next object of a listing as a message; false at the end.
type List<'a> = Box<dyn FnMut(&mut Writer) -> bool + 'a>;

impl<'a> Datagrams<'a> {
    pub(crate) fn new(message: &Message<'_>, answer: Answer<'a>) -> Self {
        let header = message.header;
        let done = || if header.ack() { vec![error(message, None)] } else { Vec::new() };
        let object = |command, body: &dyn Fn(&mut Writer)| {
            let mut writer = Writer::with_capacity(LONGEST_OBJECT);
            writer.generic(header.reply(FAMILY_ID, 0), command, FAMILY_VERSION, body);
            let mut ready = vec![writer.into_bytes()];
            ready.extend(done());
            Self::ready(header, ready)
        };
        match answer {
            Answer::Done => Self::ready(header, done()),
            Answer::Refused(errno) => Self::ready(header, vec![error(message, Some(errno))]),
            Answer::Family if header.dump() => {
                let mut left = 1..=1;
                Self::list(header, move |writer| {
                    let next = left.next();
                    next.inspect(|_| family(writer, header.reply(GENL_ID_CTRL, NLM_F_MULTI))).is_some()
                })
            }
            Answer::Family => {
                let mut writer = Writer::with_capacity(LONGEST_OBJECT);
                family(&mut writer, header.reply(GENL_ID_CTRL, 0));
                let mut ready = vec![writer.into_bytes()];
                ready.extend(done());
                Self::ready(header, ready)
            }
            Answer::Info(info) => object(CMD_SET_INFO, &|writer| info.encode(writer)),
            Answer::Timeouts(timeouts) => object(CMD_SET_CONFIG, &|writer| timeouts.encode(writer)),
            Answer::Service(service) => object(CMD_NEW_SERVICE, &|writer| service.encode(writer)),
            Answer::Services(list) => Self::objects(header, CMD_NEW_SERVICE, list, Service::encode),
            Answer::Dests(list) => Self::objects(header, CMD_NEW_DEST, list, Dest::encode),
            Answer::Daemons(list) => Self::objects(header, CMD_NEW_DAEMON, list, Daemon::encode),
        }
    }

    fn ready(header: Header, ready: Vec<Vec<u8>>) -> Self {
        Self { header, ready: ready.into_iter(), list: None }
    }

    fn list(header: Header, next: impl FnMut(&mut Writer) -> bool + 'a) -> Self {
        Self { header, ready: Vec::new().into_iter(), list: Some(Box::new(next)) }
    }

    fn objects<T: 'a>(
        header: Header,
        command: u8,
        mut objects: Box<dyn Iterator<Item = T> + 'a>,
        encode: fn(&T, &mut Writer),
    ) -> Self {
        let each = header.reply(FAMILY_ID, NLM_F_MULTI);
        Self::list(header, move |writer| match objects.next() {
            None => false,
            Some(object) => {
                writer.generic(each, command, FAMILY_VERSION, |writer| encode(&object, writer));
                true
            }
        })
    }
}

impl Iterator for Datagrams<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(datagram) = self.ready.next() {
            return Some(datagram);
        }
        let mut list = self.list.take()?;
        let mut writer = Writer::with_capacity(DATAGRAM_SIZE);
        while writer.len() + LONGEST_OBJECT <= DATAGRAM_SIZE {
            if !list(&mut writer) {
                writer.message(self.header.reply(NLMSG_DONE, NLM_F_MULTI), |writer| {
                    writer.raw(&0_i32.to_ne_bytes());
                });
                return Some(writer.into_bytes());
            }
        }
        self.list = Some(list);
        Some(writer.into_bytes())
    }
}

impl Header {
    /// The header of an answer to this one.
    fn reply(&self, kind: u16, flags: u16) -> MessageHeader {
        MessageHeader { kind, flags, sequence: self.sequence, port: self.port }
    }
}

/// `struct nlmsgerr`: a negative errno or 0, and the request: its header after a success, all of it after
/// a refusal.
fn error(message: &Message<'_>, errno: Option<Errno>) -> Vec<u8> {
    let request = message.bytes;
    let (number, flags, echo) = match errno {
        Some(errno) => (-errno.number(), 0, request),
        None => (0, NLM_F_CAPPED, request.get(..NLMSG_HEADER).unwrap_or(request)),
    };
    let mut writer = Writer::with_capacity(NLMSG_HEADER + 4 + echo.len() + 3);
    writer.message(message.header.reply(NLMSG_ERROR, flags), |writer| {
        writer.raw(&number.to_ne_bytes());
        writer.raw(echo);
    });
    writer.into_bytes()
}

/// What the controller tells of our family.
fn family(writer: &mut Writer, header: MessageHeader) {
    writer.generic(header, CTRL_CMD_NEWFAMILY, CTRL_VERSION, |writer| {
        writer.text(CTRL_ATTR_FAMILY_NAME, FAMILY_NAME);
        writer.u16(CTRL_ATTR_FAMILY_ID, FAMILY_ID);
        writer.u32(CTRL_ATTR_VERSION, u32::from(FAMILY_VERSION));
        writer.u32(CTRL_ATTR_HDRSIZE, 0);
        writer.u32(CTRL_ATTR_MAXATTR, u32::from(CMD_ATTR_MAX));
        writer.nest(CTRL_ATTR_OPS, |writer| {
            for (index, (command, _, form)) in (1..).zip(COMMANDS) {
                let forms = match form {
                    Form::Single => GENL_CMD_CAP_DO,
                    Form::Dump => GENL_CMD_CAP_DUMP,
                    Form::Both => GENL_CMD_CAP_DO | GENL_CMD_CAP_DUMP,
                };
                writer.nest(index, |writer| {
                    writer.u32(CTRL_ATTR_OP_ID, u32::from(command));
                    writer.u32(CTRL_ATTR_OP_FLAGS, GENL_ADMIN_PERM | forms | GENL_CMD_CAP_HASPOL);
                });
            }
        });
    });
}

impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("Done"),
            Self::Refused(errno) => f.debug_tuple("Refused").field(errno).finish(),
            Self::Family => f.write_str("Family"),
            Self::Info(info) => f.debug_tuple("Info").field(info).finish(),
            Self::Timeouts(timeouts) => f.debug_tuple("Timeouts").field(timeouts).finish(),
            Self::Service(service) => f.debug_tuple("Service").field(service).finish(),
            Self::Services(_) => f.write_str("Services(..)"),
            Self::Dests(_) => f.write_str("Dests(..)"),
            Self::Daemons(_) => f.write_str("Daemons(..)"),
        }
    }
}

impl fmt::Debug for Datagrams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams").field("header", &self.header).finish_non_exhaustive()
    }
}
