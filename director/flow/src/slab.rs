//! Zeroed memory as a slice of atomics, on huge pages where there are any, and the prefetch hint.
//!
//! Besides `tags`, this is the only module with `unsafe`. What is stored here is never moved and contains positions
//! instead of pointers. Memory that nobody has touched costs nothing: a table for a hundred million entries starts as
//! fast as a small one.

use std::fmt;
use std::io;

use crate::sync::{AtomicU32, AtomicU64};

/// The pages that the table's memory should be on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// The best there is: reserved 2 MiB pages, or else base pages with a request for transparent huge pages. It is
    /// no error if there are none.
    #[default]
    Auto,
    /// Base pages (4 KiB on x86).
    Base,
    /// The same, without asking the kernel whether it has so many: more can be mapped than there is memory, and what
    /// is used must be there then. For tables of which little may be used.
    Unreserved,
    /// Reserved 2 MiB pages (`vm.nr_hugepages`); an error if there are not enough.
    Huge2M,
    /// Reserved 1 GiB pages; an error if there are not enough. The whole table is touched at start: clearing a page of
    /// this size takes far too long for a worker to do it between two packets.
    Huge1G,
}

/// The pages that the memory is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageSize {
    /// Base pages, without a promise from the kernel.
    Base,
    /// Base pages for which the kernel agreed to use transparent huge pages when it can.
    Transparent,
    /// Reserved 2 MiB pages.
    Huge2M,
    /// Reserved 1 GiB pages.
    Huge1G,
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageSize::Base => "base pages",
            PageSize::Transparent => "transparent huge pages",
            PageSize::Huge2M => "2 MiB pages",
            PageSize::Huge1G => "1 GiB pages",
        })
    }
}

/// A value of nothing but atomics that can be blanked.
pub(crate) trait Blank {
    #[allow(dead_code, reason = "mapped memory is blank as it comes")]
    fn blank() -> Self;
}

impl Blank for AtomicU32 {
    fn blank() -> Self {
        AtomicU32::new(0)
    }
}

impl Blank for AtomicU64 {
    fn blank() -> Self {
        AtomicU64::new(0)
    }
}

impl<T: Blank, const N: usize> Blank for [T; N] {
    fn blank() -> Self {
        std::array::from_fn(|_| T::blank())
    }
}

pub(crate) use memory::Mapping;

#[cfg(not(any(loom, miri)))]
mod memory {
    use std::ffi::c_void;
    use std::marker::PhantomData;
    use std::ops::Deref;
    use std::ptr::{self, NonNull};

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use super::{Blank, PageSize, Pages, io};
    use crate::bucket::Bucket;
    use crate::family::Family;
    use crate::record::Record;
    use crate::sync::{AtomicU32, AtomicU64};

    /// Types that may be laid over zeroed memory.
    ///
    /// # Safety
    ///
    /// A value of all zero bytes must be valid and blank. The type must not need dropping, and may change only
    /// through atomics, so that threads may share a slice of it.
    pub(crate) unsafe trait Zeroed: Blank + Sync {}

    // SAFETY: an integer, changed atomically; zero is a value of it.
    unsafe impl Zeroed for AtomicU32 {}
    // SAFETY: as above.
    unsafe impl Zeroed for AtomicU64 {}
    // SAFETY: a struct of atomics only.
    unsafe impl Zeroed for Bucket {}
    // SAFETY: a struct of one array of atomics (`Family` is sealed; its `Words` are such arrays) and a marker.
    unsafe impl<F: Family> Zeroed for Record<F> {}

    const MIB: usize = 1 << 20;

    /// A fixed-length slice of `T` in zeroed, private, anonymous memory of its own.
    pub(crate) struct Mapping<T> {
        start: NonNull<T>,
        len: usize,
        /// Bytes mapped: a multiple of the page size.
        bytes: usize,
        page_size: PageSize,
        _owned: PhantomData<T>,
    }

    // SAFETY: the mapping owns its memory as a `Box<[T]>` would; nothing in it belongs to the thread that made it.
    unsafe impl<T: Send> Send for Mapping<T> {}
    // SAFETY: a shared reference gives shared references to `T` only.
    unsafe impl<T: Sync> Sync for Mapping<T> {}

    impl<T: Zeroed> Mapping<T> {
        /// Maps room for `len` values; with `populate`, touches all of it now.
        pub(crate) fn new(len: usize, pages: Pages, populate: bool) -> io::Result<Self> {
            let wanted = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?.max(1);
            let anonymous = MapFlags::PRIVATE;
            let unreserved = anonymous | MapFlags::NORESERVE;
            let huge_2m = anonymous | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
            let huge_1g = anonymous | MapFlags::HUGETLB | MapFlags::HUGE_1GB;
            match pages {
                Pages::Base => Self::map(len, wanted, 4096, anonymous, PageSize::Base, populate),
                Pages::Unreserved => Self::map(len, wanted, 4096, unreserved, PageSize::Base, populate),
                // Reserved pages are nobody else's anyway: no worker is to wait for one to be cleared.
                Pages::Huge2M => Self::map(len, wanted, 2 * MIB, huge_2m, PageSize::Huge2M, true),
                Pages::Huge1G => Self::map(len, wanted, 1024 * MIB, huge_1g, PageSize::Huge1G, true),
                // This is not worth a huge page: nearly all of it would stay empty. (An index that fits in a few
                // dozen pages is worth one: each lookup is at another place of it, and most translations are not
                // cached.)
                Pages::Auto if wanted < MIB / 8 => {
                    Self::map(len, wanted, 4096, anonymous, PageSize::Base, populate)
                }
                Pages::Auto => Self::map(len, wanted, 2 * MIB, huge_2m, PageSize::Huge2M, true)
                    .or_else(|_| Self::map(len, wanted, 2 * MIB, anonymous, PageSize::Transparent, populate)),
            }
        }

        fn map(
            len: usize,
            wanted: usize,
            page: usize,
            flags: MapFlags,
            mut page_size: PageSize,
            populate: bool,
        ) -> io::Result<Self> {
            let bytes = wanted.checked_next_multiple_of(page).ok_or(io::ErrorKind::OutOfMemory)?;
            // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
            let start =
                unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
            let Some(nonnull) = NonNull::new(start.cast::<T>()) else {
                return Err(io::ErrorKind::OutOfMemory.into());
            };
            // The alignment of a page is more than that of any `T`, which is at most a cache line's.
            const { assert!(align_of::<T>() <= 4096) };
            let mut mapping = Mapping { start: nonnull, len, bytes, page_size, _owned: PhantomData };
            if page_size == PageSize::Transparent {
                // SAFETY: `start..start + bytes` is the mapping just made; this advice changes no content.
                let agreed = unsafe { madvise(start, bytes, Advice::LinuxHugepage) };
                if agreed.is_err() {
                    page_size = PageSize::Base;
                }
                mapping.page_size = page_size;
            }
            if populate {
                // SAFETY: as above; faulting pages in changes no content. (On failure the mapping is dropped.)
                unsafe { madvise(start, bytes, Advice::LinuxPopulateWrite) }?;
            }
            Ok(mapping)
        }
    }

    impl<T> Mapping<T> {
        pub(crate) fn page_size(&self) -> PageSize {
            self.page_size
        }
    }

    impl<T> Deref for Mapping<T> {
        type Target = [T];

        #[inline]
        fn deref(&self) -> &[T] {
            // SAFETY: `start` is aligned to a page and valid for `bytes >= len * size_of::<T>()` bytes (far fewer than
            // `isize::MAX`, or they could not be mapped), all zero at first, which is a valid `T` (`Zeroed` on the only
            // constructor), until `self` is dropped; no `&mut` to it exists.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
        }
    }

    impl<T> Drop for Mapping<T> {
        fn drop(&mut self) {
            // SAFETY: this is the mapping that `map` made, whole, and with `&mut self` nobody has a reference into it.
            // `T` needs no dropping (`Zeroed`). It cannot fail for a range that is mapped.
            let _unmapped = unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.bytes) };
        }
    }
}

/// Under loom and Miri: an ordinary allocation, every value made one by one.
#[cfg(any(loom, miri))]
mod memory {
    use std::ops::Deref;

    use super::{Blank, PageSize, Pages, io};

    pub(crate) struct Mapping<T>(Box<[T]>);

    impl<T: Blank> Mapping<T> {
        pub(crate) fn new(len: usize, _pages: Pages, _populate: bool) -> io::Result<Self> {
            Ok(Mapping((0..len).map(|_| T::blank()).collect()))
        }
    }

    impl<T> Mapping<T> {
        pub(crate) fn page_size(&self) -> PageSize {
            PageSize::Base
        }
    }

    impl<T> Deref for Mapping<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }
}

/// Tells the CPU that `value` will be read soon. Only a hint: it reads nothing and cannot fault.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    prefetch_address(std::ptr::from_ref(value));
}

/// As [`prefetch`], for the value at a position, which may be out of bounds.
#[inline(always)]
pub(crate) fn prefetch_at<T>(values: &[T], position: u32) {
    prefetch_address(values.as_ptr().wrapping_add(position as usize));
}

/// As [`prefetch_at`], for all cache lines of a record.
#[inline(always)]
pub(crate) fn prefetch_record_at<T>(records: &[T], position: u32) {
    let record = records.as_ptr().wrapping_add(position as usize);
    prefetch_address(record);
    if size_of::<T>() > 64 {
        prefetch_address(record.wrapping_byte_add(64));
    }
}

#[inline(always)]
fn prefetch_address<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint and faults for no address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering::Relaxed;

    #[test]
    fn memory_is_zeroed_and_writable_to_its_end() {
        let mapping = Mapping::<AtomicU64>::new(10_000, Pages::Auto, false).unwrap();
        assert_eq!(mapping.len(), 10_000);
        assert!(mapping.iter().all(|word| word.load(Relaxed) == 0));
        mapping[9_999].store(7, Relaxed);
        assert_eq!(mapping[9_999].load(Relaxed), 7);
    }

    #[test]
    #[cfg(not(miri))]
    fn a_large_mapping_costs_nothing_until_touched() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap() * 4096
        };
        let before = resident();
        // 16 GiB: more than most test machines would like to see touched, or promise.
        if let Ok(mapping) = Mapping::<AtomicU64>::new(2 << 30, Pages::Auto, false) {
            mapping[(2 << 30) - 1].store(1, Relaxed);
            // Other tests run beside this one.
            assert!(resident() < before + (1 << 30));
        }
    }

    /// Unless the kernel was told never to promise more than it has (`vm.overcommit_memory` 2).
    #[test]
    #[cfg(not(miri))]
    fn more_than_there_is_can_be_mapped_unreserved() {
        let is_strict = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap().trim() == "2";
        // 16 TiB.
        let mapping = Mapping::<AtomicU64>::new(2 << 40, Pages::Unreserved, false);
        assert_eq!(mapping.is_err(), is_strict);
        if let Ok(mapping) = mapping {
            mapping[(2 << 40) - 1].store(1, Relaxed);
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn what_cannot_be_had_is_an_error() {
        assert!(Mapping::<AtomicU64>::new(usize::MAX / 2, Pages::Auto, false).is_err());
        assert!(Mapping::<AtomicU64>::new(1 << 50, Pages::Auto, false).is_err());
        assert!(Mapping::<AtomicU64>::new(1 << 40, Pages::Huge2M, false).is_err());
    }
}
