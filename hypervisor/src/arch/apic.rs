//! The local APIC: end of interrupt, IPIs, and the one-shot timer.
//!
//! Intel SDM vol. 3, chapter 11 (registers in table 11-1). The registers are memory-mapped; if the
//! firmware enabled x2APIC mode, they are MSRs.

use super::vector;
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

const ID: u32 = 0x20;
const EOI: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const IRR: u32 = 0x200;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const INITIAL_COUNT: u32 = 0x380;
const CURRENT_COUNT: u32 = 0x390;
const DIVIDE: u32 = 0x3e0;

const MASKED: u32 = 1 << 16;
/// Spurious-interrupt vector register: the APIC is enabled.
const APIC_ENABLE: u32 = 1 << 8;
/// Delivery status: the last command has not been sent yet.
const SEND_PENDING: u32 = 1 << 12;
/// Level: assert, which INIT and start-up IPIs need.
const ASSERT: u32 = 1 << 14;
/// Delivery mode: INIT.
const DELIVER_INIT: u32 = 0b101 << 8;
/// Delivery mode: start-up.
const DELIVER_START_UP: u32 = 0b110 << 8;
/// Divide by 16.
const DIVIDE_BY_16: u32 = 0b0011;

/// Virtual address of the registers; 0 in x2APIC mode. Written once at boot.
static REGISTERS: AtomicU64 = AtomicU64::new(0);
/// Timer ticks per millisecond, measured at boot.
static TICKS_PER_MS: AtomicU64 = AtomicU64::new(1);

/// Physical address of the registers.
pub fn physical_address() -> u64 {
    ApicBase::read().0.start_address().as_u64()
}

fn read(register: u32) -> u32 {
    let base = REGISTERS.load(Ordering::Relaxed);
    // SAFETY: the caller of `init` mapped the registers; each is a naturally aligned word. In x2APIC
    // mode the MSR of a register is 0x800 + its offset / 16 (SDM vol. 3, table 11-6).
    unsafe {
        if base == 0 {
            Msr::new(0x800 + (register >> 4)).read() as u32
        } else {
            ((base + u64::from(register)) as *const u32).read_volatile()
        }
    }
}

fn write(register: u32, value: u32) {
    let base = REGISTERS.load(Ordering::Relaxed);
    // SAFETY: as for `read`; the callers are in this file and write valid values.
    unsafe {
        if base == 0 {
            Msr::new(0x800 + (register >> 4)).write(u64::from(value));
        } else {
            ((base + u64::from(register)) as *mut u32).write_volatile(value);
        }
    }
}

/// Enables the APIC of the boot CPU.
///
/// # Safety
/// The APIC's page is mapped at `registers`, uncached, for good.
pub unsafe fn init(registers: u64) {
    let (_, flags) = ApicBase::read();
    let x2apic = flags.contains(ApicBaseFlags::X2APIC_ENABLE);
    REGISTERS.store(if x2apic { 0 } else { registers }, Ordering::Relaxed);
    set_up();
}

/// Enables the APIC of another CPU, in the same mode as the boot CPU's.
pub fn init_ap() {
    if REGISTERS.load(Ordering::Relaxed) == 0 {
        let (base, flags) = ApicBase::read();
        // SAFETY: the CPU supports x2APIC mode, as the boot CPU uses it; then nothing accesses the
        // memory-mapped registers.
        unsafe { ApicBase::write(base, flags | ApicBaseFlags::X2APIC_ENABLE) };
    }
    set_up();
}

/// Masks all local interrupts but the timer's.
fn set_up() {
    for lvt in [LVT_LINT0, LVT_LINT1, LVT_ERROR] {
        write(lvt, MASKED);
    }
    write(DIVIDE, DIVIDE_BY_16);
    write(LVT_TIMER, u32::from(vector::TIMER));
    write(INITIAL_COUNT, 0);
    write(SPURIOUS, APIC_ENABLE | u32::from(vector::SPURIOUS));
}

/// APIC id of this CPU.
pub fn id() -> u32 {
    let value = read(ID);
    if REGISTERS.load(Ordering::Relaxed) == 0 { value } else { value >> 24 }
}

/// Sends an IPI to a CPU.
pub fn send(apic_id: u32, vector: u8) {
    command(apic_id, u32::from(vector) | ASSERT);
}

/// Sends an INIT IPI: the CPU resets and waits for [`send_start_up`].
///
/// # Safety
/// No code runs on that CPU.
pub unsafe fn send_init(apic_id: u32) {
    command(apic_id, DELIVER_INIT | ASSERT);
}

/// Sends a start-up IPI (SIPI): a CPU that waits for it begins in real mode at the start of the 4 KiB
/// page with this number.
///
/// # Safety
/// The page holds code that starts a CPU. (A CPU that runs already ignores the IPI.)
pub unsafe fn send_start_up(apic_id: u32, page: u8) {
    command(apic_id, DELIVER_START_UP | ASSERT | u32::from(page));
}

/// Writes the interrupt command register (SDM vol. 3, 11.6.1, 11.12.9).
fn command(apic_id: u32, low: u32) {
    // Earlier stores must be visible to the CPU that takes the interrupt; in x2APIC mode the write
    // of the MSR doesn't order them.
    core::sync::atomic::fence(Ordering::SeqCst);
    if REGISTERS.load(Ordering::Relaxed) == 0 {
        // SAFETY: the command is that of one of the three functions above.
        unsafe { Msr::new(0x830).write(u64::from(apic_id) << 32 | u64::from(low)) };
        return;
    }
    while read(ICR_LOW) & SEND_PENDING != 0 {
        core::hint::spin_loop();
    }
    write(ICR_HIGH, apic_id << 24);
    write(ICR_LOW, low);
}

/// Starts the timer at its maximum count, for calibration.
pub fn start_calibration() {
    write(INITIAL_COUNT, u32::MAX);
}

/// Ends the calibration after `elapsed_us` microseconds. Returns timer ticks per millisecond.
pub fn end_calibration(elapsed_us: u64) -> u64 {
    let ticks = u64::from(u32::MAX - read(CURRENT_COUNT));
    write(INITIAL_COUNT, 0);
    let per_ms = (ticks * 1000 / elapsed_us.max(1)).max(1);
    TICKS_PER_MS.store(per_ms, Ordering::Relaxed);
    per_ms
}

/// Arms the timer to fire once, `us` microseconds from now: after one tick at least, and earlier if
/// the 32-bit counter can't count so far.
pub fn arm_timer(us: u64) {
    let ticks = TICKS_PER_MS.load(Ordering::Relaxed).saturating_mul(us) / 1000;
    write(INITIAL_COUNT, ticks.clamp(1, u64::from(u32::MAX)) as u32);
}

/// Acknowledges the interrupt that is being handled.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Whether the timer interrupt is pending. Long operations, which run with interrupts disabled, poll
/// this to be preempted.
pub fn timer_is_pending() -> bool {
    super::latency::checked_scheduler();
    read(IRR + 0x10 * (u32::from(vector::TIMER) / 32)) & 1 << (vector::TIMER % 32) != 0
}
