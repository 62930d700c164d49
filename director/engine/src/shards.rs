//! A map for snapshots: a copy shares everything with the original, and a change copies only one shard.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// Keys are what an operator chose, so they take a fast hash.
type Hasher = ahash::RandomState;
type Shard<K, V> = HashMap<K, V, Hasher>;

/// Shards are in groups, as many groups as shards in each, so that a change copies two short lists and one shard:
/// about 40 of 10,000 entries.
const GROUP: usize = 16;

type Group<K, V> = Arc<[Arc<Shard<K, V>>; GROUP]>;

/// A map in shards. Copies share each shard until one of them changes it.
#[derive(Clone, Debug)]
pub(crate) struct Shards<K, V> {
    hasher: Hasher,
    groups: Arc<[Group<K, V>; GROUP]>,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let hasher = Hasher::default();
        let empty = Arc::new(Shard::with_hasher(hasher.clone()));
        let group = Arc::new(std::array::from_fn(|_| empty.clone()));
        Self { hasher, groups: Arc::new(std::array::from_fn(|_| group.clone())), len: 0 }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Shards<K, V> {
    /// The group and the shard of a key. These are not the bits of the hash by which the shard spreads its keys:
    /// those would be the same for all keys of a shard.
    fn place(&self, key: &K) -> (usize, usize) {
        let hash = self.hasher.hash_one(key) >> 32;
        (hash as usize / GROUP % GROUP, hash as usize % GROUP)
    }

    #[inline]
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let (group, shard) = self.place(key);
        self.groups[group][shard].get(key)
    }

    #[inline]
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards().flat_map(|shard| shard.values())
    }

    fn shards(&self) -> impl Iterator<Item = &Arc<Shard<K, V>>> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// Changes the value of a key: `change` gets the present one and returns what is to be there.
    pub(crate) fn update(&mut self, key: K, change: impl FnOnce(Option<V>) -> Option<V>) {
        let (group, shard) = self.place(&key);
        let group = Arc::make_mut(&mut Arc::make_mut(&mut self.groups)[group]);
        let shard = Arc::make_mut(&mut group[shard]);
        let before = shard.remove(&key);
        self.len -= usize::from(before.is_some());
        if let Some(value) = change(before) {
            shard.insert(key, value);
            self.len += 1;
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.update(key, |_| Some(value));
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let mut removed = None;
        self.update(key, |before| {
            removed = before;
            None
        });
        removed
    }

    /// How many entries and shards this map does not share with `other`: what was copied in between.
    #[cfg(test)]
    pub(crate) fn own(&self, other: &Self) -> (usize, usize) {
        let pairs = self.shards().zip(other.shards());
        let own = pairs.filter(|(own, other)| !Arc::ptr_eq(own, other));
        own.fold((0, 0), |(entries, shards), (own, _)| (entries + own.len(), shards + 1))
    }
}

impl<K: Clone + Eq + Hash> Shards<K, u32> {
    /// Counts one more of a key.
    pub(crate) fn count(&mut self, key: K) {
        self.update(key, |before| Some(before.unwrap_or(0) + 1));
    }

    /// Counts one less.
    pub(crate) fn discount(&mut self, key: K) {
        self.update(key, |before| before.filter(|&count| count > 1).map(|count| count - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_copies_one_shard() {
        let mut map = Shards::default();
        (0..10_000_u64).for_each(|key| map.insert(key << 16, key));
        for key in 10_000..10_100 {
            let before = map.clone();
            map.insert(key << 16, key);
            let (entries, shards) = map.own(&before);
            assert_eq!(shards, 1);
            assert!(entries < 100, "{entries} of 10,000 entries were copied");
            assert_eq!((before.get(&(key << 16)), map.get(&(key << 16))), (None, Some(&key)));
        }
    }

    #[test]
    fn as_a_hash_map() {
        bolero::check!().with_type::<Vec<(u8, Option<u8>)>>().for_each(|changes| {
            let (mut map, mut model) = (Shards::default(), HashMap::new());
            let mut copies = Vec::new();
            for &(key, value) in changes {
                let before = match value {
                    Some(value) => {
                        map.insert(key, value);
                        model.insert(key, value);
                        None
                    }
                    None => Some((map.remove(key), model.remove(&key))),
                };
                assert!(before.is_none_or(|(own, models)| own == models));
                copies.push((map.clone(), model.clone()));
            }
            for (map, model) in copies {
                assert_eq!(map.is_empty(), model.is_empty());
                assert!((0..=u8::MAX).all(|key| map.get(&key) == model.get(&key)));
            }
        });
    }

    #[test]
    fn what_is_counted_is_there() {
        let mut map = Shards::default();
        map.count(1);
        map.count(1);
        map.discount(1);
        assert_eq!(map.get(&1), Some(&1));
        map.discount(1);
        map.discount(1);
        assert!(map.is_empty());
    }
}
