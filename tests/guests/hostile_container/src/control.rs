//! Control and debug registers, and EFER.

use crate::attempt::{GP, UD, raises, succeeds};
use crate::msrs::{EFER, read, write};
use core::arch::asm;
use pinfold_guest::fixtures::Check;

const PE: u64 = 1 << 0;
const EM: u64 = 1 << 2;
const TS: u64 = 1 << 3;
const NE: u64 = 1 << 5;
const WP: u64 = 1 << 16;
const AM: u64 = 1 << 18;
const NW: u64 = 1 << 29;
const CD: u64 = 1 << 30;
const PG: u64 = 1 << 31;

/// Defines a function that reads a register, and one that writes it.
macro_rules! register {
    ($read:ident, $write:ident, $name:literal) => {
        fn $read() -> u64 {
            let value: u64;
            // SAFETY: it only reads.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value) };
            value
        }

        fn $write(value: u64) {
            // SAFETY: the callers write what is refused, or what doesn't concern Rust code.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value) };
        }
    };
}
register!(cr0, set_cr0, "cr0");
register!(cr4, set_cr4, "cr4");
register!(cr8, set_cr8, "cr8");
register!(dr6, set_dr6, "dr6");
register!(dr7, set_dr7, "dr7");

/// What the kernel starts with: PE, MP, ET, NE, WP, AM, PG.
const CR0: u64 = 0x8005_0033;
/// PAE, OSFXSR, OSXMMEXCPT, MCE.
const CR4: u64 = 0x660;
/// SCE, LME, LMA, NXE.
const EFER_VALUE: u64 = 0xd01;

/// Sets CR0 as at the start.
pub(crate) fn restore() {
    set_cr0(CR0);
}

/// Checks that the registers are as at the start.
pub(crate) fn check_unchanged(check: &mut Check) {
    check.equal("CR0", cr0(), CR0);
    check.equal("CR4", cr4(), CR4);
    check.equal("EFER", read(EFER).ok(), Some(EFER_VALUE));
    check.equal("DR7", dr7() & !0x400, 0);
}

pub(crate) fn run(check: &mut Check) {
    check_unchanged(check);
    for (what, bits) in [
        ("CR0 without PE", PE),
        ("CR0 without PG", PG),
        ("CR0 without PE and PG", PE | PG),
        ("CR0 without NE", NE),
        ("CR0 without WP", WP),
        ("CR0 with CD", CD),
        ("CR0 with NW", NW),
        ("CR0 with CD and NW", CD | NW),
        ("CR0 with a reserved bit", 1 << 6),
        ("CR0 with bit 28", 1 << 28),
        ("CR0 with bit 32", 1 << 32),
        ("CR0 with bit 63", 1 << 63),
        ("no bit of CR0", CR0),
    ] {
        raises(check, what, GP, || set_cr0(CR0 ^ bits));
        check.equal("CR0 stays", cr0(), CR0);
    }
    // VME, PVI, PSE, PAE, MCE, PGE, PCE, LA57, VMXE, SMXE, PCIDE, OSXSAVE, PKE, CET, PKS, reserved.
    for bit in [0, 1, 4, 5, 6, 7, 8, 12, 13, 14, 17, 18, 22, 23, 24, 15, 31, 32, 63] {
        raises(check, "a bit of CR4", GP, || set_cr4(CR4 ^ 1 << bit));
        check.equal("CR4 stays", cr4(), CR4);
    }
    raises(check, "no bit of CR4", GP, || set_cr4(0));
    // LME, LMA, NXE, SVME, LMSLE, FFXSR, TCE, reserved.
    for bit in [8, 10, 11, 12, 13, 14, 15, 1, 9, 16, 32, 63] {
        let result = write(EFER, EFER_VALUE ^ 1 << bit);
        check.equal("a bit of EFER", result.map_err(|trap| trap.vector), Err(GP));
    }
    check.equal("no bit of EFER", write(EFER, 0).map_err(|trap| trap.vector), Err(GP));
    raises(check, "mov from CR8", UD, || {
        cr8();
    });
    for value in [0, 1, 15, 16, u64::MAX] {
        raises(check, "mov to CR8", UD, || set_cr8(value));
    }
    check_unchanged(check);
    allowed(check);
    debug_registers(check);
    check_unchanged(check);
}

/// Changes what a kernel may change, and undoes it.
fn allowed(check: &mut Check) {
    succeeds(check, "CR0 with TS", || set_cr0(CR0 | TS));
    check.equal("it is set", cr0(), CR0 | TS);
    // SAFETY: no Rust code uses the FPU.
    raises(check, "an FPU instruction", 7, || unsafe { asm!("fnop") });
    // SAFETY: as above.
    succeeds(check, "clts", || unsafe { asm!("clts") });
    check.equal("TS is clear", cr0(), CR0);
    succeeds(check, "CR0 with EM", || set_cr0(CR0 | EM));
    // SAFETY: as above.
    raises(check, "an FPU instruction", 7, || unsafe { asm!("fnop") });
    succeeds(check, "CR0 without EM and AM", || set_cr0(CR0 & !AM));
    check.equal("AM is clear", cr0(), CR0 & !AM);
    succeeds(check, "CR0 as before", || set_cr0(CR0));
    // PE stays set, and nothing above bit 3 changes.
    for value in [0u16, 0xfff0, TS as u16] {
        succeeds(check, "lmsw", || {
            // SAFETY: it changes TS, EM and MP.
            unsafe { asm!("lmsw {0:x}", in(reg) value) }
        });
        check.equal("PE and PG stay", cr0() | 2, CR0 | u64::from(value) & TS);
    }
    set_cr0(CR0);
    for bit in [2, 3, 9, 10] {
        succeeds(check, "a bit of CR4 that may change", || set_cr4(CR4 ^ 1 << bit));
        check.equal("it did", cr4(), CR4 ^ 1 << bit);
        set_cr4(CR4);
    }
    check.holds("EFER without SCE", write(EFER, EFER_VALUE & !1).is_ok());
    check.equal("SCE is clear", read(EFER).ok(), Some(EFER_VALUE & !1));
    check.holds("EFER with SCE", write(EFER, EFER_VALUE).is_ok());
}

fn debug_registers(check: &mut Check) {
    for bit in [32, 40, 63] {
        raises(check, "a high bit of DR7", GP, || set_dr7(1 << bit));
        raises(check, "a high bit of DR6", GP, || set_dr6(1 << bit));
    }
    // The hypervisor's addresses can't be watched.
    for address in [0xffff_8040_0000_0000u64, 0xffff_87ff_ffff_fff8] {
        raises(check, "a breakpoint in the hypervisor", GP, || {
            // SAFETY: it is stopped.
            unsafe { asm!("mov dr0, {}", in(reg) address) }
        });
    }
    let before = dr6();
    succeeds(check, "DR6", || set_dr6(before));
    succeeds(check, "DR7 without breakpoints", || set_dr7(0x400));
}
