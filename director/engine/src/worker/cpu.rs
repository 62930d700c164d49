//! The short way compiled a second time, for CPUs of the x86-64-v3 level (AVX2, BMI1 and 2, LZCNT, MOVBE): the
//! program itself runs on any x86-64.
#![allow(unsafe_code)]

use super::steady::Glance;
use super::{BURST, Core, Frames, Moment, Verdict};

/// The level of this CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Level {
    /// What the program was built for.
    Base,
    /// x86-64-v3.
    #[cfg(target_arch = "x86_64")]
    V3,
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
            return Self::V3;
        }
        Self::Base
    }

    /// As [`Core::burst`].
    #[inline]
    pub(super) fn burst(
        self,
        core: &mut Core,
        moment: &Moment<'_>,
        frames: &mut impl Frames,
        verdicts: &mut [Verdict; BURST],
        glances: &mut [Glance; BURST],
    ) -> Option<u8> {
        match self {
            Self::Base => core.burst(moment, frames, verdicts, glances),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `detect` found that this CPU has every feature that the function is compiled for.
            Self::V3 => unsafe { burst_v3(core, moment, frames, verdicts, glances) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn burst_v3(
    core: &mut Core,
    moment: &Moment<'_>,
    frames: &mut impl Frames,
    verdicts: &mut [Verdict; BURST],
    glances: &mut [Glance; BURST],
) -> Option<u8> {
    core.burst(moment, frames, verdicts, glances)
}
