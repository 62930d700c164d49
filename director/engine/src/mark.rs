//! Firewall marks: rules that give new connections a mark, for the virtual services of marks.

use std::num::NonZeroU32;

/// A rule. Of several that match the first counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MarkRule {
    /// The IP protocol; none: any.
    pub protocol: Option<u8>,
    /// The client's network: address and mask, host order.
    pub source: (u32, u32),
    /// The network that the connection is to, which is the director's own as far as it is asked about.
    pub destination: (u32, u32),
    /// The first and the last port that the connection is to.
    pub ports: (u16, u16),
    /// The mark.
    pub mark: NonZeroU32,
}

impl MarkRule {
    /// Every address, or port: nothing is asked.
    pub const ANY_ADDRESS: (u32, u32) = (0, 0);
    /// See [`Self::ANY_ADDRESS`].
    pub const ANY_PORT: (u16, u16) = (0, u16::MAX);

    pub(crate) fn matches(&self, source: u32, destination: u32, port: u16, protocol: u8) -> bool {
        self.is_for(destination, protocol)
            && source & self.source.1 == self.source.0
            && (self.ports.0..=self.ports.1).contains(&port)
    }

    /// Whether something to this address may match.
    pub(crate) fn is_for(&self, destination: u32, protocol: u8) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
            && destination & self.destination.1 == self.destination.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let rule = MarkRule {
            protocol: Some(6),
            source: (0x0a00_0000, 0xff00_0000),
            destination: (0xc0a8_123a, u32::MAX),
            ports: (80, 443),
            mark: NonZeroU32::MIN,
        };
        assert!(rule.matches(0x0a01_0203, 0xc0a8_123a, 80, 6));
        assert!(rule.matches(0x0aff_ffff, 0xc0a8_123a, 443, 6));
        assert!(!rule.matches(0x0b01_0203, 0xc0a8_123a, 80, 6));
        assert!(!rule.matches(0x0a01_0203, 0xc0a8_123b, 80, 6));
        assert!(!rule.matches(0x0a01_0203, 0xc0a8_123a, 79, 6));
        assert!(!rule.matches(0x0a01_0203, 0xc0a8_123a, 444, 6));
        assert!(!rule.matches(0x0a01_0203, 0xc0a8_123a, 80, 17));
        let any = MarkRule {
            protocol: None,
            source: MarkRule::ANY_ADDRESS,
            destination: MarkRule::ANY_ADDRESS,
            ports: MarkRule::ANY_PORT,
            ..rule
        };
        assert!(any.matches(0, u32::MAX, u16::MAX, 17) && any.matches(u32::MAX, 0, 0, 6));
    }
}
