//! The director's table, used as its workers and its control core use it.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use director_flow::{
    Clock, Hash, Index, Inserted, Keeper, MAX_TIMEOUT, Options, Probe, Record, Table, Tick, V4, V4End,
    Verdict, WorkerLocal,
};

use super::{BURST, Contender, NOW, Reader, SERVICE, Writer, end};

/// The word of a record that holds the virtual service; where the engine has it.
const SERVICE_WORD: usize = 1;

const SEEN: Tick = Tick(NOW as u32);

/// What the control core does at once.
const BUDGET: usize = 4096;

/// A table for so many connections.
///
/// # Errors
/// There is no memory.
pub fn own(entries: u32) -> Result<Contender> {
    Ok(own_table(&Options::new(entries, 2))?.1)
}

/// The same with these options, which are for two workers; and the table itself.
///
/// # Errors
/// There is no memory.
pub fn own_table(options: &Options) -> Result<(Arc<Table<V4>>, Contender)> {
    let (table, mut workers, keeper) = Table::<V4>::create(options)?;
    let writer = workers.pop().context("no worker")?;
    let reader = workers.pop().context("no worker")?;
    let contender = Contender {
        name: "director",
        reader: Box::new(OwnReader { worker: reader, table: table.clone() }),
        writer: Box::new(OwnWriter { worker: writer, table: table.clone(), keeper }),
    };
    Ok((table, contender))
}

/// What workers on threads of their own use.
pub type Readers = Vec<Box<dyn Reader + Send>>;

/// A table of these options, which are for any number of workers: what the last of them uses to change it, and
/// what each of the others uses to look up.
///
/// # Errors
/// There is no memory.
pub fn own_readers(options: &Options) -> Result<(Readers, Box<dyn Writer>)> {
    let (table, mut workers, keeper) = Table::<V4>::create(options)?;
    let writer = workers.pop().context("no worker")?;
    let readers = workers
        .into_iter()
        .map(|worker| Box::new(OwnReader { worker, table: table.clone() }) as Box<dyn Reader + Send>)
        .collect();
    Ok((readers, Box::new(OwnWriter { worker: writer, table, keeper })))
}

struct OwnReader {
    worker: WorkerLocal<V4>,
    table: Arc<Table<V4>>,
}

impl Reader for OwnReader {
    #[inline]
    fn lookup(&mut self, ends: &[u64; BURST]) -> usize {
        self.worker.quiescent();
        let table = &*self.table;
        let mut hashes: [Hash; BURST] = [table.hash(V4End::from_bits(0)); BURST];
        for (hash, bits) in hashes.iter_mut().zip(ends) {
            *hash = table.hash(V4End::from_bits(*bits));
            table.prefetch(*hash);
        }
        let probes: [Probe; BURST] = std::array::from_fn(|at| table.probe(hashes[at]));
        let mut found = 0;
        for ((hash, probe), bits) in hashes.into_iter().zip(probes).zip(ends) {
            let client = V4End::from_bits(*bits);
            let same = |record: &Record<V4>| record.end() == client && record.word(SERVICE_WORD) == SERVICE;
            if let Some(index) = table.resolve(hash, probe, same) {
                found += usize::from(table.record(index).touch(SEEN).is_ok());
            }
        }
        found
    }

    fn rest(&mut self) {
        self.worker.offline();
    }
}

struct OwnWriter {
    worker: WorkerLocal<V4>,
    table: Arc<Table<V4>>,
    keeper: Keeper<V4>,
}

impl OwnWriter {
    /// The control core's turn: it hears what was made, and gives back what is over.
    fn serve(&mut self) {
        let mut policy = (
            |_: Index, _: &Record<V4>, _: Clock| Verdict::KeepFor(MAX_TIMEOUT),
            |_: Index, _: &Record<V4>| {},
        );
        self.worker.quiescent();
        while self.keeper.poll(SEEN, BUDGET, &mut policy).behind {
            self.worker.quiescent();
        }
    }
}

impl Writer for OwnWriter {
    fn insert(&mut self, numbers: Range<u64>) -> Result<()> {
        let mut from = numbers.start;
        while from < numbers.end {
            let to = (from + BURST as u64).min(numbers.end);
            self.worker.quiescent();
            for number in from..to {
                self.table.prefetch(self.table.hash(V4End::from_bits(end(number))));
            }
            for number in from..to {
                let client = V4End::from_bits(end(number));
                let same =
                    |record: &Record<V4>| record.end() == client && record.word(SERVICE_WORD) == SERVICE;
                let made = self.worker.insert(client, same, |_, record| {
                    record.set_word(SERVICE_WORD, SERVICE);
                    Ok::<_, Infallible>(Clock::new(SEEN, 1, MAX_TIMEOUT))
                })?;
                if !matches!(made, Inserted::New(_)) {
                    bail!("connection {number} was there before it was made");
                }
            }
            self.serve();
            from = to;
        }
        Ok(())
    }

    fn remove(&mut self, numbers: Range<u64>) -> Result<()> {
        let mut from = numbers.start;
        while from < numbers.end {
            let to = (from + BURST as u64).min(numbers.end);
            self.worker.quiescent();
            for number in from..to {
                self.table.prefetch(self.table.hash(V4End::from_bits(end(number))));
            }
            for number in from..to {
                // Has the record fetched; which one it is is seen below.
                let _ = self.table.probe(self.table.hash(V4End::from_bits(end(number))));
            }
            for number in from..to {
                let client = V4End::from_bits(end(number));
                let found = self.table.find(self.table.hash(client), |record| record.end() == client);
                let index = found.with_context(|| format!("connection {number} is not there"))?;
                self.worker.kill(index);
            }
            self.serve();
            from = to;
        }
        Ok(())
    }

    fn rest(&mut self) {
        self.serve();
        self.worker.offline();
    }
}
