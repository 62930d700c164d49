//! Reading attributes: `{u16 length, u16 type, value}`, each aligned to four bytes.
//!
//! The rules are the kernel's lenient ones, which IPVS's commands keep: unknown types are skipped, the last
//! of several equal ones counts, a number may be longer than needed, bytes at the end that form no
//! attribute are not looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::service::Family;
use crate::uapi::{ADDRESS_SIZE, ATTRIBUTE_HEADER, NLA_TYPE_MASK};
use crate::{Errno, Malformed, Name};

/// What the value of an attribute has to look like.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A number of this many bytes, or more.
    Number(usize),
    /// At most this many bytes; fewer stand for zeros at the end.
    Binary(usize),
    /// Exactly this many bytes.
    Exact(usize),
    /// At most this many bytes and a NUL.
    Text(usize),
    /// Attributes.
    Nested,
    /// Anything; not read.
    Any,
}

/// A level of attributes: its name and those it knows, by type; type 0 is never used.
pub(crate) struct Policy<const N: usize> {
    pub(crate) nest: &'static str,
    pub(crate) attributes: [(&'static str, Kind); N],
    /// What the kernel answers to a value of a wrong length here.
    pub(crate) wrong_length: Errno,
}

/// The attributes found on one level.
pub(crate) struct Attributes<'a, const N: usize> {
    policy: &'static Policy<N>,
    found: [Option<Attribute<'a>>; N],
    offset: usize,
    leftover: usize,
}

/// One attribute, checked against its [`Kind`].
#[derive(Clone, Copy)]
pub(crate) struct Attribute<'a> {
    name: &'static str,
    /// Where its header starts in the message.
    offset: usize,
    value: &'a [u8],
}

impl<const N: usize> Policy<N> {
    /// Reads `bytes`, which start at `offset` of the message.
    pub(crate) fn read<'a>(
        &'static self,
        bytes: &'a [u8],
        offset: usize,
    ) -> Result<Attributes<'a, N>, Malformed> {
        let mut found = [None; N];
        let mut rest = bytes;
        while let Some((number, value)) = split(rest) {
            if let (Some(&(name, kind)), Some(slot)) = (self.attributes.get(number), found.get_mut(number)) {
                let offset = offset + bytes.len() - rest.len();
                let attribute = Attribute { name, offset, value };
                attribute.check(kind, self.wrong_length)?;
                *slot = Some(attribute);
            }
            let aligned = (ATTRIBUTE_HEADER + value.len()).next_multiple_of(4);
            rest = rest.get(aligned..).unwrap_or_default();
        }
        Ok(Attributes { policy: self, found, offset, leftover: rest.len() })
    }
}

/// The type and the value of the attribute at the start of `bytes`; none if its length is impossible.
fn split(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let &[l0, l1, t0, t1] = bytes.first_chunk()?;
    let value = bytes.get(..usize::from(u16::from_ne_bytes([l0, l1])))?.get(ATTRIBUTE_HEADER..)?;
    Some((usize::from(u16::from_ne_bytes([t0, t1]) & NLA_TYPE_MASK), value))
}

impl<'a, const N: usize> Attributes<'a, N> {
    /// The attribute of this type, if it is there.
    pub(crate) fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.found.get(usize::from(kind)).copied().flatten()
    }

    /// The attribute of this type, without which the command is refused.
    pub(crate) fn need(&self, kind: u16) -> Result<Attribute<'a>, Malformed> {
        self.get(kind).ok_or_else(|| Malformed::Missing {
            nest: self.policy.nest,
            offset: self.offset,
            attribute: self.policy.attributes.get(usize::from(kind)).map_or("?", |known| known.0),
            leftover: self.leftover,
        })
    }
}

impl<'a> Attribute<'a> {
    fn check(&self, kind: Kind, errno: Errno) -> Result<(), Malformed> {
        let length = self.value.len();
        let rule = match kind {
            Kind::Number(size) if length < size => "it is a number of more",
            Kind::Binary(size) if length > size => "it has room for fewer",
            Kind::Exact(size) if length != size => "it has another size",
            // An empty nest is well-formed: everything in it is missing.
            Kind::Nested if (1..ATTRIBUTE_HEADER).contains(&length) => "no attribute fits in",
            Kind::Text(max) => {
                let within = self.value.get(..max + 1).unwrap_or(self.value);
                if !within.contains(&0) {
                    return Err(Malformed::Text { attribute: self.name, offset: self.offset });
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        Err(Malformed::Length { attribute: self.name, offset: self.offset, length, rule, errno })
    }

    /// The error about this attribute's value.
    pub(crate) fn wrong(&self, value: &impl ToString, rule: &'static str, errno: Errno) -> Malformed {
        Malformed::Value { attribute: self.name, offset: self.offset, value: value.to_string(), rule, errno }
    }

    /// Reads the attributes inside.
    pub(crate) fn nested<const N: usize>(
        &self,
        policy: &'static Policy<N>,
    ) -> Result<Attributes<'a, N>, Malformed> {
        policy.read(self.value, self.offset + ATTRIBUTE_HEADER)
    }

    /// The first bytes, with zeros appended if there are fewer.
    fn bytes<const SIZE: usize>(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        for (to, from) in bytes.iter_mut().zip(self.value) {
            *to = *from;
        }
        bytes
    }

    pub(crate) fn u8(&self) -> u8 {
        u8::from_ne_bytes(self.bytes())
    }

    pub(crate) fn u16(&self) -> u16 {
        u16::from_ne_bytes(self.bytes())
    }

    pub(crate) fn u32(&self) -> u32 {
        u32::from_ne_bytes(self.bytes())
    }

    /// A port, in network order.
    pub(crate) fn port(&self) -> u16 {
        u16::from_be_bytes(self.bytes())
    }

    pub(crate) fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.bytes::<4>())
    }

    pub(crate) fn ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.bytes::<ADDRESS_SIZE>())
    }

    /// An address in the 16 bytes of `union nf_inet_addr`.
    pub(crate) fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::Inet => IpAddr::V4(self.ipv4()),
            Family::Inet6 => IpAddr::V6(self.ipv6()),
        }
    }

    /// Two words, as in `struct ip_vs_flags`.
    pub(crate) fn words(&self) -> [u32; 2] {
        let [a, b, c, d, e, f, g, h] = self.bytes();
        [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
    }

    /// The text before the NUL.
    pub(crate) fn name(&self) -> Result<Name, Malformed> {
        let text = self.value.split(|&byte| byte == 0).next().unwrap_or_default();
        std::str::from_utf8(text)
            .ok()
            .and_then(|text| Name::new(text).ok())
            .ok_or(Malformed::Text { attribute: self.name, offset: self.offset })
    }
}
