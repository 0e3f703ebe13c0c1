//! Every privileged instruction, from its encoding.

use crate::SegmentBases;
use crate::privileged::*;
use crate::registers::{Gpr, Width};
use pinfold_abi::vcpu::CpuUserRegs;
use x86_64::registers::rflags::RFlags;

fn regs() -> CpuUserRegs {
    CpuUserRegs { rip: 0x1000, rdx: 0x3f8, rdi: 0x5000, rsi: 0x6000, rcx: 4, ..Default::default() }
}

fn one(bytes: &[u8]) -> Privileged {
    let decoded = decode(bytes, &regs(), SegmentBases { fs: 0x100, gs: 0x200 }).unwrap();
    assert_eq!(usize::from(decoded.len), bytes.len(), "{bytes:x?}");
    decoded.instruction
}

#[test]
fn moves_to_control_and_debug_registers_are_decoded() {
    let (rax, r9) = (Gpr::RAX, Gpr::new(9));
    assert_eq!(one(&[0x0f, 0x20, 0xc0]), Privileged::ReadCr { cr: 0, to: rax });
    assert_eq!(one(&[0x41, 0x0f, 0x20, 0xd9]), Privileged::ReadCr { cr: 3, to: r9 });
    assert_eq!(one(&[0x0f, 0x22, 0xe0]), Privileged::WriteCr { cr: 4, from: rax });
    assert_eq!(one(&[0x44, 0x0f, 0x22, 0xc0]), Privileged::WriteCr { cr: 8, from: rax });
    assert_eq!(one(&[0x0f, 0x21, 0xf8]), Privileged::ReadDr { dr: 7, to: rax });
    assert_eq!(one(&[0x41, 0x0f, 0x23, 0xf1]), Privileged::WriteDr { dr: 6, from: r9 });
    assert_eq!(one(&[0x0f, 0x06]), Privileged::Clts);
    assert_eq!(one(&[0x0f, 0x01, 0xf2]), Privileged::Lmsw(MswSource::Value(0x3f8)));
    assert_eq!(one(&[0x0f, 0x01, 0x37]), Privileged::Lmsw(MswSource::Memory(0x5000)));
    assert_eq!(one(&[0x0f, 0x01, 0xd1]), Privileged::Xsetbv);
}

#[test]
fn instructions_without_operands_are_decoded() {
    for (bytes, expected) in [
        (&[0x0f, 0x32][..], Privileged::ReadMsr),
        (&[0x0f, 0x30], Privileged::WriteMsr),
        (&[0x0f, 0xa2], Privileged::Cpuid),
        (&[0xf4], Privileged::Hlt),
        (&[0x0f, 0x09], Privileged::Wbinvd),
        (&[0xf3, 0x0f, 0x09], Privileged::Wbinvd),
        (&[0x0f, 0x08], Privileged::Invd),
        (&[0xfa], Privileged::Cli),
        (&[0xfb], Privileged::Sti),
        (&[0x0f, 0x31], Privileged::Rdtsc),
        (&[0x0f, 0x01, 0xf9], Privileged::Rdtscp),
        (&[0x0f, 0x33], Privileged::Rdpmc),
        (&[0xcd, 0x82], Privileged::Int(0x82)),
    ] {
        assert_eq!(one(bytes), expected);
    }
}

#[test]
fn other_instructions_are_not_emulated() {
    // lgdt, lidt, lldt, ltr, swapgs, sysretq, sysexit, mov ds, hlt's neighbour cmc, plain mov.
    for bytes in [
        &[0x0f, 0x01, 0x17][..],
        &[0x0f, 0x01, 0x1f],
        &[0x0f, 0x00, 0x17],
        &[0x0f, 0x00, 0x1f],
        &[0x0f, 0x01, 0xf8],
        &[0x48, 0x0f, 0x07],
        &[0x0f, 0x35],
        &[0x8e, 0xd8],
        &[0xf5],
        &[0x48, 0x89, 0xc3],
    ] {
        assert_eq!(one(bytes), Privileged::Other, "{bytes:x?}");
    }
}

#[test]
fn the_address_of_invlpg_is_computed() {
    assert_eq!(one(&[0x0f, 0x01, 0x3f]), Privileged::Invlpg { address: 0x5000 });
    assert_eq!(one(&[0x64, 0x0f, 0x01, 0x3f]), Privileged::Invlpg { address: 0x5100 });
    assert_eq!(one(&[0x65, 0x0f, 0x01, 0x7f, 0x08]), Privileged::Invlpg { address: 0x5208 });
    // [rip + 0x10] counts from the next instruction.
    let bytes = [0x0f, 0x01, 0x3d, 0x10, 0, 0, 0];
    assert_eq!(one(&bytes), Privileged::Invlpg { address: 0x1017 });
}

#[test]
fn port_io_is_decoded() {
    let at = |port, width| (port, width);
    for (bytes, (port, width)) in [
        (&[0xe4, 0x60][..], at(0x60, Width::B1)),
        (&[0x66, 0xe5, 0x60], at(0x60, Width::B2)),
        (&[0xe5, 0x60], at(0x60, Width::B4)),
        (&[0xec], at(0x3f8, Width::B1)),
        (&[0x66, 0xed], at(0x3f8, Width::B2)),
        (&[0xed], at(0x3f8, Width::B4)),
    ] {
        assert_eq!(one(bytes), Privileged::In { port, width });
        // The output forms are two opcodes further.
        let mut out = bytes.to_vec();
        let opcode = out.iter_mut().find(|b| **b >= 0xe4).unwrap();
        *opcode += 2;
        assert_eq!(one(&out), Privileged::Out { port, width });
    }
}

#[test]
fn string_io_is_decoded() {
    let (port, repeat) = (0x3f8, true);
    assert_eq!(
        one(&[0xf3, 0x6d]),
        Privileged::Ins(StringIo { port, width: Width::B4, address: 0x5000, repeat })
    );
    assert_eq!(
        one(&[0x65, 0x6e]),
        Privileged::Outs(StringIo { port, width: Width::B1, address: 0x6200, repeat: false })
    );
    // Not supported with 32-bit addresses.
    assert_eq!(one(&[0x67, 0x6d]), Privileged::Other);
}

#[test]
fn the_forced_emulation_prefix_is_for_cpuid_only() {
    let prefix = [0x0f, 0x0b, 0x78, 0x65, 0x6e];
    let with = |rest: &[u8]| [&prefix, rest].concat();
    assert_eq!(
        decode_forced(&with(&[0x0f, 0xa2, 0x90])),
        Some(Decoded { instruction: Privileged::Cpuid, len: 7 })
    );
    assert_eq!(
        decode_forced(&with(&[0xf4])),
        Some(Decoded { instruction: Privileged::Other, len: 6 })
    );
    assert_eq!(decode_forced(&with(&[0x0f])), None);
    assert_eq!(decode_forced(&prefix[..4]), None);
    assert_eq!(decode_forced(&[0x0f, 0x0b, 0x78, 0x65, 0x6f, 0x0f, 0xa2]), None);
}

#[test]
fn an_incomplete_instruction_is_none() {
    assert_eq!(decode(&[0x0f], &regs(), SegmentBases::default()), None);
    assert_eq!(decode(&[], &regs(), SegmentBases::default()), None);
    // Sixteen bytes of prefixes are too many for any instruction.
    assert_eq!(decode(&[0x66; 20], &regs(), SegmentBases::default()), None);
}

#[test]
fn int_n_is_decoded_in_both_modes() {
    assert_eq!(decode_interrupt(&[0xcd, 0x80], true), Some((0x80, 2)));
    assert_eq!(decode_interrupt(&[0x2e, 0xcd, 0x81], false), Some((0x81, 3)));
    assert_eq!(decode_interrupt(&[0x48, 0xcd, 0x81], true), Some((0x81, 3)));
    assert_eq!(decode_interrupt(&[0x48, 0xcd, 0x81], false), None, "dec eax in 32-bit code");
    assert_eq!(decode_interrupt(&[0xcd], true), None);
    assert_eq!(decode_interrupt(&[0xcc], true), None);
    assert_eq!(decode_interrupt(&[0x66; 20], true), None);
}

#[test]
fn advancing_moves_rip_and_clears_rf() {
    let mut regs = CpuUserRegs {
        rip: u64::MAX,
        rflags: (RFlags::RESUME_FLAG | RFlags::TRAP_FLAG).bits(),
        ..Default::default()
    };
    Decoded { instruction: Privileged::Clts, len: 2 }.advance(&mut regs);
    assert_eq!(regs.rip, 1);
    assert_eq!(regs.rflags, RFlags::TRAP_FLAG.bits(), "RF is cleared, TF is up to the caller");
}

#[test]
fn results_are_set_in_the_cpus_registers() {
    let all = u64::MAX;
    let mut regs = CpuUserRegs { rax: all, rbx: all, rcx: all, rdx: all, ..Default::default() };
    assert_eq!(edx_eax(&regs), all);
    set_edx_eax(&mut regs, 0x1122_3344_5566_7788);
    assert_eq!((regs.rdx, regs.rax), (0x1122_3344, 0x5566_7788));
    assert_eq!(edx_eax(&regs), 0x1122_3344_5566_7788);
    set_cpuid_result(&mut regs, [1, 2, 3, 4]);
    assert_eq!((regs.rax, regs.rbx, regs.rcx, regs.rdx), (1, 2, 3, 4));
    for (width, expected) in
        [(Width::B1, 0xffff_ffff_ffff_ff12), (Width::B2, 0xffff_ffff_ffff_0012), (Width::B4, 0x12)]
    {
        regs.rax = all;
        set_in_result(&mut regs, width, 0x12);
        assert_eq!(regs.rax, expected);
    }
}
