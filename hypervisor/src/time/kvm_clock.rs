//! KVM's clock, as a source of the TSC's frequency.
//!
//! KVM writes a record into memory of the guest whose address an MSR names: the time when it was
//! written, and the scale by which it goes on, in the layout that PV guests get. Only the scale is
//! used: system time is that of the TSC, which KVM keeps the same on all CPUs.
//!
//! Source: Linux, `Documentation/virt/kvm/x86/msr.rst` and `cpuid.rst`.
#![expect(unsafe_code, reason = "an MSR by which KVM writes to memory")]

use core::cell::UnsafeCell;
use core::sync::atomic::{Ordering, fence};
use pinfold_abi::shared_info::VcpuTimeInfo;
use pinfold_hardware::TscScale;
use raw_cpuid::{CpuId, Hypervisor};
use x86_64::registers::model_specific::Msr;

/// MSR_KVM_SYSTEM_TIME_NEW. Bit 0 of the value enables the clock.
const SYSTEM_TIME: u32 = 0x4b56_4d01;
const ENABLE: u64 = 1;
/// KVM's leaf of features.
const FEATURES: u32 = 0x4000_0001;
/// KVM_FEATURE_CLOCKSOURCE2: [`SYSTEM_TIME`] exists.
const FEATURE_SYSTEM_TIME: u32 = 1 << 3;
/// KVM_FEATURE_CLOCKSOURCE_STABLE_BIT: [`TSC_STABLE`] means something.
const FEATURE_STABLE: u32 = 1 << 24;
/// Flag of a record: the TSCs of all CPUs show the same time.
const TSC_STABLE: u8 = 1 << 0;
/// Attempts to read a record while it doesn't change.
const TRIES: usize = 1000;

/// What KVM writes to: a record, which may not cross a page.
#[repr(C, align(64))]
struct Record(UnsafeCell<VcpuTimeInfo>);

// SAFETY: only the boot CPU accesses it, once; KVM writes to it meanwhile, hence volatile reads.
unsafe impl Sync for Record {}

static RECORD: Record = Record(UnsafeCell::new(VcpuTimeInfo {
    version: 0,
    pad0: 0,
    tsc_timestamp: 0,
    system_time: 0,
    tsc_to_system_mul: 0,
    tsc_shift: 0,
    flags: 0,
    pad1: [0; 2],
}));

/// What KVM says of the TSC.
#[derive(Clone, Copy, Debug)]
pub struct KvmClock {
    /// How to convert ticks to time.
    pub scale: TscScale,
    /// KVM keeps the TSC's frequency constant, and the TSCs of all CPUs the same.
    pub is_stable: bool,
}

/// Address of the record, for [`read`].
pub fn record_address() -> u64 {
    RECORD.0.get() as u64
}

/// Reads the clock. `None` without KVM, or if the clock is switched off.
///
/// # Safety
/// `physical` is the physical address of [`record_address`]. Only the boot CPU calls this, once.
pub unsafe fn read(physical: u64) -> Option<KvmClock> {
    let is_kvm =
        CpuId::new().get_hypervisor_info().is_some_and(|info| info.identify() == Hypervisor::KVM);
    let features = raw_cpuid::cpuid!(FEATURES).eax;
    if !is_kvm || features & FEATURE_SYSTEM_TIME == 0 {
        return None;
    }
    let mut msr = Msr::new(SYSTEM_TIME);
    // SAFETY: KVM has the MSR, and writes to the record only, which exists for good.
    unsafe { msr.write(physical | ENABLE) };
    let record = read_record();
    // SAFETY: KVM stops writing to the record.
    unsafe { msr.write(0) };
    let record = record?;
    let is_stable = features & FEATURE_STABLE != 0 && record.flags & TSC_STABLE != 0;
    TscScale::from_parts(record.tsc_to_system_mul, record.tsc_shift)
        .map(|scale| KvmClock { scale, is_stable })
}

/// Reads the record between two changes: its version is odd while it changes, and another one after.
fn read_record() -> Option<VcpuTimeInfo> {
    for _ in 0..TRIES {
        let record = RECORD.0.get();
        // SAFETY: the record exists for good, and any bytes are a valid one. Volatile, because KVM
        // writes to it.
        let copy = unsafe { record.read_volatile() };
        fence(Ordering::Acquire);
        // SAFETY: as above.
        let after = unsafe { (&raw const (*record).version).read_volatile() };
        // The copy's version may have been read after the rest: it counts only if it is even, and
        // KVM writes the record while this CPU doesn't run.
        if copy.version != 0 && copy.version % 2 == 0 && copy.version == after {
            return Some(copy);
        }
        core::hint::spin_loop();
    }
    None
}
