//! C streams that end in Rust: DPDK's log, and what C prints besides.

use std::borrow::Cow;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use dpdk_sys as sys;

use super::{Level, take_text};

/// Points DPDK's log at [`take`], once.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let stream = stream(take);
        if !stream.is_null() {
            // SAFETY: the stream is never closed, so that DPDK may write to it
            // as long as the process lives.
            unsafe { sys::rte_openlog_stream(stream) };
        }
    });
}

type Write = unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> sys::__ssize_t;

/// A C stream that goes to `write`; null where there is no memory for one.
fn stream(write: Write) -> *mut sys::FILE {
    let functions = sys::cookie_io_functions_t { write: Some(write), ..Default::default() };
    // SAFETY: the functions given uphold the contract of a write function of
    // fopencookie(3), and the cookie is unused.
    unsafe {
        let stream = sys::fopencookie(ptr::null_mut(), c"w".as_ptr(), functions);
        if !stream.is_null() {
            // Unbuffered: each message arrives in one write, on the thread that
            // prints it.
            sys::setvbuf(stream, ptr::null_mut(), sys::_IONBF as c_int, 0);
        }
        stream
    }
}

/// While it lives, what C code prints to its standard error goes to the log as
/// well, and what it prints to its standard output goes nowhere. (Rust's own
/// are not concerned.)
///
/// For EAL's start, which prints its usage of 120 lines, and names a wrong
/// option on standard error only.
pub(crate) struct Quiet {
    stdout: *mut sys::FILE,
    stderr: *mut sys::FILE,
}

impl Quiet {
    /// For one thread at a time.
    pub(crate) fn new() -> Self {
        let quiet = Self { stdout: stream(ignore), stderr: stream(take_stderr) };
        // glibc has these as variables that may be set like any others.
        Self {
            stdout: swap(&raw mut sys::stdout, quiet.stdout),
            stderr: swap(&raw mut sys::stderr, quiet.stderr),
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The two streams stay: another thread may be printing to them.
        swap(&raw mut sys::stdout, self.stdout);
        swap(&raw mut sys::stderr, self.stderr);
    }
}

/// Puts a stream in the place of another, and gives the other; null changes
/// nothing.
fn swap(variable: *mut *mut sys::FILE, stream: *mut sys::FILE) -> *mut sys::FILE {
    if stream.is_null() {
        return stream;
    }
    // SAFETY: a variable of the C library, aligned and always there. Atomic, as
    // far as we are concerned: C reads it in one piece. Relaxed: the stream it
    // points to is used under a lock of its own, and is never freed.
    unsafe { AtomicPtr::from_ptr(variable) }.swap(stream, Ordering::Relaxed)
}

/// The write function of DPDK's log stream.
///
/// # Safety
/// `text` points to `length` readable bytes.
unsafe extern "C" fn take(_cookie: *mut c_void, text: *const c_char, length: usize) -> sys::__ssize_t {
    // SAFETY: reads a thread-local of DPDK.
    let level = unsafe { sys::rte_log_cur_msg_loglevel() };
    let level = Level::from_dpdk(u32::try_from(level).unwrap_or(sys::RTE_LOG_NOTICE));
    // SAFETY: the caller's promise.
    take_text(level, &unsafe { printed(text, length) });
    written(length)
}

/// The write function in place of standard error.
///
/// # Safety
/// `text` points to `length` readable bytes.
unsafe extern "C" fn take_stderr(_cookie: *mut c_void, text: *const c_char, length: usize) -> sys::__ssize_t {
    // SAFETY: the caller's promise.
    let text = unsafe { printed(text, length) };
    // EAL logs these once more, as errors.
    if !text.starts_with("EAL: FATAL: ") {
        take_text(Level::Error, &text);
    }
    written(length)
}

/// The write function in place of standard output.
unsafe extern "C" fn ignore(_cookie: *mut c_void, _text: *const c_char, length: usize) -> sys::__ssize_t {
    written(length)
}

/// # Safety
/// `text` points to `length` readable bytes.
unsafe fn printed<'a>(text: *const c_char, length: usize) -> Cow<'a, str> {
    if text.is_null() || length == 0 {
        return Cow::Borrowed("");
    }
    // SAFETY: stdio passes a buffer of that length, and keeps it unchanged
    // during the call.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) })
}

/// stdio takes less than `length` for an error.
fn written(length: usize) -> sys::__ssize_t {
    length.try_into().unwrap_or(sys::__ssize_t::MAX)
}
