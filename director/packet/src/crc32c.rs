//! CRC32c, the checksum of SCTP (RFC 9260, section 6.8), brought up to date.
//!
//! A CRC is linear: the effect of changing some bytes depends on these bytes and on how many follow, not on the rest.
//! So a packet need not be read again, not all of it has to be at hand, and a wrong checksum stays wrong.

/// The Castagnoli polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// A register after one zero bit more.
const fn step(register: u32) -> u32 {
    let feedback = if register & 1 != 0 { POLYNOMIAL } else { 0 };
    register >> 1 ^ feedback
}

/// For each power of two, what as many zero bytes make of each bit of a register.
static ZEROS: [[u32; 32]; 16] = {
    let mut zeros = [[0; 32]; 16];
    let mut bit = 0;
    while bit < 32 {
        let mut register = 1 << bit;
        let mut count = 0;
        while count < 8 {
            register = step(register);
            count += 1;
        }
        zeros[0][bit] = register;
        bit += 1;
    }
    let mut power = 1;
    while power < 16 {
        let mut bit = 0;
        while bit < 32 {
            zeros[power][bit] = apply(&zeros[power - 1], zeros[power - 1][bit]);
            bit += 1;
        }
        power += 1;
    }
    zeros
};

const fn apply(columns: &[u32; 32], register: u32) -> u32 {
    let mut result = 0;
    let mut bit = 0;
    while bit < 32 {
        if register >> bit & 1 != 0 {
            result ^= columns[bit];
        }
        bit += 1;
    }
    result
}

/// The number by which the CRC of some bytes changes (by exclusive or) when four of the bytes, followed by `after`
/// more, change from `old` to `new`.
#[must_use]
pub fn change(old: [u8; 4], new: [u8; 4], after: u16) -> u32 {
    let mut register = u32::from_le_bytes(old) ^ u32::from_le_bytes(new);
    for _ in 0..32 {
        register = step(register);
    }
    for (power, columns) in ZEROS.iter().enumerate() {
        if after >> power & 1 != 0 {
            register = apply(columns, register);
        }
    }
    register
}

/// The CRC of some bytes.
#[must_use]
pub fn of(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = step(register);
        }
    }
    !register
}

#[cfg(test)]
mod tests {
    use super::{of as crc, *};

    #[test]
    fn the_polynomial_is_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn an_update_is_the_crc_taken_anew() {
        bolero::check!().with_type::<(Vec<u8>, [u8; 4], u16)>().cloned().for_each(|(mut bytes, new, at)| {
            bytes.extend([0; 4]);
            let at = usize::from(at) % (bytes.len() - 3);
            let old = *bytes[at..].first_chunk::<4>().unwrap();
            let before = crc(&bytes);
            bytes[at..at + 4].copy_from_slice(&new);
            let after = (bytes.len() - at - 4) as u16;
            assert_eq!(before ^ change(old, new, after), crc(&bytes));
        });
        let mut long = vec![7; 65_000];
        let before = crc(&long);
        long[..4].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(before ^ change([7; 4], [1, 2, 3, 4], 64_996), crc(&long));
    }
}
