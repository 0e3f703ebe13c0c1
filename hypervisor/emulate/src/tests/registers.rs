//! Registers by number, and their parts.

use crate::registers::*;
use pinfold_abi::vcpu::CpuUserRegs;

#[test]
fn every_number_names_its_own_register() {
    let mut regs = CpuUserRegs::default();
    for number in 0..16 {
        Gpr::new(number).set(&mut regs, 0x100 + u64::from(number));
    }
    for number in 0..16 {
        assert_eq!(Gpr::new(number).get(&regs), 0x100 + u64::from(number));
    }
    assert_eq!((regs.rax, regs.rsp, regs.rdi, regs.r15), (0x100, 0x104, 0x107, 0x10f));
}

#[test]
fn narrow_writes_merge_as_on_the_cpu() {
    let all = u64::MAX;
    for (width, high, expected) in [
        (Width::B8, false, 0x12),
        (Width::B4, false, 0x12),
        (Width::B2, false, 0xffff_ffff_ffff_0012),
        (Width::B1, false, 0xffff_ffff_ffff_ff12),
        (Width::B1, true, 0xffff_ffff_ffff_12ff),
    ] {
        let mut regs = CpuUserRegs { rbx: all, ..Default::default() };
        let part = RegisterOperand { gpr: Gpr::RBX, width, high };
        part.set(&mut regs, 0x12);
        assert_eq!(regs.rbx, expected);
        assert_eq!(part.get(&regs), 0x12);
    }
}
