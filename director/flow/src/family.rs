//! Address families: what a client end is, and how large a record is.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use crate::slab::Blank;
use crate::sync::{AtomicU64, Ordering::Relaxed};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// An address family: the key of a connection and the size of its record.
///
/// Sealed: the memory of the table is laid out for [`V4`] and [`V6`].
#[expect(private_bounds, reason = "`Blank` builds the records where memory cannot be mapped")]
pub trait Family: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The client end of a connection: address, port, protocol.
    type End: Copy + Eq + fmt::Debug + Send + Sync;
    /// The words of a record; an array of atomics.
    #[doc(hidden)]
    type Words: AsRef<[AtomicU64]> + Blank + Send + Sync;
    /// 64-bit words in a record.
    const WORDS: usize;
    /// How many of them hold the client end.
    const END_WORDS: usize;
    /// How many are the caller's: all but the end, the clock and one of book-keeping.
    const USER_WORDS: usize = Self::WORDS - Self::END_WORDS - 2;

    /// One well-mixed number for an end.
    #[doc(hidden)]
    fn digest(end: Self::End, seed: &RandomState) -> u64;
    /// Writes an end to the first words of a slice.
    #[doc(hidden)]
    fn store(end: Self::End, words: &[AtomicU64]);
    /// Reads an end from the first words of a slice.
    #[doc(hidden)]
    fn load(words: &[AtomicU64]) -> Self::End;
    /// Whether the first words of a slice are an end's.
    #[doc(hidden)]
    fn is(words: &[AtomicU64], end: Self::End) -> bool;
}

/// IPv4: a record is one cache line.
#[derive(Clone, Copy, Debug)]
pub enum V4 {}

/// IPv6: a record is two cache lines; the end and the clock are in the first.
#[derive(Clone, Copy, Debug)]
pub enum V6 {}

/// Address, port and protocol of an IPv4 client, in host byte order, as one number:
/// address << 32 | port << 16 | protocol << 8.
#[derive(Clone, Copy, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct V4End(u64);

impl V4End {
    /// The end of these three; `addr` and `port` in host byte order.
    #[inline]
    #[must_use]
    pub const fn new(addr: u32, port: u16, protocol: u8) -> Self {
        V4End((addr as u64) << 32 | (port as u64) << 16 | (protocol as u64) << 8)
    }

    /// The end from the number [`V4End::bits`] gave.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        V4End(bits)
    }

    /// The end as one number.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The address in host byte order.
    #[inline]
    #[must_use]
    pub const fn addr(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The port in host byte order.
    #[inline]
    #[must_use]
    pub const fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The IP protocol number.
    #[inline]
    #[must_use]
    pub const fn protocol(self) -> u8 {
        (self.0 >> 8) as u8
    }
}

impl fmt::Debug for V4End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", std::net::Ipv4Addr::from_bits(self.addr()), self.port(), self.protocol())
    }
}

impl Family for V4 {
    type End = V4End;
    type Words = [AtomicU64; 8];
    const WORDS: usize = 8;
    const END_WORDS: usize = 1;

    #[inline]
    fn digest(end: V4End, seed: &RandomState) -> u64 {
        let mut hasher = seed.build_hasher();
        hasher.write_u64(end.0);
        hasher.finish()
    }

    #[inline]
    fn store(end: V4End, words: &[AtomicU64]) {
        words[0].store(end.0, Relaxed);
    }

    #[inline]
    fn load(words: &[AtomicU64]) -> V4End {
        V4End(words[0].load(Relaxed))
    }

    #[inline(always)]
    fn is(words: &[AtomicU64], end: V4End) -> bool {
        words[0].load(Relaxed) == end.0
    }
}

/// Address, port and protocol of an IPv6 client, in host byte order.
#[derive(Clone, Copy, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct V6End {
    /// The address in host byte order.
    pub addr: u128,
    /// The port in host byte order.
    pub port: u16,
    /// The IP protocol number.
    pub protocol: u8,
}

impl V6End {
    /// The end of these three; `addr` and `port` in host byte order.
    #[inline]
    #[must_use]
    pub const fn new(addr: u128, port: u16, protocol: u8) -> Self {
        V6End { addr, port, protocol }
    }

    #[inline(always)]
    const fn words(self) -> [u64; 3] {
        [(self.addr >> 64) as u64, self.addr as u64, (self.port as u64) << 16 | (self.protocol as u64) << 8]
    }
}

impl fmt::Debug for V6End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]:{}/{}", std::net::Ipv6Addr::from_bits(self.addr), self.port, self.protocol)
    }
}

impl Family for V6 {
    type End = V6End;
    type Words = [AtomicU64; 16];
    const WORDS: usize = 16;
    const END_WORDS: usize = 3;

    #[inline]
    fn digest(end: V6End, seed: &RandomState) -> u64 {
        let mut hasher = seed.build_hasher();
        // An address at once: one multiplication less than for its halves.
        hasher.write_u128(end.addr);
        hasher.write_u64(end.words()[2]);
        hasher.finish()
    }

    #[inline]
    fn store(end: V6End, words: &[AtomicU64]) {
        for (word, value) in words.iter().zip(end.words()) {
            word.store(value, Relaxed);
        }
    }

    #[inline]
    fn load(words: &[AtomicU64]) -> V6End {
        let [high, low, rest] = [0, 1, 2].map(|i: usize| words[i].load(Relaxed));
        V6End {
            addr: u128::from(high) << 64 | u128::from(low),
            port: (rest >> 16) as u16,
            protocol: (rest >> 8) as u8,
        }
    }

    #[inline(always)]
    fn is(words: &[AtomicU64], end: V6End) -> bool {
        let [high, low, rest] = end.words();
        let differs = |at: usize, word: u64| words[at].load(Relaxed) ^ word;
        differs(0, high) | differs(1, low) | differs(2, rest) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through_words<F: Family>(end: F::End) -> F::End {
        let words = F::Words::blank();
        F::store(end, words.as_ref());
        assert!(F::is(words.as_ref(), end));
        for word in &words.as_ref()[..F::END_WORDS] {
            word.fetch_xor(1 << 16, Relaxed);
            assert!(!F::is(words.as_ref(), end), "another's");
            word.fetch_xor(1 << 16, Relaxed);
        }
        F::load(words.as_ref())
    }

    #[test]
    fn an_end_survives_its_words() {
        let v4 = V4End::new(0xc0a8_120a, 0xfedc, 17);
        assert_eq!((v4.addr(), v4.port(), v4.protocol()), (0xc0a8_120a, 0xfedc, 17));
        assert_eq!(V4End::from_bits(v4.bits()), v4);
        assert_eq!(through_words::<V4>(v4), v4);
        assert_eq!(format!("{v4:?}"), "192.168.18.10:65244/17");

        let v6 = V6End::new(0x2001_0db8_0000_0001_8000_0000_0000_00ff, 0xfedc, 6);
        assert_eq!(through_words::<V6>(v6), v6);
        assert_eq!(format!("{v6:?}"), "[2001:db8:0:1:8000::ff]:65244/6");
    }

    #[test]
    fn a_digest_depends_on_every_part_and_on_the_seed() {
        let seed = RandomState::with_seeds(1, 2, 3, 4);
        let digest = |addr, port, protocol| V6::digest(V6End::new(addr, port, protocol), &seed);
        let base = digest(1 << 100 | 1, 80, 6);
        assert_eq!(base, digest(1 << 100 | 1, 80, 6));
        assert_ne!(base, digest(1 << 101 | 1, 80, 6));
        assert_ne!(base, digest(1 << 100 | 2, 80, 6));
        assert_ne!(base, digest(1 << 100 | 1, 81, 6));
        assert_ne!(base, digest(1 << 100 | 1, 80, 17));

        let end = V4End::new(1, 2, 6);
        let other = RandomState::with_seeds(5, 2, 3, 4);
        assert_ne!(V4::digest(end, &seed), V4::digest(end, &other));
    }
}
