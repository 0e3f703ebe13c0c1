//! Emulation compared with the CPU: each supported instruction is executed natively on a buffer, then
//! decoded from the same bytes and emulated on a copy. Memory, registers, flags and length must be
//! the same.
#![expect(unsafe_code, reason = "executes instructions, to compare with what is emulated")]

use crate::SegmentBases;
use crate::pte_store::PteStore;
use crate::registers::STATUS_FLAGS;
use pinfold_abi::vcpu::CpuUserRegs;
use proptest::prelude::*;
use std::arch::asm;
use std::format;
use x86_64::registers::rflags::RFlags;

/// The flags that are compared.
const FLAGS: u64 = STATUS_FLAGS.union(RFlags::DIRECTION_FLAG).bits();
/// Words of the buffer: bit numbers in a register may lie outside of the operand.
const WORDS: usize = 64;
/// The word that rdi points into.
const MIDDLE: usize = WORDS / 2;

/// The registers that an instruction may read and change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Machine {
    rax: u64,
    rcx: u64,
    rdx: u64,
    rdi: u64,
    flags: u64,
}

/// Executes one instruction and returns its bytes.
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

/// The instructions under test, with operands of different widths.
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

/// Executes and emulates an instruction, and compares. `before.rdi`: bytes from the middle word.
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
    // A repeated instruction faults once for each element.
    let mut steps = 0;
    while regs.rip == rip {
        let store = PteStore::decode(&fetched, &regs, SegmentBases::default())
            .map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        let index = (store.entry_address() - base) as usize / 8;
        let result = store.evaluate(emulated[index], &regs);
        emulated[index] = result.entry;
        result.effects.apply(&mut regs);
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
        flags: regs.rflags & FLAGS,
    };
    let expected = Machine { flags: after.flags & FLAGS, ..after };
    prop_assert_eq!(expected, seen, "registers after {}", text);
    Ok(())
}

/// Values at which carries and signs change, and any others.
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

/// The width of the memory operand in bytes, by the text of the instruction.
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
    fn emulation_matches_the_cpu(
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
        // Half of the cmpxchg should succeed, which random values would never do.
        let rax = if equal { old >> (place * 8) } else { rax };
        // Bit numbers must stay inside the buffer; other sources may be anything.
        let is_bit = text.contains("bt") && text.ends_with("dx");
        let rdx = if is_bit { (rdx as i64 % 1024) as u64 } else { rdx };
        let before = Machine {
            rax,
            rcx: 1 + rdx % 4,
            rdx,
            rdi: place,
            flags: flags & FLAGS | 2,
        };
        check((text, run), words, before)?;
    }
}

/// Each instruction at least once, whatever the property test chooses.
#[test]
fn every_instruction_matches_the_cpu_at_edge_values() {
    for &(text, run) in FORMS {
        for rdx in [0u64, 1, 5, 63, 64, 200, (-1i64) as u64, (-65i64) as u64] {
            for flags in [2, 2 | STATUS_FLAGS.bits()] {
                let before = Machine { rax: 0x8000_0067, rcx: 2, rdx, rdi: 0, flags };
                let result = check((text, run), [0x8000_0067; WORDS], before);
                assert!(result.is_ok(), "{result:?}");
            }
        }
    }
}
