//! Arithmetic as the CPU does it, with status flags (Intel SDM vol. 1, 3.4.3 and appendix A).

use crate::registers::Width;
use x86_64::registers::rflags::RFlags;

/// A result and the status flags that it sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AluResult {
    pub(crate) value: u64,
    pub(crate) flags: RFlags,
}

/// `a + b + carry`
pub(crate) fn add(a: u64, b: u64, carry: bool, width: Width) -> AluResult {
    let (a, b) = (a & width.mask(), b & width.mask());
    let wide = u128::from(a) + u128::from(b) + u128::from(carry);
    let value = wide as u64 & width.mask();
    let mut flags = result_flags(value, width) | carry_of_bit_3(a, b, value);
    if wide > u128::from(width.mask()) {
        flags |= RFlags::CARRY_FLAG;
    }
    // Both operands have the same sign, the result the other.
    if (a ^ value) & (b ^ value) & width.sign() != 0 {
        flags |= RFlags::OVERFLOW_FLAG;
    }
    AluResult { value, flags }
}

/// `a - b - borrow`
pub(crate) fn sub(a: u64, b: u64, borrow: bool, width: Width) -> AluResult {
    let (a, b) = (a & width.mask(), b & width.mask());
    let value = a.wrapping_sub(b).wrapping_sub(u64::from(borrow)) & width.mask();
    let mut flags = result_flags(value, width) | carry_of_bit_3(a, b, value);
    if u128::from(a) < u128::from(b) + u128::from(borrow) {
        flags |= RFlags::CARRY_FLAG;
    }
    // The operands differ in sign, and so do the result and the first operand.
    if (a ^ b) & (a ^ value) & width.sign() != 0 {
        flags |= RFlags::OVERFLOW_FLAG;
    }
    AluResult { value, flags }
}

/// The result of `and`, `or` or `xor` is `value`: CF and OF are clear. The manual leaves AF undefined;
/// all known CPUs clear it.
pub(crate) fn logic(value: u64, width: Width) -> AluResult {
    let value = value & width.mask();
    AluResult { value, flags: result_flags(value, width) }
}

/// ZF, SF and PF of a result.
fn result_flags(value: u64, width: Width) -> RFlags {
    let mut flags = RFlags::empty();
    if value == 0 {
        flags |= RFlags::ZERO_FLAG;
    }
    if value & width.sign() != 0 {
        flags |= RFlags::SIGN_FLAG;
    }
    // PF: an even number of ones in the lowest byte, whatever the width.
    if (value as u8).count_ones().is_multiple_of(2) {
        flags |= RFlags::PARITY_FLAG;
    }
    flags
}

/// AF, which is the carry or borrow of bit 3 and has the place of bit 4.
fn carry_of_bit_3(a: u64, b: u64, value: u64) -> RFlags {
    RFlags::from_bits_retain(a ^ b ^ value) & RFlags::AUXILIARY_CARRY_FLAG
}
