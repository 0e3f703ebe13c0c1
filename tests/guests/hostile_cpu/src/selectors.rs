//! Loads every selector into every segment register.

use crate::outcome::print_outcome;
use core::arch::asm;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::trap::SEGBASE_GS_KERNEL;
use pinfold_guest::entry::catch::catch;
use pinfold_guest::entry::{percpu, time};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::hypercall::sched;
use pinfold_guest::println;

/// How many selectors a register accepted, so that two hypervisors can be compared: those outside of
/// the hypervisor's part of the GDT.
struct Taken {
    guest: u32,
    /// Of the ABI's flat selectors.
    flat: u32,
}

fn sweep(mut load: impl FnMut(u16) -> bool) -> Taken {
    let mut taken = Taken { guest: 0, flat: 0 };
    for selector in 0..=u16::MAX {
        if load(selector) {
            match selector {
                0..0xe000 => taken.guest += 1,
                0xe020..0xe038 => taken.flat += 1,
                _ => {}
            }
        }
    }
    taken
}

pub(crate) fn run(_fixture: &mut TableFixture, check: &mut Check) {
    // SAFETY (all of these): in 64-bit mode the bases and limits of DS and ES are not used.
    let ds = sweep(|selector| {
        // SAFETY: as above.
        unsafe { catch(|| asm!("mov ds, {0:e}", in(reg) u32::from(selector))) }.is_ok()
    });
    let es = sweep(|selector| {
        // SAFETY: as above.
        unsafe { catch(|| asm!("mov es, {0:e}", in(reg) u32::from(selector))) }.is_ok()
    });
    let fs = sweep(|selector| {
        // SAFETY: FS is not used.
        unsafe { catch(|| asm!("mov fs, {0:e}", in(reg) u32::from(selector))) }.is_ok()
    });
    let gs = sweep(load_gs);
    for (register, Taken { guest, flat }) in [("ds", ds), ("es", es), ("fs", fs), ("gs", gs)] {
        println!("CPU selectors {register}: guest={guest} flat={flat}");
        // Null with any RPL; the guest has loaded no table of its own.
        check.equal("accepted selectors of the guest's part", guest, 4);
    }
    // The last ones stay loaded while others run, and must be restored. Of the null selectors only 0
    // is tried, because Pinfold restores 0 for each.
    for selector in [0u16, 0xe02b, 0xe02a, 0xe033] {
        // SAFETY: as above.
        let loaded = unsafe {
            catch(|| {
                asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", in(reg) u32::from(selector));
            })
        };
        load_gs(selector);
        let _ = sched::yield_now();
        let _ = time::sleep(2_000_000);
        let back: u64;
        // SAFETY: only reads.
        unsafe { asm!("mov {0:e}, ds", out(reg) back, options(nomem, nostack)) };
        print_outcome(check, "a selector over a sleep", loaded.map(|()| back));
    }
    for selector in [0xe008u32, 0xe010, 0xe040, 0x1234, 0x7] {
        // SAFETY: a selector that is not for a stack is refused.
        let result = unsafe { catch(|| asm!("mov ss, {0:e}", in(reg) selector)) };
        print_outcome(check, "a stack selector", result.map(|()| 0));
    }
    // SAFETY: null selectors.
    unsafe { asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", in(reg) 0) };
    load_gs(0);
}

/// Loads GS, and sets its base again before anything needs it. Returns whether GS was loaded.
fn load_gs(selector: u16) -> bool {
    let base = core::ptr::from_ref(percpu::this()) as u64;
    // SAFETY: a refused selector changes nothing; after one that is loaded, a hypercall sets the
    // base again, and nothing in between can trap.
    unsafe {
        catch(|| {
            asm!("mov gs, {0:e}", "syscall", in(reg) u32::from(selector),
                inout("rax") Hypercall::SetSegmentBase as u64 => _,
                inout("rdi") SEGBASE_GS_KERNEL => _, inout("rsi") base => _,
                out("rcx") _, out("r11") _, out("rdx") _, out("r10") _, out("r8") _);
        })
    }
    .is_ok()
}
