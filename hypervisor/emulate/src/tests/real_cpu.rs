//! The emulation against the CPU itself: every supported form runs natively on a buffer, then is
//! decoded from the very bytes that ran, and carried out on a copy. Memory, registers, flags and
//! length must be the same.

use crate::SegmentBases;
use crate::registers::{DF, STATUS_FLAGS};
use crate::store::PteStore;
use pinfold_abi::vcpu::CpuUserRegs;
use proptest::prelude::*;
use std::arch::asm;
use std::format;

/// Words around the operand, since a bit number in a register reaches beyond it.
const WORDS: usize = 64;
/// The word that rdi points into.
const MIDDLE: usize = WORDS / 2;

/// What the instruction may read and change besides memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Machine {
    rax: u64,
    rcx: u64,
    rdx: u64,
    rdi: u64,
    flags: u64,
}

/// Runs one instruction; gives its bytes.
type Run = fn(&mut Machine) -> &'static [u8];

macro_rules! forms {
    ($($text:literal),* $(,)?) => {
        &[$(($text, {
            fn run(machine: &mut Machine) -> &'static [u8] {
                let (start, end): (usize, usize);
                // SAFETY: the instructions under test store only through rdi, which `check` points
                // into the middle of a live buffer with a distance that keeps every operand inside;
                // the stack is used in balance; DF is cleared again as the language requires.
                unsafe {
                    asm!(
                        "push {flags}",
                        "popfq",
                        "lea {start}, [rip + 2f]",
                        "lea {end}, [rip + 3f]",
                        "2:",
                        $text,
                        "3:",
                        "pushfq",
                        "pop {flags}",
                        "cld",
                        flags = inout(reg) machine.flags,
                        start = out(reg) start,
                        end = out(reg) end,
                        inout("rax") machine.rax,
                        inout("rcx") machine.rcx,
                        inout("rdx") machine.rdx,
                        inout("rdi") machine.rdi,
                    );
                }
                // SAFETY: both addresses are labels in this function's code, in this order; code is
                // readable and does not change.
                unsafe { std::slice::from_raw_parts(start as *const u8, end - start) }
            }
            run as Run
        })),*]
    };
}

/// A form for each of the four widths, with the source in a register.
const FORMS: &[(&str, Run)] = forms![
    "mov [rdi], rdx",
    "mov [rdi], edx",
    "mov [rdi], dx",
    "mov [rdi], dl",
    "mov [rdi], dh",
    "mov qword ptr [rdi], -5",
    "mov dword ptr [rdi], 0x80000001",
    "mov word ptr [rdi], 0x1234",
    "mov byte ptr [rdi], 0x80",
    "movnti [rdi], rdx",
    "movnti [rdi], edx",
    "mov [rdi + rcx*8], rdx",
    "mov [rdi + rcx*8 - 16], rdx",
    "xchg [rdi], rdx",
    "xchg [rdi], edx",
    "xchg [rdi], dx",
    "xchg [rdi], dl",
    "xchg [rdi], dh",
    "lock xchg [rdi], rdx",
    "lock cmpxchg [rdi], rdx",
    "lock cmpxchg [rdi], edx",
    "lock cmpxchg [rdi], dx",
    "lock cmpxchg [rdi], dl",
    "cmpxchg [rdi], rdx",
    "cmpxchg [rdi], dh",
    "lock xadd [rdi], rdx",
    "lock xadd [rdi], edx",
    "xadd [rdi], dx",
    "xadd [rdi], dl",
    "xadd [rdi], rax",
    "lock add [rdi], rdx",
    "add [rdi], edx",
    "add [rdi], dx",
    "add [rdi], dl",
    "add qword ptr [rdi], 0x7f",
    "add qword ptr [rdi], -0x12345678",
    "lock or [rdi], rdx",
    "or [rdi], edx",
    "or dword ptr [rdi], 0x80000000",
    "lock or byte ptr [rdi], 0x80",
    "adc [rdi], rdx",
    "adc [rdi], edx",
    "adc dword ptr [rdi], -1",
    "lock adc byte ptr [rdi], 0x7f",
    "sbb [rdi], rdx",
    "sbb [rdi], edx",
    "lock sbb qword ptr [rdi], 0",
    "sbb byte ptr [rdi], 0x7f",
    "lock and [rdi], rdx",
    "and [rdi], edx",
    "and qword ptr [rdi], -3",
    "and dword ptr [rdi], 0x7fffffff",
    "lock and byte ptr [rdi], 0xfd",
    "lock sub [rdi], rdx",
    "sub [rdi], edx",
    "sub [rdi], dl",
    "sub word ptr [rdi], 0x1234",
    "lock xor [rdi], rdx",
    "xor [rdi], edx",
    "xor byte ptr [rdi], 0x40",
    "lock inc qword ptr [rdi]",
    "inc dword ptr [rdi]",
    "inc word ptr [rdi]",
    "inc byte ptr [rdi]",
    "lock dec qword ptr [rdi]",
    "dec dword ptr [rdi]",
    "dec byte ptr [rdi]",
    "lock not qword ptr [rdi]",
    "not dword ptr [rdi]",
    "not byte ptr [rdi]",
    "lock neg qword ptr [rdi]",
    "neg dword ptr [rdi]",
    "neg byte ptr [rdi]",
    "lock bts [rdi], rdx",
    "bts [rdi], edx",
    "bts [rdi], dx",
    "lock btr [rdi], rdx",
    "btr [rdi], edx",
    "btr [rdi], dx",
    "lock btc [rdi], rdx",
    "btc [rdi], edx",
    "lock bts qword ptr [rdi], 63",
    "lock btr qword ptr [rdi], 1",
    "btr dword ptr [rdi], 6",
    "btc word ptr [rdi], 15",
    "lock btr qword ptr [rdi], 0xc1",
    "stosq",
    "stosd",
    "stosw",
    "stosb",
    "rep stosq",
    "repne stosd",
];

/// Runs a form both ways and compares. `shift`: bytes from the middle word, as the width allows.
fn check(
    (text, run): (&str, Run),
    words: [u64; WORDS],
    before: Machine,
) -> Result<(), TestCaseError> {
    let mut native = words;
    let mut emulated = words;
    let base = native.as_mut_ptr() as u64;
    let before = Machine { rdi: base + MIDDLE as u64 * 8 + before.rdi, ..before };
    let mut after = before;
    let bytes = run(&mut after);

    let mut fetched = [0xcc; 15];
    fetched[..bytes.len()].copy_from_slice(bytes);
    let rip = 0xffff_ffff_8100_0000;
    let mut regs = CpuUserRegs {
        rax: before.rax,
        rcx: before.rcx,
        rdx: before.rdx,
        rdi: before.rdi,
        rflags: before.flags,
        rip,
        ..Default::default()
    };
    // A repeated instruction faults once for each step.
    let mut steps = 0;
    while regs.rip == rip {
        let store = PteStore::decode(&fetched, &regs, SegmentBases::default())
            .map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        let index = (store.entry_address() - base) as usize / 8;
        let planned = store.plan(emulated[index], &regs);
        emulated[index] = planned.new;
        planned.effects.commit(&mut regs);
        steps += 1;
        prop_assert!(steps <= WORDS, "{text} does not end");
    }

    prop_assert_eq!(native, emulated, "memory after {}", text);
    prop_assert_eq!(regs.rip - rip, bytes.len() as u64, "length of {}", text);
    let seen = Machine {
        rax: regs.rax,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rdi: regs.rdi,
        flags: regs.rflags & (STATUS_FLAGS | DF),
    };
    let expected = Machine { flags: after.flags & (STATUS_FLAGS | DF), ..after };
    prop_assert_eq!(expected, seen, "registers after {}", text);
    Ok(())
}

/// Values where carries and signs change, and any others.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(0x7fff_ffff_ffff_ffff),
        Just(0x8000_0000_0000_0000),
        Just(0x7fff_ffff),
        Just(0x8000_0000),
        Just(0x7f80_7f80_7f80_7f80),
        any::<u64>(),
        (any::<u64>(), 0..64u32).prop_map(|(v, s)| v >> s),
    ]
}

/// The operand's width in bytes, as the form's text shows it; so that the operand is aligned.
fn width(text: &str) -> u64 {
    let source = text.rsplit(", ").next().unwrap();
    match () {
        () if text.contains("qword") || text.contains("stosq") => 8,
        () if text.contains("dword") || text.contains("stosd") => 4,
        () if text.contains("byte") || text.contains("stosb") => 1,
        () if text.contains("word") || text.contains("stosw") => 2,
        () => match source {
            "rdx" | "rax" => 8,
            "edx" => 4,
            "dx" => 2,
            "dl" | "dh" => 1,
            other => panic!("no width in {other}"),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40_000))]

    #[test]
    fn every_form_does_what_the_cpu_does(
        form in 0..FORMS.len(),
        old in value(),
        rax in value(),
        rdx in value(),
        equal in any::<bool>(),
        flags in any::<u64>(),
        place in 0..8u64,
    ) {
        let (text, run) = FORMS[form];
        let width = width(text);
        let mut words = [0x0123_4567_89ab_cdef; WORDS];
        words[MIDDLE] = old;
        let place = place / width * width;
        // A quarter of all comparisons should succeed, which random values never would.
        let rax = if equal { old >> (place * 8) } else { rax };
        // Bit numbers must stay inside the buffer; other sources may be anything.
        let is_bit = text.contains("bt") && text.ends_with("dx");
        let rdx = if is_bit { (rdx as i64 % 1024) as u64 } else { rdx };
        let before = Machine {
            rax,
            rcx: 1 + rdx % 4,
            rdx,
            rdi: place,
            flags: flags & (STATUS_FLAGS | DF) | 2,
        };
        check((text, run), words, before)?;
    }
}

/// Every form at least once, whatever the random choice above.
#[test]
fn no_form_is_left_out() {
    for &(text, run) in FORMS {
        for rdx in [0u64, 1, 5, 63, 64, 200, (-1i64) as u64, (-65i64) as u64] {
            for flags in [2, 2 | STATUS_FLAGS] {
                let before = Machine { rax: 0x8000_0067, rcx: 2, rdx, rdi: 0, flags };
                let result = check((text, run), [0x8000_0067; WORDS], before);
                assert!(result.is_ok(), "{result:?}");
            }
        }
    }
}
