//! The hypervisor's CPUID leaves and the forced-emulation prefix (`public/arch-x86/cpuid.h`,
//! `public/arch-x86/xen.h`).

/// First CPUID leaf of the hypervisor.
pub const FIRST_LEAF: u32 = 0x4000_0000;
/// `ebx`, `ecx` and `edx` of [`FIRST_LEAF`]: `XenVMMXenVMM`.
pub const SIGNATURE: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];
/// `ud2` followed by `xen`. A guest writes it before an instruction (`cpuid`) to have it emulated.
pub const FORCED_EMULATION_PREFIX: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];
