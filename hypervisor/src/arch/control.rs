//! Control registers and the MSRs of system calls, set once per processor.

use super::entry::EntrySet;
use super::gdt::HYPERVISOR_CS;
use super::{cache, user_copy};
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::layout::FLAT_RING3_CS32;
use pinfold_emulate::control::CR4_EFFECTIVE;
use raw_cpuid::CpuId;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;

const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const FMASK: u32 = 0xc000_0084;
const SYSENTER_CS: u32 = 0x174;

/// CR4 without what a guest asked for. Written by the first processor, and before guests run.
static HYPERVISOR_CR4: AtomicU64 = AtomicU64::new(0);

/// What of the optional protections this processor has and now uses.
#[derive(Clone, Copy, Debug)]
pub struct Protections {
    /// Ring 0 can't execute user pages.
    pub smep: bool,
    /// Ring 0 can't touch user pages by mistake.
    pub smap: bool,
    /// Ring 3 can't read descriptor-table addresses.
    pub umip: bool,
    /// Bits of a physical address.
    pub physical_bits: u8,
}

/// Sets the control registers as the hypervisor wants them.
pub fn set_up() -> Protections {
    let cpuid = CpuId::new();
    let extended = cpuid.get_extended_feature_info();
    let smep = extended.as_ref().is_some_and(|f| f.has_smep());
    let smap = extended.as_ref().is_some_and(|f| f.has_smap());
    let umip = extended.as_ref().is_some_and(|f| f.has_umip());
    let physical_bits =
        cpuid.get_processor_capacity_feature_info().map_or(36, |c| c.physical_address_bits());

    // CR0.TS is off: guests' FPU state is switched eagerly. WP makes ring 0 honour read-only
    // pages, which copies to guests rely on.
    // SAFETY: paging and protection stay on; no code relies on the bits that change.
    unsafe {
        Cr0::write(
            Cr0Flags::PROTECTED_MODE_ENABLE
                | Cr0Flags::MONITOR_COPROCESSOR
                | Cr0Flags::EXTENSION_TYPE
                | Cr0Flags::NUMERIC_ERROR
                | Cr0Flags::WRITE_PROTECT
                | Cr0Flags::ALIGNMENT_MASK
                | Cr0Flags::PAGING,
        );
    }
    // PGE: the hypervisor's own mappings are global, the guests' never are.
    let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::PAGE_GLOBAL
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE
        | Cr4Flags::MACHINE_CHECK_EXCEPTION;
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, smep);
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, smap);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, umip);
    // SAFETY: each bit is offered by the processor; the hypervisor's pages are supervisor pages.
    unsafe {
        Cr4::write(cr4);
        Efer::update(|efer| {
            efer.insert(EferFlags::NO_EXECUTE_ENABLE | EferFlags::SYSTEM_CALL_EXTENSIONS);
        });
    }
    // The first one alone: one that comes late must not undo what was decided since.
    let _ = HYPERVISOR_CR4.compare_exchange(0, cr4.bits(), Ordering::Relaxed, Ordering::Relaxed);
    if smap {
        user_copy::enable_smap();
    }
    cache::set_up();
    set_up_system_calls(EntrySet::Direct);
    Protections { smep, smap, umip, physical_bits }
}

/// Switches global mappings off, here and for whatever is loaded later: a translation of the
/// hypervisor's must not outlive the change to a root that does not have it.
pub fn disable_global_pages() {
    HYPERVISOR_CR4.fetch_and(!Cr4Flags::PAGE_GLOBAL.bits(), Ordering::Relaxed);
    // SAFETY: no code relies on translations that stay. Clearing the bit drops all of them (Intel SDM
    // vol. 3, 4.10.4.1).
    unsafe { Cr4::update(|cr4| cr4.remove(Cr4Flags::PAGE_GLOBAL)) };
}

/// Makes the guest's wishes for CR4 effective. Derived from what the hypervisor wants and what the
/// guest has, never from what is in the register (XSA-293).
pub fn load_guest_cr4(guest: u64) {
    let own = HYPERVISOR_CR4.load(Ordering::Relaxed);
    let wanted = Cr4Flags::from_bits_retain(own | guest & CR4_EFFECTIVE);
    if Cr4::read() != wanted {
        // SAFETY: the hypervisor's own bits stay as `set_up` chose them; the guest's are TSD and
        // DE, which change nothing for ring 0 but DR4 and DR5, which it never names.
        unsafe { Cr4::write(wanted) };
    }
}

/// Lets those interrupts in that wait, and no others: for the hypervisor's loop, which holds no lock
/// then, and looks at all that they say.
pub fn open_interrupt_window() {
    // SAFETY: interrupts in ring 0 are acknowledged, and change nothing else. `sti` takes effect
    // behind the next instruction (Intel SDM vol. 2, STI).
    unsafe { core::arch::asm!("sti", "nop", "cli", options(nomem, nostack)) };
}

/// Has `syscall` lead to a set of entry code.
pub fn set_up_system_calls(entries: EntrySet) {
    let star = u64::from(FLAT_RING3_CS32) << 48 | u64::from(HYPERVISOR_CS) << 32;
    // Cleared on entry: everything but the always-one bit and the arithmetic flags; most of all
    // IF, TF, DF, NT and AC (Intel SDM vol. 3, 5.8.8).
    let fmask: u64 = 0x0025_7700;
    // SAFETY: the entry points are the stubs made for them; sysenter is switched off by a null
    // code segment, so it faults with #GP.
    unsafe {
        Msr::new(STAR).write(star);
        Msr::new(LSTAR).write(entries.syscall_entry());
        Msr::new(CSTAR).write(entries.compat_syscall_entry());
        Msr::new(FMASK).write(fmask);
        Msr::new(SYSENTER_CS).write(0);
    }
}
