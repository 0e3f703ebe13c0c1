//! The local APIC: end of interrupt, IPIs, and the one-shot timer (Intel SDM vol. 3, chapter 11).

mod registers;
mod timer;

use super::vector;
pub use registers::is_x2apic_supported;
use registers::{Register, Registers};
pub use timer::{
    ProgrammedTimer, arm_timer, is_in_deadline_mode, is_tsc_invariant, measured_ticks, set_rates,
    start_measuring, stop_measuring, timer_is_pending,
};
use x86_64::registers::model_specific::ApicBase;

const MASKED: u32 = 1 << 16;
/// Spurious-interrupt vector register: the APIC is enabled.
const APIC_ENABLE: u32 = 1 << 8;
/// Level: assert, which INIT and start-up IPIs need.
const ASSERT: u32 = 1 << 14;
/// Delivery mode: INIT.
const DELIVER_INIT: u32 = 0b101 << 8;
/// Delivery mode: start-up.
const DELIVER_START_UP: u32 = 0b110 << 8;

/// Physical address of the registers.
pub fn physical_address() -> u64 {
    ApicBase::read().0.start_address().as_u64()
}

/// Enables the APIC of the boot CPU, and chooses the modes of all CPUs' APICs and timers.
/// `x2apic_needed`: there are CPUs whose APIC id needs x2APIC mode, and the CPU has it.
///
/// # Safety
/// Once, after the CPU's record is installed. The APIC's page is mapped at `registers`, uncached, for
/// good.
pub unsafe fn init(registers: u64, x2apic_needed: bool) {
    // SAFETY: as the caller ensures.
    unsafe { registers::choose_mode(registers, x2apic_needed) };
    timer::choose_mode();
    set_up();
}

/// Enables the APIC of another CPU, in the same modes as the boot CPU's.
pub fn init_ap() {
    registers::enable_mode();
    set_up();
}

/// Enables the APIC, and masks all local interrupts but the timer's.
fn set_up() {
    let registers = Registers::of_this_cpu();
    // First: an APIC that is disabled by software, as an AP's is after its start, keeps all local
    // interrupts masked whatever is written (Intel SDM vol. 3, 11.4.7.2). QEMU's translator lets the
    // writes through, KVM and processors don't.
    registers.write(Register::Spurious, APIC_ENABLE | u32::from(vector::SPURIOUS));
    for lvt in [Register::Lint0, Register::Lint1, Register::Error] {
        registers.write(lvt, MASKED);
    }
    timer::set_up();
    registers.write(Register::TaskPriority, 0);
}

/// Whether the APICs are in x2APIC mode.
pub fn is_x2apic() -> bool {
    Registers::of_this_cpu().is_x2apic()
}

/// APIC id of this CPU.
pub fn id() -> u32 {
    let value = Registers::of_this_cpu().read(Register::Id);
    if is_x2apic() { value } else { value >> 24 }
}

/// Sends an IPI to a CPU.
pub fn send(apic_id: u32, vector: u8) {
    Registers::of_this_cpu().command(apic_id, u32::from(vector) | ASSERT);
}

/// Sends an INIT IPI: the CPU resets and waits for [`send_start_up`].
///
/// # Safety
/// No code runs on that CPU.
pub unsafe fn send_init(apic_id: u32) {
    Registers::of_this_cpu().command(apic_id, DELIVER_INIT | ASSERT);
}

/// Sends a start-up IPI (SIPI): a CPU that waits for it begins in real mode at the start of the 4 KiB
/// page with this number.
///
/// # Safety
/// The page holds code that starts a CPU. (A CPU that runs already ignores the IPI.)
pub unsafe fn send_start_up(apic_id: u32, page: u8) {
    let command = DELIVER_START_UP | ASSERT | u32::from(page);
    Registers::of_this_cpu().command(apic_id, command);
}

/// Acknowledges the interrupt that is being handled.
pub fn end_of_interrupt() {
    Registers::of_this_cpu().write(Register::EndOfInterrupt, 0);
    timer::note_interrupt();
}
