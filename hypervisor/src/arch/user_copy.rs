//! Copies between the hypervisor and the guest address space that is loaded.
//!
//! Every access by a guest's pointer goes through here. The copy loop may fault, if a page is absent
//! or read-only: it is in the fixup table ([`super::fixup`]) and then returns failure. The caller
//! (`memory::guest`) has checked that no address belongs to the hypervisor.

use core::sync::atomic::{AtomicBool, Ordering};
use x86_64::instructions::smap::Smap;

unsafe extern "C" {
    fn pinfold_copy(to: *mut u8, from: *const u8, len: usize) -> usize;
}

/// CR4.SMAP is set: ring 0 can access user pages only while AC is set. Written once at boot.
static SMAP_ENABLED: AtomicBool = AtomicBool::new(false);

/// Makes copies set AC. To be called when CR4.SMAP has been set.
pub fn enable_smap() {
    SMAP_ENABLED.store(true, Ordering::Relaxed);
}

/// `Some` if SMAP is enabled.
#[inline]
fn smap() -> Option<Smap> {
    // SAFETY: the CPU supports SMAP, since CR4.SMAP is set.
    SMAP_ENABLED.load(Ordering::Relaxed).then(|| unsafe { Smap::new_unchecked() })
}

/// Clears AC, which a guest may have set: while it is set, SMAP has no effect.
#[inline]
pub fn forbid_user_access() {
    if let Some(smap) = smap() {
        smap.enable();
    }
}

#[inline]
fn allow_user_access() {
    if let Some(smap) = smap() {
        smap.disable();
    }
}

/// Copies bytes between memory of the hypervisor's and a frame that a guest may be writing to.
///
/// # Safety
/// Both ranges are mapped, and `to` is writable. They don't overlap.
#[inline]
pub unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: passed on to the caller.
    let left = unsafe { pinfold_copy(to, from, bytes) };
    debug_assert_eq!(left, 0);
}

/// A copy faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Copies `to.len()` bytes from a guest address.
///
/// # Errors
/// If a page is absent.
///
/// # Safety
/// No byte of the range is at an address of the hypervisor.
pub unsafe fn read(to: &mut [u8], from: u64) -> Result<(), Fault> {
    allow_user_access();
    // SAFETY: `to` is a slice of the hypervisor's. `from` may be unmapped: the fault has a fixup.
    let left = unsafe { pinfold_copy(to.as_mut_ptr(), from as *const u8, to.len()) };
    forbid_user_access();
    if left == 0 { Ok(()) } else { Err(Fault) }
}

/// Copies bytes to a guest address.
///
/// # Errors
/// If a page is absent or read-only.
///
/// # Safety
/// No byte of the range is at an address of the hypervisor.
pub unsafe fn write(to: u64, from: &[u8]) -> Result<(), Fault> {
    allow_user_access();
    // SAFETY: `from` is a slice of the hypervisor's. `to` may be unmapped or read-only (CR0.WP is
    // set): the fault has a fixup. What is written there the guest could write itself.
    let left = unsafe { pinfold_copy(to as *mut u8, from.as_ptr(), from.len()) };
    forbid_user_access();
    if left == 0 { Ok(()) } else { Err(Fault) }
}

core::arch::global_asm!(
    r#"
    .section .text.pinfold_copy, "ax"
    .global pinfold_copy
    # rdi to, rsi from, rdx bytes; returns 0, or 1 after a fault.
    pinfold_copy:
        mov rcx, rdx
        shr rcx, 3
    5:  rep movsq
        mov ecx, edx
        and ecx, 7
        jz 2f
    6:  rep movsb
    2:  xor eax, eax
        ret
    3:  mov eax, 1
        ret
    .pushsection pinfold_fixups, "aR"
    .balign 4
    .long 5b - .
    .long 3b - .
    .long 6b - .
    .long 3b - .
    .popsection
    "#
);
