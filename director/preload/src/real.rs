//! The functions that this library replaces.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{FILE, iovec, mmsghdr, mode_t, msghdr, size_t, sockaddr, socklen_t, ssize_t};

/// A function of the libraries loaded after this one.
struct Next {
    name: &'static CStr,
    /// Relaxed everywhere: it is one word, everyone who looks the name up finds the same, and the code it
    /// points to was there before the process had a second thread.
    address: AtomicPtr<c_void>,
}

impl Next {
    fn address(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Relaxed);
        if known.is_null() { self.look_up() } else { known }
    }

    #[cold]
    fn look_up(&self) -> *mut c_void {
        // SAFETY: the name ends in a NUL.
        let address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.address.store(address, Ordering::Relaxed);
        address
    }
}

/// What a C function returns when it fails.
trait Failure {
    const VALUE: Self;
}

impl Failure for c_int {
    const VALUE: Self = -1;
}

impl Failure for ssize_t {
    const VALUE: Self = -1;
}

impl Failure for *mut FILE {
    const VALUE: Self = null_mut();
}

/// Defines, for each prototype, a function of the same name that calls the next one of that name.
macro_rules! next {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $return:ty;)*) => {
        $(
            /// The next function of this name; ENOSYS where there is none.
            ///
            /// # Safety
            /// As for the C function.
            pub(crate) unsafe fn $name($($argument: $type),*) -> $return {
                let address = next::$name.address();
                type Function = unsafe extern "C" fn($($type),*) -> $return;
                // SAFETY: the address is none or that of the C function of this name, whose prototype in
                // the C library is the one given here; `Option` of a function pointer is null or one.
                let function = unsafe { std::mem::transmute::<*mut c_void, Option<Function>>(address) };
                match function {
                    // SAFETY: the caller keeps the contract of the C function.
                    Some(function) => unsafe { function($($argument),*) },
                    None => fail(libc::ENOSYS),
                }
            }
        )*

        #[expect(non_upper_case_globals, reason = "named as the functions")]
        mod next {
            use super::{AtomicPtr, Next, null_mut};

            $(
                pub(super) static $name: Next = Next {
                    name: match std::ffi::CStr::from_bytes_with_nul(
                        concat!(stringify!($name), "\0").as_bytes(),
                    ) {
                        Ok(name) => name,
                        Err(_) => panic!("evaluated by the compiler"),
                    },
                    address: AtomicPtr::new(null_mut()),
                };
            )*
        }

        /// Looks all of them up, so that later calls only load an address: a signal handler may make them.
        pub(crate) fn look_up() {
            $(next::$name.look_up();)*
        }
    };
}

next! {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int;
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int;
    fn getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int;
    fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int;
    fn getsockopt(
        fd: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut socklen_t
    ) -> c_int;
    fn setsockopt(
        fd: c_int, level: c_int, name: c_int, value: *const c_void, length: socklen_t
    ) -> c_int;
    fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t;
    fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t;
    fn sendto(
        fd: c_int, buffer: *const c_void, length: size_t, flags: c_int,
        to: *const sockaddr, to_length: socklen_t
    ) -> ssize_t;
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t;
    fn writev(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t;
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int;
    fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t;
    fn recvfrom(
        fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int,
        from: *mut sockaddr, from_length: *mut socklen_t
    ) -> ssize_t;
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t;
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn __open_2(path: *const c_char, flags: c_int) -> c_int;
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int;
    fn __openat_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn __openat64_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE;
    fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE;
}

/// Sets `errno`, and returns what the function then returns.
#[expect(private_bounds, reason = "the return types of C functions, listed here")]
pub(crate) fn fail<T: Failure>(errno: c_int) -> T {
    set_errno(errno);
    T::VALUE
}

/// The calling thread's `errno`.
pub(crate) fn errno() -> c_int {
    // SAFETY: libc gives a valid pointer to this thread's errno.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's `errno`.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno }
}
