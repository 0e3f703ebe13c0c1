//! Model-specific registers: which can be read, and which written.

use crate::attempt::GP;
use core::arch::asm;
use core::ops::RangeInclusive;
use pinfold_guest::addr::Mfn;
use pinfold_guest::entry::catch::{Trap, catch};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::println;

pub(crate) const EFER: u32 = 0xc000_0080;
const PAT: u32 = 0x277;
const MISC_ENABLE: u32 = 0x1a0;
/// A write fills a page with hypercall stubs.
const HYPERCALL_PAGE: u32 = 0x4000_0000;

/// What is swept: the architectural ones, AMD's, and those of SVM, memory ranges and microcode.
const RANGES: [RangeInclusive<u32>; 4] =
    [0..=0x1fff, 0xc000_0000..=0xc000_1fff, 0xc001_0000..=0xc001_1fff, 0x4000_0001..=0x4000_00ff];

/// MSRs that the processor has for the guest alone: SYSENTER_*, STAR, LSTAR, CSTAR, SFMASK, bases.
const OWN: [u32; 10] = [
    0x174,
    0x175,
    0x176,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
];
/// MSRs that a guest may read besides: TSC, APIC_BASE, microcode, PLATFORM_INFO, MISC_FEATURES,
/// MISC_ENABLE, PAT, EFER.
const READABLE: [u32; 8] = [0x10, 0x1b, 0x8b, 0xce, 0x140, MISC_ENABLE, PAT, EFER];
/// MSRs of these that take 0.
const TAKE_ZERO: [u32; 3] = [0x8b, 0xce, 0x140];

/// Reads an MSR.
pub(crate) fn read(msr: u32) -> Result<u64, Trap> {
    let (mut low, mut high) = (0u32, 0u32);
    // SAFETY: it only reads.
    unsafe { catch(|| asm!("rdmsr", in("ecx") msr, lateout("eax") low, lateout("edx") high)) }?;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// Writes an MSR.
pub(crate) fn write(msr: u32, value: u64) -> Result<(), Trap> {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the callers write what is refused, or what doesn't concern Rust code.
    unsafe { catch(|| asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high)) }
}

pub(crate) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let before: [Option<u64>; 3] = [PAT, EFER, 0x1b].map(|msr| read(msr).ok());
    let (mut readable, mut refused) = (0u32, 0u32);
    for msr in RANGES.into_iter().flatten() {
        match read(msr) {
            Ok(_) => {
                readable += 1;
                let known = OWN.contains(&msr) || READABLE.contains(&msr);
                if !known {
                    println!("CONTAINER MSR {msr:#x} can be read");
                }
                check.holds("only known MSRs can be read", known);
            }
            Err(trap) => {
                refused += 1;
                check.equal("a read that is refused", trap.vector, GP);
            }
        }
    }
    println!("CONTAINER MSRs: {readable} can be read, {refused} can't");
    check.equal("all known ones can be read", readable as usize, OWN.len() + READABLE.len());

    let mut written = 0;
    for msr in RANGES.into_iter().flatten().filter(|msr| !OWN.contains(msr)) {
        for value in [0, 1, 0x1000, 1 << 12 | 1, u64::MAX] {
            match write(msr, value) {
                Ok(()) => {
                    written += 1;
                    let known = msr == MISC_ENABLE || value == 0 && TAKE_ZERO.contains(&msr);
                    if !known {
                        println!("CONTAINER MSR {msr:#x} takes {value:#x}");
                    }
                    check.holds("only known MSRs can be written", known);
                }
                Err(trap) => check.equal("a write that is refused", trap.vector, GP),
            }
        }
    }
    println!("CONTAINER MSRs: {written} writes were accepted");
    let after: [Option<u64>; 3] = [PAT, EFER, 0x1b].map(|msr| read(msr).ok());
    check.equal("PAT, EFER and APIC base are as before", after, before);
    check.equal("the PAT of page tables", before[0], Some(pinfold_abi::mmu::PAT));
    hypercall_page(fixture, check);
}

/// The hypervisor writes a page for the guest: only where the guest may write.
fn hypercall_page(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let (page, table) = (fixture.frame(), fixture.frame());
    fixture.seal(table);
    check.equal("pin", fixture.pin(table, 1), 0);
    let refused = |mfn: u64| write(HYPERCALL_PAGE, Mfn(mfn).address()).err().map(|t| t.vector);
    check.equal("in a page of the guest", refused(fixture.mfn(page)), None);
    // mov eax, 0; vmmcall; ret
    let stub = fixture.get(page, 0).to_le_bytes();
    check.equal("a stub", stub, [0xb8, 0, 0, 0, 0, 0x0f, 0x01, 0xd9]);
    check.equal("in a page table", refused(fixture.mfn(table)), Some(GP));
    for frame in [0, 1, 0xfffff, 0xf_ffff_ffff] {
        check.equal("in a foreign frame", refused(frame), Some(GP));
    }
    fixture.restore(saved);
}
