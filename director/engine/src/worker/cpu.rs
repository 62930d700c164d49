//! The short way compiled anew for CPUs of the x86-64-v3 level (AVX2, BMI1 and 2, LZCNT, MOVBE) and for those of
//! x86-64-v4 (AVX-512: twice the vector registers). The program itself runs on any x86-64.
#![allow(unsafe_code)]

use director_flow::{Table, V4, V6};
use director_packet::plain::{self, Headers, Plain, Wanted};

use super::{BURST, Batch, Core, Frames, Moment, Verdict};

/// What differs between the levels besides what the compiler makes of the same code.
pub(super) trait Cpu {
    /// As [`plain::read`].
    fn read(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain>;
}

struct Base;

impl Cpu for Base {
    #[inline(always)]
    fn read(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
        plain::read(headers, total, wanted)
    }
}

#[cfg(target_arch = "x86_64")]
struct V3;

#[cfg(target_arch = "x86_64")]
impl Cpu for V3 {
    #[inline(always)]
    fn read(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
        // SAFETY: only the functions below use this type, whose features are more than those needed here.
        unsafe { plain::read_vector(headers, total, wanted) }
    }
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
    pub(super) fn look(
        self,
        core: &mut Core,
        moment: &Moment<'_>,
        frames: &mut impl Frames,
        batch: &mut Batch,
    ) {
        match self {
            Self::Base => core.look::<Base>(moment, frames, batch),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `detect` found that this CPU has every feature that the function is compiled for.
            Self::V3 => unsafe { v3::look(core, moment, frames, batch) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: likewise.
            Self::V4 => unsafe { v4::look(core, moment, frames, batch) },
        }
    }

    /// As [`Core::seek`].
    #[inline]
    pub(super) fn seek(self, tables: (&Table<V4>, &Table<V6>), batch: &mut Batch) {
        match self {
            Self::Base => Core::seek(tables, batch),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as in `look`.
            Self::V3 => unsafe { v3::seek(tables, batch) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: likewise.
            Self::V4 => unsafe { v4::seek(tables, batch) },
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
            Self::Base => core.decide::<Base>(moment, frames, batch, verdicts),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as in `look`.
            Self::V3 => unsafe { v3::decide(core, moment, frames, batch, verdicts) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: likewise.
            Self::V4 => unsafe { v4::decide(core, moment, frames, batch, verdicts) },
        }
    }
}

/// The passes, compiled for a level.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($level:ident, $features:literal) => {
        mod $level {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) fn look(
                core: &mut Core,
                moment: &Moment<'_>,
                frames: &mut impl Frames,
                batch: &mut Batch,
            ) {
                core.look::<V3>(moment, frames, batch);
            }

            #[target_feature(enable = $features)]
            pub(super) fn seek(tables: (&Table<V4>, &Table<V6>), batch: &mut Batch) {
                Core::seek(tables, batch);
            }

            #[target_feature(enable = $features)]
            pub(super) fn decide(
                core: &mut Core,
                moment: &Moment<'_>,
                frames: &mut impl Frames,
                batch: &mut Batch,
                verdicts: &mut [Verdict; BURST],
            ) -> Option<u8> {
                core.decide::<V3>(moment, frames, batch, verdicts)
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(v3, "avx2,bmi1,bmi2,lzcnt,movbe,popcnt");
#[cfg(target_arch = "x86_64")]
compiled!(v4, "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt");
