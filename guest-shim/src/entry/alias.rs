//! The alias upcall: when a pin meets an alias in one of the kernel's named ranges, the hypervisor
//! enters the kernel here with the mappings it found. The handler clears those that are dead, and
//! the pin is tried again.
//!
//! This covers for a mapping that the kernel's own index missed. It is off until [`enable`] is
//! called, on each vCPU. The handler runs in the middle of the pin, whose caller holds the
//! [`Mmu`](crate::mmu::Mmu): it takes no lock and does not touch the `Mmu`. It notes what it
//! cleared in a list of atomics, which the `Mmu` reads after the pin.

use super::frame::ALIAS;
use super::percpu::this;
use super::upcall_buffer::{MAX_MAPPINGS, UpcallBuffer};
use crate::addr::Vaddr;
use crate::hypercall::{Errno, address, call, check, in_container, pinfold};
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use core::arch::global_asm;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU64};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::pinfold::{
    Command, MAPPING_ATTACHED, MAPPING_FREED, MAPPING_WRITABLE, Mapping, Range, Shootdown, VERSION,
};

/// A function that deals with the mappings in the way of a pin.
pub type Handler = fn(&[Mapping]);

global_asm!(
    ".pushsection .text.traps, \"ax\"",
    "pinfold_alias_callback:",
    "pop rcx",
    "pop r11",
    "push 0",
    "push {alias}",
    "jmp pinfold_trap_common",
    // In the container: the same frame. It interrupts the kernel only.
    "pinfold_native_alias_callback:",
    "pop rcx",
    "pop r11",
    "push 0",
    "push {alias}",
    "jmp pinfold_native_common",
    ".popsection",
    alias = const ALIAS,
);

unsafe extern "C" {
    #[link_name = "pinfold_alias_callback"]
    safe static ALIAS_CALLBACK: u8;
    #[link_name = "pinfold_native_alias_callback"]
    safe static NATIVE_ALIAS_CALLBACK: u8;
}

static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Addresses that the handler cleared and the `Mmu` has not read yet; 0: a free slot.
static CLEARED: [AtomicU64; 4 * MAX_MAPPINGS] = [const { AtomicU64::new(0) }; 4 * MAX_MAPPINGS];

/// Enables the upcall on the running vCPU. Kernels pass [`clear`]; tests have handlers of their
/// own.
///
/// # Errors
///
/// -ENOSYS where there is no such call.
pub fn enable(handler: Handler) -> Result<(), Errno> {
    let cpu = this();
    let mut buffer = cpu.aliases.load(Acquire);
    if buffer.is_null() {
        // Never freed: the hypervisor may write there until another buffer is registered.
        buffer = Box::leak(Box::<UpcallBuffer>::default());
        cpu.aliases.store(buffer, Release);
    }
    HANDLER.store(handler as *mut (), Release);
    let callback =
        if in_container() { &raw const NATIVE_ALIAS_CALLBACK } else { &raw const ALIAS_CALLBACK };
    // SAFETY: the stub pops what the hypervisor pushes, and nothing else uses the buffer.
    unsafe { pinfold::alias_upcall(address(callback), address(buffer), MAX_MAPPINGS as u32) }
}

/// Disables the upcall on the running vCPU: pins that meet an alias are refused at once.
///
/// # Errors
///
/// -ENOSYS where there is no such call.
pub fn disable() -> Result<(), Errno> {
    // SAFETY: nothing is entered, nothing is written.
    unsafe { pinfold::alias_upcall(0, 0, 0) }
}

/// Called by the entry code, with events masked.
pub(super) fn entered() {
    let cpu = this();
    let (buffer, handler) = (cpu.aliases.load(Acquire), HANDLER.load(Acquire));
    if buffer.is_null() || handler.is_null() {
        return;
    }
    // A trap in the handler is not the one that the interrupted code expects.
    let landing = cpu.landing.swap(0, Relaxed);
    // SAFETY: the buffer is never freed. The hypervisor writes it before it enters here, for this
    // vCPU only, and not again before this returns.
    let mappings = unsafe { (*buffer).mappings() };
    // SAFETY: only `enable` stores here, and it stores a `Handler`.
    let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
    handler(mappings);
    cpu.landing.store(landing, Relaxed);
}

/// The default handler: clears the mappings that this kernel has freed, in one shootdown. Mappings
/// that are in use stay, and the pin is refused because of them.
pub fn clear(mappings: &[Mapping]) {
    const DEAD: u16 = MAPPING_WRITABLE | MAPPING_ATTACHED | MAPPING_FREED;
    let ranges: ArrayVec<Range, MAX_MAPPINGS> = mappings
        .iter()
        .filter(|mapping| mapping.flags & DEAD == DEAD)
        .map(|mapping| Range { start: mapping.va, pages: 1 })
        .take(MAX_MAPPINGS)
        .collect();
    let mut argument = Shootdown {
        version: VERSION,
        nr_ranges: ranges.len() as u32,
        ranges: address(ranges.as_ptr()),
        ..Shootdown::default()
    };
    let args = [Command::Shootdown as u64, address(&raw mut argument), 0, 0, 0];
    // SAFETY: nothing uses these mappings: the `Mmu` freed them, and whoever pins holds it.
    if check(unsafe { call(Hypercall::PinfoldOp as u64, args) }).is_ok() {
        for range in &ranges {
            note(range.start);
        }
    }
}

/// Records a cleared address. If the list is full, the `Mmu` still believes that the address is
/// mapped and clears an empty entry later, which is harmless.
fn note(va: u64) {
    let _ = CLEARED.iter().find(|slot| slot.compare_exchange(0, va, AcqRel, Relaxed).is_ok());
}

/// Takes the addresses that were cleared since the last call.
pub(super) fn take_cleared() -> impl Iterator<Item = Vaddr> {
    let taken = |slot: &AtomicU64| match slot.load(Relaxed) {
        0 => None,
        _ => Some(Vaddr(slot.swap(0, AcqRel))),
    };
    CLEARED.iter().filter_map(taken)
}
