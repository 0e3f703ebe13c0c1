//! Healing a pin: the kernel is entered when a pin meets an alias in one of its named ranges, clears
//! the mappings that it is told of, and the pin is tried again.
//!
//! This is for the day on which the kernel's own index misses a mapping. Off until [`enable`] is
//! called, on each vCPU for itself. The handler runs in the middle of the pin: whoever pins holds
//! the owner of the mappings ([`Mmu`](crate::mmu::Mmu)), so it takes no lock and touches nothing of
//! that. What it cleared it notes in a list of atomics, and the owner looks there when the pin is
//! through.

use super::percpu::this;
use crate::addr::Vaddr;
use crate::hypercall::{Errno, address, call, check, pinfold};
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU64};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::pinfold::{
    AliasesFound, Command, MAPPING_ATTACHED, MAPPING_FREED, MAPPING_WRITABLE, Mapping, Range,
    Shootdown, VERSION,
};

/// Mappings that the kernel is told of at a time.
const ROOM: usize = 64;

/// What is done with the mappings in the way of a pin.
pub type Handler = fn(&[Mapping]);

/// What the hypervisor writes.
#[derive(Debug, Default)]
#[repr(C)]
struct Told {
    head: AliasesFound,
    mappings: Mappings,
}

#[derive(Debug)]
#[repr(transparent)]
struct Mappings([Mapping; ROOM]);

impl Default for Mappings {
    fn default() -> Mappings {
        Mappings([Mapping::default(); ROOM])
    }
}

/// A vCPU's buffer, written by the hypervisor before the handler is entered.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(super) struct Buffer(UnsafeCell<Told>);

static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Addresses that the handler cleared and nobody was told of yet; 0: a free place.
static CLEARED: [AtomicU64; 4 * ROOM] = [const { AtomicU64::new(0) }; 4 * ROOM];

/// Has pins of the running vCPU that meet an alias come to a handler first: [`clear`], but for
/// tests.
///
/// # Errors
///
/// -ENOSYS where there is no such call.
pub fn enable(handler: Handler) -> Result<(), Errno> {
    let cpu = this();
    let mut buffer = cpu.aliases.load(Acquire);
    if buffer.is_null() {
        // For good: the hypervisor may write there until it is told otherwise.
        buffer = Box::leak(Box::<Buffer>::default());
        cpu.aliases.store(buffer, Release);
    }
    HANDLER.store(handler as *mut (), Release);
    // SAFETY: the entry takes what is pushed there, and the buffer is for nobody else.
    unsafe { pinfold::alias_upcall(super::trap::alias_callback(), address(buffer), ROOM as u32) }
}

/// Has pins of the running vCPU refused at once, as before.
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
    // A trap in the handler is not the one that the interrupted code may expect.
    let landing = cpu.landing.swap(0, Relaxed);
    // SAFETY: the buffer is never freed; the hypervisor writes it before it enters here, on this
    // vCPU only, and not again before this returns.
    let told = unsafe { &*(*buffer).0.get() };
    let count = (told.head.nr_mappings as usize).min(ROOM);
    // SAFETY: only `enable` stores here, and it stores a `Handler`.
    let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
    handler(&told.mappings.0[..count]);
    cpu.landing.store(landing, Relaxed);
}

/// The handler: clears the mappings that this kernel has freed, in one shootdown. What it uses still
/// is left alone, so that the pin is refused for it.
pub fn clear(mappings: &[Mapping]) {
    const DEAD: u16 = MAPPING_WRITABLE | MAPPING_ATTACHED | MAPPING_FREED;
    let ranges: ArrayVec<Range, ROOM> = mappings
        .iter()
        .filter(|mapping| mapping.flags & DEAD == DEAD)
        .map(|mapping| Range { start: mapping.va, pages: 1 })
        .take(ROOM)
        .collect();
    let mut argument = Shootdown {
        version: VERSION,
        nr_ranges: ranges.len() as u32,
        ranges: address(ranges.as_ptr()),
        ..Shootdown::default()
    };
    let args = [Command::Shootdown as u64, address(&raw mut argument), 0, 0, 0];
    // SAFETY: nothing uses what is mapped there: its owner freed it, and holds still meanwhile.
    if check(unsafe { call(Hypercall::PinfoldOp as u64, args) }).is_ok() {
        for range in &ranges {
            note(range.start);
        }
    }
}

/// Notes a cleared address. If there is no place, its owner goes on believing that something is
/// mapped there, and clears nothing one day.
fn note(va: u64) {
    let _ = CLEARED.iter().find(|place| place.compare_exchange(0, va, AcqRel, Relaxed).is_ok());
}

/// The addresses that were cleared, each once.
pub(super) fn take_cleared() -> impl Iterator<Item = Vaddr> {
    let taken = |place: &AtomicU64| match place.load(Relaxed) {
        0 => None,
        _ => Some(Vaddr(place.swap(0, AcqRel))),
    };
    CLEARED.iter().filter_map(taken)
}
