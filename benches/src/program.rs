//! A program that runs beside the benchmark: what it says, what it is told, and that it ends.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::interrupt::Interrupt;

/// How long a program may take to end when asked to.
const END: Duration = Duration::from_secs(20);

/// How long a program that has ended is listened to.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much of a failed program's output is shown.
const SHOWN_LINES: usize = 20;

/// A running program. It is killed when this is dropped.
pub struct Program {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts `command`.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let input = child.stdin.take();
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|stdout| collect(stdout, output.clone())));
        readers.extend(child.stderr.take().map(|stderr| collect(stderr, output.clone())));
        Ok(Self { name: name.to_owned(), child, input, output, readers })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How much it has said: a place in its output.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What it has said since a mark.
    #[must_use]
    pub fn since(&self, mark: usize) -> String {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(output.get(mark..).unwrap_or_default()).into_owned()
    }

    /// Writes a line to its input.
    ///
    /// # Errors
    /// It does not read any more.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let told = match &mut self.input {
            Some(input) => input.write_all(format!("{line}\n").as_bytes()),
            None => Ok(()),
        };
        told.with_context(|| self.failed(&format!("does not take `{line}`")))
    }

    /// Waits until what it says since `mark` makes sense to `understand`.
    ///
    /// # Errors
    /// It ended, or said nothing of the kind in time, or a signal came.
    pub fn hear<T>(
        &mut self,
        interrupt: &Interrupt,
        time: Duration,
        mark: usize,
        understand: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let heard = interrupt.wait(time, || {
            let ended = self.ended()?;
            match (understand(&self.since(mark)), ended) {
                (None, Some(status)) => bail!(self.failed(&format!("ended ({status})"))),
                (heard, _) => Ok(heard),
            }
        })?;
        heard.with_context(|| self.failed(&format!("gave no answer within {} s", time.as_secs())))
    }

    /// Its status, if it has ended.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            // What it said last may still be on its way; something it left behind may say more for ever.
            let deadline = Instant::now() + LAST_WORDS;
            while !self.readers.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(status)
    }

    /// Asks it to end by SIGTERM, and waits until it has.
    ///
    /// # Errors
    /// It ended with another status than 0, or had to be killed.
    pub fn terminate(mut self) -> Result<()> {
        if let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself; what it ended with is looked at below.
            let _ = kill_process(pid, Signal::TERM);
        }
        self.wait()
    }

    /// Writes a last line to its input, and waits until it has ended.
    ///
    /// # Errors
    /// As [`terminate`](Self::terminate).
    pub fn dismiss(mut self, line: &str) -> Result<()> {
        self.tell(line)?;
        self.input = None;
        self.wait()
    }

    fn wait(&mut self) -> Result<()> {
        // Not to be interrupted: it is on its way out, and what is left after the time is killed.
        match Interrupt::default().wait(END, || self.ended())? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!(self.failed(&format!("ended badly ({status})"))),
            None => bail!(self.failed(&format!("had not ended after {} s", END.as_secs()))),
        }
    }

    /// A message with the last it said.
    #[must_use]
    pub fn failed(&self, how: &str) -> String {
        let said = self.since(0);
        let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n    ");
        if last.is_empty() {
            format!("{} {how}", self.name)
        } else {
            format!("{} {how}; it said last\n    {last}", self.name)
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only where it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end, on a thread of its own: a program must never wait for us to listen.
fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Program {
        Program::start("the shell", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn it_is_told_and_heard() {
        let mut cat = shell("cat");
        cat.tell("one").unwrap();
        let word = |text: &str| text.lines().next().map(str::to_owned);
        assert_eq!(cat.hear(&Interrupt::default(), TIME, 0, word).unwrap(), "one");
        let mark = cat.mark();
        cat.tell("two").unwrap();
        assert_eq!(cat.hear(&Interrupt::default(), TIME, mark, word).unwrap(), "two");
        cat.dismiss("three").unwrap();
    }

    #[test]
    fn one_that_ends_early_is_reported_with_its_last_words() {
        let mut shell = shell("echo no luck >&2; exit 3");
        let error = shell.hear(&Interrupt::default(), TIME, 0, |_| None::<()>).unwrap_err().to_string();
        assert!(error.starts_with("the shell ended (exit status: 3)"), "{error}");
        assert!(error.ends_with("no luck"), "{error}");
    }

    #[test]
    fn it_ends_when_asked_and_when_dropped() {
        let polite = shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done");
        Interrupt::default().wait(TIME, || Ok((polite.mark() > 0).then_some(()))).unwrap();
        polite.terminate().unwrap();
        let process = |id: u32| std::path::PathBuf::from(format!("/proc/{id}"));
        let stubborn = shell("exec sleep 100");
        let id = stubborn.id();
        assert!(process(id).exists());
        drop(stubborn);
        assert!(!process(id).exists());
    }
}
