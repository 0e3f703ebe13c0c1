//! The heap of the hypervisor, from which memory is allocated only at boot.
//!
//! Invariant: nothing is allocated once guests run. So no guest can exhaust or fragment memory that
//! another guest or the hypervisor needs. Every structure that a guest can make grow has its maximum
//! size from the moment its domain is built; a guest that exceeds it gets the ABI's error. Freeing is
//! allowed at any time and never fails. `docs/memory.md` lists the structures.
//!
//! The invariant is monitored: after [`forbid_allocations`] every allocation is counted, and the last
//! audit of the run reports the count ([`report_late_allocations`]). Such an allocation is a bug, but
//! it is not refused: a guest must not be able to stop the machine by it.

use super::{direct_map, frames};
use crate::console::log::write_record;
use crate::sync::ServiceIpis;
use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::record::{Heap, Who};
use pinfold_validator::Purpose;
use talc::TalcLock;
use talc::source::Claim;

const BYTES: usize = 2 << 20;

static mut ARENA: [u8; BYTES] = [0; BYTES];

/// The allocator. It counts allocations after [`forbid_allocations`].
struct GuardedHeap(TalcLock<spin::mutex::Mutex<(), ServiceIpis>, Claim>);

#[global_allocator]
static HEAP: GuardedHeap =
    // SAFETY: nothing else uses the arena.
    GuardedHeap(TalcLock::new(unsafe { Claim::array(&raw mut ARENA) }));

/// Guests run, or are about to. All accesses are relaxed: it is set before the first vCPU is queued, and
/// the lock of the run queue orders that before all that any CPU does for a guest.
static FORBIDDEN: AtomicBool = AtomicBool::new(false);
/// Allocations since then.
static LATE: AtomicU64 = AtomicU64::new(0);
/// Bytes of the first of them.
static FIRST_LATE_BYTES: AtomicUsize = AtomicUsize::new(0);

#[inline]
fn note_allocation(bytes: usize) {
    if FORBIDDEN.load(Ordering::Relaxed) && LATE.fetch_add(1, Ordering::Relaxed) == 0 {
        FIRST_LATE_BYTES.store(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call is forwarded to Talc with the caller's arguments.
unsafe impl GlobalAlloc for GuardedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note_allocation(layout.size());
        // SAFETY: the caller's promise is Talc's precondition.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is Talc's precondition.
        unsafe { self.0.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note_allocation(bytes);
        // SAFETY: the caller's promise is Talc's precondition.
        unsafe { self.0.realloc(memory, layout, bytes) }
    }
}

/// Upper bound in bytes of Talc's own data in an area: some words for each allocation.
const ALLOCATOR_BYTES: usize = 2048;

/// Order of an area that is large enough for `bytes` in a few allocations.
pub fn order_for(bytes: usize) -> u32 {
    (bytes + ALLOCATOR_BYTES).div_ceil(PAGE_SIZE as usize).next_power_of_two().ilog2()
}

/// Adds `1 << order` contiguous frames to the heap. Returns `false` if there are none. They are never
/// freed, because allocations for other domains may lie in them.
pub fn grow(order: u32) -> bool {
    let Some(frames) = frames::alloc_hypervisor_frames(order, Purpose::Heap) else { return false };
    // SAFETY: the frames were just allocated for this; the direct map always maps them.
    unsafe { HEAP.0.lock().claim(direct_map::frame(frames.first()), (PAGE_SIZE as usize) << order) }
        .is_some()
}

/// Declares every later allocation a bug, as all domains are built.
pub fn forbid_allocations() {
    FORBIDDEN.store(true, Ordering::Relaxed);
}

/// Logs how many allocations there were while guests ran. If there was one, the audit has failed, and
/// with it the run.
pub fn report_late_allocations() {
    let late = LATE.load(Ordering::Relaxed);
    let first_bytes = FIRST_LATE_BYTES.load(Ordering::Relaxed) as u64;
    let record = Heap { late_allocations: late, first_bytes, wrong: late };
    write_record(Who::Hypervisor, &record);
}
