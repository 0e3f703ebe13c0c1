//! The bytes of instructions that the hypervisor executes: behind prefixes, at the end of a page, and
//! changed by another vCPU while it decodes them.

use crate::attempt::{PF, UD, stopped_by};
use crate::control;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU16};
use pinfold_abi::mmu::UVMF_INVLPG;
use pinfold_guest::addr::{PAGE_SIZE, Pfn};
use pinfold_guest::entry::catch::Trap;
use pinfold_guest::entry::percpu::PerCpu;
use pinfold_guest::entry::{smp, time};
use pinfold_guest::fixtures::{Check, RW, Random, TableFixture};
use pinfold_guest::println;
use pinfold_guest::raw;

const RET: u8 = 0xc3;
const INT3: u8 = 0xcc;
/// Its exception.
const BREAKPOINT: u8 = 3;

/// Writes code to a page at this offset. Returns its address.
fn put(fixture: &TableFixture, page: Pfn, offset: usize, code: &[u8]) -> u64 {
    let start = fixture.va(page).0 + offset as u64;
    for (index, &byte) in code.iter().enumerate() {
        // SAFETY: a fixture frame.
        unsafe { ((start as *mut u8).add(index)).write_volatile(byte) };
    }
    start
}

/// Calls code, with 0 in the registers that it may use: `xen_version` is hypercall 17.
fn call(at: u64) -> Option<Trap> {
    stopped_by(|| {
        // SAFETY: the code returns, or is stopped.
        unsafe {
            core::arch::asm!(
                "push rbx",
                "call {at}",
                "pop rbx",
                at = in(reg) at,
                inout("rax") 17u64 => _, inout("rcx") 0x10u64 => _, inout("rdx") 0u64 => _,
                inout("rsi") 0u64 => _, inout("rdi") 0u64 => _, inout("r8") 0u64 => _,
                inout("r10") 0u64 => _, out("r9") _, out("r11") _,
            );
        }
    })
}

pub(crate) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    prefixes(fixture, check);
    page_end(fixture, check);
    changed_meanwhile(fixture, check);
    fixture.restore(saved);
}

/// Prefixes without a meaning: the call is made and the code goes on behind it, or it is invalid.
fn prefixes(fixture: &mut TableFixture, check: &mut Check) {
    let page = fixture.frame();
    for instruction in [
        &[0x0f, 0x01, 0xd9][..], // vmmcall
        &[0x0f, 0xa2],           // cpuid
        &[0x0f, 0x32],           // rdmsr
        &[0x0f, 0x06],           // clts
        &[0x0f, 0x09],           // wbinvd
    ] {
        for prefix in [
            &[0x66][..],
            &[0xf3],
            &[0xf2],
            &[0x48],
            &[0x4f],
            &[0x2e, 0x66],
            &[0x66, 0xf3, 0x48],
            &[0x67],
        ] {
            let mut code = [INT3; 24];
            code[..prefix.len()].copy_from_slice(prefix);
            code[prefix.len()..][..instruction.len()].copy_from_slice(instruction);
            code[prefix.len() + instruction.len()] = RET;
            let trap = call(put(fixture, page, 0, &code));
            let fine = trap.is_none_or(|trap| trap.vector == UD);
            if !fine {
                println!("CONTAINER prefix {prefix:x?} of {instruction:x?}: {trap:?}");
            }
            check.holds("a prefixed instruction", fine);
        }
        let mut code = [INT3; 24];
        code[0] = 0xf0;
        code[1..][..instruction.len()].copy_from_slice(instruction);
        let trap = call(put(fixture, page, 0, &code)).map(|trap| trap.vector);
        // QEMU's translator doesn't mind the lock of a hypercall, and goes on behind it.
        let fine = trap == Some(UD) || trap == Some(BREAKPOINT) && instruction[1] == 0x01;
        check.holds("a locked instruction", fine);
    }
}

/// The instruction is the last of a page, and the next page isn't mapped: it is executed, and the
/// next one faults. If a byte of it is on the next page, it faults itself.
fn page_end(fixture: &mut TableFixture, check: &mut Check) {
    let (mut page, mut next) = (fixture.frame(), fixture.frame());
    while fixture.left() > 0 && fixture.va(next) != fixture.va(page).page(1) {
        (page, next) = (next, fixture.frame());
    }
    check.holds("two adjacent pages", fixture.va(next) == fixture.va(page).page(1));
    // SAFETY: a fixture frame.
    let gone = unsafe { raw::update_va_mapping(fixture.va(next), 0, UVMF_INVLPG) };
    check.equal("unmap a page", gone, 0);
    let end = fixture.va(next).0;
    for code in [
        &[0x0f, 0xa2][..],
        &[0x0f, 0x01, 0xd9],
        &[0x0f, 0x32],
        &[0x0f, 0x06],
        &[0x0f, 0x09],
        &[0x0f, 0x01, 0xf0], // lmsw ax
        &[0x66, 0x0f, 0xa2],
    ] {
        for missing in 0..code.len() {
            let present = code.len() - missing;
            let offset = PAGE_SIZE as usize - present;
            let at = put(fixture, page, offset, &code[..present]);
            let trap = call(at);
            let seen = trap.map(|trap| (trap.vector, trap.cr2));
            check.equal("at the end of a page", seen, Some((PF, end)));
            let rip = if missing == 0 { end } else { at };
            check.equal("where it faults", trap.map(|trap| trap.rip), Some(rip));
        }
    }
    check.equal("map it again", fixture.map(next, RW), 0);
    // `lmsw` has cleared MP.
    control::restore();
}

static CODE: AtomicPtr<AtomicU16> = AtomicPtr::new(core::ptr::null_mut());
static OVER: AtomicBool = AtomicBool::new(false);
static STARTED: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Instructions of two bytes, all but two of which exit: cpuid, clts, wbinvd, rdmsr, ud2, rdtsc.
const CHOICES: [u16; 6] = [0xa20f, 0x060f, 0x090f, 0x320f, 0x0b0f, 0x310f];

fn changer(_own: &'static PerCpu) {
    let mut random = Random::new(7);
    while !OVER.load(SeqCst) {
        let code = CODE.load(SeqCst);
        // SAFETY: the word of a fixture frame, stored before the vCPU was started.
        unsafe { &*code }.store(CHOICES[random.index(CHOICES.len())], SeqCst);
        STARTED.store(true, SeqCst);
    }
    STOPPED.store(true, SeqCst);
}

fn changed_meanwhile(fixture: &mut TableFixture, check: &mut Check) {
    if smp::count() < 2 {
        println!("CONTAINER one vCPU: no code is changed meanwhile");
        return;
    }
    let page = fixture.lose();
    let at = put(fixture, page, 64, &[0x0f, 0xa2, RET, INT3, INT3]);
    CODE.store(at as *mut AtomicU16, SeqCst);
    if check.ok("a second vCPU", smp::start(1, changer)).is_none() {
        return;
    }
    let end = time::raw() + 10_000_000_000;
    while !STARTED.load(SeqCst) && time::raw() < end {
        let _ = time::sleep(1_000_000);
    }
    let (mut executed, mut invalid) = (0u32, 0u32);
    for _ in 0..30_000 {
        match call(at) {
            None => executed += 1,
            Some(trap) if trap.vector == UD => invalid += 1,
            Some(trap) => check.equal("code that changes", trap.vector, UD),
        }
    }
    OVER.store(true, SeqCst);
    let end = time::raw() + 10_000_000_000;
    while !STOPPED.load(SeqCst) && time::raw() < end {
        let _ = time::sleep(1_000_000);
    }
    check.holds("the other vCPU stops", STOPPED.load(SeqCst));
    println!("CONTAINER code that changes: {executed} executed, {invalid} invalid");
    check.holds("both occurred", executed > 0 && invalid > 0);
}
