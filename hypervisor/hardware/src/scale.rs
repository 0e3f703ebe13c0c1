//! Conversion between ticks of the TSC, nanoseconds, and ticks of a timer.
//!
//! Products are computed with 128 bits, and a result that doesn't fit is the largest value: a deadline
//! too far away is one that never comes.

/// A multiplier and a shift that convert ticks of the TSC to nanoseconds, in the form that guests get
/// (`public/xen.h`, `vcpu_time_info`), which is also that of KVM's clock:
/// ns = ((ticks << shift) * mul) >> 32, where a negative shift is one to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscScale {
    mul: u32,
    shift: i8,
}

impl TscScale {
    /// Largest shift in either direction. A frequency from 1 kHz to 2^50 Hz needs none that is larger.
    const LARGEST_SHIFT: u8 = 32;

    /// The scale of a frequency in kHz: nanoseconds per tick as a 0.32 fixed-point number, shifted into
    /// the range from 2^31 to 2^32 so that no bit is wasted. A frequency of 0 counts as 1 kHz.
    pub const fn of_khz(tsc_khz: u64) -> TscScale {
        let khz = if tsc_khz == 0 { 1 } else { tsc_khz };
        let mut mul = (1_000_000u128 << 64) / khz as u128;
        let mut shift = -32i8;
        while mul >= 1 << 32 {
            mul >>= 1;
            shift += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "below 2^32")]
        TscScale { mul: mul as u32, shift }
    }

    /// A scale that was computed elsewhere. `None` if the multiplier is 0 or the shift too large.
    pub const fn from_parts(mul: u32, shift: i8) -> Option<TscScale> {
        if mul == 0 || shift.unsigned_abs() > Self::LARGEST_SHIFT {
            return None;
        }
        Some(TscScale { mul, shift })
    }

    /// The multiplier.
    pub const fn mul(self) -> u32 {
        self.mul
    }

    /// The shift.
    pub const fn shift(self) -> i8 {
        self.shift
    }

    /// Nanoseconds that so many ticks take, rounded down.
    pub const fn to_ns(self, ticks: u64) -> u64 {
        let shift = self.shift.unsigned_abs();
        let ticks = ticks as u128;
        let shifted = if self.shift < 0 { ticks >> shift } else { ticks << shift };
        // At most 64 + 32 + 32 bits.
        saturate((shifted * self.mul as u128) >> 32)
    }

    /// The fewest ticks that take so many nanoseconds: the fewest that [`Self::to_ns`] makes at least `ns`
    /// of.
    pub const fn to_ticks(self, ns: u64) -> u64 {
        if self.mul == 0 {
            return u64::MAX;
        }
        let shift = self.shift.unsigned_abs();
        // At most 96 bits, and at least 2^32 times less than that after the division, if `mul` is
        // normalised; 128 bits hold it in any case.
        let shifted = ((ns as u128) << 32).div_ceil(self.mul as u128);
        saturate(if self.shift >= 0 {
            shifted.div_ceil(1 << shift)
        } else {
            // 96 + 32 bits.
            shifted << shift
        })
    }

    /// The frequency in kHz, rounded to the nearest.
    pub const fn to_khz(self) -> u64 {
        if self.mul == 0 {
            return 0;
        }
        let (mut numerator, mut denominator) = (1_000_000u128 << 32, self.mul as u128);
        if self.shift < 0 {
            numerator <<= self.shift.unsigned_abs();
        } else {
            denominator <<= self.shift.unsigned_abs();
        }
        saturate((numerator + denominator / 2) / denominator)
    }
}

/// How many ticks of a timer pass during a tick of the TSC, as a 32.32 fixed-point number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerRatio(u64);

impl TimerRatio {
    /// The ratio for the frequencies of the two, in kHz. A TSC of 0 kHz counts as 1 kHz.
    pub const fn new(timer_khz: u64, tsc_khz: u64) -> TimerRatio {
        let tsc = if tsc_khz == 0 { 1 } else { tsc_khz };
        TimerRatio(saturate(((timer_khz as u128) << 32) / tsc as u128))
    }

    /// The ratio that [`Self::bits`] gave.
    pub const fn from_bits(bits: u64) -> TimerRatio {
        TimerRatio(bits)
    }

    /// The fixed-point number, to be stored in an atomic word.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Count for a timer of 32 bits that is to expire after so many ticks of the TSC, or later by less
    /// than a tick of the timer. At least 1; earlier than asked for if the timer can't count so far.
    pub const fn count(self, tsc_ticks: u64) -> u32 {
        let count = ((tsc_ticks as u128 * self.0 as u128) >> 32) + 1;
        #[expect(clippy::cast_possible_truncation, reason = "compared before")]
        if count > u32::MAX as u128 { u32::MAX } else { count as u32 }
    }
}

/// The value, or the largest that fits.
const fn saturate(value: u128) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "compared before")]
    if value > u64::MAX as u128 { u64::MAX } else { value as u64 }
}
