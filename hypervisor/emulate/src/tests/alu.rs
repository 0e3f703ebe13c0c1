//! Sums and differences of bytes, every pair against its definition.

use crate::alu::*;
use crate::registers::Width;
use x86_64::registers::rflags::RFlags;

const CF: RFlags = RFlags::CARRY_FLAG;
const OF: RFlags = RFlags::OVERFLOW_FLAG;
const AF: RFlags = RFlags::AUXILIARY_CARRY_FLAG;
const SF: RFlags = RFlags::SIGN_FLAG;
const PF: RFlags = RFlags::PARITY_FLAG;
const ZF: RFlags = RFlags::ZERO_FLAG;

#[test]
fn byte_flags_match_their_definition() {
    for a in (0..=255u8).step_by(if cfg!(miri) { 85 } else { 1 }) {
        for b in 0..=255u8 {
            for carry in [false, true] {
                let (sum, diff) = (
                    add(a.into(), b.into(), carry, Width::B1),
                    sub(a.into(), b.into(), carry, Width::B1),
                );
                let c = i16::from(carry);
                assert_eq!(
                    sum.flags.contains(CF),
                    u16::from(a) + u16::from(b) + u16::from(carry) > 255
                );
                assert_eq!(diff.flags.contains(CF), i16::from(a) - i16::from(b) - c < 0);
                let signed = i16::from(a as i8) + i16::from(b as i8) + c;
                assert_eq!(sum.flags.contains(OF), i8::try_from(signed).is_err());
                let signed = i16::from(a as i8) - i16::from(b as i8) - c;
                assert_eq!(diff.flags.contains(OF), i8::try_from(signed).is_err());
                assert_eq!(sum.flags.contains(AF), (a & 15) + (b & 15) + u8::from(carry) > 15);
                let low = i16::from(a & 15) - i16::from(b & 15) - c;
                assert_eq!(diff.flags.contains(AF), low < 0);
            }
        }
    }
}

#[test]
fn flags_depend_on_the_width() {
    for width in [Width::B1, Width::B2, Width::B4, Width::B8] {
        let most = width.mask();
        assert_eq!(add(most, 1, false, width), AluResult { value: 0, flags: ZF | CF | AF | PF });
        let signed = add(width.sign() - 1, 1, false, width);
        assert_eq!(signed.value, width.sign());
        assert_eq!(signed.flags & (OF | SF | CF), OF | SF);
        assert_eq!(sub(0, 1, false, width).value, most);
        assert_eq!(logic(u64::MAX, width).value, most);
    }
}
