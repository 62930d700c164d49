//! What every refusal of DPDK carries: its errno, its words, and the command
//! that would mend it.

use std::ffi::{CStr, c_int};
use std::fmt;

use dpdk_sys as sys;

use crate::log::Mark;

/// Why DPDK refused: shown as DPDK's reason, what it logged about it, and a
/// remedy where one is known.
// Boxed, so that the errors that carry one stay small beside what they stand in
// for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    errno: Option<i32>,
    said: Vec<String>,
    remedy: Option<String>,
}

impl Refusal {
    /// The refusal behind `status`, a negative return value of DPDK.
    pub(crate) fn new(status: c_int, mark: &Mark) -> Self {
        // -1 is what a function without an errno returns, and would read
        // "Operation not permitted".
        Self::with((status < -1).then(|| status.wrapping_neg()), mark.said())
    }

    /// The refusal of a function that leaves its reason in rte_errno.
    pub(crate) fn from_rte_errno(mark: &Mark) -> Self {
        // SAFETY: reads a thread-local of DPDK.
        let errno = unsafe { sys::dpdk_errno() };
        Self::with((errno > 0).then_some(errno), mark.said())
    }

    pub(crate) fn with(errno: Option<i32>, said: Vec<String>) -> Self {
        Self(Box::new(Parts { errno, said, remedy: None }))
    }

    pub(crate) fn with_remedy(mut self, remedy: Option<String>) -> Self {
        self.0.remedy = remedy;
        self
    }

    /// Leaves out lines that begin so, if others remain.
    pub(crate) fn without(mut self, beginnings: &[&str]) -> Self {
        let generic = |line: &String| beginnings.iter().any(|beginning| line.starts_with(beginning));
        if !self.said().iter().all(generic) {
            self.0.said.retain(|line| !generic(line));
        }
        self
    }

    /// Whether DPDK's words contain `text`, in any case of letters.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.said().iter().any(|line| line.to_lowercase().contains(&text))
    }

    /// The errno, where DPDK gave one; drivers often return just -1.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// What DPDK logged meanwhile, the latest last.
    #[must_use]
    pub fn said(&self) -> &[String] {
        &self.0.said
    }

    /// The command or the change that would mend it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno() {
            Some(errno) => write!(f, "{} (errno {errno})", strerror(errno))?,
            None => f.write_str("refused")?,
        }
        if !self.said().is_empty() {
            write!(f, "; DPDK said: {}", self.said().join(" / "))?;
        }
        if let Some(remedy) = self.remedy() {
            write!(f, "; to mend it: {remedy}")?;
        }
        Ok(())
    }
}

/// The errno in DPDK's words; it knows errors of its own besides the system's.
fn strerror(errno: i32) -> String {
    // SAFETY: returns a NUL-terminated string: a literal, or a thread-local
    // buffer that the next call on this thread overwrites; it is copied at once.
    let text = unsafe { sys::rte_strerror(errno) };
    if text.is_null() {
        return format!("error {errno}");
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let bare = Refusal::new(-19, &Mark::now());
        assert_eq!((bare.errno(), bare.to_string().as_str()), (Some(19), "No such device (errno 19)"));
        let refusal = Refusal::with(Some(19), vec!["EAL: one".to_owned(), "PMD: Two".to_owned()])
            .with_remedy(Some("ip link show veth0".to_owned()));
        assert_eq!(
            refusal.to_string(),
            "No such device (errno 19); DPDK said: EAL: one / PMD: Two; to mend it: ip link show veth0"
        );
        assert!(refusal.mentions("pmd: two"));
        assert_eq!(refusal.clone().without(&["PMD"]).said(), ["EAL: one"]);
        assert_eq!(refusal.without(&["PMD", "EAL"]).said().len(), 2);
        assert_eq!(Refusal::new(-1, &Mark::now()).to_string(), "refused");
    }
}
