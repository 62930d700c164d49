//! How a device chooses the receive queue of a packet, and so its worker.
//!
//! Any choice is correct. It is fastest if both directions of a connection come to one worker. All they have in
//! common is the client's address and port, so a device is asked to choose by the source alone where clients are, and
//! by the destination alone where servers are. A device that cannot do that is asked to choose by both ends, which
//! spreads connections just as well.

use anyhow::Result;
use director_config::Side;
use dpdk::{Port, RssConfig, RssTypes, Started};

/// The key of every port that looks at one end only. It repeats two bytes, so that the device's function (Toeplitz)
/// gives the same for an address and a port wherever they are in the headers.
const KEY: [u8; 2] = [0x6d, 0x5a];

/// The length of the key in bytes for a device that takes any length.
const KEY_LENGTH: usize = 40;

/// Which ends of a packet the device looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The device does not choose, or chooses by rules of its own.
    None,
    Both,
    Source,
    Destination,
}

impl Ends {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Both => "both",
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// A way of choosing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rss {
    pub(crate) ends: Ends,
    pub(crate) types: RssTypes,
    key: Option<Vec<u8>>,
}

impl Rss {
    const NONE: Self = Self { ends: Ends::None, types: RssTypes::EMPTY, key: None };

    /// What a port is configured with.
    pub(crate) fn setting(&self) -> Option<RssConfig> {
        (self.ends != Ends::None).then(|| RssConfig { types: self.types, key: self.key.clone() })
    }

    fn one_end(&self) -> bool {
        matches!(self.ends, Ends::Source | Ends::Destination)
    }
}

/// What to ask of a port with so many receive queues, the best first, and nothing at all last. `offered` is what its
/// device can do, `key_size` the length of its key.
pub(crate) fn choices(side: Side, queues: u16, offered: RssTypes, key_size: u8) -> Vec<Rss> {
    let packets = RssTypes::IPV4
        | RssTypes::IPV4_TCP
        | RssTypes::IPV4_UDP
        | RssTypes::IPV4_SCTP
        | RssTypes::IPV6
        | RssTypes::IPV6_TCP
        | RssTypes::IPV6_UDP
        | RssTypes::IPV6_SCTP;
    let types = packets & offered;
    let mut choices = Vec::new();
    if queues > 1 && !types.is_empty() {
        let one_end = match side {
            Side::Both => None,
            Side::Clients => Some((Ends::Source, RssTypes::L3_SRC_ONLY | RssTypes::L4_SRC_ONLY)),
            Side::Servers => Some((Ends::Destination, RssTypes::L3_DST_ONLY | RssTypes::L4_DST_ONLY)),
        };
        if let Some((ends, only)) = one_end.filter(|(_, only)| offered.contains(*only)) {
            let length = if key_size == 0 { KEY_LENGTH } else { key_size.into() };
            let key = KEY.into_iter().cycle().take(length).collect();
            choices.push(Rss { ends, types: types | only, key: Some(key) });
        }
        choices.push(Rss { ends: Ends::Both, types, key: None });
    }
    choices.push(Rss::NONE);
    choices
}

/// The first of the choices that a port accepts, and the port.
pub(crate) fn first_taken<T>(
    mut choices: Vec<Rss>,
    mut configure: impl FnMut(&Rss) -> Result<T>,
) -> Result<(T, Rss)> {
    let last = choices.pop().unwrap_or(Rss::NONE);
    for rss in choices {
        match configure(&rss) {
            Ok(port) => return Ok((port, rss)),
            Err(error) => tracing::warn!("not with RSS by {}: {error:#}", rss.types),
        }
    }
    Ok((configure(&last)?, last))
}

/// Gives the ports that look at one end tables by which a hash leads to the same queue, whatever their lengths.
pub(crate) fn agree<'a>(ports: impl Iterator<Item = (&'a Port<Started>, &'a Rss, u16)> + Clone) {
    let with_table = ports.filter(|(port, rss, _)| rss.one_end() && table_size(port) > 0);
    let Some(shortest) = with_table.clone().map(|(port, _, _)| table_size(port)).min() else { return };
    for (port, _, queues) in with_table {
        if let Err(error) = port.set_reta(&table(shortest, queues)) {
            tracing::warn!("both directions of a connection may come to different workers: {error}");
        }
    }
}

fn table_size(port: &Port<Started>) -> u16 {
    port.info().map_or(0, |info| info.reta_size)
}

/// The queues in turn, as often as the shortest table has room for them.
fn table(shortest: u16, queues: u16) -> Vec<u16> {
    (0..shortest).map(|entry| entry % queues).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn packets() -> RssTypes {
        RssTypes::IPV4 | RssTypes::IPV4_TCP | RssTypes::IPV4_UDP | RssTypes::IPV6 | RssTypes::IPV6_TCP
    }

    fn one_end() -> RssTypes {
        RssTypes::L3_SRC_ONLY | RssTypes::L3_DST_ONLY | RssTypes::L4_SRC_ONLY | RssTypes::L4_DST_ONLY
    }

    fn ends(side: Side, queues: u16, offered: RssTypes) -> Vec<Ends> {
        choices(side, queues, offered, 40).iter().map(|rss| rss.ends).collect()
    }

    #[test]
    fn the_clients_end_is_asked_for_where_the_device_offers_it() {
        use Ends::{Both, Destination, None, Source};
        let all = packets() | one_end();
        assert_eq!(ends(Side::Clients, 4, all), [Source, Both, None]);
        assert_eq!(ends(Side::Servers, 4, all), [Destination, Both, None]);
        assert_eq!(ends(Side::Both, 4, all), [Both, None]);
        // One queue needs no choice; and this one offers too little, or nothing.
        assert_eq!(ends(Side::Clients, 1, all), [None]);
        assert_eq!(ends(Side::Clients, 4, packets()), [Both, None]);
        assert_eq!(ends(Side::Clients, 4, all - RssTypes::L4_SRC_ONLY), [Both, None]);
        assert_eq!(ends(Side::Servers, 4, all - RssTypes::L3_DST_ONLY), [Both, None]);
        assert_eq!(ends(Side::Clients, 4, one_end()), [None]);

        let [source, both, none] = &choices(Side::Clients, 4, all, 52)[..] else { panic!("three choices") };
        assert_eq!(source.types, packets() | RssTypes::L3_SRC_ONLY | RssTypes::L4_SRC_ONLY);
        assert_eq!(source.key.as_ref().map(Vec::len), Some(52));
        assert_eq!(both.setting(), Some(RssConfig { types: packets(), key: Option::None }));
        assert_eq!(none.setting(), Option::None);
        assert_eq!(choices(Side::Clients, 4, all, 0)[0].key.as_ref().map(Vec::len), Some(KEY_LENGTH));
    }

    #[test]
    fn what_a_driver_refuses_is_never_required() {
        let all = choices(Side::Clients, 2, packets() | one_end(), 40);
        for (refused, taken) in [(0, Ends::Source), (1, Ends::Both), (2, Ends::None)] {
            let mut asked = 0;
            let result = first_taken(all.clone(), |_| {
                asked += 1;
                if asked > refused { Ok(asked) } else { Err(anyhow!("not this")) }
            });
            assert_eq!(result.unwrap().1.ends, taken);
        }
        assert_eq!(first_taken::<()>(all, |_| Err(anyhow!("broken"))).unwrap_err().to_string(), "broken");
    }

    /// Toeplitz, as devices compute it.
    fn hash(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
        let window = |at: usize| (at..at + 32).fold(0, |word, at| word << 1 | u32::from(bit(key, at)));
        (0..input.len() * 8).filter(|&at| bit(input, at) == 1).fold(0, |hash, at| hash ^ window(at))
    }

    /// Both directions of a connection, whether the device leaves out the other end or takes it for zero, and with
    /// tables of different lengths.
    #[test]
    fn both_directions_of_a_connection_come_to_one_queue() {
        const QUEUES: u16 = 3;
        let choice = choices(Side::Clients, QUEUES, packets() | one_end(), 40).swap_remove(0);
        let key = choice.key.unwrap();
        let table = table(128, QUEUES);
        let entry = |hash: u32, size: u32| table[(hash % size % 128) as usize];
        let mut taken = [0; QUEUES as usize];
        for number in 0..3000_u32 {
            let client = (0x0a00_0000 + number / 50).to_be_bytes();
            let port = (32_768 + number as u16 * 7).to_be_bytes();
            let from_client = [&client[..], &[0; 4], &port, &[0; 2]].concat();
            let to_client = [&[0; 4], &client[..], &[0; 2], &port].concat();
            let alone = [&client[..], &port].concat();
            let inwards = hash(&key, &from_client);
            assert_eq!(inwards, hash(&key, &to_client));
            assert_eq!(entry(hash(&key, &alone), 128), entry(hash(&key, &alone), 512));
            assert_eq!(entry(inwards, 128), entry(hash(&key, &to_client), 512));
            taken[usize::from(entry(inwards, 128))] += 1;
        }
        assert!(taken.iter().all(|&share| (800..1200).contains(&share)), "{taken:?}");
    }
}
