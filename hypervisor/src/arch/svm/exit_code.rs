//! Exit codes (AMD APM vol. 2, appendix C).

/// `mov` from CR0; CR1 to CR15 follow.
pub const READ_CR0: u64 = 0x00;
/// `mov` to CR0; CR1 to CR15 follow.
pub const WRITE_CR0: u64 = 0x10;
/// `mov` from DR0; DR1 to DR15 follow.
pub const READ_DR0: u64 = 0x20;
/// `mov` to DR0; DR1 to DR15 follow.
pub const WRITE_DR0: u64 = 0x30;
/// Exception 0; the other 31 follow.
pub const EXCEPTION: u64 = 0x40;
/// An interrupt of the machine.
pub const INTR: u64 = 0x60;
/// An NMI of the machine.
pub const NMI: u64 = 0x61;
/// INIT.
pub const INIT: u64 = 0x63;
/// `rdpmc`.
pub const RDPMC: u64 = 0x6f;
/// `cpuid`.
pub const CPUID: u64 = 0x72;
/// `rsm`.
pub const RSM: u64 = 0x73;
/// `iret`.
pub const IRET: u64 = 0x74;
/// `invd`.
pub const INVD: u64 = 0x76;
/// `hlt`.
pub const HLT: u64 = 0x78;
/// `invlpga`.
pub const INVLPGA: u64 = 0x7a;
/// A port was accessed.
pub const IOIO: u64 = 0x7b;
/// `rdmsr` or `wrmsr`; EXITINFO1 is 1 for `wrmsr`.
pub const MSR: u64 = 0x7c;
/// A task switch.
pub const TASK_SWITCH: u64 = 0x7d;
/// Shutdown: a triple fault.
pub const SHUTDOWN: u64 = 0x7f;
/// `vmrun`.
pub const VMRUN: u64 = 0x80;
/// `vmmcall`.
pub const VMMCALL: u64 = 0x81;
/// `skinit`. 0x82 to 0x85 are `vmload`, `vmsave`, `stgi`, `clgi`.
pub const SKINIT: u64 = 0x86;
/// `int1`.
pub const ICEBP: u64 = 0x88;
/// `wbinvd` or `wbnoinvd`.
pub const WBINVD: u64 = 0x89;
/// `monitor`. 0x8b to 0x8d are `mwait`, `mwait` with the monitor armed, `xsetbv`.
pub const MONITOR: u64 = 0x8a;
/// `rdpru`.
pub const RDPRU: u64 = 0x8e;
/// `invlpgb`, `tlbsync` and `mcommit` are between these.
pub const INVLPGB: u64 = 0xa0;
/// `tlbsync`.
pub const TLBSYNC: u64 = 0xa4;
/// The VMCB is invalid.
pub const INVALID: u64 = u64::MAX;
