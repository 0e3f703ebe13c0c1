//! `xen_version` and feature bits (`public/version.h`, `public/features.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[expect(missing_docs, reason = "the names are those of public/version.h")]
mod commands {
    pub const VERSION: u64 = 0;
    pub const EXTRAVERSION: u64 = 1;
    pub const COMPILE_INFO: u64 = 2;
    pub const CAPABILITIES: u64 = 3;
    pub const CHANGESET: u64 = 4;
    pub const PLATFORM_PARAMETERS: u64 = 5;
    pub const GET_FEATURES: u64 = 6;
    pub const PAGESIZE: u64 = 7;
    pub const GUEST_HANDLE: u64 = 8;
    pub const COMMANDLINE: u64 = 9;
    pub const BUILD_ID: u64 = 10;
}
pub use commands::*;

/// Xen version that Pinfold's ABI corresponds to: 4.17, as `major << 16 | minor`.
pub const ABI_VERSION: u32 = 4 << 16 | 17;

/// Argument of `get_features`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FeatureInfo {
    /// In: index of the 32-bit word of feature bits.
    pub submap_idx: u32,
    /// Out: the feature bits of the word.
    pub submap: u32,
}
assert_layout!(FeatureInfo, size 8);

/// Result of `compile_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CompileInfo {
    /// Compiler version, NUL-terminated.
    pub compiler: [u8; 64],
    /// User that built the hypervisor, NUL-terminated.
    pub compile_by: [u8; 16],
    /// Domain name of the build host, NUL-terminated.
    pub compile_domain: [u8; 32],
    /// Build date, NUL-terminated.
    pub compile_date: [u8; 32],
}
assert_layout!(CompileInfo, size 144);

/// Feature names and bits, as in the ELF note `FEATURES` (`XENFEAT_*` in lower case without the
/// prefix).
pub const FEATURE_NAMES: [(&str, u32); 16] = [
    ("writable_page_tables", 0),
    ("writable_descriptor_tables", 1),
    ("auto_translated_physmap", 2),
    ("supervisor_mode_kernel", 3),
    ("pae_pgdir_above_4gb", 4),
    ("mmu_pt_update_preserve_ad", 5),
    ("highmem_assist", 6),
    ("gnttab_map_avail_bits", 7),
    ("hvm_callback_vector", 8),
    ("hvm_safe_pvclock", 9),
    ("hvm_pirqs", 10),
    ("dom0", 11),
    ("grant_map_identity", 12),
    ("memory_op_vnode_supported", 13),
    ("linux_rsdp_unrestricted", 15),
    ("not_direct_mapped", 16),
];

/// Feature bit: the kernel runs in ring 0, in the hardware container.
pub const XENFEAT_SUPERVISOR_MODE_KERNEL: u32 = 3;
/// Feature bit: [`MMU_PT_UPDATE_PRESERVE_AD`](crate::mmu::MMU_PT_UPDATE_PRESERVE_AD) is supported.
pub const XENFEAT_MMU_PT_UPDATE_PRESERVE_AD: u32 = 5;
/// Feature bit: [`ClearPage`](crate::mmu::MmuextCmd::ClearPage) and
/// [`CopyPage`](crate::mmu::MmuextCmd::CopyPage) are supported.
pub const XENFEAT_HIGHMEM_ASSIST: u32 = 6;
/// Feature bit: grant mappings set the available bits of the entry as the guest asks.
pub const XENFEAT_GNTTAB_MAP_AVAIL_BITS: u32 = 7;
/// Feature bit: the kernel can run as the initial domain.
pub const XENFEAT_DOM0: u32 = 11;
/// Feature bit: pseudo-physical and machine frame numbers of the domain differ.
pub const XENFEAT_NOT_DIRECT_MAPPED: u32 = 16;
