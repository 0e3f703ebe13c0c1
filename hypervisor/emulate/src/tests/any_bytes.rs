//! Arbitrary bytes and registers: decoders never panic, and the fast decoder of stores agrees with
//! the general one.

use crate::pte_store::PteStore;
use crate::registers::Gpr;
use crate::{SegmentBases, cpuid, debug, msr, privileged};
use pinfold_abi::vcpu::CpuUserRegs;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::vec;
use std::vec::Vec;

fn registers() -> impl Strategy<Value = CpuUserRegs> {
    (prop::array::uniform16(any::<u64>()), any::<u64>(), any::<u64>()).prop_map(
        |(general, rip, rflags)| {
            let mut regs = CpuUserRegs { rip, rflags, ..Default::default() };
            for (number, value) in general.into_iter().enumerate() {
                Gpr::new(number as u8).set(&mut regs, value);
            }
            regs
        },
    )
}

fn bases() -> impl Strategy<Value = SegmentBases> {
    any::<(u64, u64)>().prop_map(|(fs, gs)| SegmentBases { fs, gs })
}

/// Bytes like those that the fast decoder accepts; some of them differ slightly.
fn store_like() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop_oneof![
        4 => Just(vec![]),
        2 => Just(vec![0xf0]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    let rex = prop_oneof![
        1 => Just(vec![]),
        2 => Just(vec![0x48]),
        2 => (0x40..=0x4fu8).prop_map(|rex| vec![rex]),
    ];
    let one = prop::sample::select(vec![
        0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39, 0x80, 0x81, 0x83, 0x86, 0x87, 0x88, 0x89,
        0xc6, 0xc7, 0xf7, 0xff, 0xab,
    ]);
    let two = prop::sample::select(vec![
        0xb1, 0xc1, 0xab, 0xb3, 0xbb, 0xba, 0xc3, 0xb0, 0xc0, 0xa3, 0xc7, 0x1f,
    ]);
    let opcode = prop_oneof![
        3 => one.prop_map(|opcode| vec![opcode]),
        2 => two.prop_map(|opcode| vec![0x0f, opcode]),
    ];
    // Memory operands, often special ones: SIB, rip-relative, no base.
    let modrm = prop_oneof![
        (any::<u8>(), any::<u8>()).prop_map(|(modrm, sib)| vec![modrm, sib]),
        (0..3u8, 0..8u8, any::<u8>())
            .prop_map(|(mode, reg, sib)| vec![mode << 6 | reg << 3 | 4, sib]),
        (0..8u8, any::<u8>()).prop_map(|(reg, next)| vec![reg << 3 | 5, next]),
        (0..8u8, 0..8u8, 0..4u8)
            .prop_map(|(reg, index, scale)| vec![reg << 3 | 4, scale << 6 | index << 3 | 5]),
    ];
    (prefix, rex, opcode, modrm, prop::collection::vec(any::<u8>(), 0..12))
        .prop_map(|(prefix, rex, opcode, modrm, rest)| [prefix, rex, opcode, modrm, rest].concat())
}

/// Checks that both decoders decode the bytes to the same.
fn compare_decoders(
    bytes: &[u8],
    regs: &CpuUserRegs,
    bases: SegmentBases,
    old: u64,
) -> Result<bool, TestCaseError> {
    let fast = PteStore::decode(bytes, regs, bases);
    let general = PteStore::decode_general(bytes, regs, bases);
    match (fast, general) {
        (Ok(fast), Ok(general)) => {
            prop_assert_eq!(fast.address(), general.address());
            prop_assert_eq!(fast.width(), general.width());
            prop_assert_eq!(fast.instruction_len(), general.instruction_len());
            let (mut after_fast, mut after_general) = (*regs, *regs);
            let (fast, general) = (fast.evaluate(old, regs), general.evaluate(old, regs));
            prop_assert_eq!(fast.entry, general.entry);
            fast.effects.apply(&mut after_fast);
            general.effects.apply(&mut after_general);
            prop_assert_eq!(after_fast, after_general);
            Ok(true)
        }
        (fast, general) => {
            prop_assert_eq!(fast, general);
            Ok(false)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(super::cases(100_000)))]

    #[test]
    fn the_fast_decoder_agrees_with_the_general_one(
        bytes in store_like(), regs in registers(), bases in bases(), old: u64, aligned: bool,
    ) {
        let mut regs = regs;
        if aligned {
            // Random registers are rarely aligned; then only the errors would be compared.
            for number in 0..16 {
                let register = Gpr::new(number);
                let value = register.get(&regs) & !7;
                register.set(&mut regs, value);
            }
        }
        compare_decoders(&bytes, &regs, bases, old)?;
    }

    #[test]
    fn random_bytes_are_decoded_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..20), regs in registers(), bases in bases(), old: u64,
    ) {
        compare_decoders(&bytes, &regs, bases, old)?;
        if let Some(decoded) = privileged::decode(&bytes, &regs, bases) {
            prop_assert!(usize::from(decoded.len) <= bytes.len().min(15));
            let mut after = regs;
            decoded.advance(&mut after);
            prop_assert_eq!(after.rip, regs.rip.wrapping_add(decoded.len.into()));
        }
        for long_mode in [false, true] {
            if let Some((_, len)) = privileged::decode_interrupt(&bytes, long_mode) {
                prop_assert!(usize::from(len) <= bytes.len());
            }
        }
        let forced = [&[0x0f, 0x0b, b'x', b'e', b'n'], bytes.as_slice()].concat();
        if let Some(decoded) = privileged::decode_forced(&forced) {
            prop_assert!(usize::from(decoded.len) <= forced.len());
        }
    }

    #[test]
    fn cpuid_msr_and_debug_register_policies_never_panic(
        a: u32, b: u32, host: [u32; 4], value: u64, register: u64, flag: bool,
    ) {
        let context = cpuid::CpuidContext { vcpu: a, ..Default::default() };
        cpuid::filter(a, b, host, &context);
        let _ = msr::read(a, &msr::MsrContext::default());
        let _ = msr::write(a, value);
        let mut registers = debug::DebugRegisters::default();
        let _ = registers.set(register % 12, value, flag);
        prop_assert_eq!(registers.control & (1 << 13 | 1 << 11), 0, "GD and RTM stay off");
    }
}

/// Checks that the generator above often makes bytes that are accepted.
#[test]
fn a_tenth_of_the_generated_bytes_are_stores() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = store_like();
    let regs = CpuUserRegs::default();
    const GENERATED: usize = if cfg!(miri) { 100 } else { 10_000 };
    let mut accepted = 0;
    for _ in 0..GENERATED {
        let bytes = strategy.new_tree(&mut runner).unwrap().current();
        let found = PteStore::decode(&bytes, &regs, SegmentBases::default());
        accepted += usize::from(found.is_ok());
    }
    assert!(accepted > GENERATED / 10, "only {accepted} of {GENERATED} were stores");
}
