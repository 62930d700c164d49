//! Ethernet II headers (IEEE 802.3).

use std::fmt;
use std::str::FromStr;

/// The length of an Ethernet header without tags, in bytes.
pub const HEADER: usize = 14;

/// EtherTypes (IEEE 802 numbers).
pub mod ether_type {
    /// IPv4.
    pub const IPV4: [u8; 2] = [0x08, 0x00];
    /// IPv6.
    pub const IPV6: [u8; 2] = [0x86, 0xdd];

    /// That of the IP packet that begins with this byte.
    #[must_use]
    pub const fn of(version_and_rest: u8) -> [u8; 2] {
        if version_and_rest >> 4 == 6 { IPV6 } else { IPV4 }
    }
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address in the low 48 bits of a word, as it lies in memory.
    #[must_use]
    pub const fn word(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// The address in the low 48 bits of a word.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, _, _] = word.to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    /// Whether it names a group: multicast or broadcast.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no MAC address.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAMac;

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or(NotAMac)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| NotAMac)?;
        }
        if parts.next().is_some() { Err(NotAMac) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_word() {
        let mac: Mac = "02:00:00:00:0d:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:00:00:0d:01");
        assert_eq!(Mac::from_word(mac.word() | 0xffff << 48), mac);
        assert!("02:00:00:00:0d".parse::<Mac>().is_err());
        assert!("02:00:00:00:0d:01:02".parse::<Mac>().is_err());
        assert!("02:00:00:00:0d:+1".parse::<Mac>().is_err());
        assert!(Mac([0xff; 6]).is_group() && !mac.is_group());
    }
}
