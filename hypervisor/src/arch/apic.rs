//! The local interrupt controller: end of interrupt and the one-shot timer.
//!
//! Intel SDM vol. 3, chapter 11 (registers in table 11-1). Registers are reached through memory;
//! x2APIC mode, if the firmware left it on, through MSRs.

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
const APIC_ON: u32 = 1 << 8;
/// The register holds a command that was not sent yet.
const SEND_PENDING: u32 = 1 << 12;
/// Level is asserted (INIT and start-up want it).
const ASSERT: u32 = 1 << 14;
const DELIVER_INIT: u32 = 0b101 << 8;
const DELIVER_START_UP: u32 = 0b110 << 8;
/// Divide by 16.
const DIVIDE_BY_16: u32 = 0b0011;

/// Address of the registers in the hypervisor's mapping; 0 in x2APIC mode. Written once at boot.
static REGISTERS: AtomicU64 = AtomicU64::new(0);
/// Timer ticks per millisecond, measured at boot.
static TICKS_PER_MS: AtomicU64 = AtomicU64::new(1);

/// Physical address of the registers.
pub fn physical_address() -> u64 {
    ApicBase::read().0.start_address().as_u64()
}

fn read(register: u32) -> u32 {
    let base = REGISTERS.load(Ordering::Relaxed);
    // SAFETY: `init` got the mapping of the registers; each is a naturally aligned word. In x2APIC
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
    // SAFETY: as for `read`; writes are those of this file.
    unsafe {
        if base == 0 {
            Msr::new(0x800 + (register >> 4)).write(u64::from(value));
        } else {
            ((base + u64::from(register)) as *mut u32).write_volatile(value);
        }
    }
}

/// Switches the first CPU's controller on. `registers` is where its page is mapped
/// (uncached).
pub fn init(registers: u64) {
    let (_, flags) = ApicBase::read();
    let x2apic = flags.contains(ApicBaseFlags::X2APIC_ENABLE);
    REGISTERS.store(if x2apic { 0 } else { registers }, Ordering::Relaxed);
    set_up();
}

/// Switches another CPU's controller on, in the mode that the first one's is in.
pub fn init_ap() {
    if REGISTERS.load(Ordering::Relaxed) == 0 {
        let (base, flags) = ApicBase::read();
        // SAFETY: x2APIC mode is there, as the first CPU has it; nothing uses the
        // registers in memory then.
        unsafe { ApicBase::write(base, flags | ApicBaseFlags::X2APIC_ENABLE) };
    }
    set_up();
}

/// Everything masked but the timer.
fn set_up() {
    for lvt in [LVT_LINT0, LVT_LINT1, LVT_ERROR] {
        write(lvt, MASKED);
    }
    write(DIVIDE, DIVIDE_BY_16);
    write(LVT_TIMER, u32::from(vector::TIMER));
    write(INITIAL_COUNT, 0);
    write(SPURIOUS, APIC_ON | u32::from(vector::SPURIOUS));
}

/// Identifier of the calling CPU's controller.
pub fn id() -> u32 {
    let value = read(ID);
    if REGISTERS.load(Ordering::Relaxed) == 0 { value } else { value >> 24 }
}

/// Sends an interrupt to a CPU.
pub fn send(apic_id: u32, vector: u8) {
    command(apic_id, u32::from(vector) | ASSERT);
}

/// Resets a CPU, which then waits for [`send_start_up`].
pub fn send_init(apic_id: u32) {
    command(apic_id, DELIVER_INIT | ASSERT);
}

/// Starts a CPU that waits, in real mode at `page << 12`.
pub fn send_start_up(apic_id: u32, page: u8) {
    command(apic_id, DELIVER_START_UP | ASSERT | u32::from(page));
}

/// Writes the interrupt command register (SDM vol. 3, 11.6.1, 11.12.9).
fn command(apic_id: u32, low: u32) {
    // What was stored before is to be seen by who gets the interrupt; in x2APIC mode the write
    // orders nothing by itself.
    core::sync::atomic::fence(Ordering::SeqCst);
    if REGISTERS.load(Ordering::Relaxed) == 0 {
        // SAFETY: the command is one of the three above.
        unsafe { Msr::new(0x830).write(u64::from(apic_id) << 32 | u64::from(low)) };
        return;
    }
    while read(ICR_LOW) & SEND_PENDING != 0 {
        core::hint::spin_loop();
    }
    write(ICR_HIGH, apic_id << 24);
    write(ICR_LOW, low);
}

/// Starts the timer at its highest count, for calibration.
pub fn start_calibration() {
    write(INITIAL_COUNT, u32::MAX);
}

/// Ends the calibration: `elapsed_us` microseconds have gone by. Returns ticks per millisecond.
pub fn end_calibration(elapsed_us: u64) -> u64 {
    let ticks = u64::from(u32::MAX - read(CURRENT_COUNT));
    write(INITIAL_COUNT, 0);
    let per_ms = (ticks * 1000 / elapsed_us.max(1)).max(1);
    TICKS_PER_MS.store(per_ms, Ordering::Relaxed);
    per_ms
}

/// Lets the timer fire once, `us` microseconds from now (at least one tick, at most the counter's
/// range; a longer wait fires early).
pub fn arm_timer(us: u64) {
    let ticks = TICKS_PER_MS.load(Ordering::Relaxed).saturating_mul(us) / 1000;
    write(INITIAL_COUNT, ticks.clamp(1, u64::from(u32::MAX)) as u32);
}

/// Acknowledges the interrupt that is being handled.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Whether the timer's interrupt waits to be delivered: how long operations learn, with
/// interrupts off, that their time is up.
pub fn timer_is_pending() -> bool {
    super::latency::checked_scheduler();
    read(IRR + 0x10 * (u32::from(vector::TIMER) / 32)) & 1 << (vector::TIMER % 32) != 0
}
