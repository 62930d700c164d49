//! SIP's Call-ID, by which the persistence engine `sip` keeps the datagrams of a call together (RFC 3261, section
//! 20.8).

use std::fmt;

use zerocopy::FromZeros;

/// The longest Call-ID that is looked at, in bytes, as in the kernel.
const LONGEST: usize = 255;

/// A call's name.
#[derive(Clone, Copy, PartialEq, Eq, FromZeros)]
#[repr(C)]
pub struct CallId {
    bytes: [u8; LONGEST],
    length: u8,
}

impl CallId {
    /// The Call-ID of a SIP message; none if it has none, or one that is too long or no word.
    #[must_use]
    pub fn of(message: &[u8]) -> Option<Self> {
        // The first line is no header field.
        let mut rest = message;
        while let Some(end) = rest.iter().position(|byte| b"\r\n".contains(byte)) {
            let line = rest.get(end..)?;
            rest = line.strip_prefix(b"\r\n").or_else(|| line.get(1..))?;
            let Some(value) = field(rest) else { continue };
            let id = words(value);
            if !id.is_empty() {
                let is_all = value.get(id.len()).is_some_and(|byte| b"\r\n".contains(byte));
                return if is_all { Self::new(id) } else { None };
            }
        }
        None
    }

    fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; LONGEST];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { bytes, length: id.len() as u8 })
    }

    /// The name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

/// What follows `Call-ID:`, or `i:` for short, where it begins the text.
fn field(text: &[u8]) -> Option<&[u8]> {
    let is_named =
        |name: &str| text.get(..name.len())?.eq_ignore_ascii_case(name.as_bytes()).then_some(name.len());
    let after = text.get(is_named("Call-ID").or_else(|| is_named("i"))?..)?;
    Some(skip_blanks(skip_blanks(after).strip_prefix(b":")?))
}

/// Blanks, and an end of the line that a blank follows (RFC 3261, section 7.3.1).
fn skip_blanks(text: &[u8]) -> &[u8] {
    let mut rest = text;
    loop {
        let blank = [&b" "[..], b"\t", b"\r\n ", b"\r\n\t", b"\n ", b"\n\t"];
        match blank.iter().find_map(|blank| rest.strip_prefix(*blank)) {
            Some(after) => rest = after,
            None => return rest,
        }
    }
}

/// The word that a text begins with, or two with an `@` between them; nothing where the second is missing.
fn words(text: &[u8]) -> &[u8] {
    let length = |text: &[u8]| text.iter().take_while(|byte| is_of_word(**byte)).count();
    let first = length(text);
    let whole = match text.get(first..) {
        Some([b'@', rest @ ..]) if first > 0 => match length(rest) {
            0 => 0,
            second => first + 1 + second,
        },
        _ => first,
    };
    text.get(..whole).unwrap_or_default()
}

/// Whether a byte can be in a word (RFC 3261, section 25.1).
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~()<>:\\\"/[]?{}".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(message: &str) -> Option<String> {
        CallId::of(message.as_bytes()).map(|id| String::from_utf8(id.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_call_id_is_found() {
        for (text, id) in [
            (
                "INVITE sip:b@h SIP/2.0\r\nVia: x\r\nCall-ID: a84b4c76e66710@pc33\r\n\r\n",
                "a84b4c76e66710@pc33",
            ),
            ("OPTIONS x\ncall-id:aaa@h\n", "aaa@h"),
            ("x\r\ni: f81d4fae\r\n", "f81d4fae"),
            ("x\r\nI :\r\n b@[2001:db8::1]\r\n", "b@[2001:db8::1]"),
            ("x\r\nCall-ID: @h\r\nCall-ID: b\r\n", "b"),
        ] {
            assert_eq!(found(text).as_deref(), Some(id), "{text:?}");
        }
        let longest = format!("x\r\nCall-ID: {}\r\n", "a".repeat(255));
        assert_eq!(found(&longest).map(|id| id.len()), Some(255));
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "Call-ID: a@h\r\n",
            "x\r\nCall-ID: a@h",
            "x\r\nCall-ID: a@\r\n",
            "x\r\nCall-ID: @h\r\n",
            "x\r\nCall-ID:\r\n",
            "x\r\nCall-ID: not a word\r\nCall-ID: b\r\n",
            "x\r\nCall-IDs: a\r\n",
            "x\r\nInfo: a\r\n",
            "x\r\nVia: Call-ID: a\r\n",
        ] {
            assert_eq!(found(text), None, "{text:?}");
        }
        assert_eq!(found(&format!("x\r\nCall-ID: {}\r\n", "a".repeat(256))), None);
    }

    #[test]
    fn any_bytes_are_borne() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            if let Some(id) = CallId::of(bytes) {
                assert!(!id.as_bytes().is_empty());
            }
        });
    }
}
