//! `mh`: consistent hashing as in Maglev (Eisenbud et al., NSDI 2016, section 3.4), as IPVS has it.

use super::hashing::Member;
use super::scale::greatest_common_divisor;

/// How many entries the lookup table has, a prime: the kernel's default, `CONFIG_IP_VS_MH_TAB_INDEX` 12.
pub(super) const SIZE: usize = 4093;

/// A greater weight is shifted down to so many bits.
const WEIGHT_BITS: u32 = 6;

/// The key of the hash for offsets and lookups.
const LOOKUP: u64 = 2_654_435_761;
/// And that for skips.
const SKIP: u64 = 2_654_446_892;

/// The kernel's `hsiphash` of a 32-bit word where it has 64-bit registers: SipHash-1-3 (Aumasson and
/// Bernstein, 2012; one round for each block and three at the end), of which the low half is taken.
fn hsiphash(word: u32, key: u64) -> u32 {
    fn round(v: &mut [u64; 4]) {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
    // Both halves of the key are the same. The last block has the length in bytes on top.
    let mut v = [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];
    v.iter_mut().for_each(|word: &mut u64| *word ^= key);
    let block = 4 << 56 | u64::from(word);
    v[3] ^= block;
    round(&mut v);
    v[0] ^= block;
    v[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut v));
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}

/// The entry of the table for a client's address, plus its port, plus an offset.
pub(super) fn bucket(source: u32) -> usize {
    hsiphash(source, LOOKUP) as usize % SIZE
}

/// How often in a row each server is asked for an entry.
fn turns(members: &[Member]) -> Vec<u32> {
    let divisor = members.iter().fold(0, |gcd, member| greatest_common_divisor(gcd, member.last_weight));
    let Some(most) = members.iter().map(|member| member.last_weight / divisor.max(1)).max() else {
        return Vec::new();
    };
    let shift = (u32::BITS - most.leading_zeros()).saturating_sub(WEIGHT_BITS);
    let turns = |weight: u32| ((weight / divisor.max(1)) >> shift).max(u32::from(weight > 0));
    members.iter().map(|member| turns(member.last_weight)).collect()
}

/// Fills the table: the servers in turn take the next entry of their own order that is still free. Of more
/// servers than entries the oldest count. Empty where no server has, or had, a weight.
pub(super) fn populate(members: &[Member]) -> Box<[u32]> {
    let newer = members.len().saturating_sub(SIZE);
    let members = &members[newer..];
    let turns = turns(members);
    if turns.iter().all(|&turns| turns == 0) {
        return Box::default();
    }
    let mut orders: Vec<_> = members
        .iter()
        .map(|member| {
            let key = member.address.address().fold().wrapping_add(member.address.port().into());
            let skip = hsiphash(key, SKIP) as usize % (SIZE - 1) + 1;
            (bucket(key), skip)
        })
        .collect();
    const FREE: u32 = u32::MAX;
    let mut table = vec![FREE; SIZE];
    let mut left = SIZE;
    'full: loop {
        for (place, ((next, skip), turns)) in orders.iter_mut().zip(&turns).enumerate() {
            for _ in 0..*turns {
                // Every order passes all entries, the size being a prime.
                while table[*next] != FREE {
                    *next = (*next + *skip) % SIZE;
                }
                table[*next] = (newer + place) as u32;
                left -= 1;
                if left == 0 {
                    break 'full;
                }
            }
        }
    }
    table.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use director_packet::Endpoint;

    fn member(address: u32, weight: u32) -> Member {
        Member { address: Endpoint::v4(address, 80), weight, last_weight: weight }
    }

    #[test]
    fn the_hash_is_siphash_1_3() {
        use std::hash::{DefaultHasher, Hasher};
        for word in [0, 1, 0xc0a8_120a, u32::MAX] {
            // The standard library's hasher is the same function, of the key 0.
            let mut hasher = DefaultHasher::new();
            hasher.write(&word.to_le_bytes());
            assert_eq!(hsiphash(word, 0), hasher.finish() as u32);
        }
        assert_eq!((hsiphash(0, LOOKUP), hsiphash(0xc0a8_120a, SKIP)), (492_468_162, 302_411_646));
    }

    #[test]
    fn turns_by_weight() {
        let turns =
            |weights: &[u32]| turns(&weights.iter().map(|&weight| member(1, weight)).collect::<Vec<_>>());
        assert_eq!(turns(&[]), []);
        assert_eq!(turns(&[0, 0]), [0, 0]);
        assert_eq!(turns(&[10, 0, 25]), [2, 0, 5]);
        // 63 has 6 bits; of 64 each loses one, but nobody his turn.
        assert_eq!(turns(&[63, 1]), [63, 1]);
        assert_eq!(turns(&[64, 1, 7]), [32, 1, 3]);
        assert_eq!(turns(&[i32::MAX as u32, 1]), [63, 1]);
    }

    #[test]
    fn a_server_more_moves_few() {
        let members: Vec<_> = (1..=10).map(|address| member(0x0a00_0000 + address, 1)).collect();
        let before = populate(&members[1..]);
        let after = populate(&members);
        let moved = before.iter().zip(&after).filter(|(before, after)| *before + 1 != **after).count();
        // A tenth must; a few more do.
        assert!((SIZE / 10..SIZE / 6).contains(&moved), "{moved}");
    }

    #[test]
    fn more_servers_than_entries() {
        let members: Vec<_> = (0..10_000).map(|address| member(address, 1)).collect();
        let table = populate(&members);
        assert!(table.iter().all(|&place| place as usize >= 10_000 - SIZE));
        assert_eq!(populate(&[member(1, 0)]).len(), 0);
    }
}
