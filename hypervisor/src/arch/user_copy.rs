//! Copies between the hypervisor and the guest address space that is loaded.
//!
//! Every access to guest memory by a guest's pointer goes through here. The copy loops may fault
//! (the page is absent or read-only): the trap handler finds them in the table of
//! [`super::fixup`] and lets them return failure. Addresses were checked before
//! ([`crate::memory::guest`]), so that none is in the hypervisor's hole.

use core::sync::atomic::{AtomicBool, Ordering};

unsafe extern "C" {
    fn pinfold_copy(to: *mut u8, from: *const u8, len: usize) -> usize;
}

/// SMAP is on: ring 0 must say so when it means a user page. Written once at boot.
static SMAP: AtomicBool = AtomicBool::new(false);

/// Tells the copies that CR4.SMAP was set.
pub fn enable_smap() {
    SMAP.store(true, Ordering::Relaxed);
}

/// Clears AC, which a guest may have left set: with it, SMAP would not bite.
#[inline]
pub fn forbid_user_access() {
    if SMAP.load(Ordering::Relaxed) {
        // SAFETY: CLAC exists where SMAP does; it only clears AC.
        unsafe { core::arch::asm!("clac", options(nomem, nostack)) };
    }
}

#[inline]
fn allow_user_access() {
    if SMAP.load(Ordering::Relaxed) {
        // SAFETY: STAC exists where SMAP does; it only sets AC.
        unsafe { core::arch::asm!("stac", options(nomem, nostack)) };
    }
}

/// A copy met a page that it may not touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Copies `to.len()` bytes from a guest address.
///
/// # Safety
/// No byte of the range is in the hypervisor's hole.
pub unsafe fn read(to: &mut [u8], from: u64) -> Result<(), Fault> {
    allow_user_access();
    // SAFETY: the target is ours; the source, if it isn't mapped, faults and is caught.
    let left = unsafe { pinfold_copy(to.as_mut_ptr(), from as *const u8, to.len()) };
    forbid_user_access();
    if left == 0 { Ok(()) } else { Err(Fault) }
}

/// Copies bytes to a guest address.
///
/// # Safety
/// No byte of the range is in the hypervisor's hole.
pub unsafe fn write(to: u64, from: &[u8]) -> Result<(), Fault> {
    allow_user_access();
    // SAFETY: the source is ours; the target faults and is caught if it isn't mapped writable
    // (CR0.WP is set), and what a guest can write it may have written by us.
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
