//! The page that a domain and the hypervisor share (`public/xen.h`, `public/arch-x86/xen.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of vCPUs with a [`VcpuInfo`] in the shared page (`XEN_LEGACY_MAX_VCPUS`).
pub const LEGACY_VCPUS: usize = 32;

/// Clock of a vCPU. The system time in ns is
/// `system_time + (((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32)`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while the hypervisor updates the record.
    pub version: u32,
    /// Zero.
    pub pad0: u32,
    /// TSC at the last update.
    pub tsc_timestamp: u64,
    /// System time (since boot) at the last update, in ns.
    pub system_time: u64,
    /// Multiplier, a 0.32 fixed-point fraction.
    pub tsc_to_system_mul: u32,
    /// Left shift before the multiplication; negative: right shift.
    pub tsc_shift: i8,
    /// Bit 0: the TSCs of all CPUs are synchronous (`XEN_PVCLOCK_TSC_STABLE_BIT`).
    pub flags: u8,
    /// Zero.
    pub pad1: [u8; 2],
}
assert_layout!(VcpuTimeInfo, size 32, tsc_timestamp @ 8, system_time @ 16, tsc_to_system_mul @ 24, tsc_shift @ 28, flags @ 29);

/// Event and time information of a vCPU, in the shared page or at the address that the guest
/// registered.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuInfo {
    /// Non-zero: an event is pending.
    pub evtchn_upcall_pending: u8,
    /// Non-zero: events are masked. The inverse of a virtual interrupt flag.
    pub evtchn_upcall_mask: u8,
    /// Zero.
    pub pad0: [u8; 6],
    /// Bit n: word n of [`SharedInfo::evtchn_pending`] has a bit set.
    pub evtchn_pending_sel: u64,
    /// Faulting address of the last page fault.
    pub cr2: u64,
    /// Zero.
    pub pad1: u64,
    /// The vCPU's clock.
    pub time: VcpuTimeInfo,
}
assert_layout!(VcpuInfo, size 64, evtchn_upcall_mask @ 1, evtchn_pending_sel @ 8, cr2 @ 16, time @ 32);

/// Contents of the shared page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SharedInfo {
    /// Records of the first vCPUs.
    pub vcpu_info: [VcpuInfo; LEGACY_VCPUS],
    /// One bit per port: an event is pending.
    pub evtchn_pending: [u64; 64],
    /// One bit per port: events are masked.
    pub evtchn_mask: [u64; 64],
    /// Odd while the hypervisor updates the wall clock.
    pub wc_version: u32,
    /// Wall clock at system time 0: seconds since 1970, bits 0 to 31.
    pub wc_sec: u32,
    /// Wall clock: nanoseconds of the second.
    pub wc_nsec: u32,
    /// Wall clock: seconds, bits 32 to 63.
    pub wc_sec_hi: u32,
    /// Written by the guest: number of its pseudo-physical frames.
    pub max_pfn: u64,
    /// Written by the guest: machine frame of the root of its p2m tree.
    pub pfn_to_mfn_frame_list_list: u64,
    /// Reason of the last NMI.
    pub nmi_reason: u64,
    /// Written by the guest for tools: CR3 by which to translate `p2m_vaddr`.
    pub p2m_cr3: u64,
    /// Written by the guest for tools: virtual address of its linear p2m.
    pub p2m_vaddr: u64,
    /// Written by the guest for tools: odd while it changes the p2m mapping.
    pub p2m_generation: u64,
}
assert_layout!(SharedInfo, size 0xc40, evtchn_pending @ 0x800, evtchn_mask @ 0xa00, wc_version @ 0xc00,
    wc_sec @ 0xc04, wc_nsec @ 0xc08, wc_sec_hi @ 0xc0c, max_pfn @ 0xc10,
    pfn_to_mfn_frame_list_list @ 0xc18, nmi_reason @ 0xc20, p2m_cr3 @ 0xc28, p2m_vaddr @ 0xc30,
    p2m_generation @ 0xc38);
