//! The page that a guest shares with the hypervisor. Both change it at any time, so every word is
//! an atomic.
//!
//! | module | what it is |
//! |---|---|
//! | [`clock`] | a vCPU's clock, and the wall clock |
//! | [`ports`] | which ports have an event for a vCPU |

pub mod clock;
pub mod ports;

use clock::ClockRecord;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use pinfold_abi::shared_info::{LEGACY_VCPUS, SharedInfo, VcpuInfo};

/// The record of a vCPU, in the shared page or where the guest has registered it.
#[derive(Debug, Default)]
#[repr(C)]
pub struct VcpuRecord {
    /// Non-zero: an event is pending.
    pub upcall_pending: AtomicU8,
    /// Non-zero: events are not delivered.
    pub upcall_mask: AtomicU8,
    pad0: [u8; 6],
    /// Bit n: word n of the pending bits has something for this vCPU.
    pub pending_sel: AtomicU64,
    /// Address of the last page fault.
    pub cr2: AtomicU64,
    pad1: u64,
    /// The vCPU's clock.
    pub time: ClockRecord,
}
const _: () = {
    assert!(size_of::<VcpuRecord>() == size_of::<VcpuInfo>());
    assert!(offset_of!(VcpuRecord, upcall_mask) == offset_of!(VcpuInfo, evtchn_upcall_mask));
    assert!(offset_of!(VcpuRecord, pending_sel) == offset_of!(VcpuInfo, evtchn_pending_sel));
    assert!(offset_of!(VcpuRecord, cr2) == offset_of!(VcpuInfo, cr2));
    assert!(offset_of!(VcpuRecord, time) == offset_of!(VcpuInfo, time));
};

/// The shared page.
#[derive(Debug)]
#[repr(C)]
pub struct SharedPage {
    /// Records of the first vCPUs.
    pub vcpus: [VcpuRecord; LEGACY_VCPUS],
    /// Bit p: port p is pending.
    pub pending: [AtomicU64; ports::WORDS],
    /// Bit p: port p is masked.
    pub mask: [AtomicU64; ports::WORDS],
    /// Odd while the wall clock is being written.
    pub wc_version: AtomicU32,
    /// Wall clock at system time 0: seconds, low half.
    pub wc_sec: AtomicU32,
    /// Nanoseconds.
    pub wc_nsec: AtomicU32,
    /// Seconds, high half.
    pub wc_sec_hi: AtomicU32,
}
const _: () = {
    assert!(offset_of!(SharedPage, pending) == offset_of!(SharedInfo, evtchn_pending));
    assert!(offset_of!(SharedPage, mask) == offset_of!(SharedInfo, evtchn_mask));
    assert!(offset_of!(SharedPage, wc_version) == offset_of!(SharedInfo, wc_version));
    assert!(offset_of!(SharedPage, wc_sec_hi) == offset_of!(SharedInfo, wc_sec_hi));
};

/// Takes the pending selector of a record. The flag is cleared first and the selector taken after
/// it: an event that comes in between sets the flag again, so none is missed.
pub fn take_selector(record: &VcpuRecord) -> u64 {
    use core::sync::atomic::Ordering::SeqCst;
    record.upcall_pending.store(0, SeqCst);
    record.pending_sel.swap(0, SeqCst)
}
