//! Stores to page tables: what can't be compared with the CPU itself. Which instructions are
//! supported, retries, errors, addresses.

use crate::SegmentBases;
use x86_64::registers::rflags::RFlags;

use crate::pte_store::{PteStore, StoreError};
use pinfold_abi::vcpu::CpuUserRegs;
use std::vec::Vec;

const RIP: u64 = 0xffff_ffff_8100_0000;

fn regs() -> CpuUserRegs {
    CpuUserRegs { rip: RIP, rdi: 0x7000, rdx: 0x1234_5067, ..Default::default() }
}

/// Fifteen bytes, as a caller fetches them.
fn fetched(bytes: &[u8]) -> Vec<u8> {
    let mut fetched = bytes.to_vec();
    fetched.resize(15.max(bytes.len()), 0x90);
    fetched
}

fn decode(bytes: &[u8], regs: &CpuUserRegs) -> Result<PteStore, StoreError> {
    let bases = SegmentBases { fs: 0x10_0000, gs: 0x20_0000 };
    let fast = PteStore::decode(&fetched(bytes), regs, bases);
    // An exact slice is shorter than 15 bytes, so it is left to the general decoder.
    let general = PteStore::decode(bytes, regs, bases);
    assert_eq!(
        fast.map(|s| (s.address(), s.instruction_len())),
        general.map(|s| (s.address(), s.instruction_len()))
    );
    fast
}

#[test]
fn evaluating_again_after_a_lost_race_changes_nothing() {
    // lock cmpxchg [rdi], rdx
    let regs = CpuUserRegs { rax: 0x67, ..regs() };
    let store = decode(&[0xf0, 0x48, 0x0f, 0xb1, 0x17], &regs).unwrap();
    // Another CPU sets the dirty bit: the first result is dropped, which changes nothing.
    let stale = store.evaluate(0x67, &regs);
    assert_eq!(stale.entry, 0x1234_5067);
    let fresh = store.evaluate(0x67 | 0x40, &CpuUserRegs { rax: 0x27, ..regs });
    assert_eq!(fresh.entry, 0x67, "not equal: the entry stays");
    let mut after =
        CpuUserRegs { rax: 0x27, rflags: (RFlags::ZERO_FLAG | RFlags::RESUME_FLAG).bits(), ..regs };
    fresh.effects.apply(&mut after);
    let changed = RFlags::ZERO_FLAG | RFlags::CARRY_FLAG | RFlags::RESUME_FLAG;
    assert_eq!(after.rax, 0x67);
    assert_eq!(RFlags::from_bits_retain(after.rflags) & changed, RFlags::CARRY_FLAG);
    assert_eq!(after.rip, RIP + 5);
}

#[test]
fn an_operand_across_two_entries_is_unaligned() {
    for (bytes, rdi, entry) in [
        (&[0x48, 0x89, 0x17][..], 0x7ff8, Ok(0x7ff8)),
        (&[0x89, 0x17], 0x7ffc, Ok(0x7ff8)),
        (&[0xc6, 0x07, 0x01], 0x7fff, Ok(0x7ff8)),
        (&[0x66, 0x89, 0x17], 0x7006, Ok(0x7000)),
        (&[0x48, 0x89, 0x17], 0x7004, Err(8)),
        (&[0x89, 0x17], 0x7002, Err(4)),
        (&[0x66, 0x89, 0x17], 0x7007, Err(2)),
    ] {
        let found = decode(bytes, &CpuUserRegs { rdi, ..regs() }).map(|s| s.entry_address());
        let expected = entry.map_err(|width| StoreError::Unaligned { address: rdi, width });
        assert_eq!(found, expected, "{bytes:x?}");
    }
}

#[test]
fn a_narrow_store_keeps_the_rest_of_the_entry() {
    // lock and byte ptr [rdi], 0xfd: how a kernel write-protects an entry
    let store = decode(&[0xf0, 0x80, 0x27, 0xfd], &regs()).unwrap();
    assert_eq!(store.evaluate(0x8000_0001_2345_6067, &regs()).entry, 0x8000_0001_2345_6065);
    // mov dword ptr [rdi + 4], 0: the upper half
    let store = decode(&[0xc7, 0x47, 0x04, 0, 0, 0, 0], &regs()).unwrap();
    assert_eq!(store.evaluate(0x8000_0001_2345_6067, &regs()).entry, 0x2345_6067);
    assert_eq!(store.address(), 0x7004);
}

#[test]
fn every_addressing_mode_is_computed() {
    let regs = CpuUserRegs { rbx: 0x100, r12: 0x40_0000, rsp: 0x9000, r13: 0xa000, ..regs() };
    for (bytes, address) in [
        // mov [rdi + rbx*8 + 0x10], rdx
        (&[0x48, 0x89, 0x54, 0xdf, 0x10][..], 0x7810),
        // mov [rdi - 8], rdx
        (&[0x48, 0x89, 0x57, 0xf8], 0x6ff8),
        // mov [r12], rdx and mov [rsp], rdx need a SIB byte
        (&[0x49, 0x89, 0x14, 0x24], 0x40_0000),
        (&[0x48, 0x89, 0x14, 0x24], 0x9000),
        // mov [rdi + r12], rdx: r12 can be an index
        (&[0x4a, 0x89, 0x14, 0x27], 0x40_7000),
        // mov [r13 + 0], rdx needs a displacement
        (&[0x49, 0x89, 0x55, 0x00], 0xa000),
        // mov [rip + 0x39], rdx
        (&[0x48, 0x89, 0x15, 0x39, 0, 0, 0], RIP + 0x40),
        // mov qword ptr [rip + 0x35], 0: the immediate counts too
        (&[0x48, 0xc7, 0x05, 0x35, 0, 0, 0, 0, 0, 0, 0], RIP + 0x40),
        // mov [0xffffffff80000000], rdx
        (&[0x48, 0x89, 0x14, 0x25, 0, 0, 0, 0x80], 0xffff_ffff_8000_0000),
        // mov [rbx*8 + 0x1000], rdx: no base
        (&[0x48, 0x89, 0x14, 0xdd, 0, 0x10, 0, 0], 0x1800),
        // mov fs:[rdi], rdx and gs
        (&[0x64, 0x48, 0x89, 0x17], 0x10_7000),
        (&[0x65, 0x48, 0x89, 0x17], 0x20_7000),
        // mov ds:[rdi], rdx: other segments have no base
        (&[0x3e, 0x48, 0x89, 0x17], 0x7000),
        // mov [edi], rdx
        (&[0x67, 0x48, 0x89, 0x17], 0x7000),
        // movabs [0x1122334455667788], rax
        (&[0x48, 0xa3, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11], 0x1122_3344_5566_7788),
    ] {
        assert_eq!(decode(bytes, &regs).map(|s| s.address()), Ok(address), "{bytes:x?}");
    }
    let narrow = CpuUserRegs { rdi: 0xffff_ffff_0000_7000, ..regs };
    assert_eq!(decode(&[0x67, 0x48, 0x89, 0x17], &narrow).map(|s| s.address()), Ok(0x7000));
}

#[test]
fn rep_stos_is_emulated_element_by_element() {
    let mut regs = CpuUserRegs { rcx: 2, rax: 0x55, ..regs() };
    let bytes = [0xf3, 0x48, 0xab];
    let store = decode(&bytes, &regs).unwrap();
    let result = store.evaluate(0, &regs);
    assert_eq!(result.entry, 0x55);
    result.effects.apply(&mut regs);
    assert_eq!((regs.rip, regs.rcx, regs.rdi), (RIP, 1, 0x7008));
    decode(&bytes, &regs).unwrap().evaluate(0, &regs).effects.apply(&mut regs);
    assert_eq!((regs.rip, regs.rcx, regs.rdi), (RIP + 3, 0, 0x7010));
    regs.rip = RIP;
    assert_eq!(decode(&bytes, &regs), Err(StoreError::Unsupported), "no element left");
}

#[test]
fn other_instructions_are_unsupported() {
    for bytes in [
        &[0x48, 0x8b, 0x17][..],         // mov rdx, [rdi]: a load
        &[0x48, 0x39, 0x17],             // cmp [rdi], rdx: no store
        &[0x48, 0x89, 0xd7],             // mov rdi, rdx: no memory
        &[0x48, 0xf7, 0x07, 1, 0, 0, 0], // test [rdi], 1: no store
        &[0x8c, 0x1f],                   // mov [rdi], ds
        &[0x48, 0xa5],                   // movsq: reads memory too
        &[0x0f, 0xc7, 0x0f],             // cmpxchg8b
        &[0x48, 0x0f, 0xc7, 0x0f],       // cmpxchg16b
        &[0x0f, 0x7f, 0x07],             // movq [rdi], mm0
        &[0x66, 0x0f, 0x7f, 0x07],       // movdqa [rdi], xmm0
        &[0x48, 0xc1, 0x27, 4],          // shl [rdi], 4
        &[0x8f, 0x07],                   // pop [rdi]
        &[0x52],                         // push rdx
        &[0x67, 0x48, 0xab],             // stosq through edi
        &[0x67, 0x48, 0x0f, 0xab, 0x17], // bts [edi], rdx
        &[0x48, 0x0f, 0xba, 0x27, 1],    // bt [rdi], 1: no store
    ] {
        assert_eq!(decode(bytes, &regs()), Err(StoreError::Unsupported), "{bytes:x?}");
    }
}

#[test]
fn invalid_bytes_are_undecodable() {
    for bytes in [
        &[][..],
        &[0x48],
        &[0xf0, 0x48, 0x89, 0x17], // lock mov
        &[0x06],                   // push es: not in 64-bit code
        &[0xf0; 15],
        &[0x48, 0xc7, 0x07, 0, 0], // cut off by the end of what could be fetched
    ] {
        let found = PteStore::decode(bytes, &regs(), SegmentBases::default());
        assert_eq!(found, Err(StoreError::Undecodable), "{bytes:x?}");
    }
}
