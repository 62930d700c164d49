//! DPDK's log: taken from its stream line by line, remembered for the errors
//! of this crate, and passed on to the program's own log.

mod stream;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, ThreadId};

use dpdk_sys as sys;

pub(crate) use self::stream::{Quiet, install};

/// How grave a message of DPDK is (`rte_log.h`), the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The system is unusable.
    Emergency,
    /// Action must be taken at once.
    Alert,
    /// A critical condition.
    Critical,
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// Normal but significant.
    Notice,
    /// Informational.
    Info,
    /// For debugging.
    Debug,
}

impl Level {
    fn from_dpdk(level: u32) -> Self {
        match level {
            0 | sys::RTE_LOG_EMERG => Self::Emergency,
            sys::RTE_LOG_ALERT => Self::Alert,
            sys::RTE_LOG_CRIT => Self::Critical,
            sys::RTE_LOG_ERR => Self::Error,
            sys::RTE_LOG_WARNING => Self::Warning,
            sys::RTE_LOG_NOTICE => Self::Notice,
            sys::RTE_LOG_INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Emergency => "emergency",
            Self::Alert => "alert",
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        })
    }
}

/// One line that DPDK logged.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its level.
    pub level: Level,
    /// The line, without its end of line; drivers begin it with their name.
    pub message: &'a str,
}

/// Sends DPDK's log to `sink` instead of to standard error, from now on.
///
/// `sink` is called on whichever thread logs; a worker lcore logs only when its
/// driver complains. Set it before [`Eal::start`](crate::Eal::start), which
/// logs most. A panic in it aborts the process, for DPDK's C code cannot be
/// unwound.
pub fn set_sink(sink: impl Fn(&Record<'_>) + Send + Sync + 'static) {
    *SINK.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(sink));
}

type Sink = dyn Fn(&Record<'_>) + Send + Sync;

static SINK: RwLock<Option<Arc<Sink>>> = RwLock::new(None);
static RECENT: Mutex<Recent> = Mutex::new(Recent { next: 0, lines: VecDeque::new() });

/// The latest lines: what an error quotes as DPDK's reason.
struct Recent {
    next: u64,
    lines: VecDeque<Line>,
}

struct Line {
    sequence: u64,
    thread: ThreadId,
    level: Level,
    message: String,
}

/// Enough for the longest complaint of a driver.
const REMEMBERED: usize = 64;
/// More lines than these help nobody who reads an error.
const QUOTED: usize = 4;
/// A line without an end is cut here: no driver may make us hold more.
const LONGEST_LINE: usize = 1024;

fn recent() -> MutexGuard<'static, Recent> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the log: what this thread logs from here on belongs to the
/// operation that made it.
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) fn now() -> Self {
        Self(recent().next)
    }

    /// What DPDK said on this thread since the mark: its warnings and graver,
    /// or the last line where there is none. The last lines count: a function
    /// complains on its way out, its caller after it.
    pub(crate) fn said(&self) -> Vec<String> {
        let thread = thread::current().id();
        let recent = recent();
        let since = || recent.lines.iter().filter(|line| line.sequence >= self.0 && line.thread == thread);
        let mut said: Vec<String> = Vec::new();
        for line in since().filter(|line| line.level <= Level::Warning) {
            if !said.contains(&line.message) {
                said.push(line.message.clone());
            }
        }
        if said.is_empty() {
            said.extend(since().next_back().map(|line| line.message.clone()));
        }
        said.split_off(said.len().saturating_sub(QUOTED))
    }
}

thread_local! {
    /// What a thread has logged of a line not ended yet, and its level.
    static UNFINISHED: RefCell<String> = const { RefCell::new(String::new()) };
    /// A sink that makes DPDK log again must not be called from within itself.
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
}

/// Takes what was printed on this thread, line by line.
fn take_text(level: Level, text: &str) {
    // A thread that is ending has no thread-locals left; its last words may go.
    let lines: Vec<String> = UNFINISHED
        .try_with(|unfinished| {
            let mut unfinished = unfinished.borrow_mut();
            let mut lines = Vec::new();
            for piece in text.split_inclusive('\n') {
                unfinished.push_str(piece);
                if piece.ends_with('\n') || unfinished.len() >= LONGEST_LINE {
                    lines.push(std::mem::take(&mut *unfinished));
                }
            }
            lines
        })
        .unwrap_or_default();
    for line in lines {
        let message = line.trim();
        if !message.is_empty() {
            publish(level, message);
        }
    }
}

/// Remembers a line and passes it on. Also for what this crate itself has to
/// say where no caller is left to tell (a destructor).
pub(crate) fn publish(level: Level, message: &str) {
    {
        let mut recent = recent();
        let sequence = recent.next;
        recent.next += 1;
        if recent.lines.len() == REMEMBERED {
            recent.lines.pop_front();
        }
        let thread = thread::current().id();
        recent.lines.push_back(Line { sequence, thread, level, message: message.to_owned() });
    }
    if IN_SINK.try_with(|inside| inside.replace(true)).unwrap_or(true) {
        return;
    }
    let sink = SINK.read().unwrap_or_else(PoisonError::into_inner).clone();
    match sink {
        Some(sink) => sink(&Record { level, message }),
        // With no standard error there is nobody to tell.
        None => drop(writeln!(io::stderr(), "{message}")),
    }
    let _ = IN_SINK.try_with(|inside| inside.set(false));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_dpdk() {
        assert_eq!(Level::from_dpdk(sys::RTE_LOG_ERR), Level::Error);
        assert_eq!(Level::from_dpdk(sys::RTE_LOG_WARNING), Level::Warning);
        assert_eq!(Level::from_dpdk(sys::RTE_LOG_DEBUG), Level::Debug);
        assert!(Level::Error < Level::Warning);
    }

    #[test]
    fn an_operation_is_told_the_warnings_of_its_own_thread() {
        set_sink(|_| ());
        let mark = Mark::now();
        publish(Level::Info, "probing");
        assert_eq!(mark.said(), ["probing"]);
        publish(Level::Error, "no such interface");
        publish(Level::Error, "no such interface");
        thread::spawn(|| publish(Level::Error, "another thread")).join().unwrap();
        assert_eq!(mark.said(), ["no such interface"]);
        for n in 0..10 {
            publish(Level::Error, &format!("error {n}"));
        }
        assert_eq!(mark.said(), ["error 6", "error 7", "error 8", "error 9"]);
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        set_sink(|_| ());
        let mark = Mark::now();
        take_text(Level::Error, "half a ");
        assert!(mark.said().is_empty());
        take_text(Level::Error, "line\nand one more\n\n");
        assert_eq!(mark.said(), ["half a line", "and one more"]);
        take_text(Level::Error, &"x".repeat(2 * LONGEST_LINE));
        assert_eq!(mark.said().last().map(String::len), Some(2 * LONGEST_LINE));
    }
}
