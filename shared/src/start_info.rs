//! The start info page (`struct start_info` in `public/xen.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Start of [`StartInfo::magic`].
pub const MAGIC: &[u8; 14] = b"xen-3.0-x86_64";
/// Size of the command line in bytes, including the final NUL.
pub const MAX_GUEST_CMDLINE: usize = 1024;

/// Flag: the domain is privileged.
pub const SIF_PRIVILEGED: u32 = 1 << 0;
/// Flag: the domain is the initial domain.
pub const SIF_INITDOMAIN: u32 = 1 << 1;
/// Flag: the module is a multiboot module.
pub const SIF_MULTIBOOT_MOD: u32 = 1 << 2;
/// Flag: [`StartInfo::mod_start`] is a pfn.
pub const SIF_MOD_START_PFN: u32 = 1 << 3;

/// Information for the guest kernel at its start; `rsi` holds the virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`], padded with NULs.
    pub magic: [u8; 32],
    /// Number of frames of the domain.
    pub nr_pages: u64,
    /// Machine address of the page with [`SharedInfo`](crate::shared_info::SharedInfo).
    pub shared_info: u64,
    /// `SIF_*`.
    pub flags: u32,
    /// Zero.
    pub pad0: u32,
    /// Machine frame of the xenstore ring.
    pub store_mfn: u64,
    /// Event channel of the xenstore ring.
    pub store_evtchn: u32,
    /// Zero.
    pub pad1: u32,
    /// Machine frame of the console ring. For the initial domain: offset and size of the VGA
    /// information, `u32` each.
    pub console_mfn: u64,
    /// Event channel of the console ring.
    pub console_evtchn: u32,
    /// Zero.
    pub pad2: u32,
    /// Virtual address of the L4 table.
    pub pt_base: u64,
    /// Number of frames of the initial page tables.
    pub nr_pt_frames: u64,
    /// Virtual address of the p2m list, one `u64` machine frame number per pfn.
    pub mfn_list: u64,
    /// Virtual address of the module, or its first pfn ([`SIF_MOD_START_PFN`]).
    pub mod_start: u64,
    /// Size of the module in bytes.
    pub mod_len: u64,
    /// NUL-terminated command line.
    pub cmd_line: [u8; MAX_GUEST_CMDLINE],
    /// First pfn of the p2m list, if the image chose its address (`XEN_ELFNOTE_INIT_P2M`).
    pub first_p2m_pfn: u64,
    /// Number of frames of that list and of its page tables.
    pub nr_p2m_frames: u64,
}
assert_layout!(StartInfo, size 0x490, nr_pages @ 0x20, shared_info @ 0x28, flags @ 0x30, store_mfn @ 0x38,
    store_evtchn @ 0x40, console_mfn @ 0x48, console_evtchn @ 0x50, pt_base @ 0x58,
    nr_pt_frames @ 0x60, mfn_list @ 0x68, mod_start @ 0x70, mod_len @ 0x78, cmd_line @ 0x80,
    first_p2m_pfn @ 0x480, nr_p2m_frames @ 0x488);
