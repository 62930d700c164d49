//! The timeout wheel: which records are to be looked at, and when.
//!
//! Three levels of 512 slots, of 1 tick, 256 ticks (25.6 s) and 65,536 ticks (109 min), reach 38 days. A slot is a
//! doubly linked list whose links stand in one array beside the records, 8 bytes each, which only the control core
//! touches; no deadline is stored: a record's clock says it.
//!
//! A level has twice the slots that one slot of the next level spans. So a slot of an upper level can be emptied into
//! the lower one bit by bit during the whole period before its own ([`Wheel::ahead`]), instead of all at once when its
//! time begins ([`Wheel::due`]): at millions of connections a second, one slot of the middle level holds a hundred
//! million records.
//!
//! The wheel hands out records and forgets them; the caller looks at each one and arms it again, or is done with it.

use std::io;

use crate::slab::{Mapping, Pages, prefetch};
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::time::Tick;

const LEVEL_SLOTS: usize = 512;
/// log2 of the ticks that a slot of each level spans.
const SPAN: [u32; 3] = [0, 8, 16];
const SLOTS: usize = LEVEL_SLOTS * SPAN.len();
/// How many empty ticks one call goes through, so that a jump of the clock does not stall the caller.
const STRIDE: u32 = 1 << 16;

/// Lists of records, linked through one word each that only the control core touches (so everything is relaxed).
///
/// A word is previous 32 | next 32. Next: position plus one, 0 at the end. Previous: position plus one, or `IN_SLOT`
/// and the slot whose first element this is, or `RETIRED` for a record that was unlinked and waits to be reused. So
/// the word of a record in no list is 0.
pub(crate) struct Links(Mapping<AtomicU64>);

const IN_SLOT: u32 = 1 << 31;
const RETIRED: u32 = u32::MAX;
/// The highest number of records that can be linked.
pub(crate) const MAX_RECORDS: u32 = IN_SLOT - 1;

impl Links {
    pub(crate) fn new(records: u32, pages: Pages, populate: bool) -> io::Result<Self> {
        Mapping::new(records as usize, pages, populate).map(Links)
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    fn get(&self, record: u32) -> (u32, u32) {
        let word = self.0[record as usize].load(Relaxed);
        ((word >> 32) as u32, word as u32)
    }

    fn set(&self, record: u32, previous: u32, next: u32) {
        self.0[record as usize].store(u64::from(previous) << 32 | u64::from(next), Relaxed);
    }

    pub(crate) fn prefetch(&self, record: u32) {
        if let Some(word) = self.0.get(record as usize) {
            prefetch(word);
        }
    }

    /// Pushes a record that is in no list onto a stack of retired ones. `top` is the top of the stack (position plus
    /// one, or 0).
    pub(crate) fn retire(&self, record: u32, top: &mut u32) {
        self.set(record, RETIRED, *top);
        *top = record + 1;
    }

    /// Takes a record off a stack of retired ones.
    pub(crate) fn pop_retired(&self, top: &mut u32) -> Option<u32> {
        let record = top.checked_sub(1)?;
        (_, *top) = self.get(record);
        self.reset(record);
        Some(record)
    }

    pub(crate) fn is_retired(&self, record: u32) -> bool {
        self.get(record).0 == RETIRED
    }

    fn reset(&self, record: u32) {
        self.set(record, 0, 0);
    }
}

/// The wheel itself.
pub(crate) struct Wheel {
    links: Links,
    /// First record of each slot's list, plus one.
    first: Box<[u32]>,
    /// The tick that is being gone through: everything before it was handed out.
    current: Tick,
}

impl Wheel {
    pub(crate) fn new(links: Links, now: Tick) -> Self {
        Wheel { links, first: vec![0; SLOTS].into_boxed_slice(), current: now }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.links.bytes() + size_of_val(&*self.first)
    }

    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Starts at another time. Only while nothing is armed.
    pub(crate) fn start(&mut self, now: Tick) {
        self.current = now;
    }

    /// How many periods of a level lie between the current tick and `deadline`, which is not before it.
    fn periods(&self, level: usize, deadline: Tick) -> u32 {
        (deadline.0 >> SPAN[level]).wrapping_sub(self.current.0 >> SPAN[level]) & (u32::MAX >> SPAN[level])
    }

    fn slot(level: usize, tick: Tick) -> usize {
        level * LEVEL_SLOTS + ((tick.0 >> SPAN[level]) as usize & (LEVEL_SLOTS - 1))
    }

    /// The slot for a deadline: the lowest level whose present or next period contains it.
    fn slot_for(&self, deadline: Tick) -> usize {
        // What is due, or overdue, comes with the next tick; what is beyond reach is looked at on the way.
        let next = self.current.plus(1);
        let deadline = if next.reached(deadline) { next } else { deadline };
        if self.periods(1, deadline) < 2 {
            Self::slot(0, deadline)
        } else if self.periods(2, deadline) < 2 {
            Self::slot(1, deadline)
        } else if self.periods(2, deadline) < LEVEL_SLOTS as u32 {
            Self::slot(2, deadline)
        } else {
            Self::slot(2, self.current.plus((LEVEL_SLOTS as u32 - 1) << SPAN[2]))
        }
    }

    /// Arms a record to be handed out at `deadline` (a tick later at most, earlier if it is far); moves it if it is
    /// armed.
    pub(crate) fn arm(&mut self, record: u32, deadline: Tick) {
        self.disarm(record);
        let slot = self.slot_for(deadline);
        let next = std::mem::replace(&mut self.first[slot], record + 1);
        self.links.set(record, IN_SLOT | slot as u32, next);
        if next != 0 {
            let (_, after) = self.links.get(next - 1);
            self.links.set(next - 1, record + 1, after);
        }
    }

    /// Takes a record out of the wheel, if it is in it.
    pub(crate) fn disarm(&mut self, record: u32) {
        let (previous, next) = self.links.get(record);
        if previous == 0 || previous == RETIRED {
            return;
        }
        if previous & IN_SLOT != 0 {
            self.first[(previous & !IN_SLOT) as usize] = next;
        } else {
            let (before, _) = self.links.get(previous - 1);
            self.links.set(previous - 1, before, next);
        }
        if next != 0 {
            let (_, after) = self.links.get(next - 1);
            self.links.set(next - 1, previous, after);
        }
        self.links.reset(record);
    }

    #[cfg(test)]
    pub(crate) fn is_armed(&self, record: u32) -> bool {
        !matches!(self.links.get(record).0, 0 | RETIRED)
    }

    /// Takes up to `out.len()` records off a slot's list.
    fn empty(&mut self, slot: usize, out: &mut [u32]) -> usize {
        let mut taken = 0;
        let mut next = self.first[slot];
        while next != 0 && taken < out.len() {
            let record = next - 1;
            out[taken] = record;
            taken += 1;
            (_, next) = self.links.get(record);
            self.links.reset(record);
        }
        self.first[slot] = next;
        if next != 0 {
            let (_, after) = self.links.get(next - 1);
            self.links.set(next - 1, IN_SLOT | slot as u32, after);
        }
        taken
    }

    /// Hands out up to `out.len()` records that have to be looked at before `now` is over, and returns how many. The
    /// caller arms those that are not done again before it calls again. 0: none, unless [`Wheel::is_behind`].
    pub(crate) fn due(&mut self, now: Tick, out: &mut [u32]) -> usize {
        for _ in 0..STRIDE {
            let taken = self.empty(Self::slot(0, self.current), out);
            if taken > 0 || self.current.reached(now) {
                return taken;
            }
            // Records of upper levels for a period that begins now come first, if `ahead` has not taken them.
            let next = self.current.plus(1);
            for level in [2, 1] {
                if next.0.trailing_zeros() >= SPAN[level] {
                    let taken = self.empty(Self::slot(level, next), out);
                    if taken > 0 {
                        return taken;
                    }
                }
            }
            self.current = next;
        }
        0
    }

    /// Whether [`Wheel::due`] has not reached `now` yet.
    pub(crate) fn is_behind(&self, now: Tick) -> bool {
        !self.current.reached(now) || self.first[Self::slot(0, self.current)] != 0
    }

    /// Hands out up to `out.len()` records of the coming periods of the upper levels, so that the caller arms them
    /// again on a lower level. It is not necessary, but saves doing all of it at once later.
    pub(crate) fn ahead(&mut self, out: &mut [u32]) -> usize {
        for level in [1, 2] {
            let taken = self.empty(Self::slot(level, self.current.plus(1 << SPAN[level])), out);
            if taken > 0 {
                return taken;
            }
        }
        0
    }
}

#[cfg(test)]
#[cfg(not(loom))]
#[cfg_attr(miri, allow(dead_code, reason = "one test is left out there"))]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use bolero::TypeGenerator;

    use super::*;

    const RECORDS: u32 = 64;

    #[derive(Clone, Debug, TypeGenerator)]
    enum Op {
        /// Arms a record, or moves it, so many ticks ahead (spread over all magnitudes).
        Arm {
            record: u8,
            ticks: u32,
        },
        /// A record's clock was changed without telling the wheel: always to a later time, as by a packet.
        Later {
            record: u8,
            ticks: u32,
        },
        Disarm {
            record: u8,
        },
        Advance {
            ticks: u32,
        },
        Ahead {
            batch: u8,
        },
    }

    fn spread(ticks: u32, most: u32) -> u32 {
        (ticks >> (ticks & 31)) % most
    }

    /// The wheel, and beside it what it should do: a plain queue ordered by deadline.
    struct Simulation {
        wheel: Wheel,
        now: Tick,
        start: Tick,
        /// The record's deadline, in ticks since the start; `None`: not armed.
        deadlines: Vec<Option<u32>>,
        queue: BinaryHeap<Reverse<(u32, u32)>>,
    }

    impl Simulation {
        fn new(start: Tick) -> Self {
            let links = Links::new(RECORDS, Pages::Base, false).unwrap();
            Simulation {
                wheel: Wheel::new(links, start),
                now: start,
                start,
                deadlines: vec![None; RECORDS as usize],
                queue: BinaryHeap::new(),
            }
        }

        fn elapsed(&self) -> u32 {
            self.now.0.wrapping_sub(self.start.0)
        }

        fn arm(&mut self, record: u32, ticks: u32) {
            let deadline = self.elapsed() + ticks;
            self.deadlines[record as usize] = Some(deadline);
            self.queue.push(Reverse((deadline, record)));
            self.wheel.arm(record, self.start.plus(deadline));
        }

        /// What the keeper does with records that the wheel hands out. Returns those whose time has come.
        fn look(&mut self, records: &[u32]) -> Vec<u32> {
            let mut fired = Vec::new();
            for &record in records {
                let deadline = self.deadlines[record as usize].expect("handed out, but not armed");
                if deadline <= self.elapsed() {
                    self.deadlines[record as usize] = None;
                    fired.push(record);
                } else {
                    self.wheel.arm(record, self.start.plus(deadline));
                }
            }
            fired
        }

        fn advance(&mut self, ticks: u32) {
            self.now = self.now.plus(ticks);
            let mut fired = Vec::new();
            let mut out = [0; 7];
            loop {
                let taken = self.wheel.due(self.now, &mut out);
                fired.extend(self.look(&out[..taken]));
                if taken == 0 && !self.wheel.is_behind(self.now) {
                    break;
                }
            }
            let mut expected = Vec::new();
            while let Some(&Reverse((deadline, record))) = self.queue.peek() {
                if deadline > self.elapsed() {
                    break;
                }
                self.queue.pop();
                // What was moved or disarmed since is in the queue still.
                if fired.contains(&record) && !expected.contains(&record) {
                    expected.push(record);
                } else {
                    assert!(
                        self.deadlines[record as usize].is_none_or(|moved| moved > self.elapsed()),
                        "{record} was due at {deadline}, and is not out at {}",
                        self.elapsed()
                    );
                }
            }
            assert_eq!(fired.len(), expected.len(), "{fired:?} came, {expected:?} should have");
            for (record, deadline) in self.deadlines.iter().enumerate() {
                assert_eq!(self.wheel.is_armed(record as u32), deadline.is_some());
            }
        }

        fn run(&mut self, op: &Op) {
            match *op {
                Op::Arm { record, ticks } => {
                    self.arm(u32::from(record) % RECORDS, 1 + spread(ticks, 40_000_000));
                }
                Op::Later { record, ticks } => {
                    let record = u32::from(record) % RECORDS;
                    if let Some(deadline) = &mut self.deadlines[record as usize] {
                        *deadline += spread(ticks, 1_000_000);
                        self.queue.push(Reverse((*deadline, record)));
                    }
                }
                Op::Disarm { record } => {
                    let record = u32::from(record) % RECORDS;
                    self.deadlines[record as usize] = None;
                    self.wheel.disarm(record);
                }
                Op::Advance { ticks } => self.advance(spread(ticks, 100_000)),
                Op::Ahead { batch } => {
                    let mut out = vec![0; usize::from(batch).max(1)];
                    let taken = self.wheel.ahead(&mut out);
                    let early = self.look(&out[..taken]);
                    assert_eq!(early, [], "handed out ahead, but due");
                }
            }
        }
    }

    // Under Miri there are no files for the runner to read.
    #[test]
    #[cfg(not(miri))]
    fn the_wheel_does_what_a_queue_does() {
        bolero::check!()
            .with_generator((bolero::produce::<u32>(), bolero::produce::<Vec<Op>>().with().len(0..500_usize)))
            .with_iterations(100)
            .with_max_len(8192)
            .for_each(|(start, ops)| {
                let mut simulation = Simulation::new(Tick(*start));
                ops.iter().for_each(|op| simulation.run(op));
            });
    }

    #[test]
    fn every_deadline_of_31_days_comes_exactly() {
        let steps: &[u32] = if cfg!(miri) {
            &[1, 255, 256, 511, 513]
        } else {
            &[1, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 131_071, 131_072, 131_073, 26_784_001]
        };
        for start in [0, 1, 255, 65_535, u32::MAX, u32::MAX - 65_536, 0x00ff_ffff, 12_345_678] {
            let mut simulation = Simulation::new(Tick(start));
            for (record, &ticks) in (0..).zip(steps) {
                simulation.arm(record, ticks);
            }
            let mut elapsed = 0;
            for (record, &ticks) in steps.iter().enumerate() {
                simulation.advance(ticks - 1 - elapsed);
                assert!(simulation.deadlines[record].is_some(), "{ticks} from {start}: early");
                simulation.advance(1);
                assert!(simulation.deadlines[record].is_none(), "{ticks} from {start}: late");
                elapsed = ticks;
            }
        }
    }

    #[test]
    fn what_is_done_ahead_leaves_nothing_for_the_turn_of_a_period() {
        let mut simulation = Simulation::new(Tick(1000));
        for record in 0..RECORDS {
            simulation.arm(record, 600 + record);
        }
        // In the period before theirs (1536..1792), all of them can be brought to the lowest level.
        simulation.advance(300);
        let mut out = [0; 10];
        let mut moved = 0;
        loop {
            let taken = simulation.wheel.ahead(&mut out);
            moved += taken;
            simulation.look(&out[..taken]);
            if taken == 0 {
                break;
            }
        }
        assert_eq!(moved, RECORDS as usize);
        // Then each is handed out at its time, and only then.
        for record in 0..RECORDS {
            simulation.now = simulation.start.plus(600 + record);
            assert_eq!(simulation.wheel.due(simulation.now, &mut out), 1);
            assert_eq!(out[0], record);
            assert_eq!(simulation.wheel.due(simulation.now, &mut out), 0);
        }
    }

    #[test]
    fn what_is_overdue_comes_with_the_next_tick() {
        let mut simulation = Simulation::new(Tick(10));
        simulation.wheel.arm(3, Tick(5));
        simulation.wheel.arm(4, Tick(10));
        let mut out = [0; 8];
        assert_eq!(simulation.wheel.due(Tick(10), &mut out), 0);
        assert_eq!(simulation.wheel.due(Tick(11), &mut out), 2);
    }

    #[test]
    fn a_list_emptied_in_part_is_whole() {
        for gone in 0..4 {
            let mut wheel = Wheel::new(Links::new(4, Pages::Base, false).unwrap(), Tick(0));
            (0..4).for_each(|record| wheel.arm(record, Tick(5)));
            let mut first = [0];
            assert_eq!(wheel.due(Tick(5), &mut first), 1);
            assert!(wheel.is_behind(Tick(5)));
            wheel.disarm(gone);
            wheel.arm(first[0], Tick(6));
            let mut out = [0; 8];
            let taken = wheel.due(Tick(5), &mut out);
            let mut left: Vec<u32> = out[..taken].to_vec();
            left.sort_unstable();
            let expected: Vec<u32> = (0..4).filter(|&record| record != first[0] && record != gone).collect();
            assert_eq!(left, expected);
            assert_eq!((wheel.due(Tick(6), &mut out), out[0]), (1, first[0]));
        }
    }

    #[test]
    fn the_retired_are_in_no_list_and_come_back_from_their_stack() {
        let links = Links::new(4, Pages::Base, false).unwrap();
        let mut wheel = Wheel::new(links, Tick(0));
        wheel.arm(0, Tick(5));
        wheel.arm(1, Tick(5));
        wheel.arm(2, Tick(5));
        wheel.disarm(1);
        let mut top = 0;
        wheel.links().retire(1, &mut top);
        wheel.disarm(0);
        wheel.links().retire(0, &mut top);
        assert!(wheel.links().is_retired(1) && wheel.links().is_retired(0) && !wheel.links().is_retired(2));
        wheel.disarm(1);
        assert!(wheel.links().is_retired(1), "disarming changes nothing for the retired");
        let mut out = [0; 8];
        assert_eq!((wheel.due(Tick(5), &mut out), out[0]), (1, 2));
        assert_eq!(wheel.links().pop_retired(&mut top), Some(0));
        assert_eq!(wheel.links().pop_retired(&mut top), Some(1));
        assert_eq!(wheel.links().pop_retired(&mut top), None);
        assert!(!wheel.links().is_retired(1) && !wheel.is_armed(1));
    }
}
