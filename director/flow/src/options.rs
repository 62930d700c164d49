//! How a table is made, and why it cannot be.

use std::io;

use crate::slab::Pages;
use crate::wheel::MAX_RECORDS;

/// How to make a table.
#[derive(Clone, Debug)]
pub struct Options {
    /// Entries it can hold.
    pub capacity: u32,
    /// Workers that will use it.
    pub workers: usize,
    /// Pages for its memory.
    pub pages: Pages,
    /// Whether to touch all memory now, so that no worker has to wait for a page to be cleared later.
    pub populate: bool,
    /// The seed of the hash; random if `None`. A fixed seed is for tests: anybody who knows it can make long chains.
    pub seed: Option<u64>,
}

impl Options {
    /// A table for this many entries and workers, with a random seed, on the best pages there are.
    #[must_use]
    pub fn new(capacity: u32, workers: usize) -> Self {
        Options { capacity, workers, pages: Pages::Auto, populate: false, seed: None }
    }
}

/// Why a table could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The capacity is 0 or more than positions can number.
    #[error("a connection table of {capacity} entries cannot be made: the capacity must be 1 to {max}", max = MAX_RECORDS / 2)]
    Capacity {
        /// The capacity asked for.
        capacity: u32,
    },
    /// No worker, or more than there can be.
    #[error("a connection table for {workers} workers cannot be made: there must be 1 to 1024")]
    Workers {
        /// The number asked for.
        workers: usize,
    },
    /// The kernel gave no memory.
    #[error(
        "no memory for the {what} of a connection table of {capacity} entries ({mib} MiB, {pages}): {source}; \
         lower the capacity{hint}"
    )]
    Memory {
        /// The part of the table.
        what: &'static str,
        /// The capacity asked for.
        capacity: u32,
        /// Its size.
        mib: usize,
        /// The pages asked for.
        pages: &'static str,
        /// What else would help.
        hint: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl CreateError {
    pub(crate) fn memory(what: &'static str, options: &Options, bytes: usize, source: io::Error) -> Self {
        let (pages, hint) = match options.pages {
            Pages::Auto => ("on any pages", ""),
            Pages::Base | Pages::Unreserved => ("on base pages", ""),
            Pages::Huge2M => ("on 2 MiB pages", " or reserve more pages (sysctl vm.nr_hugepages)"),
            Pages::Huge1G => (
                "on 1 GiB pages",
                " or reserve more pages (/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages)",
            ),
        };
        CreateError::Memory {
            what,
            capacity: options.capacity,
            mib: bytes.div_ceil(1 << 20),
            pages,
            hint,
            source,
        }
    }
}
