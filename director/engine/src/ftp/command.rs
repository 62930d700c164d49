//! What a client says on a control connection, as far as it is about data connections: `PORT` and `PASV` (RFC 959),
//! `EPRT` and `EPSV` (RFC 2428).

use std::net::{IpAddr, Ipv4Addr};

/// The longest command that can be one of them: `EPRT` with an address of IPv6, and a few blanks.
const LONGEST: usize = 72;

/// A command about a data connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// The server is to connect to here.
    Active(IpAddr, u16),
    /// The server is to say where the client can connect to (227).
    Passive,
    /// Likewise, but its port alone (229).
    ExtendedPassive,
}

/// The line that a client is in the middle of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    bytes: [u8; LONGEST],
    /// More than there is room for: it is too long for any of them.
    length: u8,
}

impl Line {
    /// Nothing of it was seen yet.
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; LONGEST], length: 0 }
    }

    /// The next byte of the stream; gives the command that it ends. As the kernel has it, one with an address has ended
    /// where its last number has, and the others may have something before them in the line.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Command> {
        if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
            *place = byte;
        }
        self.length = self.length.saturating_add(1).min(LONGEST as u8 + 1);
        if byte.is_ascii_alphanumeric() {
            return None;
        }
        let line = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        if byte == b'\n' {
            self.length = 0;
            return active(line).or_else(|| passive(line));
        }
        // What is left of the line is no command.
        active(line).inspect(|_| self.length = LONGEST as u8 + 1)
    }
}

/// A command with an address, and at least a byte behind its last number.
fn active(line: &[u8]) -> Option<Command> {
    let (verb, rest) = line.split_at_checked(4)?;
    let is_port = verb.eq_ignore_ascii_case(b"PORT");
    if !is_port && !verb.eq_ignore_ascii_case(b"EPRT") {
        return None;
    }
    // Behind `PORT` there need be no blank.
    let begin = rest.iter().position(|byte| *byte == b' ' || is_port && byte.is_ascii_digit())?;
    let blanks = rest.iter().skip(begin).take_while(|byte| **byte == b' ').count();
    let value = rest.get(begin + blanks..)?;
    if !is_port {
        return extended(value);
    }
    let (address, port) =
        address_and_port(value).filter(|_| value.last().is_some_and(|last| *last != b','))?;
    Some(Command::Active(address.into(), port))
}

/// A command without an address, which ends a line. `EPSV` comes with the number of an address family, or none; `EPSV ALL`
/// asks for nothing.
fn passive(line: &[u8]) -> Option<Command> {
    let line = line.trim_ascii_end();
    let ends_with = |end: &[u8]| {
        let from = line.len().checked_sub(end.len());
        from.and_then(|from| line.get(from..)).is_some_and(|last| last.eq_ignore_ascii_case(end))
    };
    if ends_with(b"PASV") {
        Some(Command::Passive)
    } else if [&b"EPSV"[..], b"EPSV 1", b"EPSV 2"].iter().any(|end| ends_with(end)) {
        Some(Command::ExtendedPassive)
    } else {
        None
    }
}

/// The decimal number that these digits are, and nothing else.
fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if is_number { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// `h1,h2,h3,h4,p1,p2` of RFC 959, whatever comes behind it; a number that is not there is 0, as in the kernel, and port 0
/// is none.
pub(super) fn address_and_port(text: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let mut numbers = [0_u8; 6];
    let mut parts = text.split(|byte| *byte == b',');
    for (at, number) in numbers.iter_mut().enumerate() {
        for byte in parts.next()? {
            match byte {
                b'0'..=b'9' => *number = number.checked_mul(10)?.checked_add(byte - b'0')?,
                _ if at == 5 => break,
                _ => return None,
            }
        }
    }
    let [a, b, c, d, high, low] = numbers;
    let port = u16::from_be_bytes([high, low]);
    (port != 0).then(|| (Ipv4Addr::new(a, b, c, d), port))
}

/// `|1|address|port|` of RFC 2428, with any delimiter, whatever comes behind it.
fn extended(text: &[u8]) -> Option<Command> {
    let delimiter = *text.first()?;
    let mut parts = text.split(|byte| *byte == delimiter);
    let [nothing, family, address, port, behind] = std::array::from_fn(|_| parts.next());
    if behind.is_none() || !nothing?.is_empty() {
        return None;
    }
    let address: IpAddr = std::str::from_utf8(address?).ok()?.parse().ok()?;
    let is_its = matches!((family?, address), (b"1", IpAddr::V4(_)) | (b"2", IpAddr::V6(_)));
    let port = decimal(port?).filter(|port| *port != 0)?;
    is_its.then_some(Command::Active(address, port))
}

/// `|||port|` of RFC 2428, with any delimiter.
pub(super) fn extended_port(text: &[u8]) -> Option<u16> {
    let delimiter = *text.first().filter(|byte| !byte.is_ascii_digit())?;
    let [a, b, c, digits @ .., d] = text else { return None };
    let is_delimited = [a, b, c, d].iter().all(|byte| **byte == delimiter);
    decimal(digits).filter(|port| is_delimited && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(stream: &[u8]) -> Vec<Command> {
        let mut line = Line::new();
        stream.iter().filter_map(|byte| line.push(*byte)).collect()
    }

    fn active(address: &str, port: u16) -> Vec<Command> {
        vec![Command::Active(address.parse().unwrap(), port)]
    }

    #[test]
    fn the_commands_about_data_connections() {
        assert_eq!(commands(b"PORT 192,168,18,10,7,209\r\n"), active("192.168.18.10", 2001));
        assert_eq!(commands(b"port   192,168,018,10,7,209\n"), active("192.168.18.10", 2001));
        assert_eq!(commands(b"EPRT |1|192.168.18.10|2001|\r\n"), active("192.168.18.10", 2001));
        assert_eq!(commands(b"eprt !2!2001:db8::1!2001!\r\n"), active("2001:db8::1", 2001));
        // Not as they are to be, but as the kernel takes them.
        for line in [
            "PORT192,168,18,10,7,209",
            "PORT\t192,168,18,10,7,209",
            "PORTx 192,168,18,10,7,209",
            "PORT 192,168,18,10,7,209,1",
            "PORT 192,168,18,10,7,209,",
            "PORT 0192,168,18,10,7,209 x",
        ] {
            assert_eq!(commands(format!("{line}\r\n").as_bytes()), active("192.168.18.10", 2001), "{line}");
        }
        assert_eq!(commands(b"PORT 192,168,,10,8,\r\n"), active("192.168.0.10", 2048));
        for line in [
            "EPRT |1|192.168.18.10|2001|x|\r\n",
            "EPRT |1|192.168.18.10|2001|",
            "EPRTx |1|192.168.18.10|2001|\n",
        ] {
            assert_eq!(commands(line.as_bytes()), active("192.168.18.10", 2001), "{line}");
        }
        let telnet = b"\xff\xf4\xff\xf2PASV\r\nSTOR EPSV 1\r\n";
        assert_eq!(commands(telnet), [Command::Passive, Command::ExtendedPassive]);
        assert_eq!(commands(b"USER x\r\nPASV\r\nPasv\n"), [Command::Passive; 2]);
        assert_eq!(commands(b"EPSV\r\nEPSV 1\r\nepsv 2\r\n"), [Command::ExtendedPassive; 3]);
    }

    #[test]
    fn what_is_none_of_them() {
        for line in [
            "",
            "\r",
            "PORT",
            "PORT 192,168,18,10,7",
            "PORT 192,168,18,256,7,209",
            "PORT 192,168,18,10,0,0",
            "PORTAL",
            "EPRT|1|192.168.18.10|2001|",
            "EPRT |1|192.168.18.10|0|",
            "EPRT |2|192.168.18.10|2001|",
            "EPRT |1|192.168.18.10|2001",
            "EPRT |1|192.168.18.10|70000|",
            "PASV x",
            "EPSV ALL",
            "EPSV 3",
            "PORT x 192,168,18,10,7,209",
            "PORT 192,168,18,10,7 209",
        ] {
            assert_eq!(commands(format!("{line}\r\n").as_bytes()), [], "{line}");
        }
        // Their ends are yet to come.
        assert_eq!(commands(b"PORT 192,168,18,10,7,209"), []);
        assert_eq!(commands(b"PORT 192,168,18,10,7,"), []);
        assert_eq!(commands(b"EPRT |1|192.168.18.10|2001"), []);
        assert_eq!(commands(b"PASV"), []);
        let long = [b"PASV".repeat(40), b"\r\nPASV\r\n".to_vec()].concat();
        assert_eq!(commands(&long), [Command::Passive], "after a line that is too long");
    }

    #[test]
    fn a_port_of_229() {
        assert_eq!(extended_port(b"|||50000|"), Some(50000));
        assert_eq!(extended_port(b"!!!1!"), Some(1));
        for none in [&b""[..], b"|", b"||||", b"|||0|", b"|||65536|", b"||1|50000|", b"1111501", b"|||5x|"] {
            assert_eq!(extended_port(none), None, "{none:?}");
        }
    }
}
