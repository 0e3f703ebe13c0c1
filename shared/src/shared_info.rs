//! The page that a domain and the hypervisor share (`public/xen.h`, `public/arch-x86/xen.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// vCPUs that have a record in the shared page.
pub const LEGACY_VCPUS: usize = 32;

/// The clock of a vCPU: ns = system_time + (((tsc - tsc_timestamp) << tsc_shift) * mul >> 32).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while the record is being written.
    pub version: u32,
    /// Zero.
    pub pad0: u32,
    /// TSC at the last update.
    pub tsc_timestamp: u64,
    /// Nanoseconds since boot at the last update.
    pub system_time: u64,
    /// Scale, as a 0.32 fraction.
    pub tsc_to_system_mul: u32,
    /// Shift before scaling; negative is to the right.
    pub tsc_shift: i8,
    /// Bit 0: the TSC is the same on all CPUs.
    pub flags: u8,
    /// Zero.
    pub pad1: [u8; 2],
}
assert_layout!(VcpuTimeInfo, size 32, tsc_timestamp @ 8, system_time @ 16, tsc_to_system_mul @ 24, tsc_shift @ 28, flags @ 29);

/// A vCPU's record in the shared page, or where the guest registered it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuInfo {
    /// Non-zero: events wait to be delivered.
    pub evtchn_upcall_pending: u8,
    /// Non-zero: events are not delivered; the guest's interrupt flag, inverted.
    pub evtchn_upcall_mask: u8,
    /// Zero.
    pub pad0: [u8; 6],
    /// Bit n: word n of the pending bits has something.
    pub evtchn_pending_sel: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    /// Zero.
    pub pad1: u64,
    /// The vCPU's clock.
    pub time: VcpuTimeInfo,
}
assert_layout!(VcpuInfo, size 64, evtchn_upcall_mask @ 1, evtchn_pending_sel @ 8, cr2 @ 16, time @ 32);

/// The shared page's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SharedInfo {
    /// Records of the first vCPUs.
    pub vcpu_info: [VcpuInfo; LEGACY_VCPUS],
    /// Bit p: port p is pending.
    pub evtchn_pending: [u64; 64],
    /// Bit p: port p is masked.
    pub evtchn_mask: [u64; 64],
    /// Odd while the wall clock is being written.
    pub wc_version: u32,
    /// Wall clock at system time 0: seconds, low half.
    pub wc_sec: u32,
    /// Nanoseconds.
    pub wc_nsec: u32,
    /// Seconds, high half.
    pub wc_sec_hi: u32,
    /// Written by the guest: number of its pfns.
    pub max_pfn: u64,
    /// Written by the guest: root of its p2m tree.
    pub pfn_to_mfn_frame_list_list: u64,
    /// Reason of an NMI.
    pub nmi_reason: u64,
    /// Written by the guest, for tools.
    pub p2m_cr3: u64,
    /// Written by the guest, for tools.
    pub p2m_vaddr: u64,
    /// Written by the guest, for tools.
    pub p2m_generation: u64,
}
assert_layout!(SharedInfo, size 0xc40, evtchn_pending @ 0x800, evtchn_mask @ 0xa00, wc_version @ 0xc00,
    wc_sec @ 0xc04, wc_nsec @ 0xc08, wc_sec_hi @ 0xc0c, max_pfn @ 0xc10,
    pfn_to_mfn_frame_list_list @ 0xc18, nmi_reason @ 0xc20, p2m_cr3 @ 0xc28, p2m_vaddr @ 0xc30,
    p2m_generation @ 0xc38);
