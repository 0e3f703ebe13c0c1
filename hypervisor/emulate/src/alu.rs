//! Arithmetic as the CPU does it, status flags included (Intel SDM vol. 1, 3.4.3 and appendix A).

use crate::registers::{AF, CF, OF, PF, SF, Width, ZF};

/// A result and the status flags that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) value: u64,
    pub(crate) flags: u64,
}

/// `a + b + carry`
pub(crate) const fn add(a: u64, b: u64, carry: bool, width: Width) -> Outcome {
    let (a, b) = (a & width.mask(), b & width.mask());
    let wide = a as u128 + b as u128 + carry as u128;
    let value = wide as u64 & width.mask();
    let mut flags = common(value, width);
    if wide > width.mask() as u128 {
        flags |= CF;
    }
    // Both operands have one sign and the result the other.
    if (a ^ value) & (b ^ value) & width.sign() != 0 {
        flags |= OF;
    }
    flags |= (a ^ b ^ value) & AF;
    Outcome { value, flags }
}

/// `a - b - borrow`
pub(crate) const fn sub(a: u64, b: u64, borrow: bool, width: Width) -> Outcome {
    let (a, b) = (a & width.mask(), b & width.mask());
    let value = a.wrapping_sub(b).wrapping_sub(borrow as u64) & width.mask();
    let mut flags = common(value, width);
    if (a as u128) < b as u128 + borrow as u128 {
        flags |= CF;
    }
    // The operands differ in sign and the result has not the first one's.
    if (a ^ b) & (a ^ value) & width.sign() != 0 {
        flags |= OF;
    }
    flags |= (a ^ b ^ value) & AF;
    Outcome { value, flags }
}

/// The flags of `and`, `or`, `xor`: CF and OF are clear. AF is undefined by the manual and clear on
/// every known processor.
pub(crate) const fn logic(value: u64, width: Width) -> Outcome {
    let value = value & width.mask();
    Outcome { value, flags: common(value, width) }
}

/// ZF, SF and PF of a result.
const fn common(value: u64, width: Width) -> u64 {
    let mut flags = 0;
    if value == 0 {
        flags |= ZF;
    }
    if value & width.sign() != 0 {
        flags |= SF;
    }
    // PF: an even number of ones in the lowest byte, whatever the width.
    if (value as u8).count_ones().is_multiple_of(2) {
        flags |= PF;
    }
    flags
}
