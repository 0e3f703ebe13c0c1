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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_against_their_definition() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for carry in [false, true] {
                    let (sum, diff) = (
                        add(a.into(), b.into(), carry, Width::B1),
                        sub(a.into(), b.into(), carry, Width::B1),
                    );
                    let c = i16::from(carry);
                    assert_eq!(
                        sum.flags & CF != 0,
                        u16::from(a) + u16::from(b) + u16::from(carry) > 255
                    );
                    assert_eq!(diff.flags & CF != 0, i16::from(a) - i16::from(b) - c < 0);
                    let signed = i16::from(a as i8) + i16::from(b as i8) + c;
                    assert_eq!(sum.flags & OF != 0, i8::try_from(signed).is_err());
                    let signed = i16::from(a as i8) - i16::from(b as i8) - c;
                    assert_eq!(diff.flags & OF != 0, i8::try_from(signed).is_err());
                    assert_eq!(sum.flags & AF != 0, (a & 15) + (b & 15) + u8::from(carry) > 15);
                    let low = i16::from(a & 15) - i16::from(b & 15) - c;
                    assert_eq!(diff.flags & AF != 0, low < 0);
                }
            }
        }
    }

    #[test]
    fn the_widths_differ_in_their_top_bit() {
        for width in [Width::B1, Width::B2, Width::B4, Width::B8] {
            let most = width.mask();
            assert_eq!(add(most, 1, false, width), Outcome { value: 0, flags: ZF | CF | AF | PF });
            let signed = add(width.sign() - 1, 1, false, width);
            assert_eq!(signed.value, width.sign());
            assert_eq!(signed.flags & (OF | SF | CF), OF | SF);
            assert_eq!(sub(0, 1, false, width).value, most);
            assert_eq!(logic(u64::MAX, width).value, most);
        }
    }
}
