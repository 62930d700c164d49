//! The short way compiled anew for CPUs of the x86-64-v3 level (AVX2, BMI1 and 2, LZCNT, MOVBE) and for those of
//! x86-64-v4 (AVX-512: twice the vector registers). The program itself runs on any x86-64.
#![allow(unsafe_code)]

use director_flow::{Table, V4, V6};
use director_packet::Endpoint6;
use director_packet::plain::{self, Headers, Plain, Wanted, v6};

use super::kind::Kind;
use super::steady::{Batch, Others};
use super::{BURST, Core, Frames, Moment, Verdict};

/// What there is of each level.
pub(super) trait Cpu: Sized {
    /// As [`plain::read`].
    fn read(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain>;

    /// As [`plain::read_datagram`].
    fn read_datagram(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain>;

    /// As [`v6::read`].
    fn read_v6(headers: &[u8; v6::SEGMENT], total: usize, wanted: &Wanted) -> Option<Plain<Endpoint6>>;

    /// As [`v6::read_datagram`].
    fn read_datagram_v6(
        headers: &[u8; v6::DATAGRAM],
        total: usize,
        wanted: &Wanted,
    ) -> Option<Plain<Endpoint6>>;

    /// As [`Core::look_as`].
    fn look_as<K: Kind>(core: &Core, moment: &Moment<'_>, frames: &mut impl Frames, batch: &mut Batch);

    /// As [`Core::look_again`].
    fn look_again(core: &Core, moment: &Moment<'_>, frames: &mut impl Frames, batch: &mut Batch);

    /// As [`Core::seek_as`].
    fn seek_as<K: Kind>(tables: (&Table<V4>, &Table<V6>), batch: &mut Batch);

    /// As [`Core::decide_as`].
    fn decide_as<K: Kind>(
        core: &mut Core,
        moment: &Moment<'_>,
        frames: &mut impl Frames,
        batch: &mut Batch,
        verdicts: &mut [Verdict; BURST],
    ) -> Option<u8>;

    /// As [`Core::other`].
    fn other(
        core: &mut Core,
        others: &Others<'_, Self>,
        at: usize,
        frames: &mut impl Frames,
        batch: &Batch,
    ) -> Option<u8>;
}

/// The level of this CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Level {
    /// What the program was built for.
    Base,
    /// x86-64-v3.
    #[cfg(target_arch = "x86_64")]
    V3,
    /// x86-64-v4.
    #[cfg(target_arch = "x86_64")]
    V4,
}

impl Level {
    pub(super) fn detect() -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("movbe")
            && is_x86_feature_detected!("popcnt")
        {
            let is_v4 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return if is_v4 { Self::V4 } else { Self::V3 };
        }
        Self::Base
    }

    /// As [`Core::look`].
    #[inline]
    pub(super) fn look(self, core: &Core, moment: &Moment<'_>, frames: &mut impl Frames, batch: &mut Batch) {
        match self {
            Self::Base => core.look::<base::Level>(moment, frames, batch),
            #[cfg(target_arch = "x86_64")]
            Self::V3 => core.look::<v3::Level>(moment, frames, batch),
            #[cfg(target_arch = "x86_64")]
            Self::V4 => core.look::<v4::Level>(moment, frames, batch),
        }
    }

    /// As [`Core::seek`].
    #[inline]
    pub(super) fn seek(self, tables: (&Table<V4>, &Table<V6>), batch: &mut Batch) {
        match self {
            Self::Base => Core::seek::<base::Level>(tables, batch),
            #[cfg(target_arch = "x86_64")]
            Self::V3 => Core::seek::<v3::Level>(tables, batch),
            #[cfg(target_arch = "x86_64")]
            Self::V4 => Core::seek::<v4::Level>(tables, batch),
        }
    }

    /// As [`Core::decide`].
    #[inline]
    pub(super) fn decide(
        self,
        core: &mut Core,
        moment: &Moment<'_>,
        frames: &mut impl Frames,
        batch: &mut Batch,
        verdicts: &mut [Verdict; BURST],
    ) -> Option<u8> {
        match self {
            Self::Base => core.decide::<base::Level>(moment, frames, batch, verdicts),
            #[cfg(target_arch = "x86_64")]
            Self::V3 => core.decide::<v3::Level>(moment, frames, batch, verdicts),
            #[cfg(target_arch = "x86_64")]
            Self::V4 => core.decide::<v4::Level>(moment, frames, batch, verdicts),
        }
    }
}

/// The passes compiled for a level, which has these features or none besides those of any CPU, and reads frames by these
/// functions. A type that stands for a level is used where [`Level::detect`] found it, and nowhere else.
macro_rules! level {
    ($name:ident $(, $features:literal)?: $read:path, $read_datagram:path, $read_v6:path, $read_datagram_v6:path) => {
        mod $name {
            use super::*;

            pub(super) struct Level;

            // Of no feature they are not unsafe to call.
            #[allow(unused_unsafe)]
            impl Cpu for Level {
                #[inline(always)]
                fn read(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
                    // SAFETY: the CPU has every feature of the level, which are more than are needed here.
                    unsafe { $read(headers, total, wanted) }
                }

                #[inline(always)]
                fn read_datagram(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
                    // SAFETY: likewise.
                    unsafe { $read_datagram(headers, total, wanted) }
                }

                #[inline(always)]
                fn read_v6(
                    headers: &[u8; v6::SEGMENT],
                    total: usize,
                    wanted: &Wanted,
                ) -> Option<Plain<Endpoint6>> {
                    // SAFETY: likewise.
                    unsafe { $read_v6(headers, total, wanted) }
                }

                #[inline(always)]
                fn read_datagram_v6(
                    headers: &[u8; v6::DATAGRAM],
                    total: usize,
                    wanted: &Wanted,
                ) -> Option<Plain<Endpoint6>> {
                    // SAFETY: likewise.
                    unsafe { $read_datagram_v6(headers, total, wanted) }
                }

                #[inline(always)]
                fn look_as<K: Kind>(
                    core: &Core,
                    moment: &Moment<'_>,
                    frames: &mut impl Frames,
                    batch: &mut Batch,
                ) {
                    // SAFETY: the CPU has every feature that the function is compiled for.
                    unsafe { look_as::<K>(core, moment, frames, batch) }
                }

                #[inline(always)]
                fn look_again(core: &Core, moment: &Moment<'_>, frames: &mut impl Frames, batch: &mut Batch) {
                    // SAFETY: likewise.
                    unsafe { look_again(core, moment, frames, batch) }
                }

                #[inline(always)]
                fn seek_as<K: Kind>(tables: (&Table<V4>, &Table<V6>), batch: &mut Batch) {
                    // SAFETY: likewise.
                    unsafe { seek_as::<K>(tables, batch) }
                }

                #[inline(always)]
                fn decide_as<K: Kind>(
                    core: &mut Core,
                    moment: &Moment<'_>,
                    frames: &mut impl Frames,
                    batch: &mut Batch,
                    verdicts: &mut [Verdict; BURST],
                ) -> Option<u8> {
                    // SAFETY: likewise.
                    unsafe { decide_as::<K>(core, moment, frames, batch, verdicts) }
                }

                #[inline(always)]
                fn other(
                    core: &mut Core,
                    others: &Others<'_, Self>,
                    at: usize,
                    frames: &mut impl Frames,
                    batch: &Batch,
                ) -> Option<u8> {
                    // SAFETY: likewise.
                    unsafe { other(core, others, at, frames, batch) }
                }
            }

            $(#[target_feature(enable = $features)])?
            fn look_as<K: Kind>(
                core: &Core,
                moment: &Moment<'_>,
                frames: &mut impl Frames,
                batch: &mut Batch,
            ) {
                core.look_as::<K>(moment, frames, batch);
            }

            $(#[target_feature(enable = $features)])?
            fn look_again(core: &Core, moment: &Moment<'_>, frames: &mut impl Frames, batch: &mut Batch) {
                core.look_again::<Level>(moment, frames, batch);
            }

            $(#[target_feature(enable = $features)])?
            fn seek_as<K: Kind>(tables: (&Table<V4>, &Table<V6>), batch: &mut Batch) {
                Core::seek_as::<K>(tables, batch);
            }

            $(#[target_feature(enable = $features)])?
            fn decide_as<K: Kind>(
                core: &mut Core,
                moment: &Moment<'_>,
                frames: &mut impl Frames,
                batch: &mut Batch,
                verdicts: &mut [Verdict; BURST],
            ) -> Option<u8> {
                core.decide_as::<Level, K>(moment, frames, batch, verdicts)
            }

            $(#[target_feature(enable = $features)])?
            fn other(
                core: &mut Core,
                others: &Others<'_, Level>,
                at: usize,
                frames: &mut impl Frames,
                batch: &Batch,
            ) -> Option<u8> {
                core.other(others, at, frames, batch)
            }
        }
    };
}

level!(base: plain::read, plain::read_datagram, v6::read, v6::read_datagram);
#[cfg(target_arch = "x86_64")]
level!(
    v3, "avx2,bmi1,bmi2,lzcnt,movbe,popcnt":
    plain::read_vector, plain::read_datagram_vector, v6::read_vector, v6::read_datagram_vector
);
#[cfg(target_arch = "x86_64")]
level!(
    v4, "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt":
    plain::read_vector, plain::read_datagram_vector, v6::read_vector, v6::read_datagram_vector
);
